"""Leads conversations: an engine answers all of them at once, round by round, while tools run beside it.

Every turn and every tool result is a reply with a key of its own, written as soon as it is known, so that a broken run
goes on inside a conversation. The last reply of a conversation has the key of the sample's request; it holds the answer
and the transcript, and is all that scoring reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace

from evalkit.agents.base import MODEL, TOOL, Answer, Ask, Call, Event, Solver, State, Toolbox, ToolResult
from evalkit.core.digest import digest
from evalkit.core.reasoning import NONE, Reasoning, split_reasoning
from evalkit.core.records import Reply, Request, Sample, Turn
from evalkit.engines.base import Engine

Record = tuple[Request, Reply]


@dataclass(frozen=True)
class Terms:
    """What all conversations of a job have in common."""

    solver: Solver
    toolbox: Callable[[], Toolbox]
    """Makes the tools of one conversation."""
    stored: Mapping[str, Reply]
    """Turns and tool results of an earlier command, by key."""
    reasoning: Reasoning | None = None
    stop: tuple[str, ...] = ()
    """The benchmark's stop strings, which act behind a reasoning trace."""


@dataclass
class Conversation:
    """One conversation under way."""

    request: Request
    """The sample's request: the opening, and the key of the conversation."""
    sample: Sample
    terms: Terms
    asking: Request | None = None
    """What the model is asked now."""
    summary: Reply | None = None
    """The conversation as one reply, when it is over."""
    state: State = field(init=False)
    tools: Toolbox | None = None
    replies: list[Reply] = field(default_factory=list)
    """The model's turns so far."""
    transcript: list[dict[str, object]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    turns: tuple[Turn, ...] = ()
    """What the model was given last."""

    def __post_init__(self) -> None:
        opening = self.request.turns or (Turn("user", self.request.text),)
        self.state, self.turns = State(self.sample, opening), opening

    def advance(self, reply: Reply | None = None) -> list[Record]:
        """Take the model's reply and go on until it is to be asked again, or the conversation is over.

        Returns the results of the tools that were run on the way.
        """
        if reply is not None and not self._take(reply):
            return []
        made: list[Record] = []
        while True:
            move = self.terms.solver.next(self.state)
            if isinstance(move, Answer):
                self._finish(move)
                return made
            if isinstance(move, Call):
                made += self._call(move)
                continue
            self.asking = self._request_of(move)
            known = self.terms.stored.get(self.asking.key)
            if known is None or known.error:
                return made
            if not self._take(known):
                return made

    def close(self) -> None:
        """Give the tools back."""
        if self.tools is not None:
            self.tools.close()
            self.tools = None

    def _take(self, reply: Reply) -> bool:
        """The model's turn becomes part of the conversation; False when there is none, which ends it."""
        self.asking = None
        if reply.error:
            self.summary = Reply(self.request.key, error=reply.error)
            self.close()
            return False
        text, facts = reply.text or "", {"finish": reply.finish}
        parts = split_reasoning(text, self.terms.reasoning, self.terms.stop)
        if self.terms.reasoning or parts.thinking != NONE:
            text, facts = parts.answer, {**facts, "thinking": parts.thinking}
        self.replies.append(reply)
        self.transcript.append({"role": MODEL, "text": text, **facts})
        self._add(Event(MODEL, text, reply.n_out))
        return True

    def _call(self, call: Call) -> list[Record]:
        """Run a tool, or take its result from the store; the record of a result that is new."""
        number = len(self.calls) + 1
        key = digest([self.request.key, TOOL, number, call.tool, call.input])
        known = self.terms.stored.get(key)
        if known is not None and known.text is not None:
            result, made = ToolResult(**json.loads(known.text)), []
        else:
            self.tools = self.tools or self.terms.toolbox()
            result = self.tools.run(call, self.calls)
            text = json.dumps({"text": result.text, "ok": result.ok, "failure": result.failure}, ensure_ascii=False)
            made = [(replace(self.request, key=key, label=f"{TOOL} {number}"), Reply(key, text=text))]
        self.calls.append(call)
        facts = {"tool": call.tool, "input": call.input, "ok": result.ok, "failure": result.failure}
        self.transcript.append({"role": TOOL, "text": result.text, **facts})
        self._add(Event(TOOL, result.text, facts=facts))
        return made

    def _request_of(self, ask: Ask) -> Request:
        """The request of the next turn; what it adds to the last one goes into the transcript."""
        number = len(self.replies) + 1
        fresh = ask.turns[len(self.turns) + 1 :] if self.replies else ()
        self.transcript += [{"role": turn.role, "text": turn.text} for turn in fresh]
        self.turns = ask.turns
        plain = "" if self.request.turns else "\n".join(turn.text for turn in ask.turns)
        turns = ask.turns if self.request.turns else ()
        key = digest([self.request.key, MODEL, number, plain, turns, self.request.gen])
        return replace(self.request, key=key, text=plain, turns=turns, label=f"turn {number}")

    def _add(self, event: Event) -> None:
        self.state = replace(self.state, events=(*self.state.events, event))

    def _finish(self, answer: Answer) -> None:
        self.close()
        self.summary = Reply(
            self.request.key,
            text=answer.text,
            n_tokens=sum(reply.n_tokens for reply in self.replies),
            n_out=sum(reply.n_out for reply in self.replies),
            finish=self.replies[-1].finish if self.replies else "",
            truncated=any(reply.truncated for reply in self.replies),
            seconds=sum(reply.seconds for reply in self.replies),
            transcript=self.transcript,
        )


def converse(engine: Engine, conversations: Sequence[Conversation], workers: int = 2) -> Iterator[Record]:
    """Lead all conversations to their ends: every new turn and tool result, and each conversation's summary.

    The model is asked the next turn of all conversations at once; `workers` of them run their tools meanwhile. The
    caller writes each record before it takes the next one, so that nothing is asked again that was answered.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        running = {pool.submit(one.advance): one for one in conversations}
        ready: list[Conversation] = []
        while running or ready:
            for future in as_completed(list(running)):
                yield from _settled(future, running.pop(future), ready)
            asked = {one.asking.key: one for one in ready if one.asking}
            requests, ready = [one.asking for one in ready if one.asking], []
            for reply in engine.run(requests) if requests else ():
                one = asked[reply.key]
                assert one.asking is not None
                yield one.asking, reply
                running[pool.submit(one.advance, reply)] = one
                for future in [future for future in running if future.done()]:
                    yield from _settled(future, running.pop(future), ready)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for one in conversations:
            one.close()


def _settled(future: Future[list[Record]], one: Conversation, ready: list[Conversation]) -> Iterator[Record]:
    """The records of a step; a conversation that is not over is added to `ready`."""
    yield from future.result()
    if one.summary is not None:
        yield one.request, one.summary
    else:
        ready.append(one)
