"""PEFT adapters, above all those that were trained on InternLM2's own modules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec
from evalkit.engines.hf.internlm.model import split_qkv
from evalkit.engines.hf.load.adapter import split_adapter
from evalkit.engines.hf.load.load import load
from tests.engines.internlm_layout import Layout, random_weights, reference_logits

Write = Callable[..., tuple[Path, dict[str, torch.Tensor]]]
RANK, ALPHA = 4, 8
MODULES = ("wqkv", "wo", "w1", "w2", "w3")


class Sizes:
    """The fields of a config that splitting reads."""

    num_attention_heads, num_key_value_heads, head_dim = 4, 2, 16


def lora_of(layout: Layout, modules: tuple[str, ...] = MODULES) -> dict[str, torch.Tensor]:
    """LoRA weights, A and B, under the names that PEFT gives to the original modules."""
    generator, out = torch.Generator().manual_seed(5), {}
    for name, weight in random_weights(layout).items():
        if name.endswith(".weight") and name.split(".")[-2] in modules:
            at = f"base_model.model.{name.removesuffix('.weight')}"
            out[f"{at}.lora_A.weight"] = torch.randn(RANK, weight.shape[1], generator=generator) * 0.2
            out[f"{at}.lora_B.weight"] = torch.randn(weight.shape[0], RANK, generator=generator) * 0.2
    return out


def save_adapter(path: Path, weights: dict[str, torch.Tensor], **changes: Any) -> str:
    path.mkdir()
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "bias": "none",
        "target_modules": list(MODULES), "base_model_name_or_path": "internlm/internlm2-7b", **changes,
    }  # fmt: skip
    (path / "adapter_config.json").write_text(json.dumps(settings))
    save_file(weights, path / "adapter_model.safetensors")
    return str(path)


def test_a_fused_lora_is_split_exactly() -> None:
    lora, at = lora_of(Layout()), "model.layers.0.attention.wqkv"
    out = split_adapter(lora, Sizes(), "adapter")
    product = lora[f"base_model.model.{at}.lora_B.weight"] @ lora[f"base_model.model.{at}.lora_A.weight"]
    for module, expected in zip(("q_proj", "k_proj", "v_proj"), split_qkv(product, Sizes()), strict=True):
        ours = f"base_model.model.model.layers.0.self_attn.{module}"
        assert torch.allclose(out[f"{ours}.lora_B.weight"] @ out[f"{ours}.lora_A.weight"], expected, atol=1e-6)
    assert not any("wqkv" in name for name in out) and sum(".wo." in name for name in out) == 4
    with pytest.raises(ModelError, match="lora_magnitude_vector"):
        split_adapter({f"{at}.lora_magnitude_vector": torch.ones(3)}, Sizes(), "adapter")


def spec_of(path: Path, adapter: str) -> ModelSpec:
    return ModelSpec("m", str(path), "base", device="cpu", dtype="float32", peft_path=adapter)


def test_a_lora_of_the_original_modules_is_applied(internlm: Write, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    layout = Layout(bias=True)
    path, weights = internlm(layout)
    lora = lora_of(layout)
    model = load(spec_of(path, save_adapter(tmp_path / "adapter", lora))).model
    merged = dict(weights)
    for name in [n for n in lora if n.endswith("lora_A.weight")]:
        delta = lora[name.replace("lora_A", "lora_B")] @ lora[name] * (ALPHA / RANK)
        key = name.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
        merged[key] = merged[key] + delta
    ids = [1, *range(5, 40)]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    expected = reference_logits(merged, layout, ids)
    assert float((logits - expected).abs().max()) <= 1e-4
    assert float((expected - reference_logits(weights, layout, ids)).abs().max()) > 0.5


@pytest.mark.parametrize(
    ("changes", "drop", "match"),
    [
        ({"rank_pattern": {"wo": 2}}, "", "its rank_pattern cannot be translated"),
        ({"target_modules": ".*wqkv"}, "", "a pattern for target_modules"),
        ({}, "wqkv.lora_B", "has no weights for"),
        ({"target_modules": ["wqkv"]}, "", "no place for"),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: dict[str, Any], drop: str, match: str, internlm: Write, tmp_path: Path
) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    path, _ = internlm(Layout())
    lora = {name: weight for name, weight in lora_of(Layout()).items() if not drop or drop not in name}
    with pytest.raises(ModelError, match=match):
        load(spec_of(path, save_adapter(tmp_path / "adapter", lora, **changes)))


def test_an_adapter_of_another_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    adapter = save_adapter(tmp_path / "adapter", lora_of(Layout()))
    with pytest.raises(ModelError, match="modules"):
        load(spec_of(tiny_model, adapter))
