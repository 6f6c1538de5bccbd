"""JSON that other programs read, whatever the texts and numbers hold."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evalkit.core.jsontext import escaped, json_text, without_surrogates

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@given(VALUES)
def test_a_document_is_one_line_of_strict_utf8(value: Any) -> None:
    text = json_text(value)
    assert "\n" not in text
    found = json.loads(text.encode("utf-8").decode("utf-8"), parse_constant=refuse)
    assert "\\ud8" not in json.dumps(found, ensure_ascii=False)


@given(ANY_TEXT)
def test_surrogates_are_replaced_or_come_back(text: str) -> None:
    replaced = without_surrogates(text)
    replaced.encode("utf-8")
    assert len(replaced) == len(text)
    assert all(a == b or (b == "\ufffd" and "\ud800" <= a <= "\udfff") for a, b in zip(text, replaced, strict=True))
    line = escaped(json.dumps({text: text}, ensure_ascii=False))
    assert json.loads(line.encode("utf-8")) == json.loads(json.dumps({text: text}))


def test_numbers_that_json_does_not_have_are_null() -> None:
    assert json_text({"a": [math.nan, math.inf, 1.5]}) == '{"a": [null, null, 1.5]}'
