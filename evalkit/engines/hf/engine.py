"""The plain engine: any causal language model that transformers can load, exactly and simply."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import transformers

from evalkit.engines.hf.generate import Endings, generate, neutral_config
from evalkit.engines.hf.load import load
from evalkit.engines.hf.memory import choose_budget
from evalkit.engines.hf.probe import pads_well
from evalkit.engines.hf.score import score
from evalkit.engines.hf.tokens import Encoder
from evalkit.types import ModelSpec, Reply, Request


class HFEngine:
    """One loaded model that answers ppl, ll and gen requests with padded batches."""

    def __init__(self, spec: ModelSpec) -> None:
        """Loads the model; ModelError when that cannot be done properly."""
        loaded = load(spec)
        self._spec = spec
        self._model: Any = loaded.model
        self._tokenizer = loaded.tokenizer
        self._device = loaded.device
        self._unexpected = loaded.unexpected_keys
        self._tokenizer_matches = loaded.tokenizer_matches_file
        self._endings = find_endings(loaded.model, loaded.tokenizer, spec)
        # transformers fills what a request leaves open from here: sampling, penalties
        self._model.generation_config = neutral_config(
            self._endings, loaded.tokenizer.bos_token_id, chat=False
        )
        self._pads_well = pads_well(self._model, self._endings.pad)
        self._budget = choose_budget(spec, self._model, loaded.device, self._pads_well)
        vocab = self._model.get_input_embeddings().num_embeddings
        self._encoder = Encoder(loaded.tokenizer, spec, loaded.max_seq_len, vocab)

    def run(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """One reply a request, each batch as soon as it is done; scoring comes first.

        Raises ModelError when a chat is asked of a model without a chat template.
        """
        encoded = [self._encoder.encode(request) for request in requests]
        scored = [item for item in encoded if item.request.mode != "gen"]
        written = [item for item in encoded if item.request.mode == "gen"]
        yield from score(self._model, scored, self._budget.score_tokens, self._endings.pad)
        yield from generate(
            self._model,
            self._tokenizer,
            written,
            self._endings,
            self._budget.gen_tokens,
            self._budget.gen_rows,
        )

    def describe(self) -> Mapping[str, Any]:
        """Facts for the manifest."""
        model = self._model
        return {
            "engine": "hf",
            "engine_path": "plain",
            "model_class": type(model).__name__,
            "device": str(self._device),
            "device_name": _device_name(self._device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "attn_implementation": model.config._attn_implementation,
            "max_seq_len": self._encoder.max_seq_len,
            "vocab_size": self._encoder.vocab_size,
            "parameters": sum(p.numel() for p in model.parameters()),
            "tokenizer_matches_file": self._tokenizer_matches,
            "unexpected_weights": len(self._unexpected),
            "score_batch_tokens": self._budget.score_tokens,
            "gen_batch_tokens": self._budget.gen_tokens,
            "gen_batch_rows": self._budget.gen_rows,
            "left_padding_exact": self._pads_well,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def find_endings(model: Any, tokenizer: Any, spec: ModelSpec) -> Endings:
    """End tokens and strings: the tokenizer's, the checkpoint's generation config's, the spec's."""
    stated = model.generation_config.eos_token_id
    ids = [stated] if isinstance(stated, int) else list(stated or [])
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    base = tuple(dict.fromkeys(ids))
    special = tokenizer.get_added_vocab()
    chat = tuple(dict.fromkeys([*base, *(special[s] for s in spec.end_strings if s in special)]))
    # an ordinary token ends by its id only: its text may be part of another token
    marked = {*special.values(), *tokenizer.all_special_ids}
    strings = [tokenizer.decode([i], skip_special_tokens=False) for i in chat if i in marked]
    strings = [s for s in dict.fromkeys([*strings, *spec.end_strings]) if s]
    pad = next((i for i in (tokenizer.pad_token_id, *base) if i is not None), 0)
    return Endings(base, chat, tuple(strings), pad)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
