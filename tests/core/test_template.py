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
