"""Outputs made elsewhere: matched to samples, scored like a model's, and refused when they do not fit."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from evalkit.api import evaluate
from evalkit.core.errors import ConfigError, DataError, ModelError
from evalkit.core.records import GenSettings, Request, Sample
from evalkit.engines.catalog import fingerprint
from evalkit.engines.recorded.engine import Outputs, RecordedEngine, recorded_model
from evalkit.engines.recorded.matching import Expected, OutputLine, by_subset, match, name_subsets
from evalkit.plan.options import RunOptions
from evalkit.plan.plan import Planned, make_plan
from tests import helpers

SUBSETS = ("abstract_algebra", "anatomy", "astronomy", "college_biology")
MMLU = "mmlu_gen_4d595a:" + ",".join(SUBSETS)
GSM8K = "gsm8k_gen_1d7fe4"


def write(path: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    """A recorded file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def plan(*paths: Path, datasets: str = GSM8K, data_root: str = "samples", **options: Any) -> Planned:
    return make_plan(RunOptions(tuple(f"recorded:{p}" for p in paths), (datasets,), data_root=data_root, **options))


def outputs(path: Path, **options: Any) -> Outputs:
    """What one recorded path gives one benchmark."""
    (found,) = plan(path, **options).recorded.values()
    return found


def score(path: Path, work: Path, *args: object, datasets: str = GSM8K) -> subprocess.CompletedProcess[str]:
    base = ("--models", f"recorded:{path}", "--datasets", datasets, "--work-dir", work, "--data-root", "samples")
    return helpers.run(*base, *args)


def scores(work: Path) -> dict[str, Any]:
    """Row and metric -> score of the only run."""
    found = json.loads((helpers.run_folder(work) / "scores" / "scores.json").read_text())["scores"]
    return {s["row"] if s["metric"] == "accuracy" else s["metric"]: s for s in found}


def mmlu_rows(subset: str) -> list[dict[str, Any]]:
    text = (helpers.ROOT / f"evalkit/builtin/samples/cais/mmlu/{subset}/test.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def right_answers(subset: str) -> list[str]:
    return [f"The answer is {'ABCD'[row['answer']]}." for row in mmlu_rows(subset)]


# published outputs


@pytest.mark.parametrize(("name", "published"), [("gpt3_6b_finetuning", 21.68), ("gpt3_6b_verification", 39.04)])
def test_gsm8k_verdicts_are_the_authors(shared: Path, tmp_path: Path, name: str, published: float) -> None:
    path = shared / "recorded" / "gsm8k" / f"{name}.jsonl.gz"
    done = score(path, tmp_path, "--data-root", shared / "data", datasets="gsm8k")
    assert done.returncode == 0, done.stderr
    assert f"{published:.2f}" in done.stdout and f"recorded-{name}" in done.stdout
    folder = helpers.run_folder(tmp_path)
    verdicts = [json.loads(x) for x in next((folder / "scores").rglob("gsm8k.jsonl")).read_text().splitlines()]
    authors = [json.loads(line)["correct"] for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert len(authors) == 1319
    assert [v["values"]["value"] == 1.0 for v in verdicts] == authors
    assert not (folder / "logs").exists(), "no worker is started"


# one file a subset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Right answers for three of four subsets, named in three ways; half of the second is wrong."""
    made = tmp_path / "my_model"
    for subset, name in zip(SUBSETS[:3], ("Abstract-Algebra", "mmlu_anatomy", "lukaemon_mmlu_astronomy"), strict=True):
        texts = right_answers(subset)
        texts = ["I cannot tell"] * 4 + texts[4:] if subset == "anatomy" else texts
        suffix = ".jsonl.gz" if subset == "astronomy" else ".jsonl"
        write(made / (name + suffix), ({"prediction": text} for text in texts))
    write(made / "notes.jsonl", [{"about": "no subset"}])
    return made


def test_absent_subset_flags_its_group(folder: Path, tmp_path: Path) -> None:
    done = score(folder, tmp_path / "work", datasets=MMLU)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "incomplete" in done.stderr
    assert "no recorded outputs of the subset" in done.stdout and str(folder) in done.stdout
    found = scores(tmp_path / "work")
    assert found["mmlu"]["value"] is None and found["mmlu-stem"]["value"] is None
    assert "no recorded outputs" in found["mmlu"]["flag"] and found["mmlu"]["n"] == 24
    assert found["mmlu-college_biology"]["value"] is None
    assert [found[f"mmlu-{s}"]["value"] for s in SUBSETS[:3]] == [100.0, 50.0, 100.0]


def test_whole_folder_is_complete_and_rescored_without_it(folder: Path, tmp_path: Path) -> None:
    write(folder / "college_biology.jsonl", ({"prediction": t} for t in right_answers("college_biology")))
    done = score(folder, tmp_path / "work", datasets=MMLU)
    assert done.returncode == 0, done.stderr
    assert "87.50" in done.stdout and "recorded-my_model" in done.stdout
    before = helpers.final_files(helpers.run_folder(tmp_path / "work"))
    folder.rename(tmp_path / "gone")
    again = helpers.run("score", helpers.run_folder(tmp_path / "work"))
    assert again.returncode == 0 and "87.50" in again.stdout
    assert helpers.final_files(helpers.run_folder(tmp_path / "work")) == before


def test_folder_for_several_benchmarks(tmp_path: Path) -> None:
    place = tmp_path / "all"
    for subset in SUBSETS:
        write(place / "mmlu" / f"{subset}.jsonl", ({"prediction": t} for t in right_answers(subset)))
    write(place / "gsm8k.jsonl", ({"prediction": "A: 1"} for _ in range(16)))
    planned = make_plan(RunOptions((f"recorded:{place}",), (MMLU, GSM8K), data_root="samples"))
    assert [len(o.texts) for o in planned.recorded.values()] == [32, 16]
    assert not any(o.absent for o in planned.recorded.values())


def test_folder_without_any_subset(tmp_path: Path) -> None:
    write(tmp_path / "m" / "other.jsonl", [{"prediction": "A"}])
    with pytest.raises(DataError, match="no file in .* is named after a subset of mmlu_gen_4d595a") as error:
        plan(tmp_path / "m", datasets=MMLU)
    assert "college_biology.jsonl" in error.value.hint


def test_two_files_of_one_subset(tmp_path: Path) -> None:
    for suffix in (".jsonl", ".jsonl.gz"):
        write(tmp_path / "m" / f"anatomy{suffix}", [{"prediction": "A"}])
    with pytest.raises(DataError, match="stand side by side"):
        plan(tmp_path / "m", datasets="mmlu_gen_4d595a:anatomy")


def test_names_of_subsets() -> None:
    names = ["ceval-test-law", "CEVAL_LAW", "logic", "bbh.navigate"]
    chosen = name_subsets(names, ["ceval-law", "ceval-test-law", "ceval-logic", "navigate"], ["ceval", "bbh"])
    assert chosen == {
        "ceval-law": "CEVAL_LAW",
        "ceval-test-law": "ceval-test-law",
        "ceval-logic": "logic",
        "navigate": "bbh.navigate",
    }
    assert name_subsets(["professional_law"], ["law"], ["ceval"]) == {}
    with pytest.raises(DataError, match="both mean the subset law"):
        name_subsets(["ceval-law", "ceval_ceval_law"], ["law"], ["ceval"])


# matching


def gsm8k_lines(order: Iterable[int], **columns: Any) -> list[dict[str, Any]]:
    """Outputs that name their own row, so that a test sees where each went."""
    return [{"prediction": f"row {i}"} | {k: v(i) for k, v in columns.items()} for i in order]


def texts(found: Outputs) -> list[str]:
    return [str(found.texts[f"gsm8k/{i}"][0]) for i in range(16)]


IN_ORDER = [f"row {i}" for i in range(16)]


@pytest.mark.parametrize(
    ("columns", "how"),
    [
        ({"index": lambda i: i}, "`index`"),
        ({"index": str}, "`index`"),
        ({"id": lambda i: f"gsm8k/{i}"}, "`id`"),
        ({"sample_id": lambda i: f"gsm8k/{i}", "index": lambda i: 15 - i}, "`sample_id`"),
        ({"id": lambda i: f"a hash {i}", "index": lambda i: i}, "`index`"),
    ],
)
def test_shuffled_lines_find_their_rows(tmp_path: Path, columns: dict[str, Any], how: str) -> None:
    found = outputs(write(tmp_path / "m.jsonl", gsm8k_lines(reversed(range(16)), **columns)))
    assert texts(found) == IN_ORDER
    assert found.matched == how and found.draws == 1


def test_line_order(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", gsm8k_lines(range(16), id=lambda i: f"unknown {i}"))
    assert texts(outputs(path)) == IN_ORDER
    limited = outputs(path, limit=4)
    assert limited.matched == "line order" and limited.texts["gsm8k/3"] == ["row 3"]
    short = write(tmp_path / "short.jsonl", gsm8k_lines(range(4)))
    assert outputs(short, limit=4).texts["gsm8k/3"] == ["row 3"]


def test_random_sample_takes_the_lines_of_its_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", gsm8k_lines(range(16)))
    planned = plan(path, sample=5, seed=3)
    (pair,) = planned.runnable
    for sample in planned.plan.task(pair).samples("gsm8k"):
        assert planned.recorded[pair].texts[sample.id] == [f"row {sample.index}"]


@pytest.mark.parametrize("count", [0, 15, 17])
def test_wrong_number_of_lines_is_refused(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "m.jsonl", gsm8k_lines(range(count)))
    done = score(path, tmp_path / "work")
    assert done.returncode == 2 and done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
    assert (f"has {count} lines" in done.stderr and "16 samples" in done.stderr) if count else "is empty" in done.stderr
    assert "hint:" in done.stderr and not (tmp_path / "work").exists()


def test_index_counts_from_zero(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", gsm8k_lines(range(16), index=lambda i: i + 1))
    with pytest.raises(DataError, match="index 16, the last row of gsm8k_gen_1d7fe4 is 15"):
        plan(path)


def test_lines_in_another_order_are_noticed(tmp_path: Path) -> None:
    rows = [json.loads(x) for x in (helpers.ROOT / "evalkit/builtin/samples/openai/gsm8k/main/test.jsonl").open()]
    lines = [{"question": row["question"], "prediction": "1"} for row in rows]
    assert outputs(write(tmp_path / "m.jsonl", lines)).matched == "line order"
    lines[3], lines[4] = lines[4], lines[3]
    with pytest.raises(DataError, match="its 'question' is that of gsm8k/4, not of gsm8k/3"):
        plan(write(tmp_path / "m.jsonl", lines))


def test_missing_lines_are_counted(tmp_path: Path) -> None:
    lines = gsm8k_lines(range(12), index=lambda i: i)
    lines[11]["prediction"] = None
    done = score(write(tmp_path / "m.jsonl", lines), tmp_path / "work")
    assert done.returncode == 1 and "(11/16)" in done.stdout and "no output is recorded" in done.stdout


def test_one_file_for_all_subsets(tmp_path: Path) -> None:
    lines = [
        {"subset": f"mmlu_{subset.upper()}", "index": i, "prediction": f"{subset} {i}"}
        for subset in reversed((*SUBSETS, "virology"))
        for i in reversed(range(8))
    ]
    found = outputs(write(tmp_path / "m.jsonl", lines), datasets=MMLU)
    assert all(found.texts[f"{s}/{i}"] == [f"{s} {i}"] for s in SUBSETS for i in range(8))
    for line in lines:
        line["subset"] = "law"
    with pytest.raises(DataError, match="no `subset` of the lines"):
        plan(write(tmp_path / "m.jsonl", lines), datasets=MMLU)


def test_one_file_for_all_subsets_in_order(tmp_path: Path) -> None:
    lines = [{"prediction": f"{subset} {i}"} for subset in SUBSETS for i in range(8)]
    path = write(tmp_path / "m.jsonl", lines)
    planned = plan(path, datasets=MMLU)
    (pair,) = planned.runnable
    ordered = [f"{s}/{i}" for s in planned.plan.task(pair).subsets for i in range(8)]
    assert [planned.recorded[pair].texts[name] for name in ordered] == [[line["prediction"]] for line in lines]


def sample(number: int, gold: Any, **row: Any) -> Sample:
    return Sample(f"s/{number}", "s", number, row, gold)


def drawn(lines: list[dict[str, Any]], samples: list[Sample]) -> dict[str, list[str | None]]:
    made = [OutputLine(f"f:{i}", {"prediction": str(i), **line}) for i, line in enumerate(lines)]
    return match(made, Expected("b", samples, samples), "", "f")[0]


def test_ids_that_are_golds_or_columns() -> None:
    golds = [sample(i, f"HumanEval/{i}") for i in range(3)]
    assert drawn([{"task_id": f"HumanEval/{i}"} for i in (2, 0)], golds) == {"s/2": ["0"], "s/0": ["1"]}
    columns = [sample(i, "A", id=100 + i) for i in range(3)]
    assert drawn([{"id": "102"}, {"id": "7"}], columns) == {"s/2": ["0"]}


def test_small_numbers_are_not_taken_for_golds() -> None:
    samples = [sample(i, gold) for i, gold in enumerate((2, 0, 7))]
    assert drawn([{"id": i} for i in range(3)], samples) == {"s/0": ["0"], "s/1": ["1"], "s/2": ["2"]}


def test_lines_of_one_id_are_draws() -> None:
    samples = [sample(i, f"T/{i}") for i in range(2)]
    lines = [{"task_id": "T/1"}, {"task_id": "T/0"}, {"task_id": "T/1"}, {"task_id": "T/0"}]
    assert drawn(lines, samples) == {"s/1": ["0", "2"], "s/0": ["1", "3"]}


def test_subset_of_a_benchmark_with_one_part_may_be_called_anything() -> None:
    assert by_subset([OutputLine("f:1", {"subset": "main"})], ["gsm8k"], ["gsm8k"]) is None


# fields and draws


def test_fields(tmp_path: Path) -> None:
    lines = [{"model_output": f"row {i}", "prediction": "other"} for i in range(16)]
    path = write(tmp_path / "m.jsonl", lines)
    assert texts(outputs(path, recorded_field="model_output")) == IN_ORDER
    done = score(path, tmp_path / "work", "--recorded-field", "model_outptu")
    assert (
        done.returncode == 2 and "no field 'model_outptu'" in done.stderr and "did you mean model_output" in done.stderr
    )
    with pytest.raises(DataError, match="no field 'prediction' or 'completions'") as error:
        plan(write(tmp_path / "n.jsonl", ({"solution": "1"} for _ in range(16))))
    assert "--recorded-field NAME, one of: solution" in error.value.hint
    with pytest.raises(DataError, match="m.jsonl:1: 'prediction' holds int, not text"):
        plan(write(tmp_path / "m.jsonl", ({"prediction": 1} for _ in range(16))))


def test_broken_lines_name_their_number(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"prediction": "1"}\n\n{"prediction": \n')
    with pytest.raises(DataError, match="m.jsonl:3: no JSON"):
        plan(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="m.jsonl:1: list, not an object"):
        plan(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(DataError, match="cannot read"):
        plan(tmp_path / "m.jsonl.gz")


def humaneval_rows() -> list[dict[str, Any]]:
    path = helpers.ROOT / "evalkit/builtin/samples/openai/openai_humaneval/openai_humaneval/test.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_completions_are_draws(tmp_path: Path) -> None:
    """Ten draws of each problem: all right for the first eight, one right for the others."""
    wrong = "    return None\n"
    lines = [
        {"task_id": row["task_id"], "completions": [row["canonical_solution"], *[body] * 9]}
        for i, row in enumerate(humaneval_rows())
        for body in [row["canonical_solution"] if i < 8 else wrong]
    ]
    path = write(tmp_path / "codes.jsonl.gz", reversed(lines))
    refused = score(path, tmp_path / "none", datasets="humaneval")
    assert refused.returncode == 1 and "--allow-code" in refused.stderr
    done = score(path, tmp_path / "work", "--allow-code", datasets="humaneval")
    assert done.returncode == 0, done.stderr
    found = scores(tmp_path / "work")
    assert found["humaneval_pass@1"]["value"] == pytest.approx(100 * (8 + 8 * 0.1) / 16)
    assert found["humaneval_pass@10"]["value"] == pytest.approx(100.0)
    assert found["humaneval_pass@1"]["n"] == found["humaneval_pass@1"]["n_expected"] == 160


def test_draws_of_a_greedy_benchmark_are_averaged(tmp_path: Path) -> None:
    rows = [json.loads(x) for x in (helpers.ROOT / "evalkit/builtin/samples/openai/gsm8k/main/test.jsonl").open()]
    golds = [row["answer"].split("#### ")[1].replace(",", "") for row in rows]
    lines = [{"completions": [f"It is {gold}", "none", "none", f"{gold}"]} for gold in golds]
    done = score(write(tmp_path / "m.jsonl", lines), tmp_path / "work")
    assert done.returncode == 0 and "50.00" in done.stdout
    assert scores(tmp_path / "work")["gsm8k"]["n"] == 64


def test_uneven_draws_are_refused(tmp_path: Path) -> None:
    lines = [{"completions": ["1"] * (2 + i % 2)} for i in range(16)]
    with pytest.raises(DataError, match="between 2 and 3 outputs a sample"):
        plan(write(tmp_path / "m.jsonl", lines))


def test_benchmark_with_draws_takes_as_many(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", ({"completions": ["1", "2", "3"]} for _ in range(16)))
    found = outputs(path, overrides=("gen.num_samples=2", "gen.temperature=0.5"))
    assert found.draws == 2 and found.texts["gsm8k/0"] == ["1", "2"]
    with pytest.raises(DataError, match="3 outputs a sample, gsm8k_gen_1d7fe4 takes 4"):
        plan(path, overrides=("gen.num_samples=4", "gen.temperature=0.5"))


def test_stop_strings_cut_as_they_cut_a_model() -> None:
    engine = RecordedEngine(recorded_model("x.jsonl", None, ""), Outputs({"s/0": ["1\n\nQuestion: 2"]}, 1))
    request = Request("k", "s/0", "gen", gen=GenSettings(10, stop=("Question", "\n\n")))
    missing = Request("m", "s/1", "gen", gen=GenSettings(10))
    first, second = engine.run([request, missing])
    assert (first.text, first.finish) == ("1", "stop")
    assert second.error and second.text is None


# the model in the plan


def test_several_paths_and_another_model(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path / "configs", "fake", kind="chat")
    a = write(tmp_path / "a.jsonl", gsm8k_lines(range(16)))
    b = write(tmp_path / "b.jsonl", ({"completions": ["1", "2"]} for _ in range(16)))
    args = ("--config-dir", tmp_path / "configs", "--datasets", "gsm8k", "--data-root", "samples", "--json")
    models = ("--models", f"recorded:{a}", "fake", f"recorded:{b}")
    done = helpers.run(*args, *models, "--work-dir", tmp_path / "work")
    assert done.returncode == 0, done.stderr
    counts = {s["model"]: s["n"] for s in json.loads(done.stdout)["scores"]}
    assert counts == {"fake": 16, "recorded-a": 16, "recorded-b": 32}


def test_python_interface(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", ({"out": f"row {i}"} for i in range(16)))
    frame = evaluate(f"recorded:{path}", GSM8K, recorded_field="out", data_root="samples", work_dir=tmp_path / "work")
    assert frame.attrs["complete"] and frame["recorded-m:n"].tolist() == [16]


def test_two_files_of_one_name(tmp_path: Path) -> None:
    paths = [write(tmp_path / d / "m.jsonl", gsm8k_lines(range(16))) for d in ("x", "y")]
    with pytest.raises(ConfigError, match="two models are called 'recorded-m'"):
        plan(*paths)


def test_absent_file_beside_a_good_one(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", gsm8k_lines(range(16)))
    with pytest.raises(ModelError, match="neither a file nor a folder"):
        plan(tmp_path / "absent.jsonl")
    planned = plan(good, tmp_path / "absent.jsonl")
    assert list(planned.broken) == ["recorded-absent"] and len(planned.recorded) == 1


def test_texts_do_not_answer_a_ppl_benchmark(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", gsm8k_lines(range(16)))
    for datasets, args in (("mmlu_ppl_ac766d", ()), ("mmlu", ("--kind", "base"))):
        done = score(path, tmp_path / "work", *args, datasets=datasets)
        assert done.returncode == 2 and "log-probabilities" in done.stderr and "hint:" in done.stderr


def test_fingerprint_is_of_content_and_field(tmp_path: Path) -> None:
    one = fingerprint(recorded_model(str(write(tmp_path / "a.jsonl", gsm8k_lines([1]))), None, ""))
    same = fingerprint(recorded_model(str(write(tmp_path / "b.jsonl", gsm8k_lines([1]))), "base", ""))
    other = fingerprint(recorded_model(str(write(tmp_path / "b.jsonl", gsm8k_lines([2]))), None, ""))
    field = fingerprint(recorded_model(str(tmp_path / "a.jsonl"), None, "solution"))
    assert one == same and len({one, other, field}) == 3


def test_changed_file_is_a_new_run(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", gsm8k_lines(range(15), index=lambda i: i))
    score(path, tmp_path / "work")
    write(path, gsm8k_lines(range(16), index=lambda i: i))
    done = score(path, tmp_path / "work")
    assert done.returncode == 0 and "continuing" not in done.stderr


def test_a_needle_needs_a_tokenizer_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "needle.jsonl", [{"prediction": "x"}])
    done = score(path, tmp_path / "work", datasets="needle_single_en_4k:*D0")
    assert done.returncode != 0 and "--tokenizer" in done.stderr and "no tokenizer" in done.stderr
