"""Tables beside published numbers: rows, order, references, differences; as txt, markdown and csv."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.configs.catalog import ConfigCatalog, open_catalog
from evalkit.core.errors import ConfigError
from evalkit.core.records import Issue, Score
from evalkit.report.summary import column_of, load_summarizer, reference_columns
from evalkit.report.table import Table, make_table, pick_rows
from evalkit.report.tables import as_csv, as_markdown, as_text
from tests import helpers

BASE = ["internlm2-1.8b-turbomind", "internlm2-7b-turbomind", "internlm2-20b-turbomind"]
CHAT = [f"internlm2-chat-{size}-hf" for size in ("1.8b", "1.8b-sft", "7b", "7b-sft", "20b", "20b-sft")]
SEVEN = "hf_internlm2_7b"


def score(row: str, value: float | None, model: str = SEVEN, **more: object) -> Score:
    made = Score(model, f"{row}_gen_1", "abc123", "gen", row, "accuracy", value, 100, 100)
    return replace(made, **more)  # type: ignore[arg-type]


def picked(
    scores: list[Score], name: str = "internlm2_base", column: str = ""
) -> tuple[Table, list[str], list[list[str]]]:
    """The summarizer's table, and what stands beside it."""
    summarizer = load_summarizer(name, ConfigCatalog(), column)
    table = pick_rows(
        make_table(scores, list(dict.fromkeys(s.model for s in scores))), summarizer.rows, summarizer.stand_ins
    )
    return table, *reference_columns(table, summarizer)


def beside(row: str, table: Table, heads: list[str], cells: list[list[str]]) -> dict[str, str]:
    """Head -> cell of one row."""
    number = [line.dataset for line in table.lines].index(row)
    return dict(zip(heads, cells[number], strict=True))


@pytest.mark.parametrize("name", ["internlm2_base", "internlm2_chat"])
def test_rows_are_the_published_ones_in_order(name: str) -> None:
    file = helpers.ROOT / "summarizers" / "reference" / f"{name}.csv"
    published = [line.split(",")[0] for line in file.read_text().splitlines()[1:]]
    assert list(load_summarizer(name, ConfigCatalog()).rows) == published
    assert len(published) == (17 if name == "internlm2_base" else 18)


def test_every_published_row_is_a_row_of_some_config() -> None:
    rows = {row for name in ("internlm2_base", "internlm2_chat") for row in load_summarizer(name, ConfigCatalog()).rows}
    text = "\n".join(f.read_text(encoding="utf-8") for f in (helpers.ROOT / "dataset_configs").rglob("*.yaml"))
    named = set(re.findall(r"^(?:row|family): *(\S+)", text, re.M))
    assert rows - named == {"race-high", "ceval-test"}, "one is a subset, the other a split"


def test_protocol_page_has_every_config() -> None:
    page = (helpers.ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(\w+)`", page, re.M))
    published = set(ConfigCatalog().files("dataset_configs"))
    summarizers = set(ConfigCatalog().files("summarizers"))
    assert not told - published - summarizers, "these are gone"
    assert {n for n in published if re.search(r"_[0-9a-f]{6}$", n)} <= told


def test_differences_with_the_column_of_the_model() -> None:
    table, heads, cells = picked([score("gsm8k", 70.254), score("bbh", 63.5578), score("math", 20.0)])
    assert heads == ["ref:internlm2-7b-turbomind", "diff"]
    assert beside("gsm8k", table, heads, cells) == {"ref:internlm2-7b-turbomind": "69.98", "diff": "+0.27"}
    assert beside("bbh", table, heads, cells)["diff"] == "+0.00"
    assert beside("math", table, heads, cells)["diff"] == "-5.16"
    assert beside("mmlu", table, heads, cells) == {"ref:internlm2-7b-turbomind": "65.84", "diff": "-"}


def test_without_a_column_all_are_shown_and_no_difference() -> None:
    _, heads, cells = picked([score("gsm8k", 70.0, "my-own-model")])
    assert heads == [f"ref:{c}" for c in BASE] and len(cells) == 17
    assert cells[10] == ["30.40", "69.98", "76.80"]


def test_named_column_is_for_every_model() -> None:
    scores = [score("gsm8k", 70.0, "a"), score("gsm8k", 80.0, "b")]
    table, heads, cells = picked(scores, column="internlm2-20b-turbomind")
    assert heads == ["ref:internlm2-20b-turbomind", "diff:a", "diff:b"]
    assert beside("gsm8k", table, heads, cells) == dict(zip(heads, ["76.80", "-6.80", "+3.20"], strict=True))
    assert picked(scores, column="hf_internlm2_20b")[1] == heads
    with pytest.raises(ConfigError, match="no reference column 'internlm2-70b'") as error:
        picked(scores, column="internlm2-70b")
    assert "internlm2-7b-turbomind" in error.value.hint


def test_models_meet_their_own_columns() -> None:
    scores = [score("gsm8k", 70.0, SEVEN), score("gsm8k", 77.0, "recorded-internlm2_20b"), score("gsm8k", 1.0, "other")]
    table, heads, cells = picked(scores)
    assert heads == [f"ref:{BASE[1]}", f"ref:{BASE[2]}", f"diff:{SEVEN}", "diff:recorded-internlm2_20b"]
    assert list(beside("gsm8k", table, heads, cells).values()) == ["69.98", "76.80", "+0.02", "+0.20"]


@pytest.mark.parametrize(
    ("model", "column"),
    [
        ("hf_internlm2_chat_7b", "internlm2-chat-7b-hf"),
        ("hf_internlm2_chat_7b_sft", "internlm2-chat-7b-sft-hf"),
        ("internlm2-chat-1.8b", "internlm2-chat-1.8b-hf"),
        ("InternLM2_Chat_20B-vllm", "internlm2-chat-20b-hf"),
        ("hf_internlm2_7b", ""),
        ("hf", ""),
    ],
)
def test_columns_by_model_name(model: str, column: str) -> None:
    assert column_of(model, CHAT) == column


def test_missing_rows_are_dashes() -> None:
    table, heads, cells = picked([score("gsm8k", 70.0)])
    lines = as_text(table, 2, cells, heads).splitlines()
    assert lines[2].split() == ["mmlu", "-", "-", "-", "-", "65.84", "-"]
    assert next(x for x in lines if x.startswith("gsm8k")).split()[-3:] == ["70.00", "69.98", "+0.02"]


def test_failed_score_has_no_difference() -> None:
    table, heads, cells = picked(
        [score("gsm8k", None, issues=(Issue("failed", "the worker died"),)), score("mmlu", 65.0)]
    )
    assert beside("gsm8k", table, heads, cells)["diff"] == "-"
    assert "failed" in as_text(table, 2, cells, heads)


def test_public_split_stands_in_and_says_so() -> None:
    table, heads, cells = picked([score("ceval", 60.0), score("ceval-stem", 50.0, level="group")])
    row = next(line for line in table.lines if line.dataset == "ceval-test")
    assert row.stands_in == "ceval" and row.scores[0] is not None and row.scores[0].value == 60.0
    assert beside("ceval-test", table, heads, cells) == {heads[0]: "63.54", "diff": "-"}
    text = as_text(table, 2, cells, heads)
    assert "60.00*" in text and "this is row ceval in the place of ceval-test" in text


def test_real_test_split_wins_over_its_stand_in() -> None:
    table, heads, cells = picked([score("ceval", 60.0), score("ceval-test", 63.0)])
    assert beside("ceval-test", table, heads, cells)["diff"] == "-0.54"
    assert "*" not in as_text(table, 2, cells, heads)


def test_subset_and_first_metric_make_a_row() -> None:
    scores = [
        score("race-high", 72.56, level="headline"),
        score("race-middle", 80.0),
        score("IFEval", 34.75, metric="prompt-level strict"),
        score("IFEval", 40.0, metric="instruction-level strict", level="group"),
    ]
    table, heads, cells = picked(scores, "internlm2_chat", "internlm2-chat-7b-hf")
    assert beside("IFEval", table, heads, cells)["diff"] == "+0.00"
    assert [line.dataset for line in table.lines].count("IFEval") == 1
    assert "race-middle" not in [line.dataset for line in table.lines]


def test_two_versions_of_a_row_are_two_lines() -> None:
    scores = [score("mmlu", 60.0), score("mmlu", 65.0, "hf_internlm2_20b", version="def456", mode="ppl")]
    table, heads, cells = picked(scores)
    assert [line.version for line in table.lines if line.dataset == "mmlu"] == ["abc123", "def456"]
    assert cells[0][2:] == ["-5.84", "-"] and cells[1][2:] == ["-", "-2.58"]
    assert len(heads) == 4


def test_csv_is_unrounded_and_has_empty_cells() -> None:
    summarizer = load_summarizer("internlm2_base", ConfigCatalog())
    table, *_ = picked([score("gsm8k", 70.254321), score("ceval", 1.0)])
    heads, cells = reference_columns(table, summarizer, exact=True)
    rows = list(csv.DictReader(io.StringIO(as_csv(table, cells, heads))))
    by_name = {row["dataset"]: row for row in rows}
    assert len(rows) == 17 and list(by_name)[2] == "ceval-test"
    gsm8k = by_name["gsm8k"]
    assert (gsm8k[SEVEN], gsm8k["ref:internlm2-7b-turbomind"], gsm8k["diff"]) == ("70.254321", "69.98", "0.274321")
    assert by_name["mmlu"]["diff"] == "" and by_name["mmlu"][SEVEN] == ""
    assert "in the place of ceval-test" in by_name["ceval-test"]["flags"]


def test_markdown_has_the_same_cells() -> None:
    table, heads, cells = picked([score("gsm8k", 70.254)])
    text = as_markdown(table, 2, cells, heads)
    line = next(x for x in text.splitlines() if x.startswith("| gsm8k"))
    assert [c.strip() for c in line.strip("|").split("|")] == [
        "gsm8k", "abc123", "accuracy", "gen", "70.25", "69.98", "+0.27",
    ]  # fmt: skip


def test_standard_errors_stand_beside_the_scores() -> None:
    scores = [
        score("a", 65.844, "m", stderr=0.404),
        score("b", 50.0, "m", stderr=5.0, issues=(Issue("left_truncated", "cut"),)),
        replace(score("c", 50.0, "m", stderr=5.0), n=97, n_expected=100),
        score("d", 12.0, "m"),
        score("e", None, "m", stderr=1.0, issues=(Issue("failed", "died"),)),
    ]
    table = make_table(scores, ["m"])
    cells = ["65.84 ±0.40", "50.00* ±5.00", "50.00 (97/100) ±5.00", "12.00", "failed"]
    for text in (as_text(table), as_markdown(table)):
        assert all(f"{row} " in line or line.endswith(row) for row, line in zip(cells, rows_of(text), strict=True))
        assert text.count("± one standard error") == 1
    assert "±" not in as_text(make_table([score("d", 12.0, "m")], ["m"]))
    rows = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert [row["stderr:m"] for row in rows] == ["0.404", "5.0", "5.0", "", ""]


def rows_of(text: str) -> list[str]:
    """Those lines of a table that begin with a name of one letter."""
    return [line for line in text.splitlines() if re.match(r"(\| )?[a-e] ", line)]


def test_own_summarizer(tmp_path: Path) -> None:
    (tmp_path / "summarizers").mkdir()
    (tmp_path / "summarizers" / "mine.yaml").write_text("rows: [b, {c: a}]\nreference: mine.csv\ndecimals: 1\n")
    (tmp_path / "summarizers" / "mine.csv").write_text("row,m,x\nb,1.5,?\na,2,3\n")
    summarizer = load_summarizer("mine", open_catalog([tmp_path]))
    table = pick_rows(
        make_table([score("a", 4.0, "m"), score("b", 5.06, "m")], ["m"]), summarizer.rows, summarizer.stand_ins
    )
    assert reference_columns(table, summarizer) == (["ref:m", "diff"], [["1.5", "+3.6"], ["-", "-"]])


def test_cli_refuses_wrong_names_before_running(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path / "c", "internlm2_7b")
    args = ("--config-dir", tmp_path / "c", "--models", "internlm2_7b", "--datasets", "gsm8k", "--data-root", "samples")
    for wrong, part in (
        (("--summarizer", "internlm2"), "list summarizers"),
        (("--summarizer", "internlm2_base", "--reference-column", "gpt"), "no reference column"),
        (("--reference-column", "gpt"), "--summarizer NAME"),
    ):
        done = helpers.run(*args, *wrong, "--work-dir", tmp_path / "work")
        assert done.returncode == 2 and part in done.stderr and not (tmp_path / "work").exists()
    done = helpers.run(*args, "--summarizer", "internlm2_base", "--work-dir", tmp_path / "work")
    assert done.returncode == 0 and "ref:internlm2-7b-turbomind" in done.stdout and "diff" in done.stdout
    folder = helpers.run_folder(tmp_path / "work")
    again = helpers.run("score", folder, "--summarizer", "internlm2_base", "--reference-column", "internlm2-20b")
    assert again.returncode == 0 and "76.80" in again.stdout and "69.98" not in again.stdout
    for name in ("summary.txt", "summary.md", "summary.csv"):
        assert "ref:internlm2-20b-turbomind" in (folder / "report" / name).read_text()


def test_names_cannot_break_a_table() -> None:
    """Whatever a model or a row is called: one line a row, no cell too many, nothing that a terminal obeys."""
    model, row = "a|b\x1b[31m\n\u202e", "=cmd|' /C calc'!A0"
    names = [model, "=1+1", "-x", "模型\u3000一"]
    table = make_table([score(row, 12.5, m) for m in names], names, ["note\x1b[2J"])
    text, markdown, sheet = as_text(table), as_markdown(table), as_csv(table)
    lines = markdown.splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[:3]} == {4 + len(names) + 1}
    assert r"a\|b\x1b[31m\n\u202e" in markdown and "模型\u3000一" in markdown
    assert r"a|b\x1b[31m\n\u202e" in text and r"note\x1b[2J" in text and len(text.splitlines()) == 4
    for made in (text, markdown):
        assert not any(c in made for c in "\x1b\u202e")
    head, cells = list(csv.reader(io.StringIO(sheet)))
    assert head[4:8] == [model, "'=1+1", "'-x", names[3]] and cells[0] == "'" + row and cells[4] == "12.5"
