"""Checkpoints that must not be loaded, each with its own cause and hint."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec
from evalkit.engines.hf.load.load import load

Copy = Callable[[Path], Path]


def refused(path: Path | str, match: str, **fields: Any) -> ModelError:
    with pytest.raises(ModelError, match=match) as caught:
        load(ModelSpec("m", str(path), "base", **{"device": "cpu", **fields}))
    assert caught.value.hint
    return caught.value


def change_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(path / "model.safetensors")
    change(weights)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def test_loads_when_nothing_is_wrong(tiny_model: Path) -> None:
    loaded = load(ModelSpec("m", str(tiny_model), "base"))
    assert loaded.max_seq_len == 8192 and not loaded.model.training and loaded.unexpected_keys == ()


def test_missing_path(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no checkpoint at")
    refused("./nowhere", "no checkpoint at")


def test_no_config(tiny_model: Path, copy_of: Copy) -> None:
    path = copy_of(tiny_model)
    (path / "config.json").unlink()
    refused(path, "no config.json")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (lambda whole: whole[:-100], "truncated"),
        (lambda whole: b"\xff" * 8 + whole[8:], "not a readable safetensors"),
        (lambda whole: whole[:8] + b"{nonsense" + whole[17:], "not a readable safetensors"),
        (lambda _: b"", "is empty"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git-lfs pointer"),
    ],
)
def test_broken_weights(content: Callable[[bytes], bytes], match: str, tiny_model: Path, copy_of: Copy) -> None:
    path = copy_of(tiny_model)
    file = path / "model.safetensors"
    file.write_bytes(content(file.read_bytes()))
    refused(path, match)


def test_no_weights(tiny_model: Path, copy_of: Copy) -> None:
    path = copy_of(tiny_model)
    (path / "model.safetensors").unlink()
    refused(path, "no weights")


def test_unreadable_pickle(tiny_model: Path, copy_of: Copy) -> None:
    path = copy_of(tiny_model)
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(b"not a pickle" * 50)
    refused(path, "cannot be")


def test_missing_tokenizer(tiny_model: Path, copy_of: Copy) -> None:
    path = copy_of(tiny_model)
    (path / "tokenizer.json").unlink()
    refused(path, "no tokenizer files")


def test_broken_tokenizer(tiny_model: Path, copy_of: Copy) -> None:
    path = copy_of(tiny_model)
    (path / "tokenizer.json").write_text("{")
    refused(path, "the tokenizer of")


def test_missing_weights_are_named(tiny_model: Path, copy_of: Copy) -> None:
    path = copy_of(tiny_model)
    change_weights(path, lambda w: [w.pop(k) for k in list(w) if "layers.1.mlp" in k])
    error = refused(path, "3 weights are missing")
    assert "layers.1.mlp.down_proj.weight" in error.message


def test_tied_weights_may_be_absent(tiny_model: Path, copy_of: Copy, edit_json: Any) -> None:
    path = copy_of(tiny_model)
    change_weights(path, lambda w: w.pop("lm_head.weight"))
    refused(path, "lm_head")
    edit_json(path / "config.json", tie_word_embeddings=True)
    model = load(ModelSpec("m", str(path), "base")).model
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_unexpected_weights_are_reported(tiny_model: Path, copy_of: Copy) -> None:
    path = copy_of(tiny_model)
    change_weights(path, lambda w: w.update(extra=torch.ones(2)))
    assert load(ModelSpec("m", str(path), "base")).unexpected_keys == ("extra",)


def test_a_tokenizer_that_differs_from_its_file_is_reported(tiny_model: Path, copy_of: Copy, edit_json: Any) -> None:
    """transformers gives the model type qwen2 its own pre-tokenizer, which splits digits."""
    path = copy_of(tiny_model)
    assert load(ModelSpec("m", str(path), "base")).tokenizer_matches_file is True
    edit_json(path / "config.json", model_type="qwen2", architectures=["Qwen2ForCausalLM"])
    change_weights(path, add_qkv_biases)
    assert load(ModelSpec("m", str(path), "base")).tokenizer_matches_file is False


def add_qkv_biases(weights: dict[str, torch.Tensor]) -> None:
    """What Qwen2 has and Llama has not."""
    for name in [n for n in weights if n.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))]:
        weights[name.replace("weight", "bias")] = torch.zeros(len(weights[name]))


def test_shapes_that_do_not_fit(tiny_model: Path, copy_of: Copy, edit_json: Any) -> None:
    path = copy_of(tiny_model)
    edit_json(path / "config.json", intermediate_size=96)
    refused(path, "shapes")


def test_unknown_architecture(tiny_model: Path, copy_of: Copy, edit_json: Any) -> None:
    path = copy_of(tiny_model)
    edit_json(path / "config.json", model_type="nonesuch")
    refused(path, "architecture")


def test_remote_code_is_refused(tiny_model: Path, copy_of: Copy, edit_json: Any) -> None:
    path = copy_of(tiny_model)
    auto = {"AutoConfig": "conf.Conf", "AutoModelForCausalLM": "conf.Model"}
    edit_json(path / "config.json", model_type="nonesuch", auto_map=auto)
    (path / "conf.py").write_text("raise SystemExit('remote code ran')")
    error = refused(path, "code that comes with the checkpoint")
    assert "--trust-remote-code" in error.hint


def test_not_finite(tiny_model: Path, copy_of: Copy) -> None:
    path = copy_of(tiny_model)
    change_weights(path, lambda w: w["model.layers.0.mlp.up_proj.weight"].fill_(float("nan")))
    refused(path, "not finite")


def test_dtype_and_devices(tiny_model: Path) -> None:
    assert "bfloat16" in refused(tiny_model, "unknown dtype", dtype="bflot16").hint
    assert "cuda" in refused(tiny_model, "unknown device", device="cudda").hint
    refused(tiny_model, "not there", device="cuda:99")
    refused(tiny_model, "99 GPUs", device="auto", gpus=99)


@pytest.mark.skipif(importlib.util.find_spec("peft") is not None, reason="peft is installed")
def test_adapter_without_peft(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "x"}')
    refused(tiny_model, "missing package", peft_path=str(tmp_path))


def test_hub_unreachable(tmp_path: Path) -> None:
    """In a process of its own, since the hub library reads its settings when it is imported."""
    code = (
        "from evalkit.engines.hf.load.load import load\nfrom evalkit.core.errors import ModelError\n"
        "from evalkit.core.records import ModelSpec\n"
        "try:\n    load(ModelSpec('m', 'some-org/some-model', 'base', device='cpu'))\n"
        "except ModelError as error:\n    print(error.message, '|', error.hint)\n"
    )
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=env, timeout=80
    )
    assert done.returncode == 0, done.stderr
    assert "could not be fetched from the hub" in done.stdout and "hf download" in done.stdout
