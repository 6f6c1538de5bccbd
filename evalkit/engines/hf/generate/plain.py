"""Outputs of generation requests, by left-padded batches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from evalkit.core.records import GenSettings, Reply
from evalkit.core.sequences import first_cut
from evalkit.engines.hf.generate.sampling import RowSampler, row_generator
from evalkit.engines.hf.generate.stop_criteria import RowPlan, RowStops, StopCriteria, StopFinders, decode
from evalkit.engines.hf.memory import in_batches
from evalkit.engines.hf.tokens import Encoded

NO_MEMORY = "out of memory: this prompt and its output do not fit on the device even alone"


def neutral_config(stop_criteria: StopCriteria, bos: int | None, chat: bool) -> GenerationConfig:
    """Greedy generation that knows the end tokens and nothing else.

    The checkpoint's own generation config (sampling, penalties) must not leak in; transformers
    fills absent values from `model.generation_config`, so the model is given one of these too.
    """
    end_ids = list(stop_criteria.chat_ids if chat else stop_criteria.base_ids)
    make: Any = GenerationConfig  # untyped in transformers
    config: GenerationConfig = make(
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=end_ids or None,
        pad_token_id=stop_criteria.pad,
        bos_token_id=bos,
    )
    return config


def generate(
    model: Any, tokenizer: Any, items: Sequence[Encoded], stop_criteria: StopCriteria, tokens: int, rows: int
) -> Iterator[Reply]:
    """Replies to gen requests, in batches of at most `rows` rows and `tokens` padded tokens.

    Greedy where the temperature is 0, else drawn from the row's own seed; equal in every batch.
    """
    yield from (item.failed(item.error) for item in items if item.error)
    for chat in (False, True):
        ready = [item for item in items if not item.error and bool(item.request.turns) == chat]
        writer = Writer(model, tokenizer, stop_criteria, chat)
        yield from in_batches(ready, full_length, writer.answer, lambda e: [e.failed(NO_MEMORY)], tokens, rows)


def settings(item: Encoded) -> GenSettings:
    """The generation settings of an encoded request."""
    if item.request.gen is None:
        raise ValueError("a generation request without settings is turned down by the encoder")
    return item.request.gen


def full_length(item: Encoded) -> int:
    """Most tokens of prompt and output together."""
    return len(item.ids) + settings(item).max_out_len


class Writer:
    """Answers batches that are all of one kind; says how a row ends and what its reply is."""

    def __init__(self, model: Any, tokenizer: Any, stop_criteria: StopCriteria, chat: bool) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.stop_criteria = stop_criteria
        self.chat = chat
        self.finders = StopFinders(tokenizer)
        """What looks for stop strings; it learns about the tokens that it meets."""

    def answer(self, batch: Sequence[Encoded]) -> list[Reply]:
        began = time.perf_counter()
        stops = RowStops(self.finders, [self.plan(item) for item in batch], max(len(i.ids) for i in batch))
        rows = self._tokens(batch, stops)
        seconds = (time.perf_counter() - began) / len(batch)
        return [
            self.reply(item, row, length, seconds) for item, row, length in zip(batch, rows, stops.lengths, strict=True)
        ]

    def plan(self, item: Encoded) -> RowPlan:
        """What ends a row besides its end tokens."""
        gen = settings(item)
        stops = gen.stop + self.stop_criteria.chat_strings if self.chat else gen.stop
        return RowPlan(gen.max_out_len, tuple(s for s in stops if s), self.chat)

    def _tokens(self, batch: Sequence[Encoded], stops: RowStops) -> list[list[int]]:
        """New tokens of each row, padded to the longest."""
        width = max(len(item.ids) for item in batch)
        ids = torch.full((len(batch), width), self.stop_criteria.pad, dtype=torch.long)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for i, item in enumerate(batch):
            ids[i, width - len(item.ids) :] = torch.tensor(item.ids)
            mask[i, width - len(item.ids) :] = 1
        config = neutral_config(self.stop_criteria, self.tokenizer.bos_token_id, self.chat)
        config.max_new_tokens = max(settings(item).max_out_len for item in batch)
        drawn = [row_generator(item.request) for item in batch]
        sampler = RowSampler([settings(item) for item in batch], drawn)
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                generation_config=config,
                logits_processor=LogitsProcessorList([sampler] if any(drawn) else []),
                stopping_criteria=StoppingCriteriaList([stops]),
            )
        return [list(row) for row in out[:, width:].tolist()]

    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end a row."""
        return self.stop_criteria.chat_ids if self.chat else self.stop_criteria.base_ids

    def reply(self, item: Encoded, row: list[int], length: int | None, seconds: float) -> Reply:
        """Cut a row at what ends it first; what follows an end is padding."""
        gen, ends = settings(item), self.end_ids()
        row = row[:length] if length is not None else row
        at = next((i for i, token in enumerate(row) if token in ends), -1)
        kept = row[:at] if at >= 0 else row
        finish = "eos" if at >= 0 else "length"
        padding = self.tokenizer.pad_token_id
        text = decode(self.tokenizer, [t for t in kept if t != padding], keep_special=self.chat)
        for marks, why in ((self.stop_criteria.chat_strings if self.chat else (), "eos"), (gen.stop, "stop")):
            cut = first_cut(text, marks)
            if cut >= 0:
                text, finish = text[:cut], why
        return Reply(
            item.request.key,
            text=item.opened + text,
            n_tokens=len(item.ids),
            n_out=len(kept) + (at >= 0),
            finish=finish,
            truncated=item.truncated,
            seconds=seconds,
        )
