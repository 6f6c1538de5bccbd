"""Counts of a forecast against the requests of a run, and its times against the clock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.core.sequences import shared_length, unique_length
from evalkit.engines.hf.score.trie import build_trie
from evalkit.engines.tokenizer import load_tokenizer
from evalkit.plan.forecast import calibrated, duration, forecast
from evalkit.plan.options import RunOptions
from evalkit.plan.plan import make_plan
from tests import helpers

IDS = st.lists(st.integers(0, 3), min_size=1, max_size=12).map(tuple)


@given(st.lists(IDS, min_size=1, max_size=30, unique=True))
def test_unique_length_is_the_size_of_the_trie(texts: list[tuple[int, ...]]) -> None:
    assert unique_length(texts) == build_trie(texts, [0] * len(texts)).tokens


@given(IDS, IDS)
def test_shared_length_is_that_of_a_walk(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    walked = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    assert shared_length(first, second) == (min(len(first), len(second)) if walked is None else walked)


def options(model: Path, *datasets: str) -> RunOptions:
    return RunOptions(hf_paths=(str(model),), datasets=datasets, data_root="samples")


def test_counts_of_small_subsets_are_exact(tiny_model: Path) -> None:
    planned = make_plan(options(tiny_model, helpers.MMLU))
    (found,) = forecast(planned)
    encode = load_tokenizer(str(tiny_model)).encode
    (pair,) = planned.runnable
    task, sent, unique = planned.plan.task(pair), 0, 0
    for subset in task.scored:
        ids = [tuple(encode(r.text)) for s in task.samples(subset) for r in planned.plan.requests(pair, s)]
        sent, unique = sent + sum(map(len, ids)), unique + build_trie(ids, [0] * len(ids)).tokens
    assert (found.tokens, found.unique) == (sent, unique)
    assert (found.samples, found.requests, found.written) == (32, 128, 0)
    assert found.unique * 4 < found.tokens


def test_larger_subsets_are_drawn_on(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = make_plan(options(tiny_model, helpers.MMLU))
    (exact,) = forecast(planned)
    monkeypatch.setattr("evalkit.plan.forecast.COUNTED", 4)
    (guess,) = forecast(planned)
    assert guess.requests == exact.requests
    assert guess.tokens == pytest.approx(exact.tokens, rel=0.1)
    assert guess.unique == pytest.approx(exact.unique, rel=0.1)


def test_calibration_gives_time_and_memory(tiny_model: Path) -> None:
    planned = make_plan(options(tiny_model, helpers.MMLU, "gsm8k_gen_17d0dc"))
    for item in calibrated(planned, forecast(planned)):
        assert item.seconds is not None and 0 < item.seconds < 300
        assert item.memory is not None and item.memory > 50 << 20
        assert item.written == (0 if item.mode == "ppl" else 16 * 512)


def test_dry_run_shows_tokens_and_calibrates_when_asked(tiny_model: Path) -> None:
    args = ("--hf-path", tiny_model, "--datasets", helpers.MMLU, "--data-root", "samples", "--dry-run")
    plain = helpers.run(*args)
    assert "after sharing" in plain.stdout and "no model was loaded" in plain.stdout
    assert "time of one worker" not in plain.stdout
    timed = helpers.run(*args, "--calibrate", "--json")
    assert json.loads(timed.stdout)[0]["seconds"] > 0


def test_durations_are_readable() -> None:
    assert [duration(s) for s in (None, 0.2, 59, 61, 7510)] == ["-", "1 s", "59 s", "1 min 01 s", "2 h 05 min"]
