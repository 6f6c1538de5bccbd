"""Long contexts: prefill, and a column of a needle test with and without shared prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import generation as benchmark

from evalkit.api import load_benchmark
from evalkit.core.records import GenSettings, Request
from evalkit.core.sequences import unique_length
from evalkit.engines.hf.generate.plain import generate
from evalkit.engines.hf.generate.slots import Slots
from evalkit.engines.hf.generate.stop_criteria import StopCriteria
from evalkit.engines.hf.generate.stream import stream
from evalkit.engines.hf.tokens import Encoded
from gpu_parts.large import LargeModel
from gpu_parts.recorder import Recorder, Steps, free_memory, peak_gb, reset_peak, timed

NEEDLE = "needle_single_en_4k"
DEPTHS = (50, 75, 100)
"""Percent. The texts differ from the needle on: what comes before the first one is shared."""
NEEDLE_LENGTH, NEEDLE_LENGTH_REHEARSED = 128_000, 2000
LENGTHS, LENGTHS_REHEARSED = (32_768, 131_072, 204_800), (512, 1024, 1536)
FEW_LAYERS = 4
"""The layers that long prompts run through: with all of them one prompt would take the whole time."""
NEW = 16
SPARE_SECONDS = 8.0
"""Left of the part's time by a prefill that is begun."""


def steps(recorder: Recorder) -> Steps:
    """Prefill with all layers and with few, then the needle column, which takes longest."""
    part = Long(recorder)
    lengths = LENGTHS_REHEARSED if recorder.small else LENGTHS
    out: dict[str, Any] = {f"all_layers_{lengths[0]}": partial(part.prefill, lengths[0], all_layers=True)}
    out["few_layers"] = part.few_layers
    out |= {f"prefill_{length}": partial(part.prefill, length, all_layers=False) for length in lengths}
    out["needle"] = part.needle
    return out


class Long:
    """The steps; they share the model."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.large = LargeModel(recorder)
        self._pace = 0.0
        """Seconds a squared token with few layers, by the last prefill."""

    def _cut_layers(self) -> int:
        """Keep only the first few layers of the model; how many."""
        model = self.large.model
        layers = 1 if self.recorder.small else FEW_LAYERS
        del model.model.layers[layers:]
        model.config.num_hidden_layers = layers
        if getattr(model.config, "layer_types", None):
            model.config.layer_types = model.config.layer_types[:layers]
        return layers

    def few_layers(self) -> None:
        """What follows runs with few layers."""
        layers = self._cut_layers()
        free_memory()
        self.recorder.figure("layers from here on", layers, note="time and cache grow with the layers")

    def prefill(self, length: int, all_layers: bool) -> None:
        """Compute one prompt, as generation does before its first token."""
        recorder = self.recorder
        if not all_layers:
            self._cut_layers()
        expected = 0.0 if all_layers else self._pace * length**2
        if expected > recorder.left() - SPARE_SECONDS:
            recorder.figure("left out", True, note=f"it takes about {expected:.0f} s, {recorder.left():.0f} s are left")
            return
        model = self.large.model
        ids = [3 + (7 * i + i * i) % 1000 for i in range(length)]
        free_memory()
        reset_peak()
        finite: list[bool] = []

        def run() -> None:
            slots = Slots(model, ids[:-1], 1, 32)
            finite.append(bool(slots.prefill(0, ids[-1:]).isfinite().all()))

        seconds = timed(run)
        self._pace = self._pace if all_layers else seconds / length**2
        layers = model.config.num_hidden_layers
        recorder.figure("finite", finite[0], "", finite[0])
        recorder.figure("time", seconds, "s", note=f"{layers} of {self.large.shape.layers} layers")
        recorder.figure("tokens a second", length / seconds, "1/s", note=f"{layers} layers")
        recorder.figure("peak memory", peak_gb(), "GB", note=f"{layers} layers, weights included")

    def needle(self) -> None:
        """Three depths of one length with a shared prefix and without."""
        recorder = self.recorder
        self._cut_layers()
        model, words = self.large.model, self.large.words
        items = self._needle_items()
        sent, unique = sum(len(i.ids) for i in items), unique_length(i.ids for i in items)
        recorder.figure(
            "prompts", len(items), "", len(items) == len(DEPTHS), f"{max(len(i.ids) for i in items)} tokens"
        )
        recorder.figure("tokens sent / unique", sent / unique)
        room = max(len(i.ids) for i in items) * (len(items) + 1)
        endings = StopCriteria((), (), (), 0)
        common = (model, words, items, endings)
        paths = {
            "not shared": lambda: generate(*common, room, 1),
            "shared": lambda: stream(*common, room, len(items), 1),
        }
        texts: dict[str, Any] = {}
        for name, path in paths.items():
            free_memory()
            run = benchmark.measure(path, benchmark.CLOCKS["wall"])
            texts[name] = run.texts
            answered = sum(text is not None for text in run.texts.values())
            recorder.figure(f"{name}: answered", answered, "", answered == len(items))
            recorder.figure(
                f"{name}: time", run.seconds, "s", note=f"{model.config.num_hidden_layers} layers, {NEW} new tokens"
            )
            recorder.figure(f"{name}: peak memory above the weights", run.peak / 1e9, "GB")
        same = sum(texts["shared"][k] == texts["not shared"][k] for k in texts["shared"])
        recorder.figure("equal texts", f"{same}/{len(items)}", note="bfloat16 may flip ties")

    def _needle_items(self) -> Sequence[Encoded]:
        recorder = self.recorder
        length = NEEDLE_LENGTH_REHEARSED if recorder.small else NEEDLE_LENGTH
        overrides = (
            f"grid.axes.length=[{length}]",
            f"grid.axes.depth={list(DEPTHS)}",
            "data.build.needle.repeats=1",
        )
        handle = load_benchmark(
            NEEDLE, recorder.options.data_root, tokenizer=recorder.tokenizer_folder, overrides=overrides
        )
        out = []
        for sample in handle.samples():
            text = str(handle.render(sample))
            ids = (benchmark.BOS, *self.large.words.inner.encode(text))
            gen = GenSettings(NEW)
            out.append(Encoded(Request(sample.id, sample.id, "gen", text=text, gen=gen), ids))
        return out
