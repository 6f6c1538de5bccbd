"""How often steps read the right answer out of labelled replies, and how often they read one where there is none.

    python benchmarks/extraction.py [--misses STEP]

`extraction.jsonl` beside this file has the replies, of our own writing: a `rule` (choice or number), a language, the
options' texts, the reply, and the answer, empty where the reply gives none. Each step is called as a config calls it,
with the letters of the row's options. `--misses` prints what a step got wrong.
"""

from __future__ import annotations

import argparse
import json
import string
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evalkit.core.calls import parse_calls
from evalkit.scoring.extract import extract
from evalkit.scoring.metrics.exact import same_number

FILE = Path(__file__).with_suffix(".jsonl")
STEPS: Mapping[str, Mapping[str, list[Any]]] = {
    "choice": {
        "first_option": ["first_option"],
        "first_option_2026": ["first_option_2026"],
        "first_capital": ["first_capital"],
        "bracketed_capital": ["bracketed_capital"],
        "choice": ["choice"],
    },
    "number": {
        "last_number": ["last_number"],
        "number": ["number"],
        "number, last": [{"number": {"which": "last"}}],
    },
}  # fmt: skip
"""Rule -> name -> steps, the published ones first."""


def replies(rule: str) -> Iterator[dict[str, Any]]:
    """The labelled replies of a rule."""
    for line in FILE.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        if item["rule"] == rule:
            yield item


def reader(steps: list[Any]) -> Callable[[Mapping[str, Any]], str]:
    """Reads the answer of a labelled reply by some steps."""
    calls = parse_calls(steps)

    def read(item: Mapping[str, Any]) -> str:
        options = item.get("options", [])
        letters = tuple(string.ascii_uppercase[: len(options)])
        return str(extract(item["reply"], calls, {"options": letters, "row": {"choices": options}}))

    return read


def is_right(item: Mapping[str, Any], answer: str) -> bool:
    """Whether an answer is the label; numbers are compared as numbers."""
    if item["rule"] == "number" and item["answer"]:
        return same_number(answer, item["answer"])
    return answer == item["answer"]


def measured(rule: str, steps: list[Any]) -> dict[str, Any]:
    """Accuracy over all replies and by language, and the share of replies that got a false answer, percent."""
    items = list(replies(rule))
    began = time.process_time()
    read = reader(steps)
    answers = [read(item) for item in items]
    seconds = time.process_time() - began
    right = [is_right(item, answer) for item, answer in zip(items, answers, strict=True)]
    false = [bool(answer) and not ok for answer, ok in zip(answers, right, strict=True)]
    none = [bool(answer) for item, answer in zip(items, answers, strict=True) if not item["answer"]]
    by_language = {
        language: share([ok for item, ok in zip(items, right, strict=True) if item["language"] == language])
        for language in ("en", "zh")
    }
    misses = [(item, answer) for item, answer, ok in zip(items, answers, right, strict=True) if not ok]
    return {
        "accuracy": share(right), **by_language, "false": share(false), "of non-answers": share(none),
        "us": 1e6 * seconds / len(items), "misses": misses,
    }  # fmt: skip


def share(values: list[bool]) -> float:
    """Percent of true values."""
    return 100.0 * sum(values) / max(1, len(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--misses", default="", metavar="STEP")
    asked = parser.parse_args().misses
    for rule, ways in STEPS.items():
        count = sum(1 for _ in replies(rule))
        print(f"{rule}: {count} replies\n{'step':<20}accuracy      en      zh   false  of non-answers  us a reply")
        for name, steps in ways.items():
            found = measured(rule, steps)
            print(
                f"{name:<20}{found['accuracy']:8.1f}{found['en']:8.1f}{found['zh']:8.1f}{found['false']:8.1f}"
                f"{found['of non-answers']:16.1f}{found['us']:12.0f}"
            )
            for item, answer in found["misses"] if name == asked else ():
                print(f"  {answer!r}, not {item['answer']!r}: {item['reply']!r}")


if __name__ == "__main__":
    main()
