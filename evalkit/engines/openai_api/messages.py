"""Bodies of generation requests, and replies out of responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.core.reasoning import opened_by, stopped, with_trace
from evalkit.core.records import GenSettings, ModelSpec, Reply, Request
from evalkit.engines.external.engine import seed_of
from evalkit.engines.hf.tokens import with_system
from evalkit.engines.openai_api.client import Answer
from evalkit.engines.openai_api.faults import Rejected
from evalkit.engines.openai_api.options import Options

CHAT, COMPLETIONS = "/chat/completions", "/completions"


def path_of(request: Request) -> str:
    """Where a request goes: turns to chat completions, text to completions."""
    return CHAT if request.turns else COMPLETIONS


def settings(request: Request) -> GenSettings:
    """The generation settings of a request; Rejected without any."""
    if request.gen is None:
        raise Rejected("a generation request without generation settings")
    return request.gen


def gen_body(request: Request, spec: ModelSpec, options: Options) -> dict[str, Any]:
    """The JSON of a generation request.

    Greedy is temperature 0 and nothing else; a sampled request carries its seed. Only the first `max_stops`
    stop strings are sent: all are cut here again.
    """
    gen = settings(request)
    body: dict[str, Any] = {"model": spec.path, options.max_tokens_field: gen.max_out_len}
    if request.turns:
        turns = with_system(request.turns, spec.system_prompt)
        body["messages"] = [{"role": turn.role, "content": turn.text} for turn in turns]
    else:
        body["prompt"] = request.text
    body["temperature"] = gen.temperature
    if gen.temperature > 0:
        body |= {"top_p": gen.top_p, "seed": seed_of(request)}
        body |= {"top_k": gen.top_k} if gen.top_k else {}
    stops = [s for s in gen.stop if s][: options.max_stops]
    body |= {"stop": stops} if stops else {}
    return finished(body, options)


def finished(body: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """The body with the config's own fields, and without those it omits."""
    return {k: v for k, v in {**body, **options.extra_body}.items() if k not in options.omit}


def gen_reply(request: Request, answer: Answer, spec: ModelSpec, guess: tuple[int, int]) -> Reply:
    """The reply that a response holds; Rejected when it holds none."""
    choice = first_choice(answer.value)
    finish = choice.get("finish_reason") or ""
    trace, text = _texts(choice)
    if finish == "content_filter":
        raise Rejected("a content filter of the endpoint held the output back")
    if not text and not trace:
        _no_text(choice, finish)
    ends = spec.end_strings if request.turns else ()
    by_stop = isinstance(choice.get("stop_reason"), str)
    how = {"length": "length", "stop": "stop" if by_stop else "eos"}.get(finish, finish)
    for marks, why in ((ends, "eos"), (settings(request).stop, "stop")):
        kept = stopped(text, marks, spec.reasoning)
        if kept != text:
            text, how = kept, why
    used = answer.used(guess)
    whole = with_trace(trace, text, cut_off=how == "length") if trace else text
    if not request.turns:
        whole = opened_by(request.text, spec.reasoning) + whole
    return Reply(request.key, whole, n_tokens=used[0], n_out=used[1], finish=how, seconds=answer.seconds)


def first_choice(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The only choice of a response; Rejected when there is none."""
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Rejected("the response holds no choice")
    return choices[0]


def _texts(choice: Mapping[str, Any]) -> tuple[str, str]:
    """(reasoning, output) of a choice of either endpoint."""
    message = choice.get("message")
    if not isinstance(message, dict):
        return "", _plain(choice.get("text"))
    reasoning = _plain(message.get("reasoning_content") or message.get("reasoning"))
    if message.get("refusal"):
        raise Rejected(f"the endpoint refused to answer: {_plain(message['refusal'])[:200]}")
    return reasoning, _plain(message.get("content"))


def _plain(value: Any) -> str:
    """A text, or the text parts of a list of parts."""
    if isinstance(value, list):
        return "".join(str(part.get("text", "")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else ""


def _no_text(choice: Mapping[str, Any], finish: str) -> None:
    """Rejected where an empty output is no output."""
    message = choice.get("message")
    if finish == "length" and message is not None:
        raise Rejected("the output limit was used up without any text (by hidden reasoning?): raise max_out_len")
    held = message.get("content") if isinstance(message, dict) else choice.get("text")
    if held is None:
        raise Rejected(f"the response holds no text (finish_reason {finish or 'none'})")
