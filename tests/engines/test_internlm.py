"""InternLM2 checkpoints against their equations in plain torch (`internlm_layout`)."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec, Request
from evalkit.engines.hf.internlm.model import InternLM2ForCausalLM, load_internlm
from evalkit.engines.hf.load.load import load
from tests import helpers
from tests.engines.internlm_layout import REMOTE, Layout, random_weights, reference_logits, write_checkpoint

Write = Callable[..., tuple[Path, dict[str, torch.Tensor]]]
DYNAMIC, LINEAR = {"type": "dynamic", "factor": 2.0}, {"type": "linear", "factor": 2.5}
RESAVED = {"rope_theta": 1e6, "rope_type": "linear", "factor": 2.5}
LAYOUTS = {
    "gqa": Layout(),
    "mha with bias": Layout(kv_heads=4, bias=True),
    "one key-value head": Layout(kv_heads=1, bias=True),
    "sharded": Layout(shards=3, theta=1e6),
    "sharded .bin": Layout(shards=2, binary=True, bias=True),
    "tied": Layout(tied=True),
    "linear": Layout(rope_scaling=LINEAR),
    "as transformers 5 saves it": Layout(
        rope_scaling=LINEAR, theta=1e6, extra={"rope_scaling": None, "rope_theta": None, "rope_parameters": RESAVED}
    ),
    "dynamic, inside": Layout(rope_scaling=DYNAMIC),
    "dynamic, beyond": Layout(rope_scaling=DYNAMIC, max_positions=24),
}
TOLERANCE = 1e-4


def spec_of(path: Path, **fields: Any) -> ModelSpec:
    return ModelSpec("m", str(path), "base", **{"device": "cpu", "dtype": "float32", **fields})


def token_ids(count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return [1, *torch.randint(3, 690, (count - 1,), generator=generator).tolist()]


def logits_of(model: Any, ids: Sequence[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float()


def worst(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape and float(b.std()) > 0.5  # far from constant
    return float((a - b).abs().max())


def refused(path: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load(spec_of(path))
    assert caught.value.hint


@pytest.mark.parametrize("name", LAYOUTS)
def test_logits_are_those_of_the_equations(name: str, internlm: Write) -> None:
    layout = LAYOUTS[name]
    path, weights = internlm(layout)
    model, report = load_internlm(spec_of(path), {"dtype": torch.float32})
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert isinstance(model, InternLM2ForCausalLM)
    for count in (5, 40):
        ids = token_ids(count, seed=count)
        assert worst(logits_of(model, ids), reference_logits(weights, layout, ids)) <= TOLERANCE


@pytest.mark.parametrize("name", LAYOUTS)
def test_cached_generation_is_uncached_generation(name: str, internlm: Write) -> None:
    """Beyond the window of dynamic scaling the cached keys keep the base they were read with, as in the original."""
    layout = LAYOUTS[name]
    path, weights = internlm(layout)
    model = load(spec_of(path)).model
    prompt, new = token_ids(11), 20
    common = {"max_new_tokens": new, "do_sample": False, "eos_token_id": None, "pad_token_id": 2}
    given = {"input_ids": torch.tensor([prompt]), "attention_mask": torch.ones(1, len(prompt), dtype=torch.long)}
    cached = model.generate(**given, **common, use_cache=True, output_logits=True, return_dict_in_generate=True)
    ids = cached.sequences[0].tolist()
    read = [max(len(prompt), p + 1) for p in range(len(ids))]
    expected = reference_logits(weights, layout, ids, read)[len(prompt) - 1 : -1]
    assert worst(torch.cat(cached.logits), expected) <= TOLERANCE
    if name != "dynamic, beyond":
        assert ids == model.generate(**given, **common, use_cache=False)[0].tolist()


def test_a_dynamic_base_does_not_depend_on_order_or_batch(internlm: Write) -> None:
    from evalkit.engines.hf.score.plain import token_losses

    layout = LAYOUTS["dynamic, beyond"]
    path, weights = internlm(layout)
    model = load(spec_of(path)).model
    texts = [token_ids(n, seed=n) for n in (30, 60, 10, 24, 45)]
    expected = []
    for ids in texts:
        losses = -reference_logits(weights, layout, ids).log_softmax(-1)
        expected.append(losses[torch.arange(len(ids) - 1), torch.tensor(ids[1:])])
    together = token_losses(model, texts, pad=2)
    alone = [token_losses(model, [ids], pad=2)[0] for ids in reversed(texts)][::-1]
    for a, b, c in zip(together, alone, expected, strict=True):
        assert worst(a.float(), c) <= TOLERANCE and worst(b.float(), c) <= TOLERANCE


def test_left_padding_does_not_change_generation_beyond_the_window(internlm: Write) -> None:
    path, _ = internlm(LAYOUTS["dynamic, beyond"])
    model = load(spec_of(path)).model
    rows = [token_ids(n, seed=n) for n in (40, 13, 28)]
    common = {"max_new_tokens": 15, "do_sample": False, "eos_token_id": None, "pad_token_id": 2}
    ids = torch.tensor([[2] * (40 - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (40 - len(row)) + [1] * len(row) for row in rows])
    together = model.generate(input_ids=ids, attention_mask=mask, **common)[:, 40:].tolist()
    for row, new in zip(rows, together, strict=True):
        one = torch.tensor([row])
        alone = model.generate(input_ids=one, attention_mask=torch.ones_like(one), **common)
        assert alone[0, len(row) :].tolist() == new


def test_spread_over_places(internlm: Write, tmp_path: Path) -> None:
    """By device_map; without several GPUs a disk is the second place."""
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    layout = Layout(bias=True, shards=3)
    path, weights = internlm(layout)
    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.rotary_emb": "cpu", "model.norm": "cpu"}
    spread = {"device_map": {**places, "model.layers.1": "disk", "lm_head": "disk"}, "offload_folder": str(tmp_path)}
    model, report = load_internlm(spec_of(path), {"dtype": torch.float32, **spread})
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ids = token_ids(20)
    assert worst(logits_of(model, ids), reference_logits(weights, layout, ids)) <= TOLERANCE


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_and_auto(dtype: str, internlm: Write) -> None:
    kind = getattr(torch, dtype)
    layout = Layout(dtype=kind, shards=2)
    path, weights = internlm(layout)
    assert load(spec_of(path, dtype="auto")).model.dtype == kind
    exact = load(spec_of(path, dtype="float32")).model
    ids = token_ids(20)
    assert worst(logits_of(exact, ids), reference_logits(weights, layout, ids)) <= TOLERANCE
    half = logits_of(load(spec_of(path, dtype=dtype)).model, ids)
    assert float((half - logits_of(exact, ids)).abs().max()) < 0.1 * float(half.std())


def test_attention_is_chosen_here_and_not_by_the_checkpoint(internlm: Write) -> None:
    path, _ = internlm(Layout())
    assert load(spec_of(path)).model.config._attn_implementation == "sdpa"
    assert load(spec_of(path, attn_implementation="eager")).model.config._attn_implementation == "eager"


@pytest.mark.parametrize("trusted", [False, True])
def test_no_remote_code_runs(trusted: bool, internlm: Write) -> None:
    """The code beside the checkpoint, and what auto_map names, raises SystemExit."""
    path, _ = internlm(Layout(chat=True))
    loaded = load(spec_of(path, trust_remote_code=trusted))
    assert type(loaded.model).__module__ == "evalkit.engines.hf.internlm.model"
    assert loaded.tokenizer.is_fast and loaded.max_seq_len == 512


def test_internlm1_has_llamas_names_and_a_bias(internlm: Write, small_pieces: Path, tmp_path: Path) -> None:
    """q, k, v as rows of their own, `rotary` in place of rope_theta; dynamic with the factor 1."""
    layout = Layout(kv_heads=4, bias=True, rope_scaling={"type": "dynamic", "factor": 1.0}, max_positions=24)
    fused = random_weights(layout)
    names = {
        "tok_embeddings": "embed_tokens", "output.weight": "lm_head.weight", "attention.wo": "self_attn.o_proj",
        "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj", "feed_forward.w3": "mlp.up_proj",
        "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    }  # fmt: skip
    weights: dict[str, torch.Tensor] = {}
    for name, value in fused.items():
        if "wqkv" in name:
            by_head = value.split(layout.head_dim)  # q k v q k v, one of each a head
            for i, letter in enumerate("qkv"):
                key = name.replace("attention.wqkv", f"self_attn.{letter}_proj")
                weights[key] = torch.cat(by_head[i::3])
        else:
            weights[next((name.replace(o, n) for o, n in names.items() if o in name), name)] = value
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(layout.head_dim // 2)
    config = {"model_type": "internlm", "architectures": ["InternLMForCausalLM"], "rope_theta": None}
    changed = Layout(**{**vars(layout), "extra": {**config, "rotary": {"base": 10000, "type": "dynamic"}}})
    path = tmp_path / "internlm1"
    write_checkpoint(path, changed, small_pieces, weights)
    raw = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if not k.startswith("rope_")}))
    loaded = load(spec_of(path))
    assert loaded.unexpected_keys == () and type(loaded.model).__name__ == "InternLMForCausalLM"
    for ids in (token_ids(9), token_ids(50)):
        assert worst(logits_of(loaded.model, ids), reference_logits(fused, layout, ids)) <= TOLERANCE


VARIANTS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "reward": ({"architectures": ["InternLM2ForRewardModel"]}, "InternLM2ForRewardModel"),
    "classifier": ({"architectures": ["InternLM2ForSequenceClassification"]}, "ForSequenceClassification"),
    "xcomposer": (
        {"architectures": ["InternLMXComposer2ForCausalLM"], "model_type": "internlmxcomposer2"},
        "InternLMXComposer2ForCausalLM",
    ),
    "yarn": ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "rope scaling"),
    "factor": ({"rope_scaling": {"type": "dynamic", "factor": 0.5}}, "rope scaling"),
    "heads": ({"num_key_value_heads": 3}, "shapes|heads"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_what_it_would_compute_wrongly_is_refused(name: str, internlm: Write) -> None:
    changes, match = VARIANTS[name]
    path, _ = internlm(Layout(extra=changes))
    refused(path, match)


def test_weights_without_a_place_are_refused(internlm: Write) -> None:
    layout = Layout()
    extra = {"model.layers.0.attention.wqkv.Plora_A.weight": torch.ones(2, 2), "v_head.weight": torch.ones(1, 64)}
    path, _ = internlm(layout, {**random_weights(layout), **extra})
    refused(path, "2 weights that internlm2 does not have")


def test_missing_weights_are_named(internlm: Write) -> None:
    layout = Layout()
    weights = {k: w for k, w in random_weights(layout).items() if "layers.1.attention.wqkv" not in k}
    path, _ = internlm(layout, weights)
    refused(path, "3 weights are missing")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_is_not_finite_is_refused(value: float, internlm: Write) -> None:
    """Row 3 is a query's, which fused attention would hide."""
    layout = Layout()
    weights = random_weights(layout)
    weights["model.layers.1.attention.wqkv.weight"][3, 5] = value
    path, _ = internlm(layout, weights)
    refused(path, "not finite")


def test_shared_prefixes_and_streaming_fit(internlm: Write, engine_for: Callable[..., Any]) -> None:
    """The engine's own self-checks at load, and the same numbers by all ways; also past a dynamic window."""
    from evalkit.core.records import GenSettings

    path, _ = internlm(Layout(rope_scaling=DYNAMIC, max_positions=64, bias=True))
    plain = engine_for(path, max_seq_len=200)
    shared = engine_for(path, max_seq_len=200, options={"engine_path": "tree", "generation_path": "stream"})
    facts = shared.describe()
    assert facts["engine_path"] == "tree" and "self-check passed" in facts["engine_path_reason"]
    assert facts["generation_path"] == "stream", facts["generation_path_reason"]
    head = "Question: what is the number of words? "
    texts = [head + tail for tail in ("yes", "no", "it is that 12 = 3", "one or two " * 20)]
    gen = GenSettings(max_out_len=12)
    requests = [Request(f"p{i}", "s/0", "ppl", text=t) for i, t in enumerate(texts)]
    requests += [Request(f"g{i}", "s/0", "gen", text=t, gen=gen) for i, t in enumerate(texts[:3])]
    a, b = ({r.key: r for r in engine.run(requests)} for engine in (plain, shared))
    assert len(a) == len(b) == 7 and a["p3"].n_tokens > 64
    for key in a:
        assert not a[key].error and a[key].text == b[key].text
        if a[key].nll is not None:
            assert a[key].nll == pytest.approx(b[key].nll, rel=1e-5, abs=1e-5)


def test_the_end_of_a_turn_is_known_from_the_template(internlm: Write, engine_for: Callable[..., Any]) -> None:
    """Also where the generation config does not name it."""
    path, _ = internlm(Layout(chat=True))
    for content in ({"eos_token_id": [2, 698]}, {"eos_token_id": 2}):
        (path / "generation_config.json").write_text(json.dumps(content))
        stop_criteria = engine_for(path, kind="chat")._stop_criteria
        assert set(stop_criteria.chat_ids) == {2, 698} and "<|im_end|>" in stop_criteria.chat_strings
    assert stop_criteria.base_ids == (2,)


def test_internlm3_is_left_to_transformers(tiny_model: Path, tmp_path: Path) -> None:
    """Its hub checkpoints name remote code too; the class of transformers is taken."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, InternLM3Config

    sizes = {"vocab_size": 2048, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    config = InternLM3Config(**sizes, num_attention_heads=4, num_key_value_heads=2)
    model = AutoModelForCausalLM.from_config(config)
    path = tmp_path / "internlm3"
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(path)
    raw = json.loads((path / "config.json").read_text())
    auto = {"AutoConfig": "code.InternLM3Config", "AutoModelForCausalLM": "code.InternLM3ForCausalLM"}
    (path / "config.json").write_text(json.dumps({**raw, "auto_map": auto}))
    (path / "code.py").write_text(REMOTE)
    assert type(load(spec_of(path)).model) is type(model)


def test_the_command_runs_it(internlm: Write, tmp_path: Path) -> None:
    """A base model by --hf-path and a chat model by a config, to one table; reward models fail by name."""
    (base, _), (chat, _) = internlm(Layout(max_positions=4096)), internlm(Layout(max_positions=4096, chat=True))
    (reward, _) = internlm(Layout(extra={"architectures": ["InternLM2ForRewardModel"]}))
    (tmp_path / "configs" / "model_configs").mkdir(parents=True)
    file = tmp_path / "configs" / "model_configs" / "own_chat.yaml"
    file.write_text(f"path: {chat}\nkind: chat\nmax_new_tokens: 16\nend_strings: ['<|im_end|>']\n")
    done = helpers.run(
        "--hf-path", base, reward, "--models", "own_chat", "--config-dir", tmp_path / "configs", "--datasets",
        "winogrande", "--data-root", "samples", "--work-dir", tmp_path / "out", "--max-out-len", 16,
    )  # fmt: skip
    assert done.returncode == 1 and "is InternLM2ForRewardModel, not one of" in done.stdout, done.stderr
    folder = helpers.run_folder(tmp_path / "out")
    assert (folder / "manifest.json").read_text().count('"InternLM2ForCausalLM"') == 2
    with (folder / "report" / "summary.csv").open() as lines:
        rows = {row["mode"]: row for row in csv.DictReader(lines)}
    assert rows["gen"]["own_chat"] and rows["gen"]["n"] == "6/6"
    assert rows["ll"][base.name] and rows["ll"]["n"] == "6/6 0/0" and not rows["ll"][reward.name]
