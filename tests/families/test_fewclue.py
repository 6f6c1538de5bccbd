"""FewCLUE's seven tasks and three of CLUE: prompts, labels, counts (protocol sheet: clue_fewclue)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evalkit.api import load_benchmark
from evalkit.configs.catalog import open_catalog
from evalkit.core.errors import DataError
from evalkit.data.files import read_file
from tests.families.choice import check_sample_rows

PPL = {
    "bustm": "e53034",
    "chid": "8f2872",
    "cluewsc": "868415",
    "csl": "841b62",
    "eprstmt": "f1e631",
    "ocnli_fc": "c08300",
    "tnews": "d10e8a",
}
GEN = {
    "bustm": "634f41",
    "chid": "0a29a2",
    "cluewsc": "c68933",
    "csl": "28b223",
    "eprstmt": "740ea0",
    "ocnli_fc": "f97a97",
    "tnews": "b90e4a",
}
COUNT = re.compile(r"^\| (\w+)(?: \((\w+)\))? \| (\d+) \| (\d+) \|", re.M)
CLUE = {"cmnli": ("fdc6de", "1abf97"), "ocnli": ("fdc6de", "c4cb6c"), "afqmc": ("6507d7", "901306")}


def ppl_config(task: str) -> str:
    return f"FewCLUE_{task}_ppl_{PPL[task]}"


def gen_config(task: str) -> str:
    return f"FewCLUE_{task}_gen_{GEN[task]}"


def sheet(shared: Path) -> str:
    return (shared / "protocols" / "clue_fewclue.md").read_text(encoding="utf-8")


def templates(shared: Path, task: str) -> list[Any]:
    """The task's JSON templates: of ppl (by label, or one for all labels), then of gen."""
    section = sheet(shared).split(f"\n### {task}\n")[1].split("\n### ")[0]
    assert f"ppl default `{PPL[task]}`" in section and f"gen default `{GEN[task]}`" in section
    return [json.loads(part.split("\n```")[0]) for part in section.split("```json\n")[1:]]


def filled(template: str | list[str], row: dict[str, Any]) -> str:
    text = "\n".join(template) if isinstance(template, list) else template
    return re.sub(r"\{(\w+)\}", lambda found: str(row[found[1]]), text)


@pytest.mark.parametrize("task", PPL)
def test_ppl_prompts_equal_the_sheet(shared: Path, task: str) -> None:
    listed = templates(shared, task)[0]
    handle = load_benchmark(ppl_config(task), shared / "data")
    if isinstance(listed, list):  # tnews: the class's name is the last turn
        listed = {label: [listed[0], label] for label in handle.benchmark.labels}
    for subset in handle.subsets:
        for sample in handle.samples(subset)[:3]:
            assert handle.render(sample, "base") == {k: filled(v, dict(sample.row)) for k, v in listed.items()}
    assert list(handle.benchmark.labels) == list(listed)


def test_classes_of_tnews_are_the_sheets_in_order(shared: Path) -> None:
    order = re.search(r"classes in this order: (.+)", sheet(shared))
    assert order and order[1].split(", ") == list(load_benchmark(ppl_config("tnews")).benchmark.labels)
    mapping = dict(re.findall(r"(news_\w+) ([^,)\s]+)", sheet(shared)))
    by_text, by_letter = (load_benchmark(c("tnews"), shared / "data") for c in (ppl_config, gen_config))
    raw = read_file(shared / "data/CLUEbenchmark/FewCLUE/datasets/tnews/test_public.json")
    assert [s.gold for s in by_text.samples("test")] == [mapping[row["label_desc"]] for row in raw]
    letters = dict(zip(order[1].split(", "), "ABCDEFGHIJKLMNO", strict=True))
    assert [s.gold for s in by_letter.samples()] == [letters[s.gold] for s in by_text.samples()]


@pytest.mark.parametrize("task", GEN)
def test_gen_prompts_equal_the_sheet(shared: Path, task: str) -> None:
    template = templates(shared, task)[-1]
    handle = load_benchmark(gen_config(task), shared / "data")
    for subset in handle.subsets:
        sample = handle.samples(subset)[-1]
        expected = filled(template, dict(sample.row))
        assert handle.render(sample, "base") == expected
        assert handle.render(sample, "chat") == [{"role": "user", "content": expected + "\n"}]


def test_counts_and_balance_equal_the_sheet(shared: Path) -> None:
    found = {other or name: (int(dev), int(test)) for name, other, dev, test in COUNT.findall(sheet(shared))}
    ours = {}
    for task in PPL:
        handle = load_benchmark(ppl_config(task), shared / "data")
        ours[task] = tuple(len(handle.samples(s)) for s in ("dev", "test"))
        golds = [s.gold for s in handle.samples("test")]
        assert {golds.count(label) for label in handle.benchmark.labels} == {len(golds) // len(handle.benchmark.labels)}
    assert ours == found and sum(map(sum, ours.values())) == 14_827


def test_golds_of_both_forms_agree(shared: Path) -> None:
    letters = {
        "bustm": {"0": "A", "1": "B"},
        "csl": {"0": "A", "1": "B"},
        "cluewsc": {"1": "A", "0": "B"},
        "eprstmt": {"Positive": "A", "Negative": "B"},
        "ocnli_fc": {"entailment": "A", "contradiction": "B", "neutral": "C"},
        "chid": dict(zip("0123456", "ABCDEFG", strict=True)),
    }
    for task, letter in letters.items():
        ppl, gen = (load_benchmark(c(task), shared / "data") for c in (ppl_config, gen_config))
        assert [letter[s.gold] for s in ppl.samples()] == [s.gold for s in gen.samples()]


def test_earlier_wordings_equal_the_sheet(shared: Path) -> None:
    section = sheet(shared).split("### bustm, variant of the July 2023 line")[1].split("### ")[0]
    zero, one = re.findall(r'class [01] `("[^`]+")`', section)
    handle = load_benchmark("FewCLUE_bustm_ppl_9ef540", shared / "data")
    sample = handle.samples("dev")[0]
    expected = [filled(re.sub(r"(\w+)1\}", r"\g<1>1}", json.loads(t)), dict(sample.row)) for t in (zero, one)]
    assert handle.render(sample) == dict(zip("01", expected, strict=True))
    pronoun = load_benchmark("FewCLUE_cluewsc_ppl_4284a0", shared / "data")
    sample = pronoun.samples("dev")[0]
    text = re.search(r'cluewsc `ppl_4284a0`: `(".+?No\.")`', section)
    assert text
    first = filled(json.loads(text[1]), dict(sample.row))
    assert pronoun.render(sample) == {"0": first, "1": first.removesuffix("No.") + "Yes."}


@pytest.mark.parametrize("task", PPL)
def test_sample_rows(task: str) -> None:
    for config, kind in ((ppl_config(task), "base"), (gen_config(task), "chat")):
        handle = check_sample_rows(config, "chat" if kind == "chat" else "base")
        assert [len(handle.samples(s)) for s in handle.subsets] == [2, 2]
        assert handle.benchmark.row == task


@pytest.mark.parametrize("task", CLUE)
def test_clue_prompts_equal_the_sheet(shared: Path, task: str) -> None:
    """The strings in backticks of the sheet's last section, filled with the sample rows."""
    section = sheet(shared).split("### CLUE tasks with the same shape")[1].split("\n## ")[0]
    line = next(x for x in section.splitlines() if x.startswith("- afqmc" if task == "afqmc" else "- cmnli"))
    parts = [p.replace("\\n", "\n") for p in re.findall(r"`([^`]+)`", line) if not re.fullmatch(r"\w{6}", p)]
    ppl, gen = (
        load_benchmark(f"CLUE_{task}_{m}_{h}", "samples") for m, h in zip(("ppl", "gen"), CLUE[task], strict=True)
    )
    options = parts[1].replace("\nB.", "\n B.").replace("\nC.", "\n C.") if task == "ocnli" else parts[1]
    for sample in ppl.samples():
        question = filled(parts[0], dict(sample.row))
        texts = ppl.render(sample, "base")
        classes = {"0": "不完全一致", "1": "完全一致"} if task == "afqmc" else {
            "contradiction": "矛盾", "entailment": "蕴含", "neutral": "无关"}  # fmt: skip
        assert texts == {label: f"{question}\n{word}" for label, word in classes.items()}
        asked = next((s for s in gen.samples() if s.index == sample.index), None)
        assert asked is None or gen.render(asked, "base") == question + options


@pytest.mark.parametrize("task", CLUE)
def test_rows_without_an_agreed_label(task: str) -> None:
    ppl, gen = (
        load_benchmark(f"CLUE_{task}_{m}_{h}", "samples") for m, h in zip(("ppl", "gen"), CLUE[task], strict=True)
    )
    counts = {"cmnli": (3, 3), "ocnli": (4, 3), "afqmc": (2, 2)}
    assert (len(ppl.samples()), len(gen.samples())) == counts[task]
    assert {s.gold for s in gen.samples()} == ({"A", "B"} if task == "afqmc" else {"A", "B", "C"})


def test_configs_are_short() -> None:
    files = open_catalog().files("dataset_configs")
    ours = [f for name, paths in files.items() for f in paths if re.match(r"(FewCLUE|CLUE|agieval)_|.*contamin", name)]
    assert len(ours) >= 40
    assert max(len(f.read_text(encoding="utf-8").splitlines()) for f in ours) <= 25


def test_json_files_of_lines(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text('{"a": 1}\n{"a": 2}\n')
    assert read_file(file) == [{"a": 1}, {"a": 2}]
    file.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(DataError, match=":2: broken JSON"):
        read_file(file)
