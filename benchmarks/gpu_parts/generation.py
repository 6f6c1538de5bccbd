"""Speed of generation: GSM8K 4-shot by padded batches and by continuous batching, ours and transformers'."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import generation as benchmark

from evalkit.engines.hf.generate.plain import full_length, generate
from evalkit.engines.hf.generate.slots import Slots, rounded
from evalkit.engines.hf.generate.stop_criteria import StopCriteria
from evalkit.engines.hf.generate.stream import prefix_length, stream, stream_fits
from evalkit.engines.hf.memory import GEN_ROWS_GPU, choose_budget
from evalkit.engines.hf.tokens import Encoded
from gpu_parts.large import LargeModel
from gpu_parts.recorder import Recorder, Steps, free_memory, timed

GSM8K = "gsm8k_gen_17d0dc"
PROMPTS, PROMPTS_REHEARSED = 256, 6
PADDED_PROMPTS = 64
"""Padded batches are slow; one batch gives the tokens a second, too."""
SLOTS, SLOTS_REHEARSED = (256, 64, 16), (4, 2)
PROMPTS_OF_FEW_SLOTS = 48
"""Prompts for fewer than 64 slots, which are slow, too."""
STOPPING_SECONDS = 16
"""Left of the part's time limit when continuous batching by transformers is given up."""
STEPS = 8
"""Decode steps that are timed."""
NO_END = StopCriteria((), (), (), 0)
"""Lengths come from the schedule alone."""


def steps(recorder: Recorder) -> Steps:
    """Continuous batching, padded batches, one step; transformers' continuous batching, which takes memory, is last."""
    part = Generation(recorder)
    slots = SLOTS_REHEARSED if recorder.small else SLOTS
    first, *others = [(f"slots_{count}", partial(part.slots, count)) for count in slots]
    return dict(
        [
            ("fits", part.fits),
            first,
            ("padded", part.padded),
            *others,
            ("decode_step", part.decode_step),
            ("transformers", part.transformers),
        ]
    )


class Generation:
    """The steps; they share the model, the prompts and their lengths."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.large = LargeModel(recorder)
        self._texts: dict[str, str | None] = {}

    @cached_property
    def items(self) -> list[Encoded]:
        """The prompts."""
        recorder = self.recorder
        rows = PROMPTS_REHEARSED if recorder.small else PROMPTS
        wanted = argparse.Namespace(benchmark=GSM8K, data_root=Path(recorder.options.data_root), subset="", rows=rows)
        if recorder.options.data_root == "samples":
            wanted.data_root = recorder.options.data_root
        return benchmark.read_items(wanted, self.large.words)

    @cached_property
    def lengths(self) -> Mapping[str, int]:
        """Tokens that each prompt's output takes."""
        keys = [item.request.key for item in self.items]
        drawn = dict(zip(keys, benchmark.schedule(len(keys), seed=1), strict=True))
        return {key: max(2, n // 20) for key, n in drawn.items()} if self.recorder.small else drawn

    @cached_property
    def tokens(self) -> int:
        """Tokens in flight, as the engine chooses for this device."""
        return choose_budget(self.large.spec, self.large.model, self.large.model.device, True).gen_tokens

    def fits(self) -> None:
        """The self-check, the prompts, and the budget."""
        recorder, items = self.recorder, self.items
        good, why = stream_fits(self.large.model)
        recorder.figure("continuous batching fits", good, "", good, why)
        prompts = [len(item.ids) for item in items]
        recorder.figure(
            "prompts", len(items), note=f"{min(prompts)} to {max(prompts)} tokens, {prefix_length(items)} shared"
        )
        made = list(self.lengths.values())
        recorder.figure("tokens to generate", sum(made), note=f"{min(made)} to {max(made)} a prompt")
        recorder.figure("tokens in flight, at most", self.tokens)

    def _measure(self, path: Any, count: int) -> Any:
        with benchmark.forced_lengths(self.lengths):
            run = benchmark.measure(path, benchmark.CLOCKS["wall"])
        wanted = sum(self.lengths[item.request.key] for item in self.items[:count])
        self.recorder.figure("tokens a second", run.made / run.seconds, "1/s", note=f"{count} prompts")
        self.recorder.figure("tokens generated", run.made, "", run.made == wanted)
        self.recorder.figure("time", run.seconds, "s")
        self.recorder.figure("peak memory above the weights", run.peak / 1e9, "GB")
        if self._texts:
            both = [k for k in run.texts if k in self._texts]
            same = sum(run.texts[k] == self._texts[k] for k in both)
            self.recorder.figure(
                "texts equal to those of the first run", f"{same}/{len(both)}", note="bfloat16 may flip ties"
            )
        self._texts = self._texts or dict(run.texts)
        return run

    def slots(self, slots: int) -> None:
        """Continuous batching with so many rows in flight."""
        count = len(self.items) if self.recorder.small or slots >= 64 else PROMPTS_OF_FEW_SLOTS
        items = self.items[:count]
        prefix = prefix_length(items)
        room = prefix + slots * rounded(max(map(full_length, items)) - prefix)
        fit = min(slots, (self.tokens - prefix) // rounded(max(map(full_length, items)) - prefix))
        self.recorder.figure("rows that the engine's own budget lets run", fit, note=f"{slots} run here")
        common = (self.large.model, self.large.words, items, NO_END, room)
        self._measure(lambda: stream(*common, slots, GEN_ROWS_GPU), count)

    def padded(self) -> None:
        """transformers' `generate` on padded batches of the size that the engine takes."""
        rows = 2 if self.recorder.small else GEN_ROWS_GPU
        count = min(len(self.items), PADDED_PROMPTS)
        common = (self.large.model, self.large.words, self.items[:count], NO_END, self.tokens)
        self._measure(lambda: generate(*common, rows), count)

    def transformers(self) -> None:
        """transformers' continuous batching, with the same lengths; it may refuse a machine or a version."""
        from transformers import ContinuousBatchingConfig, GenerationConfig

        model, recorder = self.large.model, self.recorder
        items = self.items[:2] if recorder.small else self.items
        # by default its pages take most of the memory, which a CPU needs a minute to fill
        pages = ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=1024) if recorder.small else None
        make: Any = GenerationConfig
        config = make(max_new_tokens=max(self.lengths.values()), do_sample=False, eos_token_id=-1, pad_token_id=0)
        done: dict[str, int] = {}

        def run() -> None:
            manager = model.init_continuous_batching(config, continuous_batching_config=pages)
            manager.start()
            try:
                for item in items:
                    key = item.request.key
                    manager.add_request(list(item.ids), request_id=key, max_new_tokens=self.lengths[key])
                while len(done) < len(items) and manager.is_running() and recorder.left() > STOPPING_SECONDS:
                    result = manager.get_result(timeout=1)
                    if result is not None:
                        done[result.request_id] = len(result.generated_tokens)
            finally:
                manager.stop(block=True, timeout=STOPPING_SECONDS / 2)

        try:
            seconds = timed(run)
        except (ImportError, NotImplementedError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            recorder.figure("runs", False, note=f"{type(error).__name__}: {error}".splitlines()[0][:160])
            return
        complete = len(done) == len(items)
        recorder.figure("runs", complete, note="" if complete else f"{len(done)} of {len(items)} prompts answered")
        recorder.figure("tokens a second", sum(done.values()) / seconds, "1/s", note=f"{len(done)} prompts")
        recorder.figure("time", seconds, "s", note="starting and stopping its thread included")

    def decode_step(self) -> None:
        """One decode step beside what reading weights, keys and values takes at the copy's speed."""
        recorder, model = self.recorder, self.large.model
        shared = prefix_length(self.items)
        shape, item = self.large.shape, model.dtype.itemsize
        for rows in (2, 4) if recorder.small else (16, 64, 256):
            lengths = [max(1, len(i.ids) - shared) for i in (self.items * rows)[:rows]]
            slots = Slots(model, self.items[0].ids[:shared], rows, max(lengths) + 2 * STEPS + 32)
            for slot, (source, length) in enumerate(zip(self.items * rows, lengths, strict=False)):
                slots.prefill(slot, source.ids[shared : shared + length])
            made = [0]

            def step(slots: Slots = slots, lengths: list[int] = lengths, made: list[int] = made) -> None:
                slots.decode([1] * len(lengths), [length + made[0] for length in lengths]).argmax(-1).tolist()
                made[0] += 1

            timed(step, 2)
            seconds = timed(step, STEPS)
            weights = item * (shape.body_parameters + shape.head_parameters)
            floor = (weights + shape.cache_bytes(item) * (shared + sum(lengths))) / self.large.peaks.bandwidth
            recorder.figure(f"{rows} rows: a step", 1e3 * seconds, "ms")
            recorder.figure(
                f"{rows} rows: memory floor", 1e3 * floor, "ms", note=f"{seconds / floor:.3g} times the floor"
            )
            del slots, step
            free_memory()
