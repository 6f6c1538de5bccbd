"""Adapters, quantization, templates, prompts and attention of the hf engine, and what tells base from chat."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.errors import ConfigError, ModelError
from evalkit.core.records import GenSettings, ModelSpec, Reply, Request, Turn
from evalkit.engines import checkpoint
from evalkit.engines.hf.tokens import render_chat
from evalkit.plan.options import RunOptions
from evalkit.plan.plan import make_plan
from tests import helpers

Ask = Callable[..., Request]


def options(*paths: Path, **more: Any) -> RunOptions:
    return RunOptions(hf_paths=tuple(map(str, paths)), datasets=("gsm8k",), data_root="samples", **more)


def one(engine: Any, request: Request) -> Reply:
    (reply,) = engine.run([request])
    return reply


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter on the tiny model, with weights that change its answers."""
    peft = pytest.importorskip("peft", reason="peft is an extra")
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("adapters") / "lora"
    peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


def test_adapter_is_applied_exactly(tiny_model: Path, adapter: Path, engine_for: Any, ppl: Ask) -> None:
    """Scores of the engine with an adapter are those of the weights with the low-rank product added by hand."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = "Question: what is the number of words? The answer is 5"
    bare, engine = engine_for(tiny_model), engine_for(tiny_model, peft_path=str(adapter))
    got = one(engine, ppl(text)).nll
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    weights = load_file(adapter / "adapter_model.safetensors")
    with torch.no_grad():
        for name in (n for n in weights if n.endswith("lora_A.weight")):
            module = model.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
            module.weight += 2.0 * weights[name.replace("lora_A", "lora_B")] @ weights[name]
        ids = torch.tensor([AutoTokenizer.from_pretrained(tiny_model)(text)["input_ids"]])
        loss = model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1) / ids.shape[1]
    assert got == pytest.approx(loss, rel=1e-5, abs=1e-5)
    assert abs(got - one(bare, ppl(text)).nll) > 1e-3
    assert engine.describe()["adapter"] == str(adapter)


def test_adapter_of_another_model_is_refused(
    tiny_model: Path, adapter: Path, copy_of: Any, edit_json: Any, engine_for: Any
) -> None:
    other = copy_of(adapter)
    edit_json(other / "adapter_config.json", target_modules=["q_proj", "v_proj", "o_proj"])
    with pytest.raises(ModelError, match="has no weights for"):
        engine_for(tiny_model, peft_path=str(other))


def test_adapter_on_the_command_line(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    args = ("--datasets", "gsm8k_gen_17d0dc", "--data-root", "samples", "--limit", 1, "--max-seq-len", 4096)
    short = ("--set", "gsm8k_gen_17d0dc:gen.max_out_len=4", "--work-dir", tmp_path, "--json")
    done = helpers.run("--hf-path", tiny_model, "--peft-path", adapter, *args, *short)
    assert done.returncode == 0, done.stderr
    assert {s["model"] for s in json.loads(done.stdout)["scores"]} == {"tiny+lora"}
    wrong = helpers.run("--hf-path", adapter, *args, *short)
    assert wrong.returncode == 2 and "is a PEFT adapter" in wrong.stderr and "--peft-path" in wrong.stderr


def test_adapter_is_in_the_fingerprint(tiny_model: Path, adapter: Path) -> None:
    def mark(**model: Any) -> str:
        (found,) = make_plan(options(tiny_model, model_options=model)).plan.fingerprints.values()
        return found

    assert mark() != mark(peft_path=str(adapter))


def test_chat_template_decides_the_kind(tiny_model: Path, tiny_chat_model: Path) -> None:
    planned = make_plan(options(tiny_model, tiny_chat_model))
    assert [m.kind for m in planned.plan.models.values()] == ["base", "chat"]
    assert [p.benchmark for p in planned.plan.pairs] == ["gsm8k_gen_17d0dc", "gsm8k_gen_1d7fe4"]
    (forced,) = make_plan(options(tiny_chat_model, kind="base")).plan.models.values()
    assert forced.kind == "base"


def test_system_prompt_and_template_reach_the_model(tiny_chat_model: Path) -> None:
    from transformers import AutoTokenizer

    from evalkit.engines.hf.tokens import Encoder

    tokenizer = AutoTokenizer.from_pretrained(tiny_chat_model)
    spec = ModelSpec("m", str(tiny_chat_model), "chat", system_prompt="Be brief.")
    request = Request("k", "s/0", "gen", turns=(Turn("user", "Hi"),), gen=GenSettings(8))
    ids = Encoder(tokenizer, spec, 512, len(tokenizer)).encode(request).ids
    text = tokenizer.decode(ids)
    assert text.startswith("<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi")
    assert text.count("<s>") == 1
    own = replace(spec, chat_template="{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
    assert render_chat(tokenizer, request.turns, own) == "[user]Hi"
    tokenizer.chat_template = None
    assert render_chat(tokenizer, request.turns, own) == "[user]Hi"
    with pytest.raises(ModelError, match="no chat template"):
        render_chat(tokenizer, request.turns, spec)


def test_a_base_model_takes_no_system_prompt(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="system_prompt is given, but a base model"):
        make_plan(options(tiny_model, model_options={"system_prompt": "x"}))


def test_attention_is_chosen_and_recorded(tiny_model: Path, engine_for: Any, ppl: Ask) -> None:
    eager, chosen = engine_for(tiny_model, attn_implementation="eager"), engine_for(tiny_model)
    assert eager.describe()["attn_implementation"] == "eager"
    assert chosen.describe()["attn_implementation"] == "sdpa"
    nll = one(chosen, ppl("The answer is 5")).nll
    assert one(eager, ppl("The answer is 5")).nll == pytest.approx(nll, rel=1e-4, abs=1e-4)
    with pytest.raises(ModelError):
        engine_for(tiny_model, attn_implementation="nonesuch")


def test_quantization_without_bitsandbytes(tiny_model: Path, engine_for: Any) -> None:
    with pytest.raises(ConfigError, match="unknown quantization '9bit'"):
        engine_for(tiny_model, options={"quantization": "9bit"})
    if find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(ModelError, match="needs the package bitsandbytes") as caught:
        make_plan(options(tiny_model, overrides=("model.options.quantization=8bit",)))
    assert "evalkit[quantization]" in caught.value.hint


@pytest.mark.parametrize("name", ["8bit", "4bit"])
def test_quantized_weights_score_nearly_the_same(tiny_model: Path, engine_for: Any, ppl: Ask, name: str) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is an extra")
    text = "Question: what is the number of words? The answer is 5"
    engine = engine_for(tiny_model, options={"quantization": name})
    assert engine.describe()["quantization"] == name
    whole, packed = one(engine_for(tiny_model), ppl(text)).nll, one(engine, ppl(text)).nll
    assert packed != whole and packed == pytest.approx(whole, rel=0.1 if name == "8bit" else 0.5)


def test_several_gpus_spread_one_model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of transformers, since there is no GPU here; and that too few GPUs are an error."""
    import torch

    from evalkit.engines.hf.load.device import pick_device
    from evalkit.engines.hf.load.load import _arguments

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    spec = ModelSpec("m", str(tiny_model), "base", gpus=2)
    assert _arguments(spec, pick_device("auto", 2))["device_map"] == "auto"
    assert "device_map" not in _arguments(replace(spec, gpus=1), pick_device("auto", 1))
    with pytest.raises(ModelError, match="over 3 GPUs, but 2 CUDA devices"):
        pick_device("auto", 3)


def test_a_model_that_is_spread_scores_the_same(tiny_model: Path, tmp_path: Path) -> None:
    """The dispatch that several GPUs take, here between memory and disk."""
    import torch

    from evalkit.engines.hf.load.load import load_model
    from evalkit.engines.hf.score.plain import token_losses

    places = {"model.layers.1": "disk"} | dict.fromkeys(
        ("model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head"), "cpu"
    )
    spec = ModelSpec("m", str(tiny_model), "base")
    spread, report = load_model(spec, {"device_map": places, "offload_folder": str(tmp_path), "dtype": "auto"})
    assert not report["missing_keys"] and set(spread.hf_device_map.values()) == {"cpu", "disk"}
    whole, _ = load_model(spec, {"dtype": "auto"})
    rows = [[1, 5, 9, 700, 42], [1, 3, 4]]
    for a, b in zip(token_losses(spread.eval(), rows, 0), token_losses(whole.eval(), rows, 0), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def remote(folder: Path) -> Path:
    (folder / "model_configs").mkdir(parents=True)
    text = "path: org/never-fetched\nkind: chat\nneeds_remote_code: true\n"
    (folder / "model_configs" / "far.yaml").write_text(text)
    return folder


def test_remote_code_is_refused_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[str] = []
    monkeypatch.setattr(checkpoint, "fetch_checkpoint", lambda path, revision="": touched.append(path))
    named = {"models": ("far",), "config_dirs": (str(remote(tmp_path)),)}
    with pytest.raises(ModelError, match="far runs code that comes with the checkpoint") as caught:
        make_plan(options(**named))
    assert "--trust-remote-code" in caught.value.hint and not touched
    make_plan(options(**named, model_options={"trust_remote_code": True}))
    assert touched == ["org/never-fetched"]
