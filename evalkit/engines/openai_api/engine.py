"""The engine for models behind an HTTP endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec, Reply, Request
from evalkit.engines.openai_api.client import Client
from evalkit.engines.openai_api.endpoint import who
from evalkit.engines.openai_api.faults import Rejected
from evalkit.engines.openai_api.limits import BudgetReached, rough_tokens
from evalkit.engines.openai_api.local import load_local
from evalkit.engines.openai_api.loop import LoopThread
from evalkit.engines.openai_api.messages import gen_body, gen_reply, path_of, settings
from evalkit.engines.openai_api.options import ENGINE, options_of
from evalkit.engines.openai_api.probe import probe
from evalkit.engines.openai_api.scorer import Scorer
from evalkit.engines.openai_api.secret import read_secret

MAX_CONSECUTIVE_REFUSALS = 8
"""So many requests refused in a row, none ever answered: the fault lies with what is sent, not with the samples."""


class APIEngine:
    """Sends requests to one endpoint, several at once; replies come as they arrive."""

    def __init__(self, spec: ModelSpec) -> None:
        """Asks the endpoint who it is; ModelError when it does not say, ConfigError for a wrong option."""
        self._spec = spec
        self._options = options_of(spec)
        self._secret = read_secret(self._options, spec.name)
        self._local = load_local(self._options)
        self._loop = LoopThread()
        self._scorer: Scorer | None = None
        self._problem: ModelError | None = None
        self._refused = 0
        self._answered = False
        try:
            self._client, self._who = self._loop.call(self._meet())
        except BaseException:
            self._loop.close()
            raise

    def run(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """One reply a request, as they arrive; what does not fit into the budget is marked as not asked.

        Raises ModelError when scoring is asked for and the probe finds that the endpoint cannot, when the key or
        the account is refused, when another model answers, and when the endpoint is away for too long.
        """
        if any(request.mode != "gen" for request in requests):
            self._prepare_scoring()
        yield from self._loop.stream(partial(self._answer_all, requests))
        prompt, output = self._client.budget.spent
        money = f", {self._client.budget.money((prompt, output)):.4f} spent" if self._options.price_in else ""
        print(
            f"{prompt} prompt and {output} output tokens so far{money}; {self._client.retries} tries again", flush=True
        )

    def describe(self) -> Mapping[str, Any]:
        """Facts for the manifest."""
        options = self._options
        limits = {"requests_per_minute": options.requests_per_minute, "tokens_per_minute": options.tokens_per_minute}
        return {
            "engine": ENGINE, "endpoint": options.base_url, "model": self._spec.path, **self._who,
            "api": "chat" if self._spec.kind == "chat" else "completions", "concurrency": options.concurrency,
            **limits, "device": "none",
        }  # fmt: skip

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._loop.call(self._client.close())
        self._loop.close()

    async def _meet(self) -> tuple[Client, dict[str, Any]]:
        """The client, made inside its loop, and whom it speaks to."""
        client = Client(self._options, self._secret)
        try:
            return client, await who(client, self._spec, self._options)
        except BaseException:
            await client.close()
            raise

    def _prepare_scoring(self) -> None:
        """Probe the endpoint, once."""
        if self._problem is not None:
            raise self._problem
        if self._scorer is None:
            try:
                layout = self._loop.call(probe(self._client, self._spec, self._options, self._local))
            except ModelError as error:
                self._problem = error
                raise
            self._scorer = Scorer(self._client, self._spec, self._options, layout, self._local)

    async def _answer_all(self, requests: Sequence[Request], send: Callable[[Reply], None]) -> None:
        """Answer with `concurrency` at once; the first error that concerns all ends it after those under way."""
        if self._scorer is not None:
            await self._scorer.prepare(requests)
        waiting = iter(requests)
        errors: list[Exception] = []

        async def work() -> None:
            for request in waiting:
                if errors:
                    return
                try:
                    send(await self._answer(request))
                except Exception as error:  # raised below, when those under way have ended
                    errors.append(error)

        await asyncio.gather(*(work() for _ in range(self._options.concurrency)))
        if self._scorer is not None:
            self._scorer.forget()
        if errors:
            raise errors[0]

    async def _answer(self, request: Request) -> Reply:
        """The reply to one request; what concerns it alone is its error."""
        try:
            if request.mode != "gen" and self._scorer is not None:
                reply = await self._scorer.answer(request)
            else:
                reply = await self._generate(request)
        except BudgetReached:
            return Reply(request.key, error=f"not asked: the budget of {self._client.budget.text()} is reached")
        except Rejected as error:
            said = self._secret.hide(error.why)
            self._refused += not error.too_long
            if self._refused >= MAX_CONSECUTIVE_REFUSALS and not self._answered:
                hint = "see docs/api_models.md for what can be changed in requests"
                raise ModelError(
                    f"{self._spec.name}: none of {MAX_CONSECUTIVE_REFUSALS} requests was answered: {said}", hint
                ) from None
            return Reply(request.key, error=said)
        self._answered = True
        return reply

    async def _generate(self, request: Request) -> Reply:
        text = request.text + "".join(turn.text for turn in request.turns) + self._spec.system_prompt
        guess = (self._count(text), settings(request).max_out_len)
        answer = await self._client.post(path_of(request), gen_body(request, self._spec, self._options), guess)
        return gen_reply(request, answer, self._spec, guess)

    def _count(self, text: str) -> int:
        """About how many tokens a prompt has."""
        return len(self._local.ids(text) if self._local is not None else rough_tokens(text)) + 8
