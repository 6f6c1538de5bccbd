"""Metrics of texts and formulas for benchmarks of one's own."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from evalkit.core.errors import ConfigError
from evalkit.core.records import NamedCall
from evalkit.scoring.metrics import Tools, make_metric
from evalkit.scoring.metrics.math_process import folder
from tests.scoring.metrics.cases import case, score

needs_rouge = pytest.mark.skipif(find_spec("rouge_score") is None, reason="rouge-score is not installed")
needs_bleu = pytest.mark.skipif(find_spec("sacrebleu") is None, reason="sacrebleu is not installed")
needs_math = pytest.mark.skipif(
    find_spec("math_verify") is None and not (folder() / "math_verify").is_dir(), reason="math-verify is not installed"
)


def metric(name: str, **arguments: Any) -> Any:
    return make_metric(NamedCall(name, arguments))


@pytest.mark.parametrize(
    ("answer", "gold", "f1", "exact"),
    [
        ("the Eiffel Tower, Paris", "Eiffel Tower", 80.0, 0.0),
        ("The Eiffel Tower!", "eiffel tower", 100.0, 100.0),
        ("Paris", ["London", "paris."], 100.0, 100.0),
        ("no", "yes", 0.0, 0.0),
        ("", "yes", 0.0, 0.0),
        ("the", "yes", 0.0, 0.0),
        ("在北京", "北京", 80.0, 0.0),
        (7, 7, 100.0, 100.0),
    ],
)
def test_squad(answer: Any, gold: Any, f1: float, exact: float) -> None:
    assert score(metric("squad"), [answer], [gold]) == {"f1": pytest.approx(f1), "exact_match": exact}
    assert metric("squad", primary="exact_match").name == "exact_match"


@needs_rouge
def test_rouge() -> None:
    found = score(metric("rouge"), ["the cat sat", "猫坐下"], ["the cat sat down", ["狗", "猫坐下了"]])
    assert found["rougeL"] == pytest.approx(100 * 6 / 7) and next(iter(found)) == "rougeL"
    assert found["rouge1"] == pytest.approx(100 * 6 / 7) and found["rouge2"] == pytest.approx(100 * 4 / 5)
    assert score(metric("rouge", stemmer=True), ["cats running"], ["cat runs"])["rougeL"] == pytest.approx(100.0)


@needs_bleu
def test_bleu_and_chrf() -> None:
    text = "the quick brown fox jumps over the lazy dog"
    assert score(metric("bleu"), [text], [text]) == {"bleu": pytest.approx(100.0)}
    assert score(metric("chrf"), [text], [["nothing like it", text]]) == {"chrf": pytest.approx(100.0)}
    some = score(metric("bleu"), [text, "a b c d e"], [text, ["a b c d f", "x"]])["bleu"]
    assert 50 < some < 100, "a sample may have fewer golds than another"
    assert score(metric("bleu", tokenize="zh"), ["我们今天去北京看长城"], ["我们今天去北京看长城"])["bleu"] > 99
    with pytest.raises(ConfigError, match="bleu"):
        score(metric("bleu", tokenize="nosuch"), [text], [text])


def test_primary_results_have_near_matches() -> None:
    with pytest.raises(ConfigError, match="squad gives no 'f2'") as caught:
        metric("squad", primary="f2")
    assert "f1" in caught.value.hint
    with pytest.raises(ConfigError, match="rouge gives no 'rougel'"):
        metric("rouge", primary="rougel")


@pytest.mark.parametrize("name", ["squad", "rouge", "bleu", "chrf"])
@pytest.mark.parametrize("gold", ["", " ", [], [""], {}, {"a": 1}, True])
def test_golds_that_prove_nothing(name: str, gold: Any) -> None:
    assert metric(name).check_gold(case("", gold)) != ""


EQUAL = [
    (r"so we get $x = \frac{2}{4}$", "0.5"),
    (r"The final answer is $\boxed{\frac{1}{2}}$.", r"\frac12"),
    (r"\boxed{(1, 2)}", "(1,2)"),
    (r"$2\sqrt{3}$", r"\sqrt{12}"),
    ("The answer is 1,234.", "1234"),
    (r"\boxed{3}", r"Some solution. \boxed{3}"),
    (r"\boxed{7}", 7),
    ("0.5", r"\frac{1}{2}"),
]
UNEQUAL = [("", "0.5"), ("no idea", "0.5"), (r"\boxed{2}", "0.5"), ("x", "3"), (r"\boxed{(2, 1)}", "(1,2)")]


@needs_math
@pytest.mark.parametrize(("answer", "gold", "value"), [(*p, 1.0) for p in EQUAL] + [(*p, 0.0) for p in UNEQUAL])
def test_math_verify(answer: str, gold: Any, value: float) -> None:
    assert metric("math_verify").judge([case(answer, gold)], Tools()) == [{"value": value}]
    assert metric("math_verify").check_gold(case("", gold)) == ""


@needs_math
def test_a_formula_without_end_leaves_the_next_one_to_be_judged() -> None:
    answers = [r"\boxed{9^{9^{9^{9}}}}", r"\boxed{2}"]
    values = metric("math_verify").judge([case(answer, "2") for answer in answers], Tools())
    assert [v["value"] for v in values] == [0.0, 1.0]


@needs_math
@pytest.mark.parametrize("gold", ["", "$$", None, [], {}])
def test_golds_that_are_no_formula(gold: Any) -> None:
    assert metric("math_verify").check_gold(case("", gold)) != ""


def test_an_absent_library_is_one_error_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    if find_spec("math_verify") is not None:
        pytest.skip("math-verify is in the environment itself")
    from evalkit.scoring.metrics.math_process import _start

    monkeypatch.setenv("EVALKIT_MATH_VERIFY", str(tmp_path))
    with pytest.raises(ConfigError, match="needs the library math-verify") as caught:
        _start()
    assert "pip install --target" in caught.value.hint
