"""From rows to prompts: base and chat, exemplars, quirks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.configs.benchmark import build
from evalkit.configs.yamlfile import parse_yaml
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import Benchmark, Member, Rendered, Sample, ShotSpec, Turn
from evalkit.prompts import quirks, rows
from evalkit.prompts.fewshot import from_rows, from_text, from_turns, pick
from evalkit.prompts.rendering import Exemplars, render


def bench(text: str) -> Benchmark:
    base = "metric: accuracy\ndata: {path: a/b}\ngold: answer\n"
    return build(parse_yaml(base + text, Path("x_gen.yaml")))


def sample(**row: Any) -> Sample:
    return Sample("s/0", "s", 0, row, row.get("answer"), {"subset": "s"})


def shown(benchmark: Benchmark, one: Sample, exemplars: Exemplars | None = None, kind: Any = "base") -> Rendered:
    return render(benchmark, one, exemplars or Exemplars(), kind)


TURNS = 'mode: gen\nprompt:\n  - shots\n  - user: "Q: {{ q }}"\n  - assistant: "A:"\n'
SHOTS = Exemplars(turns=[Turn("user", "Q: x"), Turn("assistant", "A: y\n")])


def test_base_joins_turns_and_keeps_the_last_assistant_turn() -> None:
    assert shown(bench(TURNS), sample(q="1"), SHOTS).text == "Q: x\nA: y\n\nQ: 1\nA:"


def test_chat_drops_the_last_assistant_turn() -> None:
    turns = shown(bench(TURNS), sample(q="1"), SHOTS, "chat").turns
    assert turns == (Turn("user", "Q: x"), Turn("assistant", "A: y\n"), Turn("user", "Q: 1"))


def test_user_newline_acts_on_user_turns_of_lists_only() -> None:
    quirky = replace(bench(TURNS), quirks=frozenset({"user_newline"}))
    turns = shown(quirky, sample(q="1"), SHOTS, "chat").turns
    assert turns == (Turn("user", "Q: x\n"), Turn("assistant", "A: y\n"), Turn("user", "Q: 1\n"))
    assert shown(quirky, sample(q="1"), SHOTS).text == "Q: x\nA: y\n\nQ: 1\nA:"
    plain = replace(bench('mode: gen\nprompt: "Q: {{ q }}"\n'), quirks=frozenset({"user_newline"}))
    assert shown(plain, sample(q="1"), kind="chat").turns == (Turn("user", "Q: 1"),)


def test_ppl_and_ll_prompts() -> None:
    ppl = bench('mode: ppl\nlabels: [A, B]\nprompt: "{{ shots }}{{ q }} {{ option }}"\n')
    assert shown(ppl, sample(q="1"), Exemplars("x\n")).ppl == {"A": "x\n1 A", "B": "x\n1 B"}
    ll = bench('mode: ll\nlabels: ["1", "2"]\nprompt: "{{ q }} {{ option }} end"\ncontinuation: "{{ option }} end"\n')
    assert shown(ll, sample(q="q")).ll == {"1": ("q ", "1 end"), "2": ("q ", "2 end")}
    with pytest.raises(ConfigError, match="does not end the prompt"):
        shown(replace(ll, continuation="else"), sample(q="q"))


def test_sequential_fields_fill_inserted_text_in_column_order() -> None:
    text = 'mode: gen\nquirks: [sequential_fields]\nprompt: "{{ q }}|{{ A }}|{{ answer }}"\n'
    one = sample(q="see {A} and {q} and {z}", A="a{answer}", answer="B")
    assert shown(bench(text), one).text == "see a and {q} and {z}|a|"
    ppl = text.replace("gen", "ppl") + "labels: [A, B]\n"
    assert shown(bench(ppl), one).ppl == dict.fromkeys("AB", "see aB and {q} and {z}|aB|B")
    plain = bench('mode: gen\nprompt: "{{ q }}|{{ A }}"\n')
    assert shown(plain, one).text == "see {A} and {q} and {z}|a{answer}"


def test_sequential_fields_reach_into_exemplars() -> None:
    text = (
        'mode: gen\nquirks: [sequential_fields]\nprompt: "{{ shots }}{{ q }}"\n'
        'shots: {split: dev, template: "{{ q }}={{ answer }};"}\n'
    )
    benchmark = bench(text)
    assert benchmark.shots is not None
    exemplars = from_rows(benchmark, Member("s"), benchmark.shots, [{"q": "e {z}", "answer": "1"}])
    one = sample(q="t", z="deep", answer="2")
    assert exemplars.text == "e {z}=1;"
    assert shown(benchmark, one, exemplars).text == "e deep=1;t"


def test_replacement_is_plain_text() -> None:
    assert quirks.replace_in_order("{a}{b}", {"a": 1, "b": None}) == "1None"
    assert quirks.replace_in_order("{a}", {"a": "\\1"}) == "\\1"


def test_exemplars_from_rows_texts_and_turns() -> None:
    spec = '{split: dev, template: "{{ q }} {{ option }}\\n", join: "-", end: "E"}'
    benchmark = bench('mode: gen\nprompt: "{{ shots }}"\nshots: ' + spec + "\n")
    assert benchmark.shots is not None
    pool = [{"q": str(i), "answer": chr(65 + i)} for i in range(3)]
    assert from_rows(benchmark, Member("s"), benchmark.shots, pool).text == "0 A\n-1 B\n-2 C\nE"
    chosen = replace(benchmark.shots, rows=(2, 0))
    assert from_rows(benchmark, Member("s"), chosen, pool).text == "2 C\n-0 A\nE"
    with pytest.raises(DataError, match="the pool has 3"):
        pick(pool, replace(chosen, rows=(3,)), "x")
    assert from_text(ShotSpec(text="f", skip_lines=1, end="!"), "skip\nkept\n\n").text == "kept!"
    turns = from_turns(ShotSpec(turns="f"), [{"role": "user", "content": "a"}], "x")
    assert turns.turns == (Turn("user", "a"),) and turns.count == 1
    with pytest.raises(DataError, match="line 1"):
        from_turns(ShotSpec(turns="f"), [{"role": "human", "content": "a"}], "x")


def test_computed_columns_where_and_gold() -> None:
    text = (
        "mode: gen\nprompt: x\nfields: {_o: choices, first: '_o[0]', n: idx + 1, both: \"first ~ '/' ~ sub\"}\n"
        "where: \"first != '-'\"\n"
    )
    benchmark = replace(bench(text), gold="first")
    raw = [{"choices": ["a", "b"]}, {"choices": ["-", "b"]}, {"choices": ["c", "b"]}]
    made = list(rows.samples(benchmark, Member("m", {"sub": "v"}), raw, "test", "p-"))
    assert [(s.id, s.index, s.gold) for s in made] == [("p-m/0", 0, "a"), ("p-m/2", 2, "c")]
    assert made[1].row == {"first": "c", "n": 3, "both": "c/v"}
    with pytest.raises(DataError, match="row 0"):
        list(rows.samples(benchmark, Member("m", {"sub": "v"}), [{"chices": []}], "test"))
