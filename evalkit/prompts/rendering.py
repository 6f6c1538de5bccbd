"""From a row and the exemplars to the exact text, or messages, that a model sees.

The rules of base and chat, the order of filling, and where the quirks act are those of the
protocol sheets; `quirks.py` holds the quirks themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.core import template
from evalkit.core.errors import ConfigError
from evalkit.core.records import Benchmark, Kind, Rendered, Row, Sample, Turn, TurnTemplate
from evalkit.prompts import quirks

SHOTS = "shots"
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


class Exemplars:
    """The few-shot part of one subset's prompts: one text, or turns; empty when zero-shot."""

    def __init__(self, text: str = "", turns: Sequence[Turn] = (), count: int = 0, rows: Sequence[Row] = ()) -> None:
        self.text = text
        self.turns = tuple(turns)
        self.count = count
        self.rows = tuple(rows)
        """What the exemplars are rendered from, where that has the columns of a scored row."""


def render(benchmark: Benchmark, sample: Sample, exemplars: Exemplars, kind: Kind) -> Rendered:
    """All prompts of one sample for a base or a chat model.

    ppl and ll prompts are plain text for either kind of model; gen gives plain text to a base
    model (turns joined by one newline) and messages to a chat model.
    """
    if benchmark.mode == "gen":
        turns = _fill_prompt(benchmark, sample, exemplars, option=None)
        if isinstance(turns, str):
            return Rendered(turns=(Turn(USER, turns),)) if kind == "chat" else Rendered(text=turns)
        if kind == "base":
            return Rendered(text=_flat(turns))
        return Rendered(turns=_chat(turns, benchmark.quirks))
    texts = {}
    for label in sample.options(benchmark):
        filled = _fill_prompt(benchmark, sample, exemplars, option=label)
        texts[label] = filled if isinstance(filled, str) else _flat(filled)
    if benchmark.mode == "ppl":
        return Rendered(ppl=texts)
    return Rendered(ll={label: _split(benchmark, sample, label, text) for label, text in texts.items()})


def fill(
    source: str, row: Row, others: Mapping[str, Any], *, sequential: bool, blank: str = "", shots: str = ""
) -> str:
    """One template over the columns of `row` and the reserved names in `others`.

    `blank` names a column that is emptied (the gold of a generation prompt); it acts under the
    quirk `sequential_fields` only, as templates of other configs do not show the gold.
    """
    if not sequential:
        return template.render(source, {**row, **others, SHOTS: shots}, "prompt")
    text = template.render(source, {**quirks.placeholders(row), **others, SHOTS: shots}, "prompt")
    return quirks.replace_in_order(text, row, blank)


def _fill_prompt(benchmark: Benchmark, sample: Sample, exemplars: Exemplars, option: str | None) -> str | list[Turn]:
    """The prompt with fields filled; `option` is the label of a ppl or ll prompt."""
    sequential = quirks.SEQUENTIAL in benchmark.quirks
    blank = benchmark.gold if benchmark.mode == "gen" else ""
    others = scope(sample.variables, sample.subset, sample.index, sample.row)
    if option is not None:
        others["option"] = option

    def filled(source: str) -> str:
        return fill(source, sample.row, others, sequential=sequential, blank=blank, shots=exemplars.text)

    def refilled(text: str) -> str:
        return quirks.replace_in_order(text, sample.row, blank) if sequential else text

    if isinstance(benchmark.prompt, str):
        return filled(benchmark.prompt)
    turns: list[Turn] = []
    for part in benchmark.prompt:
        if part.role == SHOTS:
            turns += [Turn(t.role, refilled(t.text)) for t in exemplars.turns]
        else:
            turns.append(Turn(part.role, filled(part.source)))
    return turns


def scope(variables: Mapping[str, Any], subset: str, index: int, row: Row) -> dict[str, Any]:
    """The reserved names and the member's variables, as templates see them.

    `subset` in the variables wins: it is the member's own name, without the row prefix of a split.
    """
    return {"subset": subset, **variables, "idx": index, "row": row}


def _flat(turns: Sequence[Turn]) -> str:
    """Turns as plain text for a base model: role names dropped, joined by one newline."""
    return "\n".join(turn.text for turn in turns)


def _chat(turns: Sequence[Turn], names: frozenset[str]) -> tuple[Turn, ...]:
    """Turns for a chat model: a last assistant turn is dropped, generation starts there."""
    kept = _alternating(turns[:-1] if turns and turns[-1].role == ASSISTANT else turns)
    if quirks.USER_NEWLINE in names:
        kept = [quirks.user_newline(turn) for turn in kept]
    return tuple(kept)


def _alternating(turns: Sequence[Turn]) -> list[Turn]:
    """Neighbouring turns of one role as one message, joined by a newline: chat templates want roles to alternate."""
    kept: list[Turn] = []
    for turn in turns:
        if kept and kept[-1].role == turn.role:
            turn = Turn(turn.role, f"{kept.pop().text}\n{turn.text}")
        kept.append(turn)
    return kept


def continuation_of(benchmark: Benchmark, sample: Sample, label: str) -> str:
    """What is scored of one ll prompt."""
    others = {**scope(sample.variables, sample.subset, sample.index, sample.row), "option": label}
    return fill(benchmark.continuation, sample.row, others, sequential=quirks.SEQUENTIAL in benchmark.quirks)


def _split(benchmark: Benchmark, sample: Sample, label: str, text: str) -> tuple[str, str]:
    """Context and continuation of one ll prompt; the continuation must end the prompt."""
    continuation = continuation_of(benchmark, sample, label)
    if not continuation or not text.endswith(continuation):
        raise ConfigError(
            f"{benchmark.name}: the continuation {continuation[-40:]!r} does not end the prompt of {sample.id}",
            "`prompt` must end with what `continuation` renders",
        )
    return text[: len(text) - len(continuation)], continuation


def templates_of(prompt: str | Sequence[TurnTemplate]) -> list[str]:
    """All template sources of a prompt."""
    return [prompt] if isinstance(prompt, str) else [p.source for p in prompt if p.role != SHOTS]


def uses_shots(prompt: str | Sequence[TurnTemplate]) -> bool:
    """Whether the exemplars have a place in the prompt."""
    if isinstance(prompt, str):
        return SHOTS in template.names_in(prompt)
    return any(p.role == SHOTS for p in prompt) or any(SHOTS in template.names_in(s) for s in templates_of(prompt))
