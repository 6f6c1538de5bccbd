"""The demo benchmarks' rows: right golds, enough of them, as the generator makes them, and never trained on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

import evalkit
from evalkit.configs.catalog import open_catalog
from evalkit.plan.check import load_benchmark_config
from evalkit.sandbox import run_programs
from evalkit.sandbox.records import Program
from tools.embedded import arithmetic, corpus, functions, hops, items, retrieval
from tools.embedded.arithmetic import drawn_numbers
from tools.embedded.draw import dice_for, held
from tools.embedded.facts import LETTERS, OPTION, WORDS
from tools.embedded.world import BORN, world

DATA = Path(__file__).resolve().parents[2] / "evalkit/builtin/embedded/data"
CONFIGS = tuple(items.rows())
TRAINED = 2500
"""Training texts of each kind that are searched; the long ones are of any length."""


@lru_cache
def made() -> dict[str, Any]:
    return {config: list(rows) for config, rows in items.rows().items()}


@lru_cache
def trained() -> str:
    """A good part of what is trained on, in one text; other batches differ from these in the seed only."""
    parts = []
    for kind, style, length in (
        ("short", "plain", 0),
        ("short", "chat", 0),
        ("long", "plain", 512),
        ("long", "chat", 512),
    ):
        found = corpus.texts(kind, style, "tests", length)
        parts += ["".join(p.text for p in text) for text in islice(found, TRAINED if kind == "short" else TRAINED // 5)]
    return "\n".join(parts)


@pytest.mark.parametrize("config", CONFIGS)
def test_shipped_rows_are_those_that_the_generator_makes(config: str) -> None:
    (file,) = (DATA / items.REPOSITORY / config).glob("test-*.parquet")
    assert parquet.read_table(file).to_pylist() == made()[config]


def test_there_are_enough_and_the_files_are_small() -> None:
    counts = {config: len(rows) for config, rows in made().items() if config != "needle"}
    assert all(100 <= count <= 400 for count in counts.values()), counts
    assert sum(f.stat().st_size for f in DATA.rglob("*") if f.is_file()) < 200_000


def test_no_row_stands_twice() -> None:
    for config, rows in made().items():
        assert len({str(row) for row in rows}) == len(rows), config


@pytest.mark.parametrize("config", ["choice", "cloze"])
def test_the_right_option_is_the_fact(config: str) -> None:
    truths = {(f.subject.of(lang), f.value.of(lang)) for f in world().facts for lang in ("en", "zh")}
    homes = [(f.subject, f.value) for f in world().facts if f.relation is BORN]
    towns = {(f.subject, f.value) for f in world().facts}
    truths |= {
        (who.of(lang), value.of(lang))
        for who, town in homes for subject, value in towns if subject == town for lang in ("en", "zh")
    }  # fmt: skip
    for row in made()[config]:
        options = (
            row["choices"]
            if config == "choice"
            else [e.strip(" .。上河岛").removesuffix("而闻名") for e in row["endings"]]
        )
        text = row["question"] if config == "choice" else row["sentence"]
        about = {v.removesuffix("河").removesuffix("岛") for s, v in truths if s in text}
        right = [o.removesuffix("河").removesuffix("岛") for o in options]
        assert len(set(options)) == 4 and right[row["answer"]] in about, row
    places = Counter(row["answer"] for row in made()[config])
    assert min(places[n] for n in range(4)) > len(made()[config]) / 8, "no letter is a good guess"


def value(side: str) -> int:
    """One side of an equation: a number, or two with an operation between them."""
    left, operation, right = [*side.split(), "+", "0"][:3]
    return {"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}[operation]


def test_sums_are_right() -> None:
    for row in made()["arithmetic"]:
        equations = re.findall(r"[\d=+* -]{5,}", row["work"])
        for equation in equations:
            assert len({value(side) for side in equation.split(" = ")}) == 1, row
        assert value(equations[-1].split(" = ")[-1]) == row["answer"] > 0
        operands = {int(n) for equation in equations for n in re.findall(r"\d+", equation.split(" = ")[0])}
        assert set(map(int, re.findall(r"\d+", row["question"]))) <= operands, "the sum is that of the question"


def test_solutions_pass_and_wrong_ones_fail() -> None:
    rows = made()["code"][::3]

    def statuses(bodies: list[str]) -> set[str]:
        programs = [
            Program(f"{r['prompt']}{body}\n", 5.0, tests=f"{r['test']}\ncheck({r['entry_point']})")
            for r, body in zip(rows, bodies, strict=True)
        ]
        return {outcome.status for outcome in run_programs(programs, 2)}

    right = [row["canonical_solution"] for row in rows]
    assert statuses(right) == {"passed"}
    numbered = [re.sub(r"(\d+)(?!.*\d)", lambda n: str(int(n[0]) + 1), body) for body in right]
    assert statuses([new if new != old else "    return 0\n" for new, old in zip(numbered, right, strict=True)]) == {
        "failed"
    }
    assert statuses(["    return None\n" for _ in right]) == {"failed"}


def options(row: dict[str, Any]) -> list[str]:
    """The lines of a choice, as they are trained."""
    return [OPTION.format(value=v, letter=x) for v, x in zip(row["choices"], LETTERS, strict=True)]


def probes(config: str) -> list[str]:
    """What of each row must not stand in a training text."""
    rows = made()[config]
    if config == "choice":
        return ["\n- ".join([r["question"], *options(r)]) for r in rows]
    if config == "cloze":
        return [r["sentence"] + r["endings"][r["answer"]] for r in rows]
    if config == "code":
        return [r["prompt"].split('"""')[1] for r in rows]
    if config == "arithmetic":
        return [r["question"] for r in rows]
    return [sentence for r in rows for sentence in r["text"].split(". ") if len(sentence) > 90][:400]


@pytest.mark.parametrize("config", [c for c in CONFIGS if c != "needle"])
def test_no_item_is_trained_on(config: str) -> None:
    found = [probe for probe in probes(config) if probe in trained()]
    assert not found, found[:3]


def test_the_search_would_find_one() -> None:
    asked: dict[str, Callable[[str], bool]] = {
        "a choice": lambda t: " A\n- " in t and " D\n答案：" in t,
        "a cloze sentence of a fact that is not kept": lambda t: "For many years" in t,
        "a docstring": lambda t: '"""Return x plus ' in t,
        "a needle": lambda t: "The secret code of the harbor is" in t,
    }
    assert [name for name, is_there in asked.items() if not is_there(trained())] == []


def test_choices_of_kept_facts_are_never_trained() -> None:
    kept = {q.format(s=f.subject.en) for f in world().facts if f.kept for q in f.relation.asked["en"]}
    asked = re.findall(r"Question: (.*\?)\n- ", trained())
    assert len(asked) > 300
    assert not kept & set(asked)


def test_prompts_have_the_form_of_the_training_texts() -> None:
    """What the config shows of a row is, letter for letter, what training shows of such a row."""
    benchmark = evalkit.load_benchmark("demo_choice_gen")
    for sample in (*benchmark.samples("en")[:5], *benchmark.samples("zh")[:5]):
        row = made()["choice"][sample.index]
        asked, lead, _ = WORDS[row["language"]]
        shown = "\n- ".join([asked + row["question"], *options(row)])
        assert benchmark.render(sample, kind="base") == f"{shown}\n{lead}"
        assert benchmark.render(sample, kind="chat") == [{"role": "user", "content": shown}]


def test_half_of_the_items_are_of_kinds_that_are_not_trained() -> None:
    joined = [q for forms in (hops.ASKED, hops.SENTENCE) for q in (f[lang] for f in forms.values() for lang in f)]
    shapes = [re.compile(re.escape(q).replace(r"\{s\}", "[^.。]+").replace(r"\{v\}", "[^.。]*")) for q in joined]
    for config, key in (("choice", "question"), ("cloze", "sentence")):
        texts = [row[key] + row.get("endings", [""])[0] for row in made()[config]]
        assert sum(any(shape.search(text) for shape in shapes) for text in texts) == len(texts) / 2, config
    lines = trained().splitlines()
    assert not [line for line in lines for shape in shapes if len(line) < 200 and shape.search(line)]
    said = re.compile("|".join(re.escape(p.said).replace(r"\{", "{").replace(r"\}", "}") for p in functions.UNSEEN))
    unseen = re.compile(re.sub(r"\{[kmw]\}", "[a-z0-9]+", said.pattern))
    assert sum(bool(unseen.search(row["prompt"])) for row in made()["code"]) == items.FUNCTIONS / 2
    assert not unseen.search(trained())


def test_kept_numbers_are_never_calculated_with() -> None:
    dice = dice_for("tests")
    for kind in arithmetic.ASKED_KINDS:
        for kept in (True, False):
            drawn = [drawn_numbers(kind, dice, kept) for _ in range(40)]
            assert all(held(f"sum/{kind}/{numbers}") == kept for numbers in drawn)


def test_needles_are_places_and_texts_of_their_own() -> None:
    assert not {f"secret code of the {place}" for place in retrieval.KEPT_PLACES} & set(
        re.findall(r"secret code of the \w+", trained())
    )
    catalog = open_catalog()
    (file,) = catalog.files("dataset_configs")["demo_needle_gen"]
    build = load_benchmark_config(file, catalog).data.build
    assert build is not None
    needles = list(zip(build.args["needle"], build.args["question"], build.args["keyword"], strict=True))
    assert needles == retrieval.needle_items()
    lines = {row["text"] for row in made()["needle"]}
    assert not lines & {" ".join(retrieval.essay(n)["text"].split()) + " " for n in range(retrieval.ESSAYS)}
