"""Speed of generation: GSM8K 4-shot with long-tailed lengths, padded, by transformers, and by our slots."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import generation as ways

from evalkit.engines.hf.generate.plain import Endings, generate
from evalkit.engines.hf.generate.slots import Slots
from evalkit.engines.hf.generate.stream import prefix_length, stream, stream_fits
from evalkit.engines.hf.memory import GEN_ROWS_GPU, choose_budget
from evalkit.engines.hf.tokens import Encoded
from gpu_parts.lab import Lab, Steps, timed
from gpu_parts.loaded import LoadedModel

GSM8K = "gsm8k_gen_17d0dc"
PROMPTS, PROMPTS_REHEARSED = 256, 6
PADDED_PROMPTS = 128
"""Padded batches are slow; so many prompts give the tokens a second, too."""
SLOTS, SLOTS_REHEARSED = (256, 64, 16), (4, 2)
PROMPTS_OF_FEW_SLOTS = 64
STEPS = 8
"""Decode steps that are timed."""
NO_END = Endings((), (), (), 0)
"""Lengths come from the schedule alone."""


def steps(lab: Lab) -> Steps:
    """Our slots, padded batches, a single step, transformers' own continuous batching."""
    part = Generation(lab)
    slots = SLOTS_REHEARSED if lab.small else SLOTS
    first, *others = [(f"slots_{count}", partial(part.slots, count)) for count in slots]
    return dict(
        [
            ("fits", part.fits),
            first,
            ("padded", part.padded),
            *others[:1],
            ("decode_step", part.decode_step),
            ("transformers", part.transformers),
            *others[1:],
        ]
    )


class Generation:
    """The steps; they share the model, the prompts and their lengths."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.large = LoadedModel(lab)
        self._texts: dict[str, str | None] = {}

    @cached_property
    def items(self) -> list[Encoded]:
        """The prompts."""
        lab = self.lab
        rows = PROMPTS_REHEARSED if lab.small else PROMPTS
        wanted = argparse.Namespace(benchmark=GSM8K, data_root=Path(lab.setup.data_root), subset="", rows=rows)
        if lab.setup.data_root == "samples":
            wanted.data_root = lab.setup.data_root
        return ways.read_items(wanted, self.large.words)

    @cached_property
    def lengths(self) -> Mapping[str, int]:
        """Tokens that each prompt's output takes."""
        keys = [item.request.key for item in self.items]
        drawn = dict(zip(keys, ways.schedule(len(keys), seed=1), strict=True))
        return {key: max(2, n // 20) for key, n in drawn.items()} if self.lab.small else drawn

    @cached_property
    def tokens(self) -> int:
        """Tokens in flight, as the engine chooses for this device."""
        return choose_budget(self.large.spec, self.large.model, self.large.model.device, True).gen_tokens

    def fits(self) -> None:
        """The self-check, the prompts, and the budget."""
        lab, items = self.lab, self.items
        good, why = stream_fits(self.large.model)
        lab.figure("continuous batching fits", good, "", good, why)
        prompts = [len(item.ids) for item in items]
        lab.figure(
            "prompts", len(items), note=f"{min(prompts)} to {max(prompts)} tokens, {prefix_length(items)} shared"
        )
        made = list(self.lengths.values())
        lab.figure("tokens to generate", sum(made), note=f"{min(made)} to {max(made)} a prompt")
        lab.figure("tokens in flight, at most", self.tokens)

    def _measure(self, path: Any, count: int) -> Any:
        with ways.forced_lengths(self.lengths):
            run = ways.measure(path, ways.CLOCKS["wall"])
        wanted = sum(self.lengths[item.request.key] for item in self.items[:count])
        self.lab.figure("tokens a second", run.made / run.seconds, "1/s", note=f"{count} prompts")
        self.lab.figure("tokens generated", run.made, "", run.made == wanted)
        self.lab.figure("time", run.seconds, "s")
        self.lab.figure("peak memory above the weights", run.peak / 1e9, "GB")
        if self._texts:
            both = [k for k in run.texts if k in self._texts]
            same = sum(run.texts[k] == self._texts[k] for k in both)
            self.lab.figure(
                "texts equal to those of the first way", f"{same}/{len(both)}", note="bfloat16 may flip ties"
            )
        self._texts = self._texts or dict(run.texts)
        return run

    def slots(self, slots: int) -> None:
        """Continuous batching with so many rows in flight."""
        count = len(self.items) if self.lab.small or slots >= PROMPTS_OF_FEW_SLOTS else PROMPTS_OF_FEW_SLOTS
        common = (self.large.model, self.large.words, self.items[:count], NO_END, self.tokens)
        self._measure(lambda: stream(*common, slots, GEN_ROWS_GPU), count)

    def padded(self) -> None:
        """transformers' `generate` on padded batches of the size that the engine takes."""
        rows = 2 if self.lab.small else GEN_ROWS_GPU
        count = min(len(self.items), PADDED_PROMPTS)
        common = (self.large.model, self.large.words, self.items[:count], NO_END, self.tokens)
        self._measure(lambda: generate(*common, rows), count)

    def transformers(self) -> None:
        """transformers' own continuous batching, with the same lengths; it may refuse a machine or a version."""
        from transformers import GenerationConfig

        model, lab = self.large.model, self.lab
        make: Any = GenerationConfig
        config = make(max_new_tokens=max(self.lengths.values()), do_sample=False, eos_token_id=-1, pad_token_id=0)
        done: dict[str, int] = {}

        def run() -> None:
            manager = model.init_continuous_batching(generation_config=config)
            manager.start()
            try:
                for item in self.items:
                    key = item.request.key
                    manager.add_request(list(item.ids), request_id=key, max_new_tokens=self.lengths[key])
                while len(done) < len(self.items) and manager.is_running():
                    result = manager.get_result(timeout=1)
                    if result is not None:
                        done[result.request_id] = len(result.generated_tokens)
            finally:
                manager.stop(block=True, timeout=10)

        try:
            seconds = timed(run)
        except (ImportError, NotImplementedError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            lab.figure("runs", False, note=f"{type(error).__name__}: {error}".splitlines()[0][:160])
            return
        complete = len(done) == len(self.items)
        lab.figure("runs", complete, note="" if complete else f"{len(done)} of {len(self.items)} prompts answered")
        lab.figure("tokens a second", sum(done.values()) / seconds, "1/s", note=f"{len(done)} prompts")
        lab.figure("time", seconds, "s", note="starting and stopping its thread included")

    def decode_step(self) -> None:
        """One step of our slots beside what reading weights, keys and values takes at the copy's speed."""
        lab, model = self.lab, self.large.model
        shared = prefix_length(self.items)
        shape, item = self.large.shape, model.dtype.itemsize
        for rows in (2, 4) if lab.small else (16, 64, 256):
            own = [max(1, len(i.ids) - shared) for i in (self.items * rows)[:rows]]
            slots = Slots(model, self.items[0].ids[:shared], rows, max(own) + 2 * STEPS + 32)
            for slot, (source, length) in enumerate(zip(self.items * rows, own, strict=False)):
                slots.prefill(slot, source.ids[shared : shared + length])
            made = [0]

            def step(slots: Slots = slots, own: list[int] = own, made: list[int] = made) -> None:
                slots.decode([1] * len(own), [length + made[0] for length in own]).argmax(-1).tolist()
                made[0] += 1

            timed(step, 2)
            seconds = timed(step, STEPS)
            weights = item * (shape.body_parameters + shape.head_parameters)
            floor = (weights + shape.cache_bytes(item) * (shared + sum(own))) / self.large.peaks.bandwidth
            lab.figure(f"{rows} rows: a step", 1e3 * seconds, "ms")
            lab.figure(f"{rows} rows: memory floor", 1e3 * floor, "ms", note=f"{seconds / floor:.3g} times the floor")
            del slots, step
