"""Where rows end: the search token by token, against the decoding of everything at every token."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from evalkit.core.records import ModelSpec
from evalkit.engines.hf.generate.stop_criteria import RowEnd, RowPlan, RowStops, StopFinders, decode
from evalkit.engines.hf.internlm.tokenizer import load_internlm_tokenizer
from tests.engines.internlm_layout import Layout

TEXTS = (
    "The answer is 5.\n\nQuestion: who?",
    "你好，世界。再见😀了 naïve",
    "aaab abab\n\n\n",
    "  x  =  1\t# é",
    "𝛼𝛽龘靐齉",
)
FIXED = ("\n\n", "aab", "abab", "好，", "😀", "靐", "\n\n\n", " ", "Question:", "</s>", "<|im_end|>", "\ufffd")


@pytest.fixture(scope="module")
def byte_level(tiny_chat_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_chat_model)


@pytest.fixture
def byte_fallback(internlm: Any) -> Any:
    folder, _ = internlm(Layout())
    return load_internlm_tokenizer(ModelSpec("m", str(folder), "base"))


class Slow:
    """The same texts without the mark of a fast tokenizer: nothing is known of single tokens."""

    def __init__(self, inner: Any) -> None:
        self.decode = inner.decode


def drawn(tokenizer: Any, rng: random.Random) -> list[int]:
    """Token ids of texts cut anywhere, of their bytes, and any other tokens."""
    ids: list[int] = []
    while len(ids) < 70:
        text = tokenizer(rng.choice(TEXTS), add_special_tokens=False)["input_ids"]
        start = rng.randrange(len(text))
        ids += text[start : start + rng.randint(1, 12)]
        if rng.random() < 0.4:
            ids += rng.choices(range(len(tokenizer)), k=rng.randint(1, 5))
        if rng.random() < 0.2:
            ids += rng.choices(tokenizer.all_special_ids, k=20)
    return ids


def naive(tokenizer: Any, ids: Sequence[int], plan: RowPlan) -> int | None:
    """New tokens at which a row ends, from the text of all its tokens at each of them."""
    for count in range(1, len(ids) + 1):
        text = decode(tokenizer, ids[:count], plan.keep_special)
        if count >= plan.limit or any(stop in text for stop in plan.stops):
            return count
    return None


def watched(tokenizer: Any, ids: Sequence[int], plan: RowPlan) -> int | None:
    end = RowEnd(plan, StopFinders(tokenizer))
    for token in ids:
        if end.add(token):
            break
    return end.length


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
@pytest.mark.parametrize("seed", range(3))
def test_rows_end_where_the_whole_text_holds_a_stop(kind: str, seed: int, request: pytest.FixtureRequest) -> None:
    tokenizer, rng, ended = request.getfixturevalue(kind), random.Random(seed), 0
    for number in range(40):
        ids = drawn(tokenizer, rng)
        keep = number % 2 == 0
        text = decode(tokenizer, ids, keep)
        places = [rng.randrange(len(text)) for _ in range(3)]
        stops = [text[at : at + rng.randint(1, 9)] for at in places] + rng.sample(FIXED, 2)
        plan = RowPlan(rng.choice([len(ids) + 1, 60]), tuple(rng.sample(stops, rng.randint(1, 4))), keep)
        expected = naive(tokenizer, ids, plan)
        assert watched(tokenizer, ids, plan) == expected, (ids, plan)
        if number % 8 == 0:
            assert watched(Slow(tokenizer), ids, plan) == expected
        ended += expected is not None and expected < 60
    assert ended > 20


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
def test_a_character_in_several_tokens_ends_a_row_with_its_last(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    ids = tokenizer("龘" * 30 + "靐齉", add_special_tokens=False)["input_ids"]
    assert len(ids) > 90, "its characters are made of bytes"
    plan = RowPlan(1000, ("靐",), False)
    found = watched(tokenizer, ids, plan)
    assert found == naive(tokenizer, ids, plan) and found is not None
    assert decode(tokenizer, ids[:found], False).endswith("靐")


def test_tokens_without_text_may_stand_inside_a_stop(byte_level: Any) -> None:
    ids = byte_level("x ab", add_special_tokens=False)["input_ids"]
    ids = [*ids, *[byte_level.bos_token_id] * 80, *byte_level("c", add_special_tokens=False)["input_ids"]]
    assert watched(byte_level, ids, RowPlan(1000, ("abc",), False)) == len(ids)
    assert watched(byte_level, ids, RowPlan(1000, ("abc",), True)) is None


def test_few_tokens_are_looked_at_closer(byte_level: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = byte_level("The answer is 12 because of the words. " * 40, add_special_tokens=False)["input_ids"]
    end = RowEnd(RowPlan(10_000, ("Question:", "\n\n"), False), StopFinders(byte_level))
    decoded: list[int] = []
    original = type(byte_level).decode

    def count(self: Any, ids: list[int], **options: Any) -> Any:
        decoded.append(len(ids))
        return original(self, ids, **options)

    monkeypatch.setattr(type(byte_level), "decode", count)
    assert not any(end.add(token) for token in ids)
    assert len(decoded) <= 1 + len(set(ids)) and max(decoded) <= 2, "each kind of token once, no text at all"


def test_a_batch_reads_each_new_column_once(byte_level: Any) -> None:
    rows = [byte_level(text, add_special_tokens=False)["input_ids"] for text in ("a\n\nb and c", "one of the words")]
    width = min(map(len, rows))
    ids = torch.tensor([[9, 9, *row[:width]] for row in rows])
    stops = RowStops(StopFinders(byte_level), [RowPlan(100, ("\n\n",), False), RowPlan(3, (), False)], 2)
    done = [stops(ids[:, : 2 + count], None).tolist() for count in range(1, width + 1)]
    expected = [naive(byte_level, rows[0], RowPlan(100, ("\n\n",), False)), 3]
    assert stops.lengths == expected
    assert done == [[count >= (length or 0) for length in expected] for count in range(1, width + 1)]
