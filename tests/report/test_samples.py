"""Samples as people look at them: the prompts are those that were asked, and come from the run's folder alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from evalkit.core.calls import parse_calls
from evalkit.core.records import Request
from evalkit.plan.manifest import from_manifest
from evalkit.plan.plan import Pair, RunPlan
from evalkit.report.samples import Judged, Prompt, samples_of
from evalkit.results.store import RunStore
from evalkit.scoring.extract.trace import trace
from tests import helpers

BENCHMARKS = (
    helpers.MMLU, "gsm8k_gen_17d0dc", "winogrande_5shot_ll_252f01", "hellaswag_10shot_ppl_59c85e",
    "bbh_gen_5b92b0:date_understanding", "sanitized_mbpp_gen_742f0c",
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run of a base and a chat model on the project's own rows, in every mode, with and without exemplars."""
    folder = tmp_path_factory.mktemp("samples")
    helpers.fake_model(folder / "c", "fake_base")
    helpers.fake_model(folder / "c", "fake_chat", kind="chat")
    done = helpers.run(
        "--config-dir", folder / "c", "--models", "fake_base", "fake_chat", "--datasets", *BENCHMARKS, "--data-root",
        "samples", "--limit", 3, "--debug", "--no-report", "--work-dir", folder / "work",
    )  # fmt: skip
    assert "saved in" in done.stderr, done.stderr
    return RunStore(helpers.run_folder(folder / "work"))


def requests_by_label(plan: RunPlan, pair: Pair, one: Judged) -> dict[str, Request]:
    """What the model was asked about a sample, rendered from the data."""
    task = plan.task(pair)
    sample = next(s for s in task.samples(one.verdict.subset) if s.id == one.verdict.sample_id)
    return {request.label: request for request in plan.requests(pair, sample)}


def joined(prompt: Prompt) -> str:
    """The text of all parts."""
    return "".join(part.text for part in prompt.parts)


def everything(store: RunStore) -> Iterator[tuple[RunPlan, Pair, Judged]]:
    plan = from_manifest(store.manifest())
    for pair in plan.pairs:
        for one in samples_of(store, plan, pair):
            yield plan, pair, one


def test_prompts_are_those_that_were_asked(store: RunStore) -> None:
    seen = set()
    for plan, pair, one in everything(store):
        asked = requests_by_label(plan, pair, one)
        assert not one.prompt.fault
        seen.add((one.benchmark.mode, plan.models[pair.model].kind, any(p.is_exemplar for p in one.prompt.parts)))
        if one.benchmark.mode == "gen":
            (request,) = asked.values()
            assert joined(one.prompt) == (request.text or "".join(turn.text for turn in request.turns))
            continue
        assert [option.label for option in one.prompt.options] == list(asked)
        for option in one.prompt.options:
            request = asked[option.label]
            assert joined(one.prompt) + option.given + option.scored == request.text + request.continuation
            if request.continuation:
                assert option.scored == request.continuation
    assert {("ppl", "base", True), ("gen", "base", True), ("gen", "chat", True), ("ll", "base", True)} <= seen


def test_nothing_but_the_folder_is_read(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the data was read")

    monkeypatch.setattr(RunPlan, "task", refuse)
    assert sum(1 for _ in everything(store)) >= 30


def test_options_have_the_log_probabilities_of_the_replies(store: RunStore) -> None:
    for _, pair, one in everything(store):
        if one.benchmark.mode == "gen":
            continue
        scores = {label: reply.nll for label, reply in one.replies.items()}
        assert set(scores) == set(one.benchmark.labels), pair
        assert one.verdict.answer == min(scores, key=lambda label: scores[label] or 0.0)
        assert one.margin is not None and one.margin >= 0


def test_extraction_agrees_with_the_verdict(store: RunStore) -> None:
    traced = [one for _, _, one in everything(store) if one.trace and one.trace.steps]
    assert len(traced) >= 10
    assert all(json.dumps(one.trace.steps[-1].result) == json.dumps(one.verdict.answer) for one in traced if one.trace)


@pytest.mark.parametrize(
    ("text", "steps", "marked"),
    [
        ("I add 3 and 4. The answer is 7", ["last_number"], (29, 30)),
        ("7 apples, 7 pears: 7", ["last_number"], (19, 20)),
        ("A or B? I take B, not A. B", [{"first_letters": {"among": "AB", "count": 1}}], (0, 1)),
        ("So \\boxed{12} it is, 12 for sure.", ["boxed_answer"], (10, 12)),
        ("nothing here", ["last_number"], None),
        ("whole", ["strip"], None),
        ("  answer  ", ["strip"], (2, 8)),
    ],
)
def test_the_part_that_became_the_answer(text: str, steps: list[object], marked: tuple[int, int] | None) -> None:
    assert trace(text, parse_calls(steps), {"options": "AB"}).span == marked


def test_a_step_that_fails_is_told() -> None:
    found = trace("text", parse_calls(["strip", {"regex": "("}]), {})
    assert [s.call.name for s in found.steps] == ["strip"] and found.span is None and found.fault
