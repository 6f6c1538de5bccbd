"""C3: loaders, prompts, first capital letter, both files as one row (protocol sheet: c3)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.api import load_benchmark
from evalkit.scoring.aggregate import scores_of
from evalkit.scoring.score import SubsetResult
from tests.families.choice import check_sample_rows, put_rows
from tests.vectors import vectors

BASE, CHAT = "CLUE_C3_ppl_e24a31", "CLUE_C3_gen_8c358f"


def test_score_vectors(shared: Path) -> None:
    lines = [line for line in vectors(shared, "c3_score") if line["predictions"] is not None]
    assert len(lines) == 11
    for line in lines:
        handle = load_benchmark(CHAT if "gen" in line["config"] else BASE)
        assert handle.score(line["predictions"], line["references"])["accuracy"] == pytest.approx(line["score"]), line
        if "postprocessed" in line:
            assert [handle.extract(text) for text in line["predictions"]] == line["postprocessed"]


def test_loader_vectors(shared: Path, tmp_path: Path) -> None:
    lines = vectors(shared, "c3_score", "c3 loader")
    assert len(lines) == 4
    raw = [{"context": r["content"], **r["question"]} for r in (line["raw"] for line in lines)]
    put_rows(tmp_path, "clue/clue/c3_m/validation.jsonl", raw)
    for config, key in ((BASE, "ppl_row"), (CHAT, "gen_row")):
        samples = load_benchmark(f"{config}:m", tmp_path).samples()
        for sample, line in zip(samples, lines, strict=True):
            expected = {k: v for k, v in line[key].items() if k != "label"}
            assert {k: v for k, v in sample.row.items() if k in expected} == expected
            assert sample.gold == str(line[key]["label"])


def test_full_item_count(shared: Path) -> None:
    for config in (BASE, CHAT):
        handle = load_benchmark(config, shared / "data")
        assert [len(handle.samples(s)) for s in handle.subsets] == [1991, 1825]


def test_prompts_are_the_sheets(shared: Path) -> None:
    """The sheet's template strings, filled by hand."""
    sheet = (shared / "protocols" / "c3.md").read_text(encoding="utf-8")
    blocks = [json.loads(part.split("\n```")[0]) for part in sheet.split("```json\n")[1:]]
    base, chat = (load_benchmark(config, shared / "data") for config in (BASE, CHAT))
    ours = base.samples("d")[0]
    for i, text in base.render(ours).items():  # type: ignore[union-attr]
        filled = "\n".join(blocks[0]).replace("{choice_i}", ours.row[f"choice{i}"])
        assert text == filled.format(**{k: ours.row[k] for k in ("content", "question")})
    sample = next(s for s in chat.samples("m") if s.row["choice3"] == "[NULL]")
    expected = blocks[1].format(**sample.row)
    assert chat.render(sample, "base") == expected
    assert chat.render(sample, "chat") == [{"role": "user", "content": expected + "\n"}]


@pytest.mark.parametrize(("config", "kind"), [(BASE, "base"), (CHAT, "chat")])
def test_sample_rows(config: str, kind: str) -> None:
    handle = check_sample_rows(config, "chat" if kind == "chat" else "base")
    assert [len(handle.samples(s)) for s in handle.subsets] == [4, 2]


def test_missing_choices_are_filled() -> None:
    two = load_benchmark(BASE, "samples").samples("m")[2].row
    assert two["choices"] == ["正确", "错误", "正确", "正确"]
    assert load_benchmark(CHAT, "samples").samples("m")[2].row["choice2"] == "[NULL]"


def test_row_counts_every_question_once() -> None:
    results = {
        "m": SubsetResult("m", (), {"accuracy": 100.0}, 3, 3, None, 0),
        "d": SubsetResult("d", (), {"accuracy": 0.0}, 1, 1, None, 0),
    }
    head = scores_of("x", load_benchmark(BASE).benchmark, results, ["m", "d"], {})[0]
    assert (head.row, head.value) == ("C3", 75.0)
