"""Batches are halved when memory runs out; the shortage is simulated by a hook on a real model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evalkit.core.records import GenSettings, ModelSpec, Request
from evalkit.engines.hf.load.faults import explain
from evalkit.engines.hf.memory import is_oom

CPU_TEXT = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
SHORTAGES: list[Callable[[], Exception]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    lambda: RuntimeError(CPU_TEXT),
]


def limit_rows(engine: Any, most: int, error: Callable[[], Exception]) -> list[int]:
    """Forward passes of more than `most` rows fail; returns the sizes of those that were tried."""
    sizes: list[int] = []

    def hook(_model: Any, _args: Any, kwargs: Any) -> None:
        sizes.append(kwargs["input_ids"].shape[0])
        if sizes[-1] > most:
            raise error()

    engine._model.register_forward_pre_hook(hook, with_kwargs=True)
    return sizes


def requests(mode: str) -> list[Request]:
    texts = ["The answer is " * (i + 1) for i in range(8)]
    if mode == "ppl":
        return [Request(str(i), "s/0", "ppl", text=t) for i, t in enumerate(texts)]
    return [Request(str(i), "s/0", "gen", text=t, gen=GenSettings(5)) for i, t in enumerate(texts)]


@pytest.mark.parametrize("error", SHORTAGES)
@pytest.mark.parametrize("mode", ["ppl", "gen"])
def test_batches_are_halved_until_they_fit(
    mode: str, error: Callable[[], Exception], tiny_model: Path, engine_for: Any
) -> None:
    expected = {r.key: r for r in engine_for(tiny_model).run(requests(mode))}
    engine = engine_for(tiny_model, options={"engine_path": "plain"})
    sizes = limit_rows(engine, 2, error)
    replies = list(engine.run(requests(mode)))
    assert sizes[:3] == [8, 4, 2]
    assert sorted(r.key for r in replies) == sorted(expected)
    for reply in replies:
        assert reply.error == ""
        assert reply.text == expected[reply.key].text
        nll = expected[reply.key].nll
        assert reply.nll == (nll if nll is None else pytest.approx(nll, rel=1e-5, abs=1e-5))


@pytest.mark.parametrize("way", ["plain", "auto"])
@pytest.mark.parametrize("mode", ["ppl", "gen"])
def test_a_row_that_does_not_fit_alone_is_an_error_reply(
    way: str, mode: str, tiny_model: Path, engine_for: Any
) -> None:
    engine = engine_for(tiny_model, options={"engine_path": way})

    def hook(_model: Any, _args: Any, kwargs: Any) -> None:
        if kwargs["input_ids"].numel() > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")

    engine._model.register_forward_pre_hook(hook, with_kwargs=True)
    replies = {r.key: r for r in engine.run(requests(mode))}
    assert len(replies) == 8
    assert "out of memory" in replies["7"].error
    assert replies["0"].error == ""


def test_other_errors_pass_through(tiny_model: Path, engine_for: Any) -> None:
    engine = engine_for(tiny_model)
    limit_rows(engine, 0, lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        list(engine.run(requests("ppl")))


def test_shortage_while_loading_has_a_hint() -> None:
    error = explain(torch.OutOfMemoryError("CUDA out of memory"), "the model", ModelSpec("m", ".", "base"))
    assert "not enough memory" in error.message and "dtype" in error.hint
    assert not is_oom(ValueError("CUDA out of memory"))
