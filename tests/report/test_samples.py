"""Samples as people look at them: the prompts are those that were asked, and come from the run's folder alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit import session
from evalkit.core.calls import parse_calls
from evalkit.core.errors import StoreError
from evalkit.core.records import Request
from evalkit.plan.manifest import from_manifest
from evalkit.plan.plan import Pair, RunPlan
from evalkit.report.html.build import write_pages
from evalkit.report.html.data import cut, pieces, read_part
from evalkit.report.samples import Judged, Prompt, samples_of
from evalkit.results.scored import open_scored
from evalkit.results.store import RunStore
from evalkit.scoring.extract.trace import trace
from evalkit.scoring.score import Options
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


def test_a_run_that_keeps_no_samples_says_so(store: RunStore, tmp_path: Path) -> None:
    """Runs of earlier versions: verdicts are shown, prompts are not."""
    copied = RunStore(tmp_path / "run")
    shutil.copytree(store.folder, copied.folder, ignore=shutil.ignore_patterns("samples"))
    found = list(everything(copied))
    assert len(found) == len(list(everything(store)))
    assert all("keeps no samples" in one.prompt.fault and one.trace is None for _, _, one in found)
    write_pages([open_scored(copied)], tmp_path / "html")
    assert read_part(tmp_path / "html" / "data" / "gsm8k_gen_17d0dc", "p0-0")["0"]["fault"]


def test_a_run_without_exemplars_shows_the_rest_of_its_prompts(store: RunStore, tmp_path: Path) -> None:
    copied = RunStore(tmp_path / "run")
    shutil.copytree(store.folder, copied.folder, ignore=shutil.ignore_patterns("*.exemplars.json.gz"))
    shown = [joined(one.prompt) for _, pair, one in everything(copied) if pair.benchmark == "mmlu_ppl_ac766d"]
    assert shown and all("this run does not keep them" in text and "Answer" in text for text in shown)


@pytest.mark.parametrize(
    ("marked", "thinking", "expected"),
    [
        (None, None, [("", "abcdefgh")]),
        ((2, 4), None, [("", "ab"), ("marked", "cd"), ("", "efgh")]),
        ((6, 8), (0, 3), [("thinking", "abc"), ("", "def"), ("marked", "gh")]),
    ],
)
def test_pieces_of_an_output(
    marked: tuple[int, int] | None, thinking: tuple[int, int] | None, expected: list[tuple[str, str]]
) -> None:
    assert pieces("abcdefgh", marked, thinking) == expected


def test_long_texts_lose_their_middle_and_say_how_much() -> None:
    assert cut("abcdef", 6) == ["abcdef"]
    assert cut("abcdefg", 4) == ["ab", 3, "fg"]


@pytest.mark.parametrize(
    ("error", "told"),
    [(KeyError("column"), "KeyError: 'column' (see "), (StoreError("the disk is full"), "the disk is full")],
)
def test_a_fault_of_the_report_does_not_cost_the_table(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(session, "write_pages", fail)
    with store.locked():
        finished = session.score_run(store, Options())
    assert finished.pages is None and finished.pages_fault.startswith(told)
    assert "gsm8k" in finished.text and store.results()["scores"]
