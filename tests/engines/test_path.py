"""Long prompts one at a time along what they share: the same outputs, less work, tables of their own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path as File
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from evalkit.core.records import GenSettings, Request
from evalkit.engines.hf.generate.path import Path, along_path, path_fits, pays
from evalkit.engines.hf.tokens import Encoded

OUT = 6


def tiny(**more: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.2,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **more})).eval()


def greedy(model: Any, ids: Sequence[int], steps: int = OUT) -> list[int]:
    """The row alone: all of the prompt in one pass, then token by token with transformers' own cache."""
    found: list[int] = []
    with torch.inference_mode():
        out = model(input_ids=torch.tensor([list(ids)]), use_cache=True)
        while True:
            found.append(int(out.logits[0, -1].argmax()))
            if len(found) == steps:
                return found
            out = model(input_ids=torch.tensor([found[-1:]]), past_key_values=out.past_key_values, use_cache=True)


def written(path: Path, ids: Sequence[int], steps: int = OUT) -> list[int]:
    logits, found = path.prefill(tuple(ids)), []
    for _ in range(steps):
        found.append(int(logits[0].argmax()))
        logits = path.step(found[-1])
    return found


def needles(length: int, depths: Sequence[int]) -> list[list[int]]:
    """One haystack with a needle at each depth, and a question."""
    hay = [(5 * i + i // 7) % 90 for i in range(length)]
    return [[*hay[: length * d // 100], 91, 92, 93, *hay[length * d // 100 :], 95, 96] for d in depths]


@pytest.mark.parametrize("chunk", [1, 7, 64, None])
def test_outputs_are_those_of_rows_alone(chunk: int | None) -> None:
    model = tiny()
    prompts = sorted(p for length in (40, 90) for p in needles(length, (0, 30, 50, 100)))
    path = Path(model, 128, chunk)
    assert [written(path, p) for p in prompts] == [greedy(model, p) for p in prompts]


def test_what_is_shared_runs_once() -> None:
    """The work is the size of the tree of all prompts: about half, for many lengths and depths."""
    model = tiny()
    depths = [0, 10, 21, 31, 42, 52, 63, 73, 84, 94, 100]
    prompts = sorted(p for length in range(20, 161, 20) for p in needles(length, depths))
    path = Path(model, 256)
    for prompt in prompts:
        path.prefill(tuple(prompt))
    nodes = {tuple(p[:n]) for p in prompts for n in range(1, len(p) + 1)}
    repeated = sum(a == b for a, b in itertools.pairwise(prompts))
    assert path.computed == len(nodes) + repeated, "of a repeated prompt the last token is run again"
    assert path.computed < 0.58 * sum(map(len, prompts))


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_tables_are_the_rows_own_in_every_order(kind: str) -> None:
    """Beyond the steady length each row is as if it were alone, whatever was asked before and however it is cut."""
    rope: dict[str, Any] = {"rope_type": kind, "factor": 2.5, "rope_theta": 10000.0}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_position_embeddings": 64}
    more = {"max_position_embeddings": 64 if kind == "dynamic" else 256, "rope_parameters": rope}
    prompts = needles(30, (0, 100)) + needles(80, (0, 50, 100)) + needles(120, (50, 100))
    alone = [greedy(tiny(**more), p) for p in prompts]
    assert alone[-1] != greedy(tiny(), prompts[-1]), "the tables matter"
    for order in (range(len(prompts)), reversed(range(len(prompts)))):
        path = Path(tiny(**more), 160, 16)
        for number in order:
            assert written(path, prompts[number]) == alone[number], number


def test_windows_do_not_fit() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
    fits, why = path_fits(MistralForCausalLM(MistralConfig(**sizes, sliding_window=8)))
    assert not fits and "windows" in why
    assert path_fits(tiny()) == (True, "")


def encoded(ids: Sequence[int], number: int, limit: int = OUT) -> Encoded:
    return Encoded(Request(str(number), f"s/{number}", "gen", text="x", gen=GenSettings(limit)), tuple(ids))


def test_it_pays_where_long_prompts_branch() -> None:
    branching = [encoded(p, i) for i, p in enumerate(needles(2000, (0, 25, 50, 75, 100)))]
    assert pays(branching, 0, "cpu") and not pays(branching, 0, "cuda")
    apart = [encoded([i, *range(2000)], i) for i in range(4)]
    assert not pays(apart, 0, "cpu") and not pays(branching[:1], 0, "cpu")
    together = [encoded([*range(2000), i], i) for i in range(4)]
    assert not pays(together, 2000, "cpu"), "what all begin with runs once in any case"


def test_the_engine_answers_long_prompts_along_what_they_share(tiny_model: File, engine_for: Any) -> None:
    """The same texts as without sharing; chosen by itself where it pays, and by name."""
    text = "".join(f"line {i} of the text. " for i in range(160))
    prompts = [text[: len(text) * d // 100] + "the key is 7. " + text[len(text) * d // 100 :] for d in (0, 30, 60, 99)]
    asks = [Request(str(i), f"s/{i}", "gen", text=p, gen=GenSettings(4)) for i, p in enumerate(prompts)]
    plain = {r.key: r.text for r in engine_for(tiny_model, options={"generation_path": "plain"}).run(asks)}
    for way in ("auto", "path"):
        engine = engine_for(tiny_model, options={"generation_path": way})
        assert {r.key: r.text for r in engine.run(asks)} == plain
        assert engine.describe()["long_prompts"] == "along shared prefixes"


def test_no_memory_is_an_error_of_the_row(tiny_model: File, engine_for: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(tiny_model, options={"generation_path": "path"})
    model = AutoModelForCausalLM.from_pretrained(tiny_model)

    def full(*_: Any, **__: Any) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(Path, "prefill", full)
    (reply,) = along_path(model, engine._tokenizer, [encoded([1, 2], 0)], engine._stop_criteria)
    assert "out of memory" in reply.error
