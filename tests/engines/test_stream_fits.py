"""Which models may stream, and that those get the plain path's outputs."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from evalkit.core.records import GenSettings, Request
from evalkit.engines.hf.generate.plain import generate
from evalkit.engines.hf.generate.prefix_attention import NAME, Part, UnfitError, attend, mark
from evalkit.engines.hf.generate.slots import Slots
from evalkit.engines.hf.generate.stop_criteria import StopCriteria
from evalkit.engines.hf.generate.stream import length_limit, stream, stream_fits
from evalkit.engines.hf.tokens import Encoded
from tests.engines.models import GROUPED, OLD, SIZES, build

SIZED = {**GROUPED, "head_dim": 16}
FITTING: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", GROUPED),
    "llama eager": ("LlamaConfig", "LlamaForCausalLM", {**GROUPED, "attn_implementation": "eager"}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", GROUPED),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", SIZED),
    "mistral": ("MistralConfig", "MistralForCausalLM", {**GROUPED, "sliding_window": 100}),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", {**GROUPED, "num_local_experts": 4}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {**SIZED, "query_pre_attn_scalar": 16, "sliding_window": 100}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {**SIZED, "sliding_window": 100}),
    "neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", SIZES),
    "phi": ("PhiConfig", "PhiForCausalLM", SIZES),
    "opt": ("OPTConfig", "OPTForCausalLM", {**SIZES, "ffn_dim": 128, "word_embed_proj_dim": 64}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {**OLD, "n_embd": 64, "n_layer": 2, "n_head": 4}),
}
UNFIT: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "window": ("MistralConfig", "MistralForCausalLM", {**GROUPED, "sliding_window": 16}, "window"),
    "bloom": ("BloomConfig", "BloomForCausalLM", {**OLD, "hidden_size": 64, "n_layer": 2, "n_head": 4}, ""),
    "falcon": ("FalconConfig", "FalconForCausalLM", SIZES, ""),
    "mamba": ("MambaConfig", "MambaForCausalLM", {**OLD, "hidden_size": 64, "num_hidden_layers": 2}, "state"),
    "local": (
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        {
            **OLD,
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
        },
        "logits differ",
    ),
    "sinks": ("GptOssConfig", "GptOssForCausalLM", {**SIZED, "sliding_window": 100, "num_local_experts": 4}, "s_aux"),
}


class Words:
    """Stands in for a tokenizer: an id is its own text."""

    bos_token_id, pad_token_id = 1, 0

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(map(str, ids))


def items(seed: int, sizes: tuple[int, ...]) -> list[Encoded]:
    """Requests that share 31 token ids."""
    rng = random.Random(seed)
    prefix = [1, *(rng.randrange(3, 300) for _ in range(30))]
    prompts = [[*prefix, *(rng.randrange(3, 300) for _ in range(size))] for size in sizes]
    settings = [GenSettings(rng.randint(1, 24), temperature=0.0 if i % 4 else 0.8) for i in range(len(sizes))]
    pairs = enumerate(zip(prompts, settings, strict=True))
    return [Encoded(Request(f"{i}", "s/0", "gen", text="x", gen=gen), tuple(ids)) for i, (ids, gen) in pairs]


@pytest.mark.parametrize("name", FITTING)
def test_families_that_fit_give_the_plain_outputs(name: str) -> None:
    model = build(*FITTING[name])
    before = model.config._attn_implementation
    assert stream_fits(model) == (True, "")
    assert model.config._attn_implementation == before
    ends, chosen = StopCriteria((2,), (2,), (), 0), items(5, (3, 40, 1, 12, 1, 25, 7, 100))
    plain = {r.key: (r.text, r.finish, r.n_out) for r in generate(model, Words(), chosen, ends, 4096, 8)}
    fast = {r.key: (r.text, r.finish, r.n_out) for r in stream(model, Words(), chosen, ends, 4096, 3, 8)}
    assert fast == plain and len(plain) == len(chosen)
    assert len({text for text, _, _ in plain.values()}) > 5


@pytest.mark.parametrize("name", UNFIT)
def test_families_that_do_not_fit_are_found_out(name: str) -> None:
    config, model, fields, cause = UNFIT[name]
    made = build(config, model, fields)
    before = made.config._attn_implementation
    fits, why = stream_fits(made)
    assert not fits and cause in why and why
    assert made.config._attn_implementation == before


def test_a_model_whose_attention_differs_a_little_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(*FITTING["llama"])
    original = Slots.decode

    def decode(self: Slots, tokens: Any, lengths: Any) -> torch.Tensor:
        return original(self, tokens, [length - 1 for length in lengths])

    monkeypatch.setattr(Slots, "decode", decode)
    assert "differ" in stream_fits(model)[1]


def test_values_that_are_not_finite_do_not_pass() -> None:
    model = build(*FITTING["llama"])
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    assert not stream_fits(model)[0]


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_positions_that_depend_on_the_longest_row_limit_the_length(kind: str) -> None:
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "original_max_position_embeddings": 128}
    model = build("LlamaConfig", "LlamaForCausalLM", {**GROUPED, "rope_parameters": rope})
    assert length_limit(model) == (511 if kind == "dynamic" else 127)
    assert stream_fits(model)[0]


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize("shared", [0, 11])
def test_two_parts_are_ordinary_attention(softcap: float | None, queries: int, shared: int) -> None:
    rows, heads, kv_heads, own, size = 3, 6, 2, 9, 8
    generator = torch.Generator().manual_seed(1)

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    query, keys, values = (
        rand(rows, heads, queries, size),
        rand(rows, kv_heads, own, size),
        rand(3, kv_heads, own, size),
    )
    front = rand(kv_heads, shared, size), rand(kv_heads, shared, size)
    seen = torch.rand((rows, queries, own), generator=generator) < 0.6
    seen[..., 0] = True
    bias = torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))[:, None, None]
    part = Part(*front, bias, shared + own)
    got, _ = attend(torch.nn.Module(), query, mark(keys, part), values, None, scaling=0.3, softcap=softcap)
    both = [torch.cat([f.expand(rows, -1, -1, -1), o], 2) for f, o in zip(front, (keys, values), strict=True)]
    k, v = (x.repeat_interleave(heads // kv_heads, 1) for x in both)
    scores = query @ k.transpose(2, 3) * 0.3
    scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
    scores[..., shared:] += bias[:, 0]
    expected = (scores.softmax(-1) @ v).transpose(1, 2)
    assert torch.allclose(got, expected, atol=1e-5)


def test_attention_refuses_what_it_does_not_cover() -> None:
    keys = torch.zeros(1, 1, 4, 8)
    query = torch.zeros(1, 1, 1, 8)
    with pytest.raises(UnfitError, match="changes its keys"):
        attend(torch.nn.Module(), query, keys, keys, None)
    part = Part(keys[0], keys[0], torch.zeros(1, 1, 1, 1, 4), 8)
    with pytest.raises(UnfitError, match="window of 7"):
        attend(torch.nn.Module(), query, mark(keys, part), keys, None, sliding_window=7)
    with pytest.raises(UnfitError, match="position_bias"):
        attend(torch.nn.Module(), query, mark(keys, part), keys, None, position_bias=keys)


def test_a_row_that_is_not_finite_does_not_touch_the_next_one_in_its_slot() -> None:
    model = build(*FITTING["llama"])
    slots = Slots(model, [1, 5, 6], 2, 40)
    clean = slots.prefill(0, [7, 8])
    slots.prefill(1, [9] * 30)
    for layer in slots._layers:
        layer.own[1][1] = float("nan")
    slots.clear(1, 64)
    slots.prefill(1, [7, 8])
    logits = slots.decode([4, 4], [2, 2])
    assert torch.isfinite(logits).all() and torch.allclose(logits[0], logits[1], atol=1e-5)
    assert torch.isfinite(clean).all()
    assert NAME not in str(model.config._attn_implementation)
