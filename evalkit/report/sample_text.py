"""Samples for the terminal, and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evalkit.core.digest import plain
from evalkit.report.samples import Judged, Prompt, text_of
from evalkit.report.tables import printable

LONGEST_TEXT, LONGEST_VALUE = 4000, 300
"""Characters that are shown of a text, and of an answer, unless all are asked for."""


@dataclass(frozen=True)
class Wanted:
    """Which samples are shown; what is empty or false does not choose."""

    wrong: bool = False
    right: bool = False
    unparsed: bool = False
    """Nothing was extracted."""
    flagged: bool = False
    """Without a verdict, with a fault, cut at the length limit or at the left."""
    grep: str = ""
    """Stands in the prompt, the output, the answer or the gold, in upper or lower case."""
    ids: tuple[str, ...] = ()

    def fits(self, one: Judged) -> bool:
        """Whether a sample is shown."""
        verdict = one.verdict
        if self.ids and verdict.sample_id not in self.ids:
            return False
        if (self.wrong and (one.value is None or one.value >= 1)) or (self.right and (one.value or 0.0) < 1):
            return False
        if self.unparsed and not one.unparsed:
            return False
        is_flagged = verdict.missing or bool(one.fault) or verdict.truncated or verdict.detail.get("finish") == "length"
        if self.flagged and not is_flagged:
            return False
        return not self.grep or self.grep.casefold() in "\n".join(_texts(one)).casefold()


def _texts(one: Judged) -> Iterator[str]:
    """All texts of a sample."""
    yield from (part.text for part in one.prompt.parts)
    yield from (option.given + option.scored for option in one.prompt.options)
    yield from (one.text, text_of(one.verdict.answer), text_of(one.verdict.gold))


def verdict_of(one: Judged) -> str:
    """The verdict in words."""
    if one.value is None:
        return "no verdict" if one.verdict.missing else "not judged by itself"
    return "right" if one.value >= 1 else "partly right" if one.value > 0 else "wrong"


def as_text(model: str, one: Judged, full: bool = False) -> Iterator[tuple[str, str]]:
    """(kind, text) of the parts of a sample, safe for a terminal; kinds: `head`, `role`, `text`, `marked`, `note`,
    `right`, `wrong`. `full`: exemplars unfolded and no text cut."""
    draw = f"  draw {one.draw}" if one.draw else ""
    yield "head", printable(f"── {model}  {one.benchmark.name}  {one.verdict.sample_id}{draw}")
    yield from _prompt(one.prompt, full)
    if one.benchmark.mode == "gen":
        yield from _output(one, full)
    else:
        yield from _options(one, full)
    words = verdict_of(one)
    kind = words if words in ("right", "wrong") else "note"
    values = ", ".join(f"{name} {text_of(value)}" for name, value in one.verdict.values.items())
    yield kind, f"{words}: answer {_shown(one.verdict.answer, full)}, gold {_shown(one.verdict.gold, full)}"
    yield "note", printable(f"{one.benchmark.metric.name}: {values or 'no value'}")
    if one.fault:
        yield "wrong", printable(one.fault)
    if one.margin is not None:
        yield "note", f"margin {one.margin:.3f} nats"
    yield "text", ""


def _prompt(prompt: Prompt, full: bool) -> Iterator[tuple[str, str]]:
    if prompt.fault:
        yield "note", printable(prompt.fault)
    role = ""
    for part in prompt.parts:
        if part.role != role:
            role = part.role
            yield "role", f"[{role}]"
        if part.is_exemplar and not full:
            yield "note", f"⟨{len(part.text)} characters of exemplars; --full shows them⟩"
        else:
            yield "text", _lines(part.text, full)


def _output(one: Judged, full: bool) -> Iterator[tuple[str, str]]:
    finish = one.verdict.detail.get("finish")
    yield "role", printable(f"[output{f', ended by {finish}' if finish else ''}]")
    span = one.trace.span if one.trace else None
    text = one.text
    if span and (full or len(text) <= LONGEST_TEXT):
        marked = f"{_lines(text[: span[0]], True)}⟦{_lines(text[slice(*span)], True)}⟧{_lines(text[span[1] :], True)}"
        yield "text", marked
    else:
        yield "text", _lines(text, full) or "(empty)"
    for step in one.trace.steps if one.trace else ():
        arguments = ", ".join(f"{k}: {text_of(v)}" if k else text_of(v) for k, v in step.call.args.items())
        called = f"{step.call.name}({arguments})" if arguments else step.call.name
        yield "note", f"{printable(called)} → {_shown(step.result, full)}"
    if one.trace and one.trace.fault:
        yield "wrong", printable(one.trace.fault)


def _options(one: Judged, full: bool) -> Iterator[tuple[str, str]]:
    texts = {option.label: option.given + option.scored for option in one.prompt.options}
    per = "a token" if one.benchmark.mode == "ppl" else "in all"
    yield "role", f"[options: log-probability {per}]"
    for label, reply in one.replies.items():
        score = "      -" if reply.nll is None else f"{-reply.nll:9.4f}"
        marks = ("◂" if label == one.verdict.answer else " ") + ("gold" if label == one.verdict.gold else "")
        text = _lines(texts.get(label, ""), full)
        yield "text", f"{printable(label):>4} {score} {marks:5} {text}"


def _shown(value: Any, full: bool) -> str:
    text = printable(text_of(value))
    return text if full or len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _lines(text: str, full: bool) -> str:
    """A text of several lines without characters that a terminal obeys."""
    if not full and len(text) > LONGEST_TEXT:
        half = LONGEST_TEXT // 2
        left_out = f"\n⟨{len(text) - 2 * half} characters; --full shows them⟩\n"
        return _lines(text[:half], True) + left_out + _lines(text[-half:], True)
    return "\n".join(map(printable, text.split("\n")))


def as_record(model: str, one: Judged) -> dict[str, Any]:
    """A sample for programs."""
    verdict = one.verdict
    return {
        "model": model,
        "benchmark": one.benchmark.name,
        "id": verdict.sample_id,
        "subset": verdict.subset,
        "draw": one.draw,
        "mode": one.benchmark.mode,
        "prompt": [plain(part) for part in one.prompt.parts],
        "options": [plain(option) for option in one.prompt.options],
        "output": one.text if one.benchmark.mode == "gen" else None,
        "scores": {k: {"nll": r.nll, "tokens": r.n_tokens} for k, r in one.replies.items() if r.nll is not None},
        "steps": [{**plain(step.call), "result": step.result} for step in (one.trace.steps if one.trace else ())],
        "answer": verdict.answer,
        "gold": verdict.gold,
        "value": one.value,
        "values": plain(verdict.values),
        "verdict": verdict_of(one),
        "fault": one.fault,
        "truncated": verdict.truncated,
    }
