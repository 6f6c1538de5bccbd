"""jinja2 as configs use it: the traps of CONFIGS.md."""

from __future__ import annotations

import pytest

from evalkit.core import template
from evalkit.core.errors import ConfigError


def test_final_newline_is_kept() -> None:
    assert template.render("{{ a }}\n\n", {"a": "x"}) == "x\n\n"


def test_inserted_text_is_not_touched() -> None:
    value = "a\r\nb {{ c }} {% x %} <&>"
    assert template.render("{{ a }}", {"a": value}) == value


@pytest.mark.parametrize("source", [r"\frac{{1}}{2}", "x {# y", "{% if %}", "{{ a"])
def test_literal_braces_are_refused(source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        template.parse(source)
    assert "braces" in caught.value.hint


def test_regex_replace() -> None:
    assert template.evaluate(r"a | regex_replace('\\[.*?\\]', '')", {"a": "x [y] z [w]"}) == "x  z "
    with pytest.raises(ConfigError, match="malformed pattern"):
        template.evaluate("a | regex_replace('(', '')", {"a": "x"})


def test_literal_braces_can_be_written() -> None:
    assert template.render(r"\frac{{ '{{' }}1}}", {}) == r"\frac{{1}}"


def test_undefined_name_is_an_error_with_a_near_match() -> None:
    with pytest.raises(ConfigError) as caught:
        template.render("{{ inptu }}", {"input": "x"})
    assert "inptu" in caught.value.message
    assert "input" in caught.value.hint


def test_expression_keeps_types_and_refuses_undefined() -> None:
    assert template.evaluate("choices[1]", {"choices": ["a", "b"]}) == "b"
    assert template.evaluate("'ABCD'[answer]", {"answer": 2}) == "C"
    with pytest.raises(ConfigError, match="nope"):
        template.evaluate("nope", {"a": 1})
    with pytest.raises(ConfigError):
        template.evaluate("choices[7]", {"choices": ["a"]})


@pytest.mark.parametrize(
    "expression",
    [
        "a.__class__.__mro__",  # jinja's SecurityError
        "''.format.__globals__",
        "a.append(1)",  # the sandbox is immutable
        "a | map('no_such_filter') | list",
        "range(10 ** 9) | list",
        "1 // 0",
        "a | int + 'x'",
        "a | tojson(indent=1, nothing=2)",
        "a.nothing.more",
    ],
)
def test_every_failure_of_a_template_is_a_config_error(expression: str) -> None:
    for run, source in ((template.evaluate, expression), (template.render, "{{ " + expression + " }}")):
        with pytest.raises(ConfigError) as caught:
            run(source, {"a": [1]}, "prompt")
        assert caught.value.message.startswith(("prompt ", "bad ")) and expression[:20] in caught.value.message.replace(
            "\\", ""
        )


@pytest.mark.parametrize("expression", ["1, 2", "a) %}{{ b", "a %}", "", "a b"])
def test_an_expression_is_one_expression(expression: str) -> None:
    with pytest.raises(ConfigError, match="bad expression"):
        template.evaluate(expression, {"a": 1, "b": 2})


def test_expressions_may_hold_delimiters_and_the_name_result() -> None:
    assert template.evaluate("'%}' ~ a ~ '}}'", {"a": "#}"}) == "%}#}}}"
    assert template.evaluate("result + 1", {"result": 1}) == 2
    assert template.evaluate("range(3) | list", {}) == [0, 1, 2]


def test_check_names_lists_the_field() -> None:
    template.check_names("{{ a }}{{ shots }}", {"a", *template.RESERVED}, "prompt")
    with pytest.raises(ConfigError, match="'b'"):
        template.check_names("{{ b }}", {"a"}, "prompt")


@pytest.mark.parametrize("source", ["{{ a | upper }}", "{{ a ~ 'x' }}", "{{ 'y' if a else 'n' }}", "{{ a.b }}"])
def test_sequential_templates_take_bare_columns_only(source: str) -> None:
    with pytest.raises(ConfigError, match="bare"):
        template.check_bare(source, {"a"}, "prompt")


@pytest.mark.parametrize("source", ["{{ a }} x", "{{ a if option == 'A' else b }}", "{{ subset | replace('_', ' ') }}"])
def test_sequential_templates_may_choose_between_columns(source: str) -> None:
    template.check_bare(source, {"a", "b"}, "prompt")


def test_templates_cannot_reach_python() -> None:
    with pytest.raises(Exception, match="unsafe|undefined"):
        template.render("{{ ''.__class__.__mro__ }}", {})
