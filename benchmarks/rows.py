"""Questions for the speed comparisons: real rows as (context, continuations), and full texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.api import load_benchmark

MMLU = "mmlu_ppl_ac766d"
SHOTS = 10


@dataclass(frozen=True)
class Question:
    """A context and its options, which each are scored behind it."""

    id: str
    context: str
    options: tuple[str, ...]


def letters(data_root: str | Path, subject: str, count: int | None) -> list[Question]:
    """MMLU 5-shot by the published prompt; the options are ` A` to ` D`."""
    handle = load_benchmark(MMLU, data_root)
    out = []
    for sample in handle.samples(subject, count):
        prompts: Any = handle.render(sample)
        texts = [str(text) for text in prompts.values()]
        context = texts[0][:-2]
        if any(text[:-2] != context or text[-2] != " " for text in texts):
            raise SystemExit(f"{MMLU} does not end in a space and a letter")
        out.append(Question(sample.id, context, tuple(text[-2:] for text in texts)))
    return out


def option_texts(data_root: str | Path, subject: str, count: int | None) -> list[Question]:
    """MMLU questions whose options are their texts, behind 10 exemplars: the dev split and the first test rows.

    Not a published prompt: a stand-in for benchmarks such as HellaSwag, whose options are sentences.
    """
    dev = load_benchmark(MMLU, data_root, overrides=("data.split=dev",)).samples(subject)
    test = load_benchmark(MMLU, data_root).samples(subject)
    first = SHOTS - len(dev)
    rows = [sample.row for sample in [*dev, *test[:first]]]
    shots = "".join(f"Question: {row['input']}\nAnswer: {row[row['target']]}\n\n" for row in rows)
    scored = test[first:] if count is None else test[first : first + count]
    return [
        Question(s.id, f"{shots}Question: {s.row['input']}\nAnswer:", tuple(f" {s.row[label]}" for label in "ABCD"))
        for s in scored
    ]
