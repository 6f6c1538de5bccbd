"""Long contexts: reading them, and a column of a needle test with and without shared prefixes."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from functools import partial
from typing import Any

import generation as ways

from evalkit.api import load_benchmark
from evalkit.core.records import GenSettings, Request
from evalkit.core.sequences import unique_length
from evalkit.engines.hf.generate.plain import Endings, generate
from evalkit.engines.hf.generate.slots import Slots
from evalkit.engines.hf.generate.stream import stream
from evalkit.engines.hf.tokens import Encoded
from gpu_parts.lab import Lab, Steps, peak_gb, reset_peak, timed
from gpu_parts.loaded import LoadedModel

NEEDLE = "needle_single_en_4k"
DEPTHS = (50, 75, 100)
"""The texts differ from the needle on: what is in front of the first one is shared."""
NEEDLE_LENGTH, NEEDLE_LENGTH_REHEARSED = 128_000, 2000
LENGTHS, LENGTHS_REHEARSED = (32_768, 131_072, 204_800), (512, 1024)
FEW_LAYERS = 8
"""The layers that long texts are read with: all of them would take the whole time for one text."""
NEW = 16


def steps(lab: Lab) -> Steps:
    """Reading, then the needle column; the last readings are with all layers and may be cut off by the limit."""
    part = Long(lab)
    first, *others = LENGTHS_REHEARSED if lab.small else LENGTHS
    out: dict[str, Any] = {f"all_layers_{first}": partial(part.read, first, all_layers=True)}
    out["few_layers"] = part.few_layers
    out |= {f"read_{length}": partial(part.read, length, all_layers=False) for length in (first, *others)}
    return {**out, "needle": part.needle}


class Long:
    """The steps; they share the model."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.large = LoadedModel(lab)

    def _cut_layers(self) -> int:
        """Leave the first few layers of the model only; how many."""
        model = self.large.model
        layers = 1 if self.lab.small else FEW_LAYERS
        del model.model.layers[layers:]
        model.config.num_hidden_layers = layers
        if getattr(model.config, "layer_types", None):
            model.config.layer_types = model.config.layer_types[:layers]
        return layers

    def few_layers(self) -> None:
        """What follows is read with few layers."""
        layers = self._cut_layers()
        _free()
        self.lab.figure("layers from here on", layers, note="time and cache grow with the layers")

    def read(self, length: int, all_layers: bool) -> None:
        """Read one text into a slot, as generation does before its first token."""
        lab = self.lab
        if not all_layers:
            self._cut_layers()
        model = self.large.model
        ids = [3 + (7 * i + i * i) % 1000 for i in range(length)]
        _free()
        reset_peak()
        found: list[bool] = []

        def run() -> None:
            slots = Slots(model, ids[:-1], 1, 32)
            found.append(bool(slots.prefill(0, ids[-1:]).isfinite().all()))

        seconds = timed(run)
        layers = model.config.num_hidden_layers
        lab.figure("finite", found[0], "", found[0])
        lab.figure("time", seconds, "s", note=f"{layers} of {self.large.shape.layers} layers")
        lab.figure("tokens a second", length / seconds, "1/s", note=f"{layers} layers")
        lab.figure("peak memory", peak_gb(), "GB", note=f"{layers} layers, weights included")

    def needle(self) -> None:
        """Three depths of one length with a shared prefix and without."""
        lab = self.lab
        self._cut_layers()
        model, words = self.large.model, self.large.words
        items = self._needle_items()
        sent, unique = sum(len(i.ids) for i in items), unique_length(i.ids for i in items)
        lab.figure("prompts", len(items), "", len(items) == len(DEPTHS), f"{max(len(i.ids) for i in items)} tokens")
        lab.figure("tokens sent / unique", sent / unique)
        room = max(len(i.ids) for i in items) * (len(items) + 1)
        endings = Endings((), (), (), 0)
        common = (model, words, items, endings)
        ways_to_go = {
            "shared": lambda: stream(*common, room, len(items), 1),
            "not shared": lambda: generate(*common, room, 1),
        }
        texts: dict[str, Any] = {}
        for name, way in ways_to_go.items():
            _free()
            run = ways.measure(way, ways.CLOCKS["wall"])
            texts[name] = run.texts
            answered = sum(text is not None for text in run.texts.values())
            lab.figure(f"{name}: answered", answered, "", answered == len(items))
            lab.figure(
                f"{name}: time", run.seconds, "s", note=f"{model.config.num_hidden_layers} layers, {NEW} new tokens"
            )
            lab.figure(f"{name}: peak memory above the weights", run.peak / 1e9, "GB")
        same = sum(texts["shared"][k] == texts["not shared"][k] for k in texts["shared"])
        lab.figure("equal texts", f"{same}/{len(items)}", note="bfloat16 may flip ties")

    def _needle_items(self) -> Sequence[Encoded]:
        lab = self.lab
        length = NEEDLE_LENGTH_REHEARSED if lab.small else NEEDLE_LENGTH
        overrides = (
            f"grid.axes.length=[{length}]",
            f"grid.axes.depth={list(DEPTHS)}",
            "data.build.needle.repeats=1",
        )
        handle = load_benchmark(NEEDLE, lab.setup.data_root, tokenizer=lab.tokenizer_folder, overrides=overrides)
        out = []
        for sample in handle.samples():
            text = str(handle.render(sample))
            ids = (ways.BOS, *self.large.words.inner.encode(text))
            gen = GenSettings(NEW)
            out.append(Encoded(Request(sample.id, sample.id, "gen", text=text, gen=gen), ids))
        return out


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
