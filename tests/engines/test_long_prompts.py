"""The arithmetic of long prompts: keys and values, weights, FLOPs, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec
from evalkit.engines import long_prompts
from evalkit.engines.hf.memory import kv_bytes
from evalkit.engines.long_prompts import GIB, plan_long_prompts, prefill_flops

INTERNLM2_5_7B = {
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
    "max_position_embeddings": 1_048_576, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.joinpath("config.json").write_text(json.dumps(INTERNLM2_5_7B))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(15_475_474_432)  # sparse: 7,737,708,544 numbers of 2 bytes, no disk
    return tmp_path


def spec(folder: Path, **more: object) -> ModelSpec:
    return ModelSpec(**{"name": "m", "path": str(folder), "kind": "chat", "device": "cpu", **more})  # type: ignore[arg-type]


def test_a_million_tokens_of_internlm2_5_7b(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """32 layers x 8 heads x 128 x 2 x 2 bytes a token; twice the parameters and the causal half of attention."""
    monkeypatch.setattr(long_prompts, "_memory", lambda: 320 * GIB)
    found = plan_long_prompts(spec(folder), 1_000_000)
    assert found is not None and found.per_token == 131_072 and found.weights == 15_475_474_432
    assert found.per_token * found.tokens == 131_072_000_000
    assert found.prefill_flops == pytest.approx(2 * 7.737708544e9 * 1e6 + 2 * 32 * 4096 * 1e12)
    found.check()
    assert "131,072 B = 122.07" in str(found)
    assert prefill_flops(0, 1, 1, 10) == 200


def test_what_does_not_fit_is_refused_with_what_would(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_prompts, "_memory", lambda: 64 * GIB)
    found = plan_long_prompts(spec(folder), 1_000_000)
    assert found is not None
    with pytest.raises(ModelError) as caught:
        found.check()
    assert f"--max-seq-len {found.longest} fits" in caught.value.hint and "lmdeploy" in caught.value.hint
    fitting = plan_long_prompts(spec(folder, max_seq_len=found.longest), 1_000_000)
    assert fitting is not None and fitting.tokens == found.longest
    fitting.check()
    quantized = plan_long_prompts(spec(folder, options={"quantization": "8bit"}), 1_000_000)
    assert quantized is not None and quantized.weights == found.weights // 2


def test_keys_and_values_are_those_of_the_engine(tiny_model: Path) -> None:
    from transformers import AutoConfig

    found = plan_long_prompts(spec(tiny_model, dtype="float32"), 10)
    assert found is not None
    assert found.per_token == kv_bytes(AutoConfig.from_pretrained(tiny_model), 4)


def test_shapes_that_are_not_told_are_not_planned(tmp_path: Path) -> None:
    tmp_path.joinpath("config.json").write_text("{}")
    assert plan_long_prompts(spec(tmp_path), 10) is None
