"""Runs for the tests of the report: one of the two embedded models, and one whose texts are hostile."""

from __future__ import annotations

import json
from pathlib import Path

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


def embedded(folder: Path) -> Path:
    """A real run of two models; returns its folder."""
    done = helpers.run(
        "--models", "embedded_base", "embedded_chat", "--datasets", "demo_arithmetic_gen", "demo_choice_ppl", "--limit",
        30, "--summarizer", "demo", "--work-dir", folder, "--debug", timeout=280,
    )  # fmt: skip
    assert "saved in" in done.stderr, done.stderr
    return helpers.run_folder(folder)


def hostile(folder: Path) -> Path:
    """A run of recorded outputs whose rows, outputs and names are hostile; returns its folder."""
    configs = folder / "configs"
    configs.mkdir(parents=True)
    texts = [*HOSTILE_TEXTS, "x" * LONG]
    rows = [{"question": f"Q{i} {text[:2000]}", "answer": text[:200] or "empty"} for i, text in enumerate(texts)]
    (configs / "hostile.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (configs / "hostile_gen.yaml").write_text(
        "mode: gen\ndata: {file: hostile.jsonl}\ngold: answer\nprompt: '{{ question }}'\n"
        "gen: {max_out_len: 16}\nextract: [strip]\nmetric: exact_match\n"
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
