"""The request index: scoring needs the run's folder alone, keys hold all that decides a reply, names stay apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.errors import EvalkitError
from evalkit.core.reasoning import Reasoning
from evalkit.core.records import ModelSpec
from evalkit.execution.debug import DebugRunner
from evalkit.plan.manifest import from_manifest
from evalkit.plan.options import RunOptions
from evalkit.plan.plan import Pair, PairFacts, RunPlan
from evalkit.plan.task import Cut, Task
from evalkit.results.index import request_version
from evalkit.results.store import RunStore, safe
from evalkit.scoring.score import Options
from evalkit.session import Finished, RunSettings, run, score_run
from tests import helpers

CHOICE = """
row: choice
mode: ppl
data: {file: rows.jsonl}
fields: {question: question, target: "'AB'[answer]"}
gold: target
where: topic == subset
subsets: ["law/zh", law_zh, "a b", a_b]
prompt: "{{ question }} {{ option }}"
labels: [A, B]
metric: accuracy
"""
DRAWN = """
row: drawn
mode: gen
data: {file: rows.jsonl}
gold: "'AB'[answer]"
prompt: "{{ question }}"
gen: {max_out_len: 8, num_samples: 2, temperature: 0.5}
extract: [regex: {pattern: "answer is ([A-D])", group: 1}]
metric: accuracy
"""
NEEDLE = "demo_needle_gen:L256D0,L256D50"
TOPICS = ("law/zh", "law_zh", "a b", "a_b")
ROWS = 4
"""Rows of each topic, together at least as many as are needed to tell two models apart."""


def configs(folder: Path) -> Path:
    """Benchmarks and models whose names differ in what file systems do not take alone."""
    target = folder / "configs" / "dataset_configs"
    target.mkdir(parents=True)
    rows = [
        {"question": f"{topic} {i}?", "answer": (i + n) % 2, "topic": topic}
        for n, topic in enumerate(TOPICS)
        for i in range(ROWS + n)
    ]
    (target / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (target / "named_choice.yaml").write_text(CHOICE)
    (target / "named_drawn.yaml").write_text(DRAWN)
    for name in ("a b", "a_b"):
        helpers.fake_model(folder / "configs", name, path=f"{name} checkpoint")
    return folder / "configs"


def run_here(
    folder: Path, models: tuple[str, ...], datasets: tuple[str, ...], work: str = "work", **more: Any
) -> Finished:
    options = RunOptions(models, datasets, config_dirs=(str(folder / "configs"),), **more)
    finished = run(options, RunSettings((), folder / work, runner=DebugRunner()))
    assert isinstance(finished, Finished) and finished.complete
    return finished


def values(finished: Finished) -> dict[tuple[str, str], tuple[float | None, int, float | None]]:
    return {(s.model, s.row): (s.value, s.n, s.stderr) for s in finished.scores}


def test_scoring_needs_the_folder_of_the_run_alone(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs(tmp_path)
    root, tokenizer = tmp_path / "root", tmp_path / "tokenizer"
    shutil.copytree(helpers.ROOT / "evalkit" / "builtin" / "samples", root)
    shutil.copytree(tiny_model, tokenizer)
    datasets = ("named_choice", "named_drawn", NEEDLE, helpers.MMLU, "IFEval_gen_3321a3", "gsm8k_gen_17d0dc")
    finished = run_here(tmp_path, ("a b",), datasets, data_root=str(root), tokenizer=str(tokenizer), limit=3)
    before, files = values(finished), helpers.final_files(finished.store.folder)
    assert {row for _, row in before} >= {"choice", "drawn", "demo_needle_gen", "mmlu", "IFEval", "gsm8k"}

    for folder in (root, tokenizer, tmp_path / "configs"):
        shutil.rmtree(folder)

    def gone(*args: Any, **more: Any) -> Any:
        raise AssertionError("scoring reads data or renders prompts")

    for name in ("samples", "exemplars", "render", "fingerprint", "_get_tokenizer"):
        monkeypatch.setattr(Task, name, gone)
    monkeypatch.setattr(RunPlan, "load_tokenizer", gone)
    again = score_run(RunStore(finished.store.folder), Options())
    assert values(again) == before and helpers.final_files(finished.store.folder) == files


def keys(task: Task, plan: RunPlan, fingerprint: str, **changes: Any) -> dict[str, str]:
    from evalkit.plan.task import requests_of

    model, seed = replace(plan.models["a_b"], **changes.pop("model", {})), changes.pop("seed", 0)
    sample = replace(task.samples(task.subsets[0])[0], **changes)
    return {r.label or str(r.repeat): r.key for r in requests_of(task, sample, model, fingerprint, seed)}


@pytest.mark.parametrize("name", ["named_choice", "named_drawn"])
def test_a_key_holds_all_that_decides_the_reply(tmp_path: Path, name: str) -> None:
    configs(tmp_path)
    finished = run_here(tmp_path, ("a_b",), (name,))
    plan = from_manifest(finished.store.manifest())
    task = plan.task(Pair("a_b", name))
    asked = keys(task, plan, "one model")
    assert len(asked) == len(set(asked.values())) == 2 and keys(task, plan, "one model") == asked
    changed: list[Mapping[str, str]] = [
        keys(task, plan, "another model"),
        keys(task, plan, "one model", id="another/0"),
        keys(task, plan, "one model", row={**task.samples(task.subsets[0])[0].row, "question": "another?"}),
    ]
    if name == "named_drawn":
        changed.append(keys(task, plan, "one model", seed=7))
        changed.append(keys(task, plan, "one model", model={"reasoning": Reasoning(budget=5)}))
    every = [*asked.values(), *(key for other in changed for key in other.values())]
    assert len(every) == len(set(every))


def test_a_run_with_another_checkpoint_is_asked_anew(tmp_path: Path) -> None:
    configs(tmp_path)
    first = run_here(tmp_path, ("a_b",), ("named_choice",))
    helpers.fake_model(tmp_path / "configs", "a_b", path="other")
    second = run_here(tmp_path, ("a_b",), ("named_choice",))
    assert second.store.folder != first.store.folder and values(second) != values(first)
    before = helpers.reply_keys(first.store.folder)
    # the run is extended: what the other checkpoint answered does not count for this one
    options = RunOptions(("a_b",), ("named_choice",), config_dirs=(str(tmp_path / "configs"),))
    settings = RunSettings((), tmp_path / "work", reuse=str(first.store.folder), runner=DebugRunner())
    third = run(options, settings)
    assert isinstance(third, Finished) and values(third) == values(second)
    after = helpers.reply_keys(first.store.folder)
    assert len(after) == len(set(after)) == 2 * len(before)


def test_names_that_look_alike_on_disk_stay_apart(tmp_path: Path) -> None:
    configs(tmp_path)
    assert len({safe(name).casefold() for name in TOPICS}) == len(TOPICS)
    both = run_here(tmp_path, ("a b", "a_b"), ("named_choice", "named_drawn"))
    for model in ("a b", "a_b"):
        alone = values(run_here(tmp_path, (model,), ("named_choice", "named_drawn"), work=f"alone {model}"))
        assert {key: value for key, value in values(both).items() if key[0] == model} == alone
        by_subset: dict[str, list[str]] = {}
        for verdict in both.store.verdicts(model, "named_choice"):
            by_subset.setdefault(verdict.subset, []).append(verdict.sample_id)
        assert {subset: len(set(ids)) for subset, ids in by_subset.items()} == {
            topic: ROWS + n for n, topic in enumerate(TOPICS)
        }
        assert all(i.startswith(f"{subset}/") for subset, ids in by_subset.items() for i in ids)
    assert {row: v for (m, row), v in values(both).items() if m == "a b"} != {
        row: v for (m, row), v in values(both).items() if m == "a_b"
    }


def test_a_model_without_verdicts_is_not_given_those_of_a_like_name(tmp_path: Path) -> None:
    configs(tmp_path)
    both = run_here(tmp_path, ("a b", "a_b"), ("named_choice",))
    shutil.rmtree(both.store.verdicts_path("a b", "named_choice"))
    assert both.store.verdicts("a b", "named_choice") == [] and both.store.verdicts("a_b", "named_choice")


def test_the_version_of_a_mixed_benchmark_knows_the_settings_of_its_parts(tmp_path: Path) -> None:
    configs(tmp_path)
    text = CHOICE.replace("subsets: [", "subsets: [other: {kind: written}, ")
    text += 'parts: {kind: {written: {mode: gen, where: "true", prompt: "{{ question }}", gen: {temperature: 0}}}}\n'
    (tmp_path / "configs" / "dataset_configs" / "named_mixed.yaml").write_text(text)
    finished = run_here(tmp_path, ("a_b",), ("named_mixed",))
    plan, pair = from_manifest(finished.store.manifest()), Pair("a_b", "named_mixed")
    longer: ModelSpec = replace(plan.models["a_b"], max_new_tokens=7)
    assert request_version(plan, pair) != request_version(replace(plan, models={"a_b": longer}), pair)
    assert request_version(plan, pair) != request_version(replace(plan, seed=1), pair)
    cut: RunPlan = replace(plan, cut=Cut(limit=1))
    assert request_version(plan, pair) == request_version(cut, pair), "a cut run asks the same of fewer rows"
    other = replace(plan, facts={pair: PairFacts("other rows")})
    assert request_version(plan, pair) != request_version(other, pair)
    with pytest.raises(EvalkitError):
        run_here(tmp_path, ("a c",), ("named_mixed",))
