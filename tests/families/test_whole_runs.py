"""Whole runs of the examinations and the Chinese benchmarks: a tiny model on the real data, every row in the table."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from tests import helpers
from tests.families.test_agieval import table as agieval_table
from tests.families.test_fewclue import COUNT, GEN, PPL, gen_config, ppl_config, sheet

pytestmark = pytest.mark.timeout(7200)

SHORT = ("--max-seq-len", 192, "--max-out-len", 1, "--max-num-workers", 1)
"""Prompts are cut to what a tiny model reads in minutes; how many there are, and all that is rendered, stays."""
OUT = ("--set", "gen.max_out_len=1")
C3 = {"C3": 3816, "C3-m": 1991, "C3-d": 1825}
BASE, CHAT = (
    {"agieval": name, "c3": c3, "cmrc": "CLUE_CMRC_gen_1bd3c8"}
    for name, c3 in (("agieval_mixed_2f14ad", "CLUE_C3_ppl_e24a31"), ("agieval_gen_64afd3", "CLUE_C3_gen_8c358f"))
)


def table_of(model: Path, shared: Path, work: Path, configs: list[str], *more: object) -> dict[str, tuple[int, int]]:
    """Row -> (answered, expected), after a run of these configs."""
    done = helpers.run(
        "--hf-path", model, "--datasets", *configs, "--data-root", shared / "data", *SHORT, *more, "--work-dir", work,
        timeout=7200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = csv.DictReader((helpers.run_folder(work) / "report" / "summary.csv").open(encoding="utf-8"))
    counts = {row["dataset"]: tuple(map(int, row["n"].split("/"))) for row in rows}
    return {row: (n, of) for row, (n, of) in counts.items()}


def whole(expected: dict[str, int]) -> dict[str, tuple[int, int]]:
    return {row: (n, n) for row, n in expected.items()}


def agieval_rows(shared: Path) -> dict[str, int]:
    """The sheet's counts, of the subsets and of all."""
    rows = {f"agieval-{name}": int(count) for name, (count, _, _) in agieval_table(shared).items()}
    return {"agieval": sum(rows.values()), **rows}


def fewclue_rows(shared: Path) -> dict[str, int]:
    """The sheet's counts of the 14 files."""
    found = COUNT.findall(sheet(shared))
    return {
        f"{other or name}-{s}": int(n)
        for name, other, *both in found
        for s, n in zip(("dev", "test"), both, strict=True)
    }


def test_one_row_of_every_file(shared: Path, tiny_model: Path, tmp_path: Path) -> None:
    configs = [*BASE.values(), *map(ppl_config, PPL)]
    counts = table_of(tiny_model, shared, tmp_path, configs, "--limit", 1, *OUT)
    rows = [*agieval_rows(shared), *fewclue_rows(shared), *C3, "CMRC"]
    assert set(rows) <= set(counts)
    assert all(counts[row] == (1, 1) for row in rows if row not in ("agieval", "C3"))
    assert (counts["agieval"], counts["C3"]) == ((21, 21), (2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["base", "chat"])
def test_agieval(shared: Path, tiny_model: Path, tiny_chat_model: Path, tmp_path: Path, kind: str) -> None:
    model, names = (tiny_model, BASE) if kind == "base" else (tiny_chat_model, CHAT)
    counts = table_of(model, shared, tmp_path, [names["agieval"]], *OUT)
    groups = {row for row in counts if re.fullmatch(r"agieval-(gk|chinese|english)", row)}
    assert len(groups) == 3 and {r: c for r, c in counts.items() if r not in groups} == whole(agieval_rows(shared))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["base", "chat"])
def test_c3_and_cmrc(shared: Path, tiny_model: Path, tiny_chat_model: Path, tmp_path: Path, kind: str) -> None:
    model, names = (tiny_model, BASE) if kind == "base" else (tiny_chat_model, CHAT)
    counts = table_of(model, shared, tmp_path, [names["c3"], names["cmrc"]])
    assert counts == whole({**C3, "CMRC": 3219})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["base", "chat"])
def test_fewclue(shared: Path, tiny_model: Path, tiny_chat_model: Path, tmp_path: Path, kind: str) -> None:
    model, names = (tiny_model, PPL) if kind == "base" else (tiny_chat_model, GEN)
    configs = [ppl_config(task) if kind == "base" else gen_config(task) for task in names]
    counts = table_of(model, shared, tmp_path, configs)
    expected = fewclue_rows(shared)
    assert len(expected) == 14 and counts == whole(expected)
