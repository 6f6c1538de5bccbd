"""What only a CUDA device does, as far as it can be tried without one: its failures, its memory, its asserts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from evalkit.core.errors import DeviceError
from evalkit.core.records import GenSettings, ModelSpec, Request
from evalkit.engines.hf.generate.slots import rounded
from evalkit.engines.hf.memory import SLOTS_GPU, choose_budget, is_device_failure, is_oom, kv_bytes
from evalkit.engines.hf.score.plain import token_losses
from evalkit.engines.hf.score.self_check import attention_of, total_noise, trial_texts
from evalkit.engines.hf.score.tree import TreeLimits, score_tree
from evalkit.engines.hf.tokens import Encoded

ASSERT = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"


@pytest.mark.parametrize(
    ("text", "memory", "device"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB", True, False),
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", True, False),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True, False),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True, False),
        (ASSERT, False, True),
        ("CUDA error: an illegal memory access was encountered", False, True),
        ("CUDA error: uncorrectable ECC error encountered", False, True),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`", False, True),
        ("HIP error: unspecified launch failure", False, True),
        ("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)", False, False),
    ],
)
def test_errors_of_a_device_are_told_apart(text: str, memory: bool, device: bool) -> None:
    for kind in (RuntimeError, getattr(torch, "AcceleratorError", RuntimeError)):
        error = kind(text)
        assert (is_oom(error), is_device_failure(error)) == (memory, device)
    assert not is_device_failure(ValueError(text))


@pytest.mark.parametrize("path", ["plain", "auto"])
@pytest.mark.parametrize("mode", ["ppl", "gen"])
def test_a_device_that_failed_is_said_to_be_unusable(mode: str, path: str, tiny_model: Path, engine_for: Any) -> None:
    """Halving batches would not help, and the next job would fail for no fault of its own."""
    engine = engine_for(tiny_model, options={"engine_path": path})
    calls: list[int] = []

    def fail(_model: Any, _args: Any, kwargs: Any) -> None:
        calls.append(kwargs["input_ids"].numel())
        raise RuntimeError(ASSERT)

    engine._model.register_forward_pre_hook(fail, with_kwargs=True)
    gen = GenSettings(4) if mode == "gen" else None
    requests: Any = [Request(f"{i}", "s/0", mode, text="The answer is " * i, gen=gen) for i in range(1, 5)]
    with pytest.raises(DeviceError) as info:
        list(engine.run(requests))
    assert len(calls) == 1
    assert info.value.message == "cpu failed: RuntimeError: CUDA error: device-side assert triggered"
    assert "CUDA_LAUNCH_BLOCKING" in info.value.hint


def test_padding_that_the_model_does_not_know_is_replaced(
    tiny_model: Path, engine_for: Any, copy_of: Callable[[Path], Path], texts: list[str]
) -> None:
    """A pad token added to the tokenizer alone: its id has no row in the embedding."""
    from transformers import AutoTokenizer

    folder = copy_of(tiny_model)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<|late pad|>"})
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    assert tokenizer.pad_token_id >= config["vocab_size"]
    requests = [Request(f"p{i}", "s/0", "ppl", text=text) for i, text in enumerate(texts[:4])]
    requests += [Request(f"g{i}", "s/0", "gen", text=text, gen=GenSettings(6)) for i, text in enumerate(texts[:4])]
    for path in ("plain", "auto"):
        options = {"engine_path": path}
        expected = {r.key: r for r in engine_for(tiny_model, options=options).run(requests)}
        for reply in engine_for(folder, options=options).run(requests):
            assert (reply.error, reply.text) == ("", expected[reply.key].text)
            nll = expected[reply.key].nll
            assert reply.nll == (nll if nll is None else pytest.approx(nll, rel=1e-5))


GIB = 1 << 30


@pytest.mark.parametrize("free", [int(0.5 * GIB), 8 * GIB, 62 * GIB, 123 * GIB])
def test_the_budget_of_a_device_fits_its_memory(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """InternLM2-7B's shape in bfloat16."""
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=92544,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 * GIB))
    model: Any = SimpleNamespace(config=config, dtype=torch.bfloat16)
    spec = ModelSpec("m", ".", "base")
    budget = choose_budget(spec, model, torch.device("cuda"), True)
    assert kv_bytes(config, 2) == 2 * 32 * 8 * 128 * 2
    assert budget.slot_tokens * kv_bytes(config, 2) <= free / 2
    assert budget.gen_tokens <= budget.slot_tokens and budget.score_tokens <= budget.slot_tokens
    if free > 60 * GIB:  # 256 rows of 250 prompt tokens of their own and 400 written, behind a shared prefix of 1,000
        assert budget.slots == SLOTS_GPU and budget.slot_tokens >= 1000 + SLOTS_GPU * rounded(650)
    asked = choose_budget(ModelSpec("m", ".", "base", batch_tokens=700), model, torch.device("cuda"), True)
    assert (asked.score_tokens, asked.gen_tokens, asked.slot_tokens) == (700, 700, 700)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_noise_covers_the_way_that_scores(dtype: torch.dtype) -> None:
    """Against each way computed here: padded batch, tree, and the text alone."""
    from tests.engines.models import SIZES, build

    model = build("LlamaConfig", "LlamaForCausalLM", {**SIZES, "vocab_size": 300}).to(dtype).eval()
    attention, _ = attention_of(model.config)
    assert attention is not None
    texts = trial_texts(300)
    alone = [float(token_losses(model, [text], 0)[0].sum()) for text in texts]
    padded = [float(losses.sum()) for losses in token_losses(model, texts, 0)]
    items = [Encoded(Request(f"{i}", "", "ll"), text, len(text) - 1) for i, text in enumerate(texts)]
    replies = {r.key: r.nll for r in score_tree(model, items, attention, TreeLimits(width=16, stem=6))}
    of_padding = max(abs(a - b) for a, b in zip(padded, alone, strict=True))
    of_tree = max(abs((replies[f"{i}"] or 0.0) - alone[i]) for i in range(len(texts)))
    assert total_noise(model, 0) == pytest.approx(of_padding, abs=1e-9)
    assert total_noise(model, 0, attention) == pytest.approx(max(of_padding, of_tree), abs=1e-9)
    assert (of_tree > 1e-3) == (dtype == torch.bfloat16)
