"""Puts a PEFT adapter into a loaded model, or says why it does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec
from evalkit.engines.hf.internlm.model import QKV, InternLM2ForCausalLM, split_qkv

INTERNLM2_MODULES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "wqkv": QKV,
        "wo": ("o_proj",),
        "w1": ("gate_proj",),
        "w2": ("down_proj",),
        "w3": ("up_proj",),
        "output": ("lm_head",),
        "tok_embeddings": ("embed_tokens",),
    }
)
"""InternLM2's modules → ours."""
BY_NAME = ("rank_pattern", "alpha_pattern", "modules_to_save", "exclude_modules", "target_parameters")
"""Settings of an adapter that name modules in ways that are not translated."""
FUSED = ".attention.wqkv."
MERGE = "merge it into the model with the code it was trained with, and evaluate the merged checkpoint"


def add_adapter(model: Any, spec: ModelSpec) -> None:
    """Load the adapter of `spec` into `model`, in place.

    One that was trained on InternLM2's own modules is translated. ModelError when weights of the
    adapter find no place or the other way round: PEFT itself would go on without them.
    """
    wanted: dict[str, Any] = {"peft_model_id": spec.peft_path}
    if isinstance(model, InternLM2ForCausalLM):
        wanted = _translated(spec.peft_path, model.config) or wanted
    report = model.load_adapter(**wanted)
    lost = {
        "has no weights for": report.missing_keys,
        "has weights that the model has no place for:": report.unexpected_keys,
        "has weights of other shapes:": [name for name, *_ in report.mismatched_keys],
    }
    for what, names in lost.items():
        if names:
            shown = ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")
            raise ModelError(
                f"the adapter {spec.peft_path} {what} {shown}",
                f"check that it was trained on {spec.path}; or {MERGE}",
            )


def _translated(path: str, config: Any) -> dict[str, Any] | None:
    """Arguments of `load_adapter` for an adapter in InternLM2's own names; None for one in Llama's."""
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    adapter: Any = PeftConfig.from_pretrained(path)
    targets = getattr(adapter, "target_modules", None) or ()
    weights: dict[str, torch.Tensor] = load_peft_weights(path, device="cpu")
    own = any(FUSED in name or ".feed_forward." in name or ".attention.wo." in name for name in weights)
    if not own:
        return None
    named = [setting for setting in BY_NAME if getattr(adapter, setting, None)]
    if str(getattr(adapter.peft_type, "value", "")) != "LORA" or isinstance(targets, str) or named:
        why = f"its {', '.join(named)}" if named else "its kind, or a pattern for target_modules,"
        raise ModelError(
            f"the adapter {path} is for InternLM2's own modules, and {why} cannot be translated to the native ones",
            f"only plain LoRA with a list of target_modules can; {MERGE}",
        )
    adapter.target_modules = {new for old in targets for new in INTERNLM2_MODULES.get(old, (old,))}
    return {"peft_config": adapter, "adapter_state_dict": split_adapter(weights, config, path)}


def split_adapter(weights: Mapping[str, torch.Tensor], config: Any, path: str) -> dict[str, torch.Tensor]:
    """LoRA weights of wqkv as those of q, k and v: the same A for each, and each its rows of B.

    Exact, since (B A) has the rows of B. Other weights stay; transformers renames them as it loads.
    ModelError for weights of wqkv that are neither.
    """
    out: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        before, fused, kind = name.partition(FUSED)
        if not fused:
            out[name] = weight
            continue
        if kind.startswith("lora_A."):
            parts: tuple[torch.Tensor, ...] = (weight, weight.clone(), weight.clone())
        elif kind.startswith("lora_B."):
            parts = split_qkv(weight, config)
        else:
            raise ModelError(f"the adapter {path} holds {name}, which cannot be split into q, k and v", MERGE)
        out |= {f"{before}.self_attn.{module}.{kind}": part for module, part in zip(QKV, parts, strict=True)}
    return out
