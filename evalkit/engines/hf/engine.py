"""The engine for any causal language model that transformers can load: shared prefixes once, or plain batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import transformers

from evalkit.core.errors import ConfigError, DeviceError, ModelError, first_line
from evalkit.core.records import ModelSpec, Reply, Request
from evalkit.core.registry import did_you_mean
from evalkit.engines.hf.generate.path import LONG, along_path, path_fits
from evalkit.engines.hf.generate.path import pays as path_pays
from evalkit.engines.hf.generate.plain import full_length, generate, neutral_config
from evalkit.engines.hf.generate.stream import prefix_length, stream, stream_fits
from evalkit.engines.hf.load.load import load
from evalkit.engines.hf.load.probe import pads_well
from evalkit.engines.hf.load.tokenizer_bundle import find_stop_criteria
from evalkit.engines.hf.memory import choose_budget, free_memory, is_device_failure, peak_memory
from evalkit.engines.hf.positions import steady_length
from evalkit.engines.hf.score.pass_width import pays, tree_limits
from evalkit.engines.hf.score.plain import score
from evalkit.engines.hf.score.self_check import asked_path, choose_path, total_noise
from evalkit.engines.hf.score.statistics import score_statistics
from evalkit.engines.hf.score.tree import score_tree
from evalkit.engines.hf.tokens import Encoded, Encoder

GENERATION_PATHS = ("auto", "plain", "stream", "path")


class HFEngine:
    """One loaded model that answers ppl, ll and gen requests."""

    def __init__(self, spec: ModelSpec) -> None:
        """Loads the model; ModelError when that cannot be done properly, ConfigError for a wrong option."""
        asked = asked_path(spec)
        loaded = load(spec)
        self._spec = spec
        self._model: Any = loaded.model
        self._tokenizer = loaded.tokenizer
        self._device = loaded.device
        self._unexpected = loaded.unexpected_keys
        self._tokenizer_matches = loaded.tokenizer_matches_file
        vocab = self._model.get_input_embeddings().num_embeddings
        criteria = find_stop_criteria(loaded.model.generation_config.eos_token_id, loaded.tokenizer, spec)
        # some tokenizers pad with a token that the model does not have; on CUDA looking it up breaks the process
        self._stop_criteria = criteria if criteria.pad < vocab else replace(criteria, pad=0)
        # transformers fills what a request leaves open from here: sampling, penalties
        self._model.generation_config = neutral_config(self._stop_criteria, loaded.tokenizer.bos_token_id, chat=False)
        self._pads_well = pads_well(self._model, self._stop_criteria.pad)
        self._budget = choose_budget(spec, self._model, loaded.device, self._pads_well)
        self._path = choose_path(self._model, self._stop_criteria.pad, asked)
        half = self._model.dtype.itemsize < 4
        self._noise = total_noise(self._model, self._stop_criteria.pad, self._path.attention) if half else None
        self._always_tree = asked == "tree"
        self._streams, self._stream_reason = choose_stream(self._model, spec)
        asked_way = spec.options.get("generation_path", "")
        self._path_mode = "always" if asked_way == "path" else "auto" if self._streams else "never"
        self._path_tried: tuple[bool, str] | None = None
        self._encoder = Encoder(loaded.tokenizer, spec, loaded.max_seq_len, vocab)

    def run(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """One reply a request, each batch as soon as it is done; scoring comes first.

        Raises ModelError when a chat is asked of a model without a chat template, DeviceError when the device
        failed and no later call can succeed.
        """
        encoded = [self._encoder.encode(request) for request in requests]
        scored = [item for item in encoded if item.request.mode != "gen"]
        written = [item for item in encoded if item.request.mode == "gen"]
        try:
            yield from self._score(scored)
            yield from self._write(written)
        except RuntimeError as error:
            if not is_device_failure(error):
                raise
            raise DeviceError(
                f"{self._device} failed: {type(error).__name__}: {first_line(error)}",
                "CUDA_LAUNCH_BLOCKING=1 shows in the log where it failed; nvidia-smi -q -d ECC shows its own faults",
            ) from error

    def _write(self, items: Sequence[Encoded]) -> Iterator[Reply]:
        """Replies to gen requests, by continuous batching where it fits the model."""
        alone, items = self._along_path(items)
        yield from along_path(self._model, self._tokenizer, alone, self._stop_criteria)
        budget, common = self._budget, (self._model, self._tokenizer, items, self._stop_criteria)
        if self._streams:
            yield from stream(*common, budget.slot_tokens, budget.slots, budget.gen_rows, budget.gen_tokens)
        else:
            yield from generate(*common, budget.gen_tokens, budget.gen_rows)

    def _along_path(self, items: Sequence[Encoded]) -> tuple[list[Encoded], list[Encoded]]:
        """(items that are answered one at a time along what they share, the others).

        Such are long prompts that branch at many places, and those beyond the length up to which rotary tables stay
        the same: their tables must be their own, whatever else is asked.
        """
        if self._path_mode == "never":
            return [], list(items)
        ready = [item for item in items if not item.error]
        steady = steady_length(self._model.config.get_text_config())
        if self._path_mode == "always":
            chosen = ready
        else:
            chosen = [item for item in ready if len(item.ids) >= LONG]
            if not path_pays(chosen, prefix_length(chosen) if chosen else 0, self._device.type):
                chosen = [item for item in ready if steady is not None and full_length(item) >= steady]
        if not chosen or not self._path_fits():
            return [], list(items)
        keys = {id(item) for item in chosen}
        return chosen, [item for item in items if id(item) not in keys]

    def _path_fits(self) -> bool:
        """Whether the model keeps keys and values as a path needs them; tried once, when first asked."""
        if self._path_tried is None:
            self._path_tried = path_fits(self._model)
            if self._path_mode == "always" and not self._path_tried[0]:
                raise ModelError(
                    f"this model cannot answer along shared prompts: {self._path_tried[1]}",
                    "use generation_path: auto",
                )
        return self._path_tried[0]

    def _score(self, items: Sequence[Encoded]) -> Iterator[Reply]:
        """Replies to ppl and ll requests, by the tree where it fits the model and saves enough."""
        path, tokens = self._path, self._budget.score_tokens
        told = [item for item in items if item.request.token_statistics]
        yield from score_statistics(self._model, told, tokens, self._stop_criteria.pad)
        items = [item for item in items if not item.request.token_statistics]
        plain = list(items)
        if path.attention is not None:
            fit = [i for i in items if not i.error and (path.longest is None or len(i.ids) <= path.longest)]
            if fit and (self._always_tree or pays(fit)):
                limits = tree_limits(self._model, fit, tokens, self._spec.batch_tokens)
                yield from score_tree(self._model, fit, path.attention, limits)
                plain = [i for i in items if i.error or (path.longest is not None and len(i.ids) > path.longest)]
        yield from score(self._model, plain, tokens, self._stop_criteria.pad)

    def describe(self) -> Mapping[str, Any]:
        """Facts for the manifest."""
        model = self._model
        return {
            "engine": "hf",
            "engine_path": self._path.name,
            "engine_path_reason": self._path.reason,
            "generation_path": "stream" if self._streams else "plain",
            "generation_path_reason": self._stream_reason,
            "long_prompts": "not tried" if self._path_tried is None else self._path_tried[1] or "along shared prefixes",
            "model_class": type(model).__name__,
            "device": str(self._device),
            "device_name": _device_name(self._device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "score_noise": self._noise,
            "attn_implementation": model.config._attn_implementation,
            "quantization": self._spec.options.get("quantization", ""),
            "adapter": self._spec.peft_path,
            "devices": sorted({str(d) for d in getattr(model, "hf_device_map", {"": self._device}).values()}),
            "max_seq_len": self._encoder.max_seq_len,
            "vocab_size": self._encoder.vocab_size,
            "parameters": sum(p.numel() for p in model.parameters()),
            "tokenizer_matches_file": self._tokenizer_matches,
            "unexpected_weights": len(self._unexpected),
            "score_batch_tokens": self._budget.score_tokens,
            "gen_batch_tokens": self._budget.gen_tokens,
            "gen_batch_rows": self._budget.gen_rows,
            "gen_slots": self._budget.slots,
            "gen_slot_tokens": self._budget.slot_tokens,
            "left_padding_exact": self._pads_well,
            "peak_memory": peak_memory(self._device),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._model = None
        free_memory()


def choose_stream(model: Any, spec: ModelSpec) -> tuple[bool, str]:
    """(whether to generate by continuous batching, why).

    `generation_path` decides, and where it is not given, `engine_path: plain` rules it out too.
    ModelError when it is asked for by name and does not fit.
    """
    asked = spec.options.get("generation_path", "plain" if asked_path(spec) == "plain" else "auto")
    if asked not in GENERATION_PATHS:
        raise ConfigError(
            f"unknown generation_path {asked!r} of model {spec.name}", did_you_mean(str(asked), GENERATION_PATHS)
        )
    if asked == "plain":
        return False, "generation_path is plain" if "generation_path" in spec.options else "engine_path is plain"
    fits, why = stream_fits(model)
    if asked == "stream" and not fits:
        raise ModelError(f"this model cannot generate by continuous batching: {why}", "use generation_path: auto")
    return fits, why or "self-check passed"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
