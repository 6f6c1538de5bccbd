"""The training can be repeated: equal losses, equal tokenizer, and a stopped run goes on as if it had not been."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from tools.embedded import corpus
from tools.embedded.draw import ASKED, SAID, Part
from tools.embedded.tokens import BOS, EOS, PAD, encode, pack, train_tokenizer
from tools.embedded.train import Shape, Stage, fixed, new_model, train
from tools.train_embedded import TOKENIZER_TEXTS

EMBEDDED = Path(__file__).resolve().parents[2] / "evalkit/builtin/embedded"
SHAPE = Shape(hidden=32, layers=2, heads=2, feed_forward=64)
SMALL = Stage("plain", steps=200, rate=3e-3, lengths=(128,), warmup=10, short_rows=2, short_length=192, long_tokens=256)


@pytest.fixture(scope="module")
def inner() -> Any:
    return Tokenizer.from_file(str(EMBEDDED / "base/tokenizer.json"))


@pytest.fixture(autouse=True)
def settings() -> Any:
    """Deterministic torch on one thread, for these tests only."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fixed(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def losses(
    inner: Any, folder: Path, stage: Stage = SMALL, seed: int = 0, stop: int | None = None
) -> list[tuple[float, float]]:
    folder.mkdir(exist_ok=True)
    records = islice(train(new_model(SHAPE, inner, seed), inner, stage, seed, folder, save_every=5), stop)
    return [(record["short"], record["long"]) for record in records]


def test_two_hundred_steps_from_scratch_give_the_same_losses_twice(inner: Any, tmp_path: Path) -> None:
    first = losses(inner, tmp_path / "first")
    assert len(first) == 200
    assert first == losses(inner, tmp_path / "second")
    assert first[-1][0] < 0.6 * first[0][0], "and it learns"


def test_another_seed_gives_other_losses(inner: Any, tmp_path: Path) -> None:
    assert losses(inner, tmp_path / "a", stop=2) != losses(inner, tmp_path / "b", seed=1, stop=2)


def test_a_stopped_training_goes_on_where_it_was(inner: Any, tmp_path: Path) -> None:
    whole = losses(inner, tmp_path / "whole", stop=14)
    begun = losses(inner, tmp_path / "parts", stop=8)
    assert begun + losses(inner, tmp_path / "parts", stop=9)[3:] == whole, "steps 5 to 7 are computed once more"


def test_the_shipped_tokenizer_is_the_one_that_is_trained() -> None:
    made = train_tokenizer(corpus.sample(TOKENIZER_TEXTS))
    for model in ("base", "chat"):
        shipped = Tokenizer.from_file(str(EMBEDDED / model / "tokenizer.json"))
        assert shipped.get_vocab() == made.get_vocab()
        for text in ("47 + 38 = 85.", "问题：什么？", "def f(x):\n    return x", "naïve 😀\t\n"):
            assert shipped.encode(text).ids == made.encode(text).ids
            assert shipped.decode(shipped.encode(text).ids) == text


def test_texts_in_a_row_are_kept_apart(inner: Any) -> None:
    """The loss of a text does not depend on what is packed beside it."""
    model = new_model(SHAPE, inner, 0).eval()
    texts = [encode([Part(text, SAID)], inner) for text in ("The secret code of the mill", "问题：多少？", "1 + 2 = 3")]
    packed = pack(iter([*texts, *[encode([Part("x " * 80, SAID)], inner)] * 20]), 1, 40, inner.token_to_id(PAD))
    assert packed.positions[0].count(0) >= 3 and packed.ids[0].count(inner.token_to_id(BOS)) == 3
    together = model(
        input_ids=torch.tensor(packed.ids), position_ids=torch.tensor(packed.positions), use_cache=False
    ).logits[0]
    start = len(texts[0].ids)
    alone = model(input_ids=torch.tensor([texts[1].ids]), use_cache=False).logits[0]
    assert torch.allclose(together[start : start + len(texts[1].ids)], alone, atol=1e-5)


def test_only_answers_count_fully(inner: Any) -> None:
    for style, end in (("plain", EOS), ("chat", "<|im_end|>")):
        text = next(corpus.texts("short", style, "weights", 0))
        encoded = encode(text, inner)
        assert encoded.weights[0] == 0.0 and set(encoded.weights) <= {0.0, ASKED, 0.3, SAID}
        last = max(i for i, token in enumerate(encoded.ids) if token == inner.token_to_id(end))
        assert encoded.weights[last] == SAID
