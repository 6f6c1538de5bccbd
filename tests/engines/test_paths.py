"""The engine's faster ways, asked for by options, give the plain engine's replies."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.errors import ConfigError
from evalkit.core.records import GenSettings, ModelSpec, Reply, Request
from evalkit.engines.hf.engine import HFEngine

SHOTS = "One day the harbour was full of boats and every boat had a name of its own. " * 4
REQUESTS = [
    *(Request(f"p{i}{o}", f"s/{i}", "ppl", text=f"{SHOTS}No {i * 7}: {o}", label=o) for i in range(3) for o in "ABCD"),
    *(Request(f"l{o}", "s/9", "ll", text=SHOTS, label=o, continuation=f" the {o} boat") for o in "AB"),
    *(Request(f"g{i}", f"s/{i}", "gen", text=f"{SHOTS}{i} and", gen=GenSettings(6 + i)) for i in range(5)),
]  # fmt: skip


def replies(
    model: Path, requests: Sequence[Request] = REQUESTS, batch_tokens: int | None = None, **options: Any
) -> tuple[dict[str, Reply], dict[str, Any]]:
    spec = ModelSpec("m", str(model), "base", dtype="float32", max_seq_len=2048, options=options)
    engine = HFEngine(replace(spec, batch_tokens=batch_tokens))
    return {r.key: replace(r, seconds=0.0) for r in engine.run(requests)}, dict(engine.describe())


def test_faster_paths_equal_the_plain_one(tiny_model: Path) -> None:
    plain, facts = replies(tiny_model, engine_path="plain")
    assert (facts["engine_path"], facts["generation_path"]) == ("plain", "plain")
    fast, facts = replies(tiny_model, engine_path="tree", generation_path="stream")
    assert (facts["engine_path"], facts["generation_path"]) == ("tree", "stream")
    assert set(fast) == set(plain) == {r.key for r in REQUESTS}
    for key, reply in plain.items():
        if reply.nll is None:
            assert fast[key] == reply
        else:
            assert fast[key].nll == pytest.approx(reply.nll, rel=1e-5, abs=1e-5)


def test_order_and_batch_budget_change_no_prediction(tiny_model: Path) -> None:
    """In float32: texts are equal, log-probabilities agree to 1e-5, and so does which option wins."""
    first, _ = replies(tiny_model)
    for number, tokens in enumerate((1, 300, 5000)):
        order = random.Random(number).sample(REQUESTS, len(REQUESTS))
        other, _ = replies(tiny_model, order, batch_tokens=tokens)
        assert {k: r.text for k, r in other.items()} == {k: r.text for k, r in first.items()}
        for sample in ("p0", "p1", "p2"):
            values, expected = ([found[f"{sample}{o}"].nll for o in "ABCD"] for found in (other, first))
            assert values == pytest.approx(expected, rel=1e-5, abs=1e-5)
            assert values.index(min(values)) == expected.index(min(expected))


@pytest.mark.parametrize("option", ["engine_path", "generation_path"])
def test_an_unknown_path_is_refused(tiny_model: Path, option: str) -> None:
    with pytest.raises(ConfigError, match="nope"):
        replies(tiny_model, **{option: "nope"})
