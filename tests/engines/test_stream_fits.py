"""Which models may stream, and that those get the plain path's outputs."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from evalkit.core.records import GenSettings, Request
from evalkit.engines.hf.generate.plain import generate
from evalkit.engines.hf.generate.prefix_attention import NAME, Part, UnfitError, attend, flatten, mark
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
SHORT = {**SIZED, "sliding_window": 16}
"""A window that every prompt is longer than."""
WINDOWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mistral": ("MistralConfig", "MistralForCausalLM", {**GROUPED, "sliding_window": 16}),
    "mistral eager": ("MistralConfig", "MistralForCausalLM", {**SHORT, "attn_implementation": "eager"}),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {**GROUPED, "sliding_window": 16}),
    "starcoder2": ("Starcoder2Config", "Starcoder2ForCausalLM", {**GROUPED, "sliding_window": 16}),
    "gemma2 short": ("Gemma2Config", "Gemma2ForCausalLM", {**SHORT, "query_pre_attn_scalar": 16}),
    "gemma3 short": ("Gemma3TextConfig", "Gemma3ForCausalLM", {**SHORT, "num_hidden_layers": 7}),
    "cohere2": ("Cohere2Config", "Cohere2ForCausalLM", {**SHORT, "num_hidden_layers": 5}),
    "exaone4": ("Exaone4Config", "Exaone4ForCausalLM", {**SHORT, "num_hidden_layers": 5}),
    "olmo3": ("Olmo3Config", "Olmo3ForCausalLM", {**SHORT, "num_hidden_layers": 4}),
    "gpt-oss": ("GptOssConfig", "GptOssForCausalLM", {**SHORT, "num_local_experts": 4}),
}
LATENT = {
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
    "v_head_dim": 24,
}  # fmt: skip
EXPERTS = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
}  # fmt: skip
FITTING |= WINDOWS
FITTING["deepseek v3"] = ("DeepseekV3Config", "DeepseekV3ForCausalLM", {**SIZES, **LATENT, **EXPERTS})
UNFIT: dict[str, tuple[str, str, dict[str, Any], str]] = {
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


@pytest.mark.parametrize("chunk", [5, 16, 17])
@pytest.mark.parametrize("name", ["mistral", "gemma3 short", "gpt-oss"])
def test_windows_are_kept_where_prompts_are_filled_in_chunks(
    name: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalkit.engines.hf.generate.slots.CHUNK", chunk)
    model = build(*FITTING[name])
    ends, chosen = StopCriteria((2,), (2,), (), 0), items(6, (3, 33, 1, 50))
    plain = {r.key: r.text for r in generate(model, Words(), chosen, ends, 4096, 8)}
    assert {r.key: r.text for r in stream(model, Words(), chosen, ends, 4096, 2, 8)} == plain


def test_logits_far_beyond_the_window_are_those_of_whole_rows() -> None:
    model = build(*FITTING["gemma3 short"])
    prefix, own = [3 + 7 * i % 290 for i in range(90)], [[5 + 11 * i % 280 for i in range(n)] for n in (2, 70, 41)]
    slots = Slots(model, prefix, 3, 128)
    found = [[slots.prefill(k, ids)[0]] for k, ids in enumerate(own)]
    for step in range(40):
        tokens, lengths = [9 + step + k for k in range(3)], [len(ids) for ids in own]
        for rows, row in zip(found, slots.decode(tokens, lengths), strict=True):
            rows.append(row)
        own = [[*ids, token] for ids, token in zip(own, tokens, strict=True)]
    for ids, rows in zip(own, found, strict=True):
        with torch.inference_mode():
            whole = model(input_ids=torch.tensor([[*prefix, *ids]]), use_cache=False).logits[0, -len(rows) :]
        assert float((torch.stack(rows) - whole).abs().max()) <= 1e-5 * float(whole.abs().max())


def test_slots_hold_no_more_than_the_window() -> None:
    slots = Slots(build(*FITTING["gemma3 short"]), list(range(3, 103)), 4, 256)
    windowed = [layer for layer in slots._layers if layer.window is not None]
    assert len(windowed) == 6 and len(slots._layers) == 7
    for layer in windowed:
        assert layer.own[0].shape[2] == layer.own[1].shape[2] == 16
        assert layer.prefix[0].shape[1] == layer.prefix[1].shape[1] == 15
    full = next(layer for layer in slots._layers if layer.window is None)
    assert full.own[0].shape[2] == 256 and full.prefix[0].shape[1] == 100


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


@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize("sink", [False, True])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize("shared", [0, 11])
def test_two_parts_are_ordinary_attention(
    softcap: float | None, queries: int, shared: int, sink: bool, window: bool
) -> None:
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
    hidden = torch.rand((rows, 1, 1, queries, shared), generator=generator) < 0.5
    front_bias = torch.zeros(hidden.shape).masked_fill(hidden, float("-inf")) if window else None
    part = Part(*front, bias, shared + own, front_bias)
    s_aux = rand(heads) if sink else None
    module = torch.nn.Module()
    got, _ = attend(module, query, mark(keys, part), values, None, scaling=0.3, softcap=softcap, s_aux=s_aux)
    flat = [flatten(part, o, f) for f, o in zip(front, (keys, values), strict=True)]
    more = {"evalkit_parts": {None: part}}
    again, _ = attend(module, query, *flat, None, scaling=0.3, softcap=softcap, s_aux=s_aux, **more)
    assert torch.allclose(got, again, atol=1e-5)
    both = [torch.cat([f.expand(rows, -1, -1, -1), o], 2) for f, o in zip(front, (keys, values), strict=True)]
    k, v = (x.repeat_interleave(heads // kv_heads, 1) for x in both)
    scores = query @ k.transpose(2, 3) * 0.3
    scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
    scores[..., shared:] += bias[:, 0]
    if front_bias is not None:
        scores[..., :shared] += front_bias[:, 0]
    if s_aux is not None:
        scores = torch.cat([scores, s_aux.view(1, -1, 1, 1).expand(rows, -1, queries, 1)], -1)
    expected = (scores.softmax(-1)[..., : shared + own] @ v).transpose(1, 2)
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
