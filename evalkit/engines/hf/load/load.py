"""Loads a checkpoint: tokenizer, weights, limits; refuses what would score silently wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec
from evalkit.engines.checkpoint import check_checkpoint, local_dir
from evalkit.engines.hf.load.adapter import add_adapter
from evalkit.engines.hf.load.device import pick_device, pick_dtype
from evalkit.engines.hf.load.faults import AGAIN, loading
from evalkit.engines.hf.load.native_models import find_family
from evalkit.engines.hf.load.probe import check_finite
from evalkit.engines.hf.load.quantize import quantization

LENGTH_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
SANE_LENGTH = 10_000_000
FALLBACK_LENGTH = 2048
TELLING_TEXTS = ("1 2 3 12345", " leading  spaces", "a\n\n b\n", "I'm naïve, 你好 😀", "x = f(y)  # z\t")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "*.tiktoken",
)


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that is ready to run."""

    model: Any
    """In eval mode, on its device."""
    tokenizer: Any
    device: torch.device
    """Where inputs go."""
    max_seq_len: int
    unexpected_keys: tuple[str, ...]
    """Weights of the checkpoint that the model has no place for."""
    tokenizer_matches_file: bool | None
    """Whether the tokenizer gives the ids of the checkpoint's tokenizer.json; None without one."""


def load(spec: ModelSpec) -> Loaded:
    """Load what `spec` names; ModelError with a hint when that cannot be done properly.

    Weights that the model needs and the checkpoint lacks are an error, because they would be
    random; tied weights may be absent.
    """
    check_checkpoint(spec)
    device = pick_device(spec.device, spec.gpus)
    arguments = _arguments(spec, device)
    with loading("config.json", spec):
        raw, _ = PreTrainedConfig.get_config_dict(spec.path, revision=spec.revision or None)
    family = find_family(raw, spec.path)
    with loading("the tokenizer", spec):
        tokenizer = family.load_tokenizer(spec) if family else load_tokenizer(spec)
    with loading("the model", spec):
        model, report = family.load_model(spec, arguments) if family else load_model(spec, arguments)
    _check_complete(spec, report)
    with loading("the model", spec):
        if spec.peft_path:
            add_adapter(model, spec)
        model = model if "device_map" in arguments else model.to(device)
    model.eval()
    check_finite(model, spec.path)
    limit = spec.max_seq_len or length_limit(model.config, tokenizer)
    unexpected = tuple(sorted(report["unexpected_keys"]))
    return Loaded(model, tokenizer, model.device, limit, unexpected, matches_file(tokenizer, spec))


def load_tokenizer(spec: ModelSpec) -> Any:
    """The checkpoint's own tokenizer; ModelError when it has none."""
    folder = local_dir(spec.path, spec.revision)
    if folder is not None and not _has_tokenizer(folder):
        # transformers would make an empty one
        raise ModelError(
            f"{folder} has no tokenizer files", "copy tokenizer.json or tokenizer.model beside the weights"
        )
    return AutoTokenizer.from_pretrained(
        spec.path, revision=spec.revision or None, trust_remote_code=spec.trust_remote_code
    )


def load_model(spec: ModelSpec, arguments: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """A model that transformers knows, and its loading report."""
    pair: Any = AutoModelForCausalLM.from_pretrained(spec.path, output_loading_info=True, **arguments)
    return pair[0], pair[1]


def matches_file(tokenizer: Any, spec: ModelSpec) -> bool | None:
    """Whether `tokenizer` encodes some telling texts as the checkpoint's tokenizer.json does.

    For some model types transformers puts its own pre-tokenizer in place of the file's, which
    changes the ids without a word. None when there is no such file here.
    """
    folder = local_dir(spec.path, spec.revision)
    if folder is None or not (folder / "tokenizer.json").is_file():
        return None
    file = Tokenizer.from_file(str(folder / "tokenizer.json"))
    file.no_truncation()
    return all(
        file.encode(text, add_special_tokens=False).ids == tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in TELLING_TEXTS
    )


def length_limit(config: Any, tokenizer: Any) -> int:
    """Most tokens the checkpoint says it can take; 2048 when it says nothing sane."""
    text = config.get_text_config()
    stated = [getattr(text, field, None) for field in LENGTH_FIELDS]
    stated.append(getattr(tokenizer, "model_max_length", None))
    return sane_length(stated)


def sane_length(stated: Iterable[Any]) -> int:
    """The first value that can be a length in tokens; 2048 when there is none."""
    return next((v for v in stated if isinstance(v, int) and 0 < v < SANE_LENGTH), FALLBACK_LENGTH)


def _arguments(spec: ModelSpec, device: torch.device) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained`."""
    arguments: dict[str, Any] = {
        "dtype": pick_dtype(spec, device),
        "revision": spec.revision or None,
        "trust_remote_code": spec.trust_remote_code,
    }
    if spec.attn_implementation:
        arguments["attn_implementation"] = spec.attn_implementation
    if spec.gpus > 1:
        arguments["device_map"] = "auto"
    packed = quantization(spec, arguments["dtype"])
    if packed is not None:  # such weights are placed while they are loaded, not moved afterwards
        arguments |= {"quantization_config": packed, "device_map": arguments.get("device_map", {"": str(device)})}
    return arguments


def _has_tokenizer(folder: Path) -> bool:
    if any(any(folder.glob(name)) for name in TOKENIZER_FILES):
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and "auto_map" in config.read_text(encoding="utf-8")


def _check_complete(spec: ModelSpec, report: Mapping[str, Any]) -> None:
    missing = sorted(report["missing_keys"])
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise ModelError(f"{len(missing)} weights are missing from {spec.path} and would be random: {shown}", AGAIN)
