"""vllm and lmdeploy by doubles of their interface: the same tokens, scores and cuts as the hf engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.errors import ConfigError, ModelError
from evalkit.core.records import GenSettings, ModelSpec, Reply, Request, Turn
from evalkit.engines.catalog import create_engine
from evalkit.engines.external.engine import fault
from tests.engines.doubles import fake_lmdeploy, fake_vllm

FAKES = {"vllm": fake_vllm, "lmdeploy": fake_lmdeploy}
CONTEXT = "Question: what is the number of words?\nAnswer:"


def spec_of(path: Path, engine: str, kind: Any = "base", **changes: Any) -> ModelSpec:
    return ModelSpec("m", str(path), kind, engine=engine, **changes)


def requests() -> list[Request]:
    """Full texts of two options, the same option twice, continuations of several tokens, and errors."""
    texts = [CONTEXT + " 5", CONTEXT + " forty two words", CONTEXT + " 5", ""]
    made = [Request(f"p{i}", "s/0", "ppl", text=text) for i, text in enumerate(texts)]
    for i, rest in enumerate((" 5", " forty two words", "")):
        made.append(Request(f"l{i}", "s/0", "ll", text=CONTEXT, continuation=rest))
    return made


def generations(chat: bool) -> list[Request]:
    """Prompts with and without stop strings."""
    made = []
    for i, text in enumerate(("The answer is", "def f(x):", "你好")):
        turns = (Turn("user", text),) if chat else ()
        for stop in ((), ("e", "。")):
            gen = GenSettings(20, stop=stop)
            made.append(Request(f"{i}{stop}", "s/0", "gen", "" if chat else text, turns, gen=gen))
    return made


def by_key(replies: Sequence[Reply]) -> dict[str, Reply]:
    found = {reply.key: reply for reply in replies}
    assert len(found) == len(replies)
    return found


@pytest.mark.parametrize("name", FAKES)
def test_scores_are_those_of_the_hf_engine(
    tiny_model: Path, engine_for: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    FAKES[name](monkeypatch)
    engine = create_engine(spec_of(tiny_model, name))
    got, wanted = by_key(list(engine.run(requests()))), by_key(list(engine_for(tiny_model).run(requests())))
    facts = engine.describe()
    engine.close()
    assert set(got) == set(wanted)
    for key, reply in wanted.items():
        assert got[key].error == reply.error and got[key].n_tokens == reply.n_tokens
        assert got[key].nll == (reply.nll if reply.nll is None else pytest.approx(reply.nll, rel=2e-5, abs=2e-5))
    assert got["p0"].nll == got["p2"].nll and got["p3"].error and got["l2"].error
    assert facts["log_probabilities"] == "a probe scored a short text" and facts["engine"] == name


@pytest.mark.parametrize("name", FAKES)
@pytest.mark.parametrize("chat", [False, True], ids=["base", "chat"])
def test_outputs_are_those_of_the_hf_engine(
    tiny_model: Path, tiny_chat_model: Path, engine_for: Any, monkeypatch: pytest.MonkeyPatch, name: str, chat: bool
) -> None:
    seen = FAKES[name](monkeypatch)
    path, kind = (tiny_chat_model, "chat") if chat else (tiny_model, "base")
    engine = create_engine(spec_of(path, name, kind))
    got = by_key(list(engine.run(generations(chat))))
    wanted = by_key(list(engine_for(path, kind=kind).run(generations(chat))))
    engine.close()
    assert {k: r.text for k, r in got.items()} == {k: r.text for k, r in wanted.items()}
    assert {k: r.finish for k, r in got.items()} == {k: r.finish for k, r in wanted.items()}
    assert {r.finish for r in got.values()} >= {"stop", "length"}
    assert {k: r.n_tokens for k, r in got.items()} == {k: r.n_tokens for k, r in wanted.items()}
    if name == "lmdeploy":
        assert seen.most_busy > 1, "several requests at once"


def test_vllm_is_told_what_matters(tiny_chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fake_vllm(monkeypatch)
    spec = spec_of(
        tiny_chat_model, "vllm", "chat", gpus=2, max_seq_len=100, dtype="bfloat16", trust_remote_code=True,
        options={"gpu_memory_utilization": 0.5, "quantization": "awq"},
    )  # fmt: skip
    engine = create_engine(spec)
    (load,) = seen.loads
    assert load.enable_prefix_caching is True and load.tensor_parallel_size == 2 and load.dtype == "bfloat16"
    assert (load.max_model_len, load.gpu_memory_utilization, load.quantization) == (101, 0.5, "awq")
    assert load.trust_remote_code is True and engine.describe()["max_seq_len"] == 100
    drawn = GenSettings(9, ("x",), temperature=0.5, top_p=0.9, top_k=7, seed=3)
    asked = [Request(f"k{i}", "s/0", "gen", turns=(Turn("user", "Hi"),), gen=drawn, repeat=i) for i in range(2)]
    list(engine.run(asked))
    first, second = seen.params[-2:]
    assert (first.temperature, first.top_p, first.top_k, first.max_tokens) == (0.5, 0.9, 7, 9)
    assert first.seed != second.seed and 0 <= first.seed < 2**31
    assert "x" in first.stop and "<|im_end|>" in first.stop and first.skip_special_tokens is False
    assert seen.prompts[-1].count(engine._encoder.tokenizer.bos_token_id) == 1
    off = create_engine(spec_of(tiny_chat_model, "vllm", "chat", options={"prefix_caching": False}))
    assert seen.loads[-1].enable_prefix_caching is False
    assert off.describe()["max_seq_len"] == 8191, "one token is vllm's own"


def test_vllm_takes_an_adapter(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fake_vllm(monkeypatch)
    (tmp_path / "adapter_config.json").write_text('{"r": 64}')
    create_engine(spec_of(tiny_model, "vllm", peft_path=str(tmp_path)))
    assert seen.loads[0].enable_lora is True and seen.loads[0].max_lora_rank == 64


def test_long_texts_are_cut_and_fit(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_vllm(monkeypatch)
    engine = create_engine(spec_of(tiny_model, "vllm", max_seq_len=30))
    long = "Therefore the answer is 12. " * 30
    scored, written = engine.run(
        [Request("p", "s/0", "ppl", text=long), Request("g", "s/0", "gen", text=long, gen=GenSettings(8))]
    )
    assert scored.truncated and scored.n_tokens == 30 and scored.nll
    assert written.truncated and written.n_tokens == 22 and written.text is not None


def test_lmdeploy_is_told_what_matters(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fake_lmdeploy(monkeypatch)
    engine = create_engine(spec_of(tiny_model, "lmdeploy", gpus=2, max_seq_len=64, options={"max_batch_size": 2}))
    (load,) = seen.loads
    assert (load.tp, load.session_len, load.enable_prefix_caching) == (2, 65, False)
    before = len(seen.scored)
    list(engine.run(requests()))
    asked = [tuple(ids) for ids in seen.scored[before:]]
    assert len(asked) == len(set(asked)) == 3, "each text once, and the context of the continuations once"
    drawn = GenSettings(9, temperature=0.5, top_p=0.9, top_k=7, seed=3)
    list(engine.run([Request("k", "s/0", "gen", text="Hi", gen=drawn)]))
    config = seen.configs[-1]
    assert config.do_sample and (config.temperature, config.top_p, config.top_k) == (0.5, 0.9, 7)
    assert config.random_seed >= 0 and config.max_new_tokens == 9
    engine.close()


def test_lmdeploy_caches_prefixes_for_chat_models(tiny_chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fake_lmdeploy(monkeypatch)
    engine = create_engine(spec_of(tiny_chat_model, "lmdeploy", "chat"))
    assert seen.loads[0].enable_prefix_caching is True
    assert len(list(engine.run(generations(True)))) == 6
    with pytest.raises(ModelError, match="while it caches prefixes") as caught:
        list(engine.run(requests()))
    assert "prefix_caching=false" in caught.value.hint
    engine.close()


def test_lmdeploy_refuses_what_turbomind_cannot(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_lmdeploy(monkeypatch)
    with pytest.raises(ModelError, match="does not compute in float32"):
        create_engine(spec_of(tiny_model, "lmdeploy", dtype="float32"))
    with pytest.raises(ModelError, match="takes no adapters"):
        create_engine(spec_of(tiny_model, "lmdeploy", peft_path="x"))


def test_a_refused_request_is_an_error_of_its_own(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_lmdeploy(monkeypatch)
    engine = create_engine(spec_of(tiny_model, "lmdeploy", max_seq_len=64))
    engine._backend._pipe.async_engine.config.session_len = 8
    short, long = (Request(t, "s/0", "gen", text=t, gen=GenSettings(4)) for t in ("Hi", "The answer is " * 6))
    replies = by_key(list(engine.run([short, long])))
    assert replies["Hi"].text is not None
    assert replies[long.key].error.startswith("lmdeploy: context_length_exceeded")
    engine.close()


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda x: None, "are missing"),
        (lambda x: -11.0, "all tokens have the same"),
        (lambda x: float("nan"), "not finite"),
        (lambda x: -x, "a lower sum"),
    ],
    ids=["none", "constant", "nan", "wrong sign"],
)
def test_useless_log_probabilities_are_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, break_it: Callable[[float], Any], why: str
) -> None:
    fake_vllm(monkeypatch, break_it)
    engine = create_engine(spec_of(tiny_model, "vllm"))
    assert why in str(engine.describe()["log_probabilities"])
    with pytest.raises(ModelError, match="gives no usable log-probabilities") as caught:
        list(engine.run(requests()))
    assert why in caught.value.message and "--engine hf" in caught.value.hint
    assert len(list(engine.run(generations(False)))) == 6, "outputs need none"


def test_values_that_change_with_what_was_asked_before_are_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vllm(monkeypatch, stale=True)
    engine = create_engine(spec_of(tiny_model, "vllm"))
    with pytest.raises(ModelError, match="with what was asked before"):
        list(engine.run(requests()))
    assert len(list(engine.run(generations(False)))) == 6, "outputs need none"


def test_vllm_gives_no_log_probabilities_while_it_caches_prefixes(
    tiny_model: Path, tiny_chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = fake_vllm(monkeypatch)
    create_engine(spec_of(tiny_model, "vllm"))
    assert seen.loads[-1].enable_prefix_caching is False, "a base model is scored"
    asked = len(seen.prompts)
    cached = (spec_of(tiny_chat_model, "vllm", "chat"), spec_of(tiny_model, "vllm", options={"prefix_caching": True}))
    for spec in cached:
        engine = create_engine(spec)
        assert seen.loads[-1].enable_prefix_caching is True and engine.describe()["prefix_caching"] is True
        with pytest.raises(ModelError, match="while it caches prefixes") as caught:
            list(engine.run(requests()))
        assert "prefix_caching=false" in caught.value.hint
        assert len(seen.prompts) == asked
    chat = create_engine(spec_of(tiny_chat_model, "vllm", "chat", options={"prefix_caching": False}))
    assert all(r.nll for r in chat.run(requests()) if not r.error)


def test_constant_means_are_refused(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_lmdeploy(monkeypatch, ppl=lambda mean: 11.0)
    engine = create_engine(spec_of(tiny_model, "lmdeploy"))
    with pytest.raises(ModelError, match="all tokens have the same"):
        list(engine.run(requests()))
    engine.close()


def test_fault_names_the_fault() -> None:
    assert fault([1.0, 3.5, 4.0]) == ""
    assert fault([1.0, 3.5, 3.4]) == "", "a difference in half precision may be a little off"
    assert "are missing" in fault([1.0, None]) and "lower sum" in fault([1.0, 3.0, 1.5])


@pytest.mark.parametrize("name", FAKES)
def test_absent_package_is_said(tiny_model: Path, name: str) -> None:
    if find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    with pytest.raises(ModelError, match=f"needs the package {name}") as caught:
        create_engine(spec_of(tiny_model, name))
    assert f"evalkit[{name}]" in caught.value.hint


def test_a_model_that_does_not_load_is_said(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_vllm(monkeypatch)
    with pytest.raises(ModelError, match="vllm cannot load .* greater than the derived 8192"):
        create_engine(spec_of(tiny_model, "vllm", max_seq_len=9000))
    with pytest.raises(ConfigError, match="unknown option 'gpu_memory'"):
        create_engine(spec_of(tiny_model, "vllm", options={"gpu_memory": 0.5}))
