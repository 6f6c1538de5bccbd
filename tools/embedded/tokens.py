"""The tokenizer, and training texts as packed rows of tokens with loss weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tools.embedded.draw import Part

PAD, BOS, EOS, IM_START, IM_END = "<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"
VOCABULARY = 2048
MAX_LENGTH = 4096
MISSES = 12
"""A batch is full when so many texts in a row found no place."""


def train_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Any:
    """A byte-level BPE tokenizer in which every digit and every Han character stands alone."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS, IM_START, IM_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, inner.token_to_id(BOS))]
    )
    return inner


def as_transformers(inner: Any, chat_template: str = "") -> Any:
    """The tokenizer as transformers saves and loads it."""
    from transformers import PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast  # untyped in transformers
    tokenizer = fast(
        tokenizer_object=inner,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[IM_START, IM_END],
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_LENGTH,
    )
    if chat_template:
        tokenizer.chat_template = chat_template
    return tokenizer


@dataclass(frozen=True)
class Encoded:
    """One text: its tokens, and how much each counts as a prediction."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


def encode(parts: Sequence[Part], inner: Any) -> Encoded:
    """BOS and the parts, each tokenised on its own; special tokens are written out in the parts."""
    ids, weights = [inner.token_to_id(BOS)], [0.0]
    for part in parts:
        found = inner.encode(part.text, add_special_tokens=False).ids
        ids += found
        weights += [part.weight] * len(found)
    return Encoded(tuple(ids), tuple(weights))


@dataclass(frozen=True)
class Packed:
    """Rows of equal length: tokens, their places within their texts, and their weights."""

    ids: list[list[int]]
    positions: list[list[int]]
    weights: list[list[float]]


def pack(texts: Iterator[Encoded], rows: int, length: int, pad: int) -> Packed:
    """`rows` rows of `length` tokens, filled with whole texts; what is left of a row is padding.

    A text goes into the first row that has room for it; after `MISSES` texts without a place the
    rows are done. Places start at 0 in each text, by which the model keeps the texts of a row apart.
    """
    ids: list[list[int]] = [[] for _ in range(rows)]
    positions: list[list[int]] = [[] for _ in range(rows)]
    weights: list[list[float]] = [[] for _ in range(rows)]
    misses = 0
    while misses < MISSES:
        text = next(texts)
        row = next((i for i in range(rows) if len(ids[i]) + len(text.ids) <= length), None)
        if row is None:
            misses += 1
            continue
        ids[row].extend(text.ids)
        positions[row].extend(range(len(text.ids)))
        weights[row].extend(text.weights)
    for row in range(rows):
        gap = length - len(ids[row])
        ids[row].extend([pad] * gap)
        positions[row].extend(range(gap))
        weights[row].extend([0.0] * gap)
    return Packed(ids, positions, weights)
