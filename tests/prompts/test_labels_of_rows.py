"""Benchmarks whose rows have options of their own: as many requests as a row has options, and no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.api import load_benchmark
from evalkit.core.errors import EvalkitError
from evalkit.execution.debug import DebugRunner
from evalkit.plan.options import RunOptions
from evalkit.session import Finished, RunSettings, run
from tests import helpers

ROWS = [
    {"q": "first", "choices": {"label": ["A", "B", "C"], "text": ["red", "a long green thing", "blue"]}, "gold": "B"},
    {"q": "second", "choices": {"label": ["1", "2", "3", "4"], "text": ["w", "xx", "yyy", "zzzz zz"]}, "gold": "3"},
    {"q": "third", "choices": {"label": list("ABCDE"), "text": ["v", "w", "x", "y", "z"]}, "gold": "E"},
]
TEXT = "choices.text[choices.label.index(option)]"
CONFIGS = {
    "ppl": f"mode: ppl\nprompt: '{{{{ q }}}} {{{{ {TEXT} }}}}'\nmetric: accuracy\n",
    "ll": f"mode: ll\nprompt: '{{{{ q }}}} {{{{ {TEXT} }}}}'\ncontinuation: ' {{{{ {TEXT} }}}}'\nmetric: acc_norm\n",
    "gen": "mode: gen\nprompt: '{{ q }}'\nextract: [{choice: {texts: choices}}]\nmetric: accuracy\n",
}


def write(folder: Path, mode: str, rows: list[dict[str, Any]], more: str = "") -> None:
    target = folder / "dataset_configs"
    target.mkdir(parents=True, exist_ok=True)
    shared = "data: {file: mine.jsonl}\nrow_labels: choices.label\ngold: gold\n"
    (target / f"mine_{mode}.yaml").write_text(CONFIGS[mode].replace("acc_norm", more or "acc_norm") + shared)
    (target / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run_here(tmp_path: Path, name: str) -> Finished:
    helpers.fake_model(tmp_path / "configs", "m")
    options = RunOptions(("m",), (name,), config_dirs=(str(tmp_path / "configs"),), data_root="samples")
    finished = run(options, RunSettings((), tmp_path / "work", runner=DebugRunner()))
    assert isinstance(finished, Finished) and finished.complete
    return finished


@pytest.mark.parametrize("mode", ["ppl", "ll"])
def test_every_row_is_asked_its_own_options(tmp_path: Path, mode: str) -> None:
    write(tmp_path / "configs", mode, ROWS)
    folder = run_here(tmp_path, f"mine_{mode}").store.folder
    assert len(helpers.reply_keys(folder)) == 3 + 4 + 5
    (file,) = (folder / "scores").rglob("mine*.jsonl")
    rankings = [json.loads(line)["detail"]["ranking"] for line in file.read_text().splitlines()]
    assert [sorted(r) for r in rankings] == [row["choices"]["label"] for row in ROWS]


def test_generation_reads_the_options_of_its_row(tmp_path: Path) -> None:
    write(tmp_path / "configs", "gen", ROWS)
    handle = load_benchmark("mine_gen", config_dirs=[str(tmp_path / "configs")])
    handle.task.check()
    for sample, reply, answer in zip(handle.samples(), ("C", "The answer is 4.", "Answer: e"), "C4E", strict=True):
        context = {"options": sample.labels, "row": sample.row}
        assert handle.extract(reply, **context) == answer
        assert handle.extract("F", **context) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold": "D"}, "matches none of the labels A, B, C"),
        ({"choices": {"label": "ABC", "text": ["a", "b", "c"]}}, "is no list of texts"),
        ({"choices": {"label": ["A", "A"], "text": ["a", "b"]}}, "are not distinct texts"),
        ({"choices": {"label": [], "text": []}}, "is no list of texts"),
        ({"choices": {"text": ["a"]}}, "labels"),
        ({"choices": {"label": ["B"], "text": ["a"]}}, "matches every label"),
    ],
)
def test_odd_labels_name_the_row(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path / "configs", "ppl", [ROWS[1], {**ROWS[0], **change}])
    with pytest.raises(EvalkitError, match="row 1") as caught:
        load_benchmark("mine_ppl", config_dirs=[str(tmp_path / "configs")]).task.check()
    assert message in caught.value.message


@pytest.mark.parametrize("by", ["characters", "bytes", "tokens"])
def test_acc_norm_against_the_replies(tmp_path: Path, by: str) -> None:
    """Each label's log-probability over the length of its text, from the replies themselves."""
    write(tmp_path / "configs", "ll", ROWS, f"{{acc_norm: {{by: {by}}}}}")
    finished = run_here(tmp_path, "mine_ll")
    lines = [json.loads(x) for f in (finished.store.folder / "replies").rglob("*.jsonl") for x in f.open()]
    replies = {line["key"]: line for line in lines}
    index = [json.loads(x) for f in (finished.store.folder / "requests").rglob("*.jsonl") for x in f.open()]
    units = {"characters": len, "bytes": lambda t: len(t.encode()), "tokens": lambda t: len(t.split())}[by]
    right = []
    for line in index:
        row = ROWS[int(line["sample"].rpartition("/")[2])]
        texts = dict(zip(row["choices"]["label"], row["choices"]["text"], strict=True))
        rates = {label: replies[key]["nll"] / units(texts[label]) for label, key in line["keys"].items()}
        right.append(min(rates, key=lambda label: rates[label]) == row["gold"])
    values = {score.metric: score.value for score in finished.scores}
    assert values["acc_norm"] == pytest.approx(100 * sum(right) / 3) and set(values) == {"acc_norm", "accuracy"}


def test_acc_norm_is_for_ll_alone(tmp_path: Path) -> None:
    write(tmp_path / "configs", "ppl", ROWS)
    file = tmp_path / "configs/dataset_configs/mine_ppl.yaml"
    file.write_text(file.read_text().replace("metric: accuracy", "metric: acc_norm"))
    with pytest.raises(EvalkitError, match="acc_norm needs mode ll, not ppl"):
        load_benchmark("mine_ppl", config_dirs=[str(tmp_path / "configs")])
