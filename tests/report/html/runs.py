"""Runs for the tests of the report: of two models, in every mode, and one whose texts are hostile."""

from __future__ import annotations

import json
from pathlib import Path

from evalkit.api import load_benchmark
from tests import helpers

HOSTILE_TEXTS = (
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 2'><svg onload=window.pwned=3>",
    "</script><script>window.pwned = 4</script>",
    "--></style></title></textarea><iframe src='https://example.org/'></iframe>",
    "{{ 7 * 7 }} {% raw %} ${7*7} `$(id)`",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J",
    "left \u202eto right\u202c \u2066isolate\u2069 \u200e\u200f",
    "NUL \x00 here, and \x7f, \u2028 and \u2029",
    "half a pair \ud800 and \udfff",
    "javascript:window.pwned=5 data:text/html,<script>window.pwned=6</script>",
    "=cmd|' /C calc'!A0",
    "\n\n\n\t   \r\n",
)
LONG = 10_000_000
MODEL = "a<img src=x onerror=window.pwned=7>'\"&"
"""Name of the hostile outputs' file, and so of the model."""


LIMIT = 30
EMBEDDED = helpers.ROOT / "evalkit" / "builtin" / "embedded" / "base"


def embedded(folder: Path) -> Path:
    """A run of the two embedded models; returns its folder."""
    done = helpers.run(
        "--models", "embedded_base", "embedded_chat", "--datasets", "demo_arithmetic_gen", "--limit", LIMIT,
        "--summarizer", "demo", "--work-dir", folder, "--debug", timeout=280,
    )  # fmt: skip
    assert "saved in" in done.stderr, done.stderr
    return helpers.run_folder(folder)


def recorded(folder: Path) -> Path:
    """A run of outputs like the embedded models', made here, so that no model computes; returns its folder."""
    benchmark = load_benchmark("demo_arithmetic_gen")
    samples = [s for subset in benchmark.subsets for s in benchmark.samples(subset, LIMIT)]
    for name, wrong in (("embedded_base", 5), ("embedded_chat", 7)):
        lines = []
        for number, sample in enumerate(samples):
            off = 1 if number % wrong == 3 else 0
            text = f"{number} + 1 = {number + 1}, says {name}. The answer is {int(sample.gold) + off}."
            lines.append(json.dumps({"id": sample.id, "prediction": text}) + "\n")
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.jsonl").write_text("".join(lines))
    done = helpers.run(
        "--models", f"recorded:{folder}/embedded_base.jsonl", f"recorded:{folder}/embedded_chat.jsonl", "--datasets",
        "demo_arithmetic_gen", "--limit", LIMIT, "--summarizer", "demo", "--work-dir", folder / "work", "--debug",
    )  # fmt: skip
    assert "saved in" in done.stderr, done.stderr
    return helpers.run_folder(folder / "work")


def options(folder: Path) -> Path:
    """A run of two models that score options; returns its folder."""
    helpers.fake_model(folder / "c", "fake_base")
    helpers.fake_model(folder / "c", "fake_chat", kind="chat")
    done = helpers.run(
        "--config-dir", folder / "c", "--models", "fake_base", "fake_chat", "--datasets", "demo_choice_ppl",
        "demo_needle_gen", "--tokenizer", EMBEDDED, "--limit", LIMIT, "--work-dir", folder / "work", "--debug",
    )  # fmt: skip
    assert "saved in" in done.stderr, done.stderr
    return helpers.run_folder(folder / "work")


def hostile(folder: Path) -> Path:
    """A run of recorded outputs whose rows, outputs and names are hostile; returns its folder."""
    configs = folder / "configs"
    configs.mkdir(parents=True)
    texts = [*HOSTILE_TEXTS, "x" * LONG]
    rows = [{"question": f"Q{i} {text[:2000]}", "answer": f"gold {text[:200]}"} for i, text in enumerate(texts)]
    (configs / "hostile.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (configs / "hostile_gen.yaml").write_text(
        "mode: gen\ndata: {file: hostile.jsonl}\ngold: answer\nprompt: '{{ question }}'\n"
        "gen: {max_out_len: 16}\nextract: [strip]\nmetric: accuracy\n"
        'notes: "<b onmouseover=window.pwned=8>note</b>"\n'
    )
    outputs = configs / f"{MODEL}.jsonl"
    outputs.write_text("".join(json.dumps({"prediction": text}) + "\n" for text in texts), encoding="utf-8")
    done = helpers.run(
        "--models", f"recorded:{outputs}", "--datasets", "hostile_gen", "--config-dir", configs, "--work-dir",
        folder / "work", "--debug",
    )  # fmt: skip
    assert "saved in" in done.stderr, done.stderr
    return helpers.run_folder(folder / "work")
