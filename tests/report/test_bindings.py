"""Published rows bound to configs: every table, the gate by its rows, the config of a model's kind."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from evalkit.configs.catalog import ConfigCatalog, open_catalog
from evalkit.core.errors import ConfigError
from evalkit.core.records import Benchmark, Kind, Score
from evalkit.plan.check import load_benchmark_config
from evalkit.report.bindings import Binding
from evalkit.report.gate import Band, check_run
from evalkit.report.reference import as_csv, as_number, column_of, find_reference, read_table
from evalkit.report.summary import bindings_of, load_summarizer, reference_columns
from evalkit.report.table import make_table, pick_rows
from evalkit.report.tables import as_text
from tests import helpers
from tests.report import fabricate
from tests.report.fabricate import score

PEERS, CARD, BASE_25, CHAT_25, ALPACA, FIRST = (
    "readme_internlm2_chat_peers", "card_internlm2_20b", "readme_internlm2_5_base", "readme_internlm2_5_chat",
    "alpaca_eval_2", "internlm_7b",
)  # fmt: skip
ROWS = {PEERS: 14, CARD: 7, BASE_25: 6, CHAT_25: 6, ALPACA: 2, FIRST: 24}
WITHOUT_CONFIG = {"alpaca_eval"}
"""Rows that no config of the project gives yet."""


@cache
def configs() -> dict[str, Benchmark]:
    """Every config that a binding names, and one of a row that is bound to none."""
    catalog = ConfigCatalog()
    names = {c for table in ROWS for b in load_summarizer(table, catalog).bindings.values() for c in b.configs.values()}
    files = catalog.files("dataset_configs")
    names.add("winogrande_5shot_gen_b36770")
    return {name: load_benchmark_config(files[name][0], catalog) for name in sorted(names)}


def rows_of(benchmark: Benchmark) -> set[str]:
    parts = [m.name for m in benchmark.members] + [g.name for g in benchmark.groups]
    return {benchmark.row, *(f"{benchmark.row}-{part}" for part in parts)}


@pytest.mark.parametrize("table", ROWS)
def test_tables_have_the_published_rows_and_columns(table: str, shared: Path) -> None:
    summarizer = load_summarizer(table, ConfigCatalog())
    assert summarizer.reference is not None and summarizer.all_columns
    entries = read_table(summarizer.reference).entries
    assert list(summarizer.rows) == list(summarizer.bindings) == [e.row for e in entries]
    assert len(entries) == ROWS[table]
    published = shared / "reference" / f"{table}.csv"
    if table != FIRST:
        assert summarizer.reference.read_bytes() == published.read_bytes()
    else:
        assert {e.row: len(e.values) for e in entries if e.values} == {"AGIEval": 3, "BUSTM": 3, "CLUEWSC": 3}


@pytest.mark.parametrize("table", ROWS)
def test_every_row_is_one_of_the_config_that_it_names(table: str) -> None:
    rows = {row for benchmark in configs().values() for row in rows_of(benchmark)} | WITHOUT_CONFIG
    for published, binding in load_summarizer(table, ConfigCatalog()).bindings.items():
        assert binding.row in rows, published
        assert binding.configs or binding.inferred, f"{published}: no config, and it does not say why"
        for kind, name in binding.configs.items():
            assert binding.row in rows_of(configs()[name]), published
            if kind == "chat" and table != BASE_25:
                assert configs()[name].modes == {"gen"}, f"{published}: chat models are published by generation"


def published_scores(table: str, column: str, model: str, kind: Kind, shift: float = 0.0) -> list[Score]:
    """A score by the bound config for each number of a column."""
    catalog = ConfigCatalog()
    summarizer, scores = load_summarizer(table, catalog), []
    for entry in read_table(find_reference(table, catalog)).entries:
        value, binding = as_number(entry.values.get(column, "")), summarizer.bindings[entry.row]
        if value is not None:
            made = score(binding.row, value + shift, model, metric=binding.metric or "accuracy")
            scores.append(replace(made, benchmark=binding.configs.get(kind, made.benchmark)))
    return scores


@pytest.mark.parametrize(
    ("table", "column", "model", "kind", "count"),
    [
        (PEERS, "InternLM2-Chat-7B", "hf_internlm2_chat_7b", "chat", 14),
        (PEERS, "Mixtral-8x7B-Instruct-v0.1", "hf_mixtral_8x7b_instruct_v0_1", "chat", 14),
        (CARD, "InternLM2-20B", "internlm2_20b_turbomind", "base", 7),
        (CARD, "GPT-4", "gpt_4", "chat", 7),
        (BASE_25, "Yi-1.5-9B", "hf_yi_1_5_9b", "base", 6),
        (CHAT_25, "InternLM2.5-7B-Chat", "hf_internlm2_5_7b_chat", "chat", 6),
        (CHAT_25, "Gemma2-9B-IT", "hf_gemma2_9b_it", "chat", 6),
        (ALPACA, "InternLM2 Chat 20B", "hf_internlm2_chat_20b", "chat", 2),
        (FIRST, "InternLM-7B", "hf_internlm_7b", "base", 3),
    ],
)
def test_the_gate_finds_every_row(table: str, column: str, model: str, kind: Kind, count: int) -> None:
    reference = read_table(find_reference(table, ConfigCatalog()))
    bindings = bindings_of(find_reference(table, ConfigCatalog()), ConfigCatalog())
    assert column_of(model, reference.columns) == column
    for shift, verdict in ((0.0, "pass"), (2.0, "off")):
        scores = published_scores(table, column, model, kind, shift)
        checks = check_run(scores, {model: column}, reference.entries, Band(), {}, bindings, {model: kind})
        assert len(checks) == count
        assert {c.verdict for c in checks} <= {verdict, "no value"}
        assert [c.row for c in checks if c.verdict == "no value"] == (["BBH (3-shot CoT)"] if "Gemma" in column else [])


def test_regress_names_every_row_of_a_published_table(tmp_path: Path) -> None:
    model = "hf_internlm2_5_7b_chat"
    scores = published_scores(CHAT_25, "InternLM2.5-7B-Chat", model, "chat")
    benchmarks = [fabricate.benchmark(name, "chat") for name in ("mmlu", "cmmlu", "bbh", "math", "gsm8k", "gpqa")]
    scores = [replace(s, benchmark="gsm8k_gen_1d7fe4") if s.row == "gsm8k" else s for s in scores]
    store = fabricate.run(tmp_path, benchmarks, scores, kind="chat")
    done = helpers.run("regress", store.folder, "--reference", CHAT_25, "--json")
    assert done.returncode == 0, done.stderr
    lines = {c["row"]: (c["verdict"], c["why"]) for c in json.loads(done.stdout)["checks"]}
    gsm8k = "measured by gsm8k_gen_1d7fe4; which config was published is not known"
    assert lines == {
        row: ("pass", gsm8k if row.startswith("GSM8K") else "")
        for row in load_summarizer(CHAT_25, ConfigCatalog()).rows
    }


def test_the_config_of_the_models_kind_is_shown_and_another_is_marked() -> None:
    binding = Binding("mmlu", "", {"base": "mmlu_ppl", "chat": "mmlu_gen"}, "because")
    by_ppl = [score("mmlu", 10.0, m, benchmark="mmlu_ppl", mode="ppl", version="p") for m in ("b", "c")]
    by_gen = [score("mmlu", 20.0, m, benchmark="mmlu_gen", version="g") for m in ("b", "c", "d")]
    table = make_table([*by_ppl, *by_gen], ["b", "c", "d"])
    picked = pick_rows(table, ["MMLU"], {}, {"MMLU": binding}, {"b": "base", "c": "chat", "d": "base"})
    values = [[s and s.value for s in line.scores] for line in picked.lines]
    assert values == [[10.0, None, None], [None, 20.0, 20.0]]
    assert {line.dataset for line in picked.lines} == {"MMLU"}
    text = as_text(picked)
    assert "d MMLU: measured by mmlu_gen, the published number most likely by mmlu_ppl" in text
    assert text.count("measured by") == 1
    absent = pick_rows(make_table([score("bbh", 1.0)], ["m"]), ["MMLU"], {}, {"MMLU": binding})
    assert [line.scores for line in absent.lines] == [(None,)]
    assert [s.row for s in binding.preferred(by_gen[:1], "base")] == ["mmlu"]


def test_other_configs_are_told_by_the_gate_too() -> None:
    reference = read_table(find_reference(CARD, ConfigCatalog()))
    bindings = load_summarizer(CARD, ConfigCatalog()).bindings
    scores = [
        score("mmlu", 60.0, benchmark="mmlu_gen_4d595a"),
        score("mmlu", 65.0, benchmark="mmlu_ppl_ac766d", mode="x"),
    ]
    entry = [e for e in reference.entries if e.row == "MMLU"]
    args = ({"m": "InternLM2-7B"}, entry, Band(), {}, bindings, {"m": "base"})
    assert [(c.got, c.verdict, c.why) for c in check_run(scores, *args)] == [(65.0, "pass", "")]
    (other,) = check_run(scores[:1], *args)
    assert (
        other.verdict == "off"
        and "measured by mmlu_gen_4d595a, the published number most likely by mmlu_ppl" in other.why
    )


def test_all_columns_are_shown_with_the_difference_of_the_models() -> None:
    summarizer = load_summarizer(CHAT_25, ConfigCatalog())
    table = make_table(
        [score("mmlu", 70.8, "hf_internlm2_5_7b_chat", benchmark="mmlu_gen_4d595a")], ["hf_internlm2_5_7b_chat"]
    )
    picked = pick_rows(table, summarizer.rows, {}, summarizer.bindings, {"hf_internlm2_5_7b_chat": "chat"})
    heads, cells = reference_columns(picked, summarizer)
    assert heads == [
        *(f"ref:{c}" for c in ("InternLM2.5-7B-Chat", "Llama3-8B-Instruct", "Gemma2-9B-IT", "Yi-1.5-9B-Chat")),
        "ref:GLM-4-9B-Chat", "ref:Qwen2-7B-Instruct", "diff",
    ]  # fmt: skip
    assert cells[0] == ["72.8", "68.4", "70.9", "71.0", "71.4", "70.8", "-2.0"] and cells[2][2] == "68.2*"
    assert any("MMLU (5-shot) by mmlu_gen_4d595a" in remark and "inferred" in remark for remark in summarizer.remarks)
    assert any("GSM8K (0-shot CoT) by one that is not known" in remark for remark in summarizer.remarks)


def test_a_table_with_a_line_a_model_is_turned(tmp_path: Path) -> None:
    table = read_table(find_reference(ALPACA, ConfigCatalog()))
    assert len(table.columns) == 11 and [e.row for e in table.entries] == ["Win Rate", "Length"]
    assert table.entries[0].values["InternLM2 Chat 20B"] == "21.75%" and as_number("21.75%") == 21.75
    assert table.entries[1].values["GPT-4 Turbo"] == "2049"
    again = tmp_path / "again.csv"
    again.write_text(as_csv(table), encoding="utf-8")
    assert read_table(again) == table
    (tmp_path / "gaps.csv").write_text("Model,a,b\nx,1\ny,,2\n")
    assert [dict(e.values) for e in read_table(tmp_path / "gaps.csv").entries] == [{"x": "1"}, {"y": "2"}]


def test_own_bindings(tmp_path: Path) -> None:
    text = "rows:\n  - Maths: {row: math, config: {chat: mine}, inferred: guessed}\n  - code\nreference: t.csv\n"
    (tmp_path / "t.yaml").write_text(text)
    (tmp_path / "t.csv").write_text("row,m\nMaths,5\ncode,6\n")
    catalog = open_catalog([tmp_path])
    summarizer = load_summarizer("t", catalog)
    assert summarizer.bindings == {"Maths": Binding("math", "", {"chat": "mine"}, "guessed")}
    assert not summarizer.stand_ins and summarizer.rows == ("Maths", "code") and not summarizer.all_columns
    assert bindings_of(tmp_path / "t.csv", catalog) == summarizer.bindings
    assert not bindings_of(tmp_path / "elsewhere" / "t.csv", catalog), "another table of that name is not meant"
    (tmp_path / "t.yaml").write_text(text.replace("config:", "configs:"))
    with pytest.raises(ConfigError, match="t.yaml:2.*unknown key 'configs'"):
        load_summarizer("t", open_catalog([tmp_path]))
