"""A run that is extended keeps what it has: in the plan, the table, the scores and the status."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.errors import ConfigError
from evalkit.execution.debug import DebugRunner
from evalkit.plan.options import RunOptions
from evalkit.results.scored import decode_score
from evalkit.scoring.score import Options
from evalkit.session import Finished, RunSettings, plan_of, run, score_run
from tests import helpers

MMLU, GSM8K = "mmlu_ppl_ac766d", "gsm8k_gen_17d0dc"


def run_here(
    tmp_path: Path, *datasets: str, reuse: str | None = "", models: tuple[str, ...] = ("m",), **more: Any
) -> Finished:
    """One command in this process."""
    if not (tmp_path / "configs" / "model_configs" / "m.yaml").exists():
        helpers.fake_model(tmp_path / "configs", "m")
        helpers.fake_model(tmp_path / "configs", "n", path="other")
    options = RunOptions(
        models, datasets, config_dirs=(str(tmp_path / "configs"),), **{"data_root": "samples", "limit": 3, **more}
    )
    finished = run(options, RunSettings((), tmp_path / "work", reuse=reuse, runner=DebugRunner()))
    assert isinstance(finished, Finished)
    return finished


def values(finished: Finished) -> dict[tuple[str, str], tuple[float | None, int]]:
    """(model, row) -> value and samples."""
    return {(s.model, s.row): (s.value, s.n) for s in finished.scores}


def test_other_benchmarks_and_models_are_added(tmp_path: Path) -> None:
    first = values(run_here(tmp_path, f"{MMLU}:anatomy", reuse=None))
    second = values(run_here(tmp_path, GSM8K))
    assert first.items() < second.items() and ("m", "gsm8k") in second
    finished = run_here(tmp_path, GSM8K, models=("n",))
    third = values(finished)
    assert second.items() < third.items() and ("n", "gsm8k") in third and finished.complete
    assert {(row["model"], row["benchmark"]) for row in finished.store.progress()["standings"]} == {
        ("m", MMLU), ("m", GSM8K), ("n", GSM8K),
    }  # fmt: skip
    done = helpers.run("score", finished.store.folder, "--json")
    assert done.returncode == 0, done.stderr
    scored = [decode_score(score) for score in json.loads(done.stdout)["scores"]]
    assert values(replace(finished, scores=tuple(scored))) == third
    # the same in one command, from the first on
    at_once = values(run_here(tmp_path, f"{MMLU}:anatomy", GSM8K, reuse=None))
    assert at_once.items() < third.items()


def test_other_subsets_of_a_benchmark_are_added(tmp_path: Path) -> None:
    run_here(tmp_path, f"{MMLU}:anatomy", reuse=None)
    finished = run_here(tmp_path, f"{MMLU}:astronomy")
    assert {row for _, row in values(finished)} >= {"mmlu-anatomy", "mmlu-astronomy"}
    assert values(finished) == values(run_here(tmp_path, f"{MMLU}:anatomy,astronomy", reuse=None))
    before = helpers.reply_keys(finished.store.folder)
    again = run_here(tmp_path, f"{MMLU}:anatomy", reuse=str(finished.store.folder))
    assert values(again) == values(finished) and helpers.reply_keys(finished.store.folder) == before


def test_a_changed_config_replaces_its_own_benchmark_alone(tmp_path: Path) -> None:
    run_here(tmp_path, f"{MMLU}:anatomy", GSM8K, reuse=None)
    finished = run_here(tmp_path, GSM8K, overrides=(f"{GSM8K}:gen.max_out_len=7",))
    assert {score.benchmark for score in finished.scores} == {MMLU, GSM8K} and finished.complete
    assert len({score.version for score in finished.scores if score.benchmark == GSM8K}) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"limit": 2}, r"--limit 3, this command has --limit 2"),
        ({"limit": None}, r"--limit 3, this command has no --limit"),
        ({"seed": 1}, "--seed 0, this command has --seed 1"),
        ({"data_root": "HERE"}, "--data-root samples, this command has --data-root"),
        ({"overrides": ("model.path=elsewhere",)}, r"m is another model now \(path changed\)"),
        ({"overrides": ("model.max_new_tokens=5",)}, "m has another max_new_tokens now"),
        ({"overrides": ("model.reasoning={}",)}, "m has another reasoning now"),
    ],
)
def test_what_does_not_belong_in_one_table_is_refused(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    before = run_here(tmp_path, f"{MMLU}:anatomy", reuse=None)
    if more.get("data_root"):
        from evalkit.data.sources import open_root

        more = {"data_root": str(open_root("samples").folder)}
    manifest = before.store.manifest()
    with pytest.raises(ConfigError, match=message) as refused:
        run_here(tmp_path, GSM8K, **more)
    assert "--new" in refused.value.hint and before.store.manifest() == manifest


def test_a_config_that_another_model_was_asked_with_is_refused(tmp_path: Path) -> None:
    run_here(tmp_path, GSM8K, reuse=None)
    with pytest.raises(ConfigError, match=f"{GSM8K} is another config now than the one that m was asked with"):
        run_here(tmp_path, GSM8K, models=("n",), overrides=(f"{GSM8K}:gen.max_out_len=7",))


@pytest.mark.parametrize("change", ["model.max_new_tokens=5", "model.reasoning={}"])
def test_settings_of_the_model_that_change_a_request_have_it_asked_again(tmp_path: Path, change: str) -> None:
    """They are no part of the model's fingerprint, and stored keys must not hide them."""
    open_ended = f"{GSM8K}:gen.max_out_len=null"
    first = run_here(tmp_path, GSM8K, reuse=None, overrides=(open_ended,))
    before = helpers.reply_keys(first.store.folder)
    finished = run_here(tmp_path, GSM8K, overrides=(open_ended, change))
    after = helpers.reply_keys(finished.store.folder)
    assert len(before) == 3 and len(after) == len(set(after)) == 6 and finished.complete


OWN = """mode: gen
data: {file: mine.csv}
prompt: "{{ q }}"
gold: a
metric: accuracy
"""


def own_data(tmp_path: Path, *golds: str) -> None:
    folder = tmp_path / "configs" / "dataset_configs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine_gen.yaml").write_text(OWN)
    (folder / "mine.csv").write_text("q,a\n" + "".join(f"q{n},{gold}\n" for n, gold in enumerate(golds)))


def test_data_that_changed_is_said_when_a_run_goes_on(tmp_path: Path) -> None:
    own_data(tmp_path, "x", "y")
    options = RunOptions(("m",), ("mine_gen",), config_dirs=(str(tmp_path / "configs"),), data_root="samples")
    run_here(tmp_path, "mine_gen", reuse=None, limit=None)
    settings = RunSettings((), tmp_path / "work", reuse="", runner=DebugRunner())
    assert plan_of(options, settings).warnings == ()
    own_data(tmp_path, "x", "z")
    assert plan_of(options, settings).warnings == (
        "mine_gen: the data changed since the run: its rows are asked and scored as they are now",
    )
    with pytest.raises(ConfigError, match="the data of mine_gen changed since m was asked"):
        run_here(tmp_path, "mine_gen", models=("n",), limit=None)


def test_a_run_without_samples_says_that_the_data_changed(tmp_path: Path) -> None:
    """Older runs keep no rows: their data is read once more, and may be another one now."""
    own_data(tmp_path, "x", "y")
    first = run_here(tmp_path, "mine_gen", reuse=None, limit=None)
    shutil.rmtree(first.store.folder / "samples")
    assert [s.flag for s in score_run(first.store, Options()).scores] == [""]
    own_data(tmp_path, "x", "z")
    shutil.rmtree(first.store.folder / "samples")
    (score,) = score_run(first.store, Options()).scores
    assert score.flag == "the data changed since the run: scored by the rows as they are now"


SHOTS = """mode: gen
data: {file: mine.csv, split: test}
shots: {file: shots.csv, template: "Q: {{ q }} A: {{ a }}\n"}
prompt: "{{ shots }}Q: {{ q }} A:"
gold: a
metric: accuracy
"""
TURNS = """mode: gen
data: {file: mine.csv, split: test}
shots: {turns: shots.jsonl}
prompt: [shots, {user: "{{ q }}"}]
gold: a
metric: accuracy
"""
QUESTION = "How many legs does a spider have?"


@pytest.mark.parametrize("config", [SHOTS, TURNS], ids=["rows", "turns"])
def test_items_among_their_own_exemplars_flag_the_row(tmp_path: Path, config: str) -> None:
    own_data(tmp_path)
    folder = tmp_path / "configs" / "dataset_configs"
    (folder / "mine_gen.yaml").write_text(config)
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "8"}]
    for text, flag in ((QUESTION, "1 samples stand among their own exemplars"), ("How many legs has a cat?", "")):
        (folder / "mine.csv").write_text(f"q,a\n{text},8\nHow many legs does an ant have?,6\n")
        (folder / "shots.csv").write_text(f"q,a\n{QUESTION},8\n")
        (folder / "shots.jsonl").write_text("".join(json.dumps(turn) + "\n" for turn in turns))
        finished = run_here(tmp_path, "mine_gen", reuse=None, limit=None)
        assert [score.flag for score in finished.scores] == [flag]
