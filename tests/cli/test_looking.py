"""`samples` on the terminal: what is shown, what chooses, and texts that a terminal would obey."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from evalkit.results.store import RunStore
from tests import helpers
from tests.report.html import runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.recorded(tmp_path_factory.mktemp("recorded"))


def records(run: Path, *options: object) -> list[dict[str, object]]:
    done = helpers.run("samples", run, "--json", *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line]


def test_wrong_samples_are_those_of_the_verdicts(run: Path) -> None:
    store = RunStore(run)
    models = [m["name"] for m in json.loads((run / "results.json").read_text("utf-8"))["models"]]
    wrong = [
        (model, v.sample_id)
        for model in models
        for v in store.verdicts(model, "demo_arithmetic_gen")
        if v.values["value"] < 1
    ]
    found = records(run, "--wrong")
    assert [(r["model"], r["id"]) for r in found] == wrong and 0 < len(wrong) < 120
    assert all(r["verdict"] == "wrong" and r["answer"] != r["gold"] for r in found)


def test_choices_narrow(run: Path) -> None:
    (one,) = records(run, "--models", "*base", "--id", "en/4", "--benchmark", "demo_*")
    assert (one["model"], one["id"]) == ("recorded-embedded_base", "en/4")
    assert len(records(run, "--limit", 3)) == 3
    assert all(r["model"] == "recorded-embedded_chat" for r in records(run, "--grep", "SAYS EMBEDDED_CHAT"))
    refused = helpers.run("samples", run, "--benchmark", "demo_arithmetics")
    assert refused.returncode == 2 and "demo_arithmetic_gen" in refused.stderr


def test_text_shows_output_steps_and_verdict(run: Path) -> None:
    done = helpers.run("samples", run, "--id", "en/3", "--models", "recorded-embedded_base")
    gold = RunStore(run).verdicts("recorded-embedded_base", "demo_arithmetic_gen", "en")[3].gold
    answer = str(int(gold) + 1)
    assert f"The answer is ⟦{answer}⟧." in done.stdout
    assert f"last_number(none: NULL) → {answer}" in done.stdout
    assert f"wrong: answer {answer}, gold {gold}" in done.stdout
    none = helpers.run("samples", run, "--grep", "not to be seen anywhere")
    assert none.returncode == 0 and none.stdout == "no sample fits\n"


def test_a_terminal_obeys_nothing_of_a_model(tmp_path: Path) -> None:
    done = helpers.run("samples", runs.hostile(tmp_path))
    assert done.returncode == 0, done.stderr
    obeyed = {c for c in done.stdout if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")}
    assert obeyed == {"\n"}
    assert "\\x1b[31mred" in done.stdout and "\\u202e" in done.stdout and "<script>" in done.stdout
    assert len(done.stdout) < 200_000 and "characters; --full shows them" in done.stdout
