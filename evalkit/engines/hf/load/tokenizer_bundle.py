"""What engines of other packages take from a checkpoint besides its weights: tokenizer, end tokens, limits."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig

from evalkit.core.records import ModelSpec
from evalkit.engines.checkpoint import check_checkpoint
from evalkit.engines.hf.generate.stop_criteria import StopCriteria
from evalkit.engines.hf.load.faults import loading
from evalkit.engines.hf.load.load import LENGTH_FIELDS, load_tokenizer, sane_length
from evalkit.engines.hf.load.native_models import find_family
from evalkit.engines.hf.tokens import turn_end


@dataclass(frozen=True)
class TokenizerBundle:
    """The tokenizer of a checkpoint, as the hf engine would use it."""

    tokenizer: Any
    stop_criteria: StopCriteria
    max_seq_len: int
    """Most tokens the checkpoint says it can take."""
    vocab_size: int


def load_tokenizer_bundle(spec: ModelSpec) -> TokenizerBundle:
    """Load all but the weights; ModelError with a hint when that cannot be done properly."""
    check_checkpoint(spec)
    where: dict[str, Any] = {"revision": spec.revision or None}
    with loading("config.json", spec):
        raw, _ = PreTrainedConfig.get_config_dict(spec.path, **where)
    family = find_family(raw, spec.path)
    with loading("the tokenizer", spec):
        tokenizer = family.load_tokenizer(spec) if family else load_tokenizer(spec)
    text = {**raw, **(raw.get("text_config") or {})}
    stated = text.get("eos_token_id")
    with suppress(OSError):  # a checkpoint need not have one
        stated = GenerationConfig.from_pretrained(spec.path, **where).eos_token_id or stated
    sizes = [text.get(key) for key in ("vocab_size", "padded_vocab_size")]
    return TokenizerBundle(
        tokenizer,
        find_stop_criteria(stated, tokenizer, spec),
        sane_length([*(text.get(field) for field in LENGTH_FIELDS), getattr(tokenizer, "model_max_length", None)]),
        next((size for size in sizes if size), len(tokenizer)),
    )


def find_stop_criteria(stated: int | list[int] | None, tokenizer: Any, spec: ModelSpec) -> StopCriteria:
    """End tokens and strings: the tokenizer's, its chat template's, those that the checkpoint states, the spec's."""
    ids = [stated] if isinstance(stated, int) else list(stated or [])
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    base = tuple(dict.fromkeys(ids))
    special, end = tokenizer.get_added_vocab(), turn_end(tokenizer, spec)
    ids += [] if end is None else [end]
    chat = tuple(dict.fromkeys([*ids, *(special[s] for s in spec.end_strings if s in special)]))
    # an ordinary token ends by its id only: its text may be part of another token
    marked = {*special.values(), *tokenizer.all_special_ids}
    strings = [tokenizer.decode([i], skip_special_tokens=False) for i in chat if i in marked]
    strings = [s for s in dict.fromkeys([*strings, *spec.end_strings]) if s]
    pad = next((i for i in (tokenizer.pad_token_id, *base) if i is not None), 0)
    return StopCriteria(base, chat, tuple(strings), pad)
