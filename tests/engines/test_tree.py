"""Prefix sharing against plain batches, on random models of several families."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evalkit.core.errors import ConfigError, ModelError
from evalkit.core.records import Reply, Request
from evalkit.engines.hf.score import self_check as check
from evalkit.engines.hf.score.pass_width import pays, tree_limits
from evalkit.engines.hf.score.plain import score
from evalkit.engines.hf.score.self_check import choose_path, try_tree
from evalkit.engines.hf.score.tree import TreeLimits, make_trie, score_tree
from evalkit.engines.hf.tokens import Encoded, group_equal
from tests.engines.models import GROUPED, OLD, SIZES, VOCAB, build

CLOSE = 1e-4
WINDOW = {"sliding_window": 16}
MIXED = {**WINDOW, "head_dim": 16, "layer_types": ["sliding_attention", "full_attention"]}
SMALL = {**OLD, "hidden_size": 64}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", GROUPED),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", GROUPED),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {**GROUPED, "head_dim": 16}),
    "mistral": ("MistralConfig", "MistralForCausalLM", {**GROUPED, **WINDOW}),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", {**GROUPED, "num_local_experts": 4}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {**GROUPED, **MIXED}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {**GROUPED, **MIXED}),
    "neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", SIZES),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {**SMALL, "n_layer": 2, "n_head": 4, "n_positions": 512}),
    "phi": ("PhiConfig", "PhiForCausalLM", SIZES),
    "falcon": ("FalconConfig", "FalconForCausalLM", {**SMALL, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "opt": (
        "OPTConfig",
        "OPTForCausalLM",
        {**SIZES, "ffn_dim": 128, "word_embed_proj_dim": 64},
    ),
    "bloom": ("BloomConfig", "BloomForCausalLM", {**SMALL, "n_layer": 2, "n_head": 4}),
    "mamba": ("MambaConfig", "MambaForCausalLM", {**SMALL, "num_hidden_layers": 2}),
    "mpt": ("MptConfig", "MptForCausalLM", {"vocab_size": VOCAB, "d_model": 64, "n_layers": 2, "n_heads": 4}),
    "rwkv": ("RwkvConfig", "RwkvForCausalLM", {**SMALL, "num_hidden_layers": 2}),
    "neo": (
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        {**SMALL, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 16},
    ),
}
BY_TREE = ("llama", "qwen2", "qwen3", "mistral", "mixtral", "gemma2", "gemma3", "neox", "gpt2", "phi", "falcon", "opt")
BY_PLAIN = ("bloom", "mamba", "rwkv", "neo", "mpt")


@cache
def model_of(family: str) -> Any:
    """A random model in float32; shared by the tests, none of which changes it."""
    return build(*MODELS[family])


def item(key: str, ids: Sequence[int], scored: int, mode: Any = "ppl") -> Encoded:
    return Encoded(Request(key, key.split()[0], mode), tuple(ids), scored, truncated="cut" in key)


def questions(seed: int, longest: int = 300) -> list[Encoded]:
    """Random questions with shared headers, options of many lengths, some repeated, cut or alone."""
    rng = random.Random(seed)

    def run(least: int, most: int) -> list[int]:
        return [rng.randrange(3, VOCAB) for _ in range(rng.randint(least, most))]

    out = []
    headers = [[1], [1, *run(1, 100)], [1, *run(1, longest // 2)]]
    for number in range(8):
        body = [*rng.choice(headers), *run(0, longest // 4)]
        mode = rng.choice(["ppl", "ll"])
        options = [run(1, rng.choice([1, 5, 40])) for _ in range(4)]
        options[3] = rng.choice([options[0], options[1][:1], options[2]])
        for label, option in enumerate(options):
            ids = [*body, *option][-longest:]
            scored = len(ids) - 1 if mode == "ppl" else min(len(option), len(ids) - 1)
            if len(ids) > 1:
                out.append(item(f"q{number} {label}", ids, scored, mode))
    out.append(item("alone ", run(longest, longest), longest - 1))
    out.append(item("cut ", [1, *out[0].ids[-9:]], 9))
    out.append(item("short ", [1, 5], 1))
    return out


def by_tree(model: Any, items: Sequence[Encoded], width: int = 64, stem: int = 16) -> dict[str, Reply]:
    attention = try_tree(model, 0).attention
    assert attention is not None
    replies = list(score_tree(model, items, attention, TreeLimits(width, stem)))
    assert len(replies) == len(items)
    return {r.key: r for r in replies}


def answers(items: Sequence[Encoded], replies: dict[str, Reply]) -> dict[str, int]:
    by_question: dict[str, list[float]] = {}
    for i in items:
        by_question.setdefault(i.request.sample_id, []).append(replies[i.request.key].nll or 0.0)
    return {q: values.index(min(values)) for q, values in by_question.items()}


@pytest.mark.parametrize("family", BY_TREE)
def test_equals_plain(family: str) -> None:
    model = model_of(family)
    path = choose_path(model, 0, "tree")
    assert path.name == "tree" and "passed" in path.reason
    for seed in range(2):
        items = questions(seed)
        plain = {r.key: r for r in score(model, items, 2048, 0)}
        tree = by_tree(model, items, width=(64, 300)[seed])
        for key, expected in plain.items():
            assert tree[key].nll == pytest.approx(expected.nll, rel=CLOSE, abs=CLOSE)
            assert (tree[key].n_tokens, tree[key].truncated) == (expected.n_tokens, expected.truncated)
        assert answers(items, tree) == answers(items, plain)
        assert len({round(r.nll or 0.0, 3) for r in tree.values()}) > len(items) // 2


@pytest.mark.parametrize("family", BY_PLAIN)
def test_models_that_do_not_fit_are_found_out(family: str) -> None:
    path = try_tree(model_of(family), 0)
    assert path.name == "plain" and path.reason
    with pytest.raises(ModelError, match="prefix sharing"):
        choose_path(model_of(family), 0, "tree")


@pytest.mark.parametrize("width", [1, 3, 17, 64, 1000])
def test_any_width_and_order(width: int) -> None:
    model, items = model_of("llama"), questions(7, longest=60)
    expected = {r.key: r.nll for r in score(model, items, 2048, 0)}
    for seed in range(2):
        random.Random(seed).shuffle(items)
        got = by_tree(model, items, width, stem=8 * seed + 1)
        for key, nll in expected.items():
            assert got[key].nll == pytest.approx(nll, rel=CLOSE, abs=CLOSE)


def test_order_does_not_change_a_bit() -> None:
    model, items = model_of("llama"), questions(5)
    first = {k: r.nll for k, r in by_tree(model, items).items()}
    again = {k: r.nll for k, r in by_tree(model, items[::-1]).items()}
    assert first == again


def test_equal_texts_tie_exactly() -> None:
    items = [item(f"q{i} {k}", [1, 5, 6, *range(10, 10 + k)], 2 + k) for i in range(3) for k in range(4)]
    got = by_tree(model_of("llama"), items)
    for k in range(4):
        assert len({got[f"q{i} {k}"].nll for i in range(3)}) == 1


def test_shared_tokens_are_read_once_and_the_head_is_left_alone() -> None:
    model, header = model_of("llama"), [1, *range(5, 205)]
    items = [item(f"q{i} {k}", [*header, 210 + i, *range(20, 40), k + 3], 223) for i in range(5) for k in range(4)]
    attention = try_tree(model, 0).attention
    assert attention is not None
    widths: list[tuple[int, ...]] = []
    hook = model.register_forward_pre_hook(
        lambda _m, _a, kwargs: widths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    list(score_tree(model, items, attention, TreeLimits(128)))
    hook.remove()
    assert widths == [(1, 128), (1, 73), (1, 105)]  # the header in two pieces, five questions in one row
    assert not model.get_output_embeddings()._forward_pre_hooks
    with pytest.raises(IndexError):
        list(score_tree(model, [item("bad ", [1, VOCAB + 5], 1)], attention, TreeLimits(8)))
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_replies_come_pass_by_pass() -> None:
    model, passes = model_of("llama"), list[int]()
    items = [item(f"q{i} ", [1, 3 + i, *range(10, 40)], 31) for i in range(6)]
    attention = try_tree(model, 0).attention
    assert attention is not None
    hook = model.register_forward_pre_hook(lambda *_: passes.append(1))
    replies = score_tree(model, items, attention, TreeLimits(70))
    next(replies)
    assert len(passes) == 1
    assert len(list(replies)) == 5 and len(passes) == 3
    hook.remove()


def out_of_memory(most: int) -> Callable[..., None]:
    def hook(_model: Any, _args: Any, kwargs: Any) -> None:
        if kwargs["input_ids"].numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return hook


def test_passes_are_halved_when_memory_runs_out() -> None:
    model, items = model_of("llama"), questions(3, longest=80)
    attention = try_tree(model, 0).attention
    assert attention is not None
    expected = by_tree(model, items)
    for most in (20, 0):
        hook = model.register_forward_pre_hook(out_of_memory(most), with_kwargs=True)
        got = {r.key: r for r in score_tree(model, items, attention, TreeLimits(256))}
        hook.remove()
        assert got.keys() == expected.keys()
        for key, reply in got.items():
            if most:
                assert reply.nll == pytest.approx(expected[key].nll, rel=CLOSE, abs=CLOSE)
            else:
                assert reply.nll is None and "out of memory" in reply.error


def test_errors_and_values_that_are_not_finite() -> None:
    bad = Encoded(Request("bad", "s", "ppl"), (), error="no tokens")
    got = by_tree(model_of("llama"), [bad, item("ok ", [1, 4, 5], 2)])
    assert got["bad"].error == "no tokens" and got["ok "].nll is not None
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED)).eval()
    attention = try_tree(model, 0).attention
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    assert attention is not None
    reply = next(score_tree(model, [item("x ", [1, 4, 6], 2)], attention, TreeLimits(8)))
    assert reply.nll is None and "not finite" in reply.error
    assert try_tree(model, 0).name == "plain"  # NaN never passes the check


def test_growing_rotary_tables_bound_the_length() -> None:
    config = transformers.LlamaConfig(**GROUPED, rope_scaling={"rope_type": "dynamic", "factor": 2.0})
    path = try_tree(transformers.LlamaForCausalLM(config).eval(), 0)
    assert path.name == "tree" and path.longest == 512


def test_limits_follow_the_budget() -> None:
    model, items = model_of("llama"), questions(1)
    wide, narrow = (tree_limits(model, items, tokens, None).width for tokens in (4096, 64))
    assert wide == 512 and narrow == 32
    assert tree_limits(model, items, 4096, 5).width == 5
    assert not pays(items[:1]) and not pays([])
    assert make_trie(group_equal(items)).tokens < sum(len(i.ids) for i in items)


def test_engine_takes_the_path_it_is_told(tiny_model: Path, engine_for: Any, texts: list[str]) -> None:
    requests = [Request(f"{i} {t}", f"s/{i}", "ppl", text=t + "!" * i) for t in texts[:4] for i in range(3)]
    tree = engine_for(tiny_model, options={"engine_path": "tree"})
    plain = engine_for(tiny_model, options={"engine_path": "plain"})
    assert tree.describe()["engine_path"] == "tree" and plain.describe()["engine_path"] == "plain"
    assert "passed" in tree.describe()["engine_path_reason"] and plain.describe()["engine_path_reason"]
    expected = {r.key: r.nll for r in plain.run(requests)}
    batches: list[int] = []
    tree._model.register_forward_pre_hook(
        lambda _m, _a, kwargs: batches.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    got = {r.key: r.nll for r in tree.run(requests)}
    assert set(batches) == {1}
    assert got.keys() == expected.keys()
    for key, nll in expected.items():
        assert got[key] == pytest.approx(nll, rel=CLOSE, abs=CLOSE)
    with pytest.raises(ConfigError, match="unknown engine_path 'three'"):
        engine_for(tiny_model, options={"engine_path": "three"})


def test_auto_goes_plain_where_little_is_shared_or_texts_are_too_long(
    tiny_model: Path, engine_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_for(tiny_model, options={"engine_path": "auto"})
    assert engine.describe()["engine_path"] == "tree"
    rows: list[int] = []
    engine._model.register_forward_pre_hook(
        lambda _m, _a, kwargs: rows.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    header = "Question: what is the number of words? " * 30
    few = [Request(f"{i}", "s", "ppl", text=f"word {i}") for i in range(4)]
    many = [Request(f"{i}", "s", "ppl", text=f"{header}{i}") for i in range(20)]
    assert len(list(engine.run(few))) == 4 and max(rows) == 4
    rows.clear()
    assert len(list(engine.run(many))) == 20 and max(rows) == 1
    monkeypatch.setattr(engine, "_path", check.ScorePath(engine._path.attention, "", longest=40))
    rows.clear()
    assert len(list(engine.run([*many, *few]))) == 24 and max(rows) > 1
