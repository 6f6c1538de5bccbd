"""The command line: listing, showing, dry runs, JSON, speed of start-up, and the Python interface."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import evalkit
from evalkit.cli.options import spread
from evalkit.core.errors import ConfigError
from tests import helpers


def test_many_values_after_one_option() -> None:
    args = ["--models", "a", "b", "--debug", "--datasets", "x", "--set", "k=v", "l=w"]
    spreaded = ["--models", "a", "--models", "b", "--debug", "--datasets", "x", "--set", "k=v", "--set", "l=w"]
    assert spread(args) == spreaded
    assert spread(["--models"]) == ["--models"]


def test_list_shows_what_matters() -> None:
    done = helpers.run("list", "datasets", "mmlu*", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["mmlu_ppl_ac766d"] | {"about": ""} == {
        "name": "mmlu_ppl_ac766d", "mode": "ppl", "subsets": 57, "shots": "5", "metric": "accuracy", "about": "",
    }  # fmt: skip
    assert "tiny_base" in helpers.run("list", "models").stdout


def test_show_json_lines() -> None:
    def lines(*args: object) -> list[dict[str, object]]:
        done = helpers.run("show", *args, "--data-root", "samples", "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    (ppl,) = lines("mmlu_ppl_ac766d", "--subset", "anatomy", "--limit", 1)
    assert set(ppl) == {"benchmark", "subset", "index", "gold", "mode", "prompts"} and set(ppl["prompts"]) == set(
        "ABCD"
    )  # type: ignore[call-overload]
    assert len(lines("gsm8k_gen_17d0dc")) == 16
    (base,) = lines("gsm8k", "--limit", 1)
    (chat,) = lines("gsm8k", "--limit", 1, "--kind", "chat")
    assert isinstance(base["prompt"], str) and chat["messages"][-1]["role"] == "user"  # type: ignore[index]
    assert (base["benchmark"], chat["benchmark"]) == ("gsm8k_gen_17d0dc", "gsm8k_gen_1d7fe4")


def test_show_for_eyes_folds_and_marks() -> None:
    done = helpers.run("show", "gsm8k", "--data-root", "samples", "--whitespace")
    assert "characters of exemplars" in done.stdout and "⏎" in done.stdout
    assert "characters of exemplars" not in helpers.run("show", "gsm8k", "--data-root", "samples", "--full").stdout


def test_needle_lengths_are_the_tokenizers(tiny_model: Path) -> None:
    done = helpers.run(
        "show",
        "needle_single_en_4k:L2000*",
        "--limit",
        1,
        "--data-root",
        "samples",
        "--tokenizer",
        tiny_model,
        "--json",
    )
    assert done.returncode == 0, done.stderr
    from evalkit.engines.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(str(tiny_model))
    for line in done.stdout.splitlines():
        record = json.loads(line)
        assert "eat a sandwich and sit in Dolores Park" in record["prompt"]
        assert 1400 - 60 < len(tokenizer.encode(record["prompt"])) < 1400 + 160


def test_dry_run_loads_no_model(tmp_path: Path) -> None:
    (tmp_path / "model_configs").mkdir()
    (tmp_path / "model_configs" / "m.yaml").write_text("path: x\nkind: base\nengine: fake\noptions: {crash_on: a}\n")
    done = helpers.run(
        "--config-dir", tmp_path, "--models", "m", "--datasets", helpers.MMLU, "gsm8k", "--data-root", "samples",
        "--dry-run", "--json", "--work-dir", tmp_path / "work",
    )  # fmt: skip
    rows = json.loads(done.stdout)
    assert [(r["dataset"], r["samples"], r["requests"]) for r in rows] == [
        ("mmlu_ppl_ac766d", 32, 128), ("gsm8k_gen_17d0dc", 16, 16),
    ]  # fmt: skip
    assert not (tmp_path / "work").exists()


def test_json_result_and_files_agree(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path / "c", "m")
    args = ("--config-dir", tmp_path / "c", "--models", "m", "--datasets", helpers.MMLU, "--data-root", "samples")
    done = helpers.run(*args, "--json", "--work-dir", tmp_path / "work")
    result = json.loads(done.stdout)
    assert result["complete"] and done.stderr == ""
    by_row = {s["row"]: s["value"] for s in result["scores"]}
    with (Path(result["run"]) / "report" / "summary.csv").open() as handle:
        table = {row["dataset"]: row for row in csv.DictReader(handle)}
    assert {row: float(line["m"]) for row, line in table.items()} == by_row
    assert "4 of 57 subsets" in table["mmlu"]["flags"] and table["mmlu"]["n"] == "32/32"
    for name in ("summary.txt", "summary.md"):
        text = (Path(result["run"]) / "report" / name).read_text()
        assert f"{by_row['mmlu-anatomy']:.2f}" in text and "sample data" in text
    verdicts = (Path(result["run"]) / "scores" / "m" / "mmlu_ppl_ac766d" / "anatomy.jsonl").read_text().splitlines()
    assert len(verdicts) == 8 and sorted(json.loads(verdicts[0])["detail"]["ranking"]) == list("ABCD")


def test_random_sample_is_seeded_and_marked(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path / "c", "m")

    def chosen(seed: int) -> list[str]:
        args = ("--config-dir", tmp_path / "c", "--models", "m", "--datasets", "gsm8k", "--data-root", "samples")
        done = helpers.run(*args, "--sample", 5, "--seed", seed, "--json", "--new", "--work-dir", tmp_path / "work")
        result = json.loads(done.stdout)
        assert any("5 random rows" in note for note in result["notes"])
        path = Path(result["run"]) / "scores" / "m" / "gsm8k_gen_17d0dc" / "gsm8k.jsonl"
        return [json.loads(line)["sample_id"] for line in path.read_text().splitlines()]

    assert chosen(1) == chosen(1) != chosen(2)
    assert len(set(chosen(1))) == 5


def test_list_runs_and_summarizer(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path / "c", "m")
    args = ("--config-dir", tmp_path / "c", "--models", "m", "--datasets", "gsm8k", "--data-root", "samples")
    done = helpers.run(*args, "--limit", 2, "--work-dir", tmp_path / "work", "--summarizer", "internlm2_base")
    assert done.returncode == 0, done.stderr
    rows = [line.split()[0] for line in done.stdout.splitlines()[3:20]]
    assert rows[:3] == ["mmlu", "cmmlu", "ceval-test"] and "69.98" in done.stdout
    listed = json.loads(helpers.run("list", "runs", "--work-dir", tmp_path / "work", "--json").stdout)
    assert [(r["status"], r["models"], r["cut"]) for r in listed] == [("complete", "m", "limit 2")]


def test_doctor_says_how_to_mend() -> None:
    done = helpers.run("doctor", "--json")
    found = {f["what"]: f for f in json.loads(done.stdout)}
    assert {"python", "torch", "cpu", "gpu", "data root", "hub", "sandbox"} <= set(found)
    assert not found["data root"]["ok"] and "EVALKIT_DATA" in found["data root"]["fix"]
    with_data = {f["what"]: f for f in json.loads(helpers.run("doctor", "--json", "--data-root", "samples").stdout)}
    assert with_data["data root"]["ok"]


def test_doctor_says_which_path_a_model_takes(tiny_model: Path, tmp_path: Path) -> None:
    done = helpers.run("doctor", "--model", tiny_model, "--json")
    assert done.returncode == 0, done.stderr
    found = {f["what"]: f for f in json.loads(done.stdout)}
    assert set(found) == {"model", "scoring", "generation"}
    assert "LlamaForCausalLM" in found["model"]["found"]
    assert found["scoring"]["ok"] and found["scoring"]["found"].startswith("tree: self-check passed")
    assert found["generation"]["ok"] and found["generation"]["found"].startswith("stream: self-check passed")
    gone = helpers.run("doctor", "--model", "no_such_model")
    assert gone.returncode == 1 and "no_such_model" in gone.stdout
    config = tmp_path / "broken"
    config.mkdir()
    broken = helpers.run("doctor", "--model", config, "--json")
    (only,) = json.loads(broken.stdout)
    assert broken.returncode == 1 and only["what"] == "model" and not only["ok"] and only["fix"]


def test_python_interface(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path / "c", "m")
    handle = evalkit.load_benchmark("gsm8k_gen_17d0dc", "samples")
    (sample,) = handle.samples(limit=1)
    assert handle.extract("It is 3, no 1,204.50. Question: 7") == "204.50"
    assert handle.score([sample.gold.split("#### ")[1], "nothing"], [sample.gold] * 2) == {"accuracy": 50.0}
    with pytest.raises(ConfigError, match="1 predictions, 2 references"):
        handle.score(["1"], ["#### 1", "#### 2"])
    frame = evalkit.evaluate(
        "m",
        [helpers.MMLU, "gsm8k"],
        data_root="samples",
        work_dir=tmp_path / "work",
        config_dirs=(str(tmp_path / "c"),),
    )
    assert list(frame.columns[:6]) == ["dataset", "version", "metric", "mode", "level", "m"]
    assert frame.attrs["complete"] and frame.set_index("dataset").loc["gsm8k", "m:n"] == 16


def test_code_benchmark_needs_leave() -> None:
    handle = evalkit.load_benchmark("humaneval", "samples")
    (sample,) = handle.samples(limit=1)
    body = str(sample.row["canonical_solution"])
    with pytest.raises(ConfigError, match="allow-code"):
        handle.score([body], [sample.gold])
    scores = handle.score([body, "    return None"], [sample.gold] * 2, allow_code=True)
    assert scores["results"][0] == "passed" and scores["results"][1].startswith("failed")
