"""Speed of ppl: MMLU 5-shot by the token tree, beside the device's peak and beside padded batches."""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import pstats
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import scoring as benchmark
from rows import MMLU

from evalkit.api import load_benchmark
from evalkit.engines.hf.memory import choose_budget
from evalkit.engines.hf.score import forward, tree
from evalkit.engines.hf.score.forward import Attention
from evalkit.engines.hf.score.pass_width import tree_limits
from evalkit.engines.hf.score.plain import score
from evalkit.engines.hf.score.self_check import total_noise, try_tree
from evalkit.engines.hf.tokens import group_equal
from gpu_parts.large import LargeModel
from gpu_parts.models import write_internlm2
from gpu_parts.recorder import Recorder, Steps, run_public, timed

SUBJECT = "anatomy"
PUBLIC_SHARE = 0.75
"""Of the time that is left: what the public command may take by the estimate."""
LAUNCH_SECONDS = 50
"""The public command's start, plan and loading, as the estimate takes them."""
KERNELS: Mapping[str, tuple[str, ...]] = {
    "attention": ("flash", "fmha", "attention", "sdpa", "softmax"),  # some are named after cutlass, too
    "matrix products": ("gemm", "cutlass", "nvjet", "xmma", "wgmma", "addmm", "aten::mm", "bmm"),
    "copies": ("memcpy", "memset", "copy"),
    "gathers": ("index", "gather", "scatter", "cat", "embedding"),
}
"""Classes of kernels by what their names contain, the first that fits; others are `elementwise and others`."""
OTHERS = "elementwise and others"
RUNTIME: Mapping[str, tuple[str, ...]] = {
    "launching kernels": ("cudaLaunch", "cuLaunch"),
    "copying": ("cudaMemcpy", "cudaMemset"),
    "waiting for the device": ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"),
    "reserving memory": ("cudaMalloc", "cudaFree"),
}
"""Calls of CUDA's runtime by what their names begin with."""


def steps(recorder: Recorder) -> Steps:
    """The device's peaks, the tree, padded batches, where the time goes, longer options, the command."""
    part = Scoring(recorder)
    return {
        "peak": part.large.measure_peaks,
        "tree": part.tree,
        "padded": part.padded,
        "profile": part.profile,
        "option_texts": part.option_texts,
        "public": part.public,
    }


class Scoring:
    """The steps; they share the model and the questions."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.large = LargeModel(recorder)
        self._per_question = 0.0

    def _questions(self, option_texts: bool) -> Any:
        recorder = self.recorder
        return benchmark.encode(
            argparse.Namespace(
                benchmark=MMLU,
                data_root=recorder.options.data_root,
                tokenizer=str(recorder.tokenizer_folder),
                shots=5,
                subject=SUBJECT,
                questions=3 if recorder.small else 60 if option_texts else None,
                option_texts=option_texts,
            )
        )

    @cached_property
    def letters(self) -> Any:
        """The options of each question, 5-shot."""
        return self._questions(option_texts=False)

    @cached_property
    def path(self) -> Any:
        """The masks of the tree, and the budget of padded tokens."""
        model = self.large.model
        checked = try_tree(model, 0)
        self.recorder.figure("self-check", checked.name, "", checked.attention is not None, checked.reason)
        if checked.attention is None:
            raise RuntimeError(checked.reason)
        budget = choose_budget(self.large.spec, model, model.device, True).score_tokens
        self.recorder.figure("padded tokens of a batch", budget)
        return checked.attention, budget

    def _run_tree(self, questions: Any) -> dict[str, float]:
        attention, budget = self.path
        items = [item for question in questions for item in question]
        limits = tree_limits(self.large.model, items, budget, None)
        return {r.key: r.nll for r in tree.score_tree(self.large.model, items, attention, limits)}

    @cached_property
    def measured(self) -> Any:
        """One pass over the questions by the tree, after one to warm up."""
        self._run_tree(self.letters[:2])
        return benchmark.timed(self.large.model, lambda: self._run_tree(self.letters))

    def tree(self) -> None:
        """Unique tokens a second, and their share of the matrix peak."""
        recorder, questions = self.recorder, self.letters
        run, shape = self.measured, self.large.shape
        items = [item for question in questions for item in question]
        trie = tree.make_trie(group_equal(items))
        sent = sum(len(item.ids) for item in items)
        # ppl asks for every token; attention is left out, so the share is a little too low
        flops = 2 * trie.tokens * (shape.body_parameters + shape.head_parameters)
        self._per_question = run.seconds / len(questions)
        recorder.figure("questions", len(questions))
        recorder.figure("tokens sent by padded batches", sent)
        recorder.figure("unique tokens", trie.tokens)
        recorder.figure("forwarded tokens", run.tokens)
        recorder.figure("time", run.seconds, "s")
        recorder.figure("unique tokens a second", trie.tokens / run.seconds, "1/s")
        recorder.figure("questions a second", len(questions) / run.seconds, "1/s")
        recorder.figure("share of the matrix peak", 100 * flops / run.seconds / self.large.peaks.flops, "%")
        recorder.figure("peak memory above the weights", run.peak / 1e9, "GB")
        _, budget = self.path
        recorder.figure("tokens of a pass, at most", tree_limits(self.large.model, items, budget, None).width)

    def _against_padded(self, questions: Any, mine: Any, part: Any) -> None:
        recorder, model = self.recorder, self.large.model
        _, budget = self.path
        few = [item for question in part for item in question]
        scale = sum(len(i.ids) for q in questions for i in q) / sum(len(i.ids) for i in few)
        runs = {
            "padded batches of 8": lambda: benchmark.naive(model, part),
            "plain path": lambda: {r.key: r.nll for r in score(model, few, budget, 0)},
        }
        noise = total_noise(model, 0)
        recorder.figure("noise of a text's total", noise, "nats")
        for name, path in runs.items():
            run = benchmark.timed(model, path)
            recorder.figure(f"{name}: time, scaled", run.seconds * scale, "s", note=f"{len(part)} questions run")
            recorder.figure(f"{name}: times the tree's", run.seconds * scale / mine.seconds)
            recorder.figure(f"{name}: peak memory", run.peak / 1e9, "GB")
            apart = max(abs(run.losses[i.request.key] - mine.losses[i.request.key]) * len(i.ids) for i in few)
            recorder.figure(f"{name}: largest difference of totals", apart, "nats")
            theirs, ours = benchmark.predictions(part, run.losses), benchmark.predictions(part, mine.losses)
            flips = [k for k, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b]
            margins = [margin(part[k], run.losses, theirs[k], ours[k]) for k in flips]
            worst = max(margins, default=0.0)
            note = f"largest margin {worst:.3g} nats" if flips else ""
            recorder.figure(f"{name}: changed predictions", f"{len(flips)}/{len(part)}", "", worst <= noise, note)

    def padded(self) -> None:
        """The same by padded batches, on a part."""
        self._against_padded(self.letters, self.measured, self.letters[: 2 if self.recorder.small else 8])

    def option_texts(self) -> None:
        """Options that are texts, behind 10 exemplars."""
        questions = self._questions(option_texts=True)
        self._run_tree(questions[:1])
        mine = benchmark.timed(self.large.model, lambda: self._run_tree(questions))
        self.recorder.figure("questions", len(questions))
        self.recorder.figure("time", mine.seconds, "s")
        self._against_padded(questions, mine, questions[: 1 if self.recorder.small else 4])

    def profile(self) -> None:
        """Seconds in kernels by class, outside of kernels by cause; the profilers' tables are attached."""
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile

        recorder, questions = self.recorder, self.letters
        plain = self.measured.seconds
        with host_clock() as host:
            seconds = timed(lambda: self._run_tree(questions))
        activities = [ProfilerActivity.CPU] + ([] if recorder.small else [ProfilerActivity.CUDA])
        part = questions[: len(questions) if recorder.small else 40]
        with profile(activities=activities) as kernels:
            under = timed(lambda: self._run_tree(part))
        averages = kernels.key_averages()
        if recorder.small:
            times = [(e.key, e.self_cpu_time_total / 1e6) for e in averages]
        else:
            # an operator's own row repeats the time of its kernels
            kernel_rows = [e for e in averages if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
            times = [(e.key, e.self_device_time_total / 1e6) for e in kernel_rows]
        spent = by_class(times)
        share = sum(spent.values()) / under
        where = "operators on the CPU" if recorder.small else "kernels"
        recorder.figure("the pass, as measured", plain, "s")
        # without the right to read the device's counters the profiler sees none
        recorder.figure(f"{where} seen", len(times), "kinds", bool(times) and share > 0)
        recorder.figure(
            f"in {where}, under the profiler", 100 * share, "%", note=f"{len(part)} questions, {under:.3g} s"
        )
        for name, value in spent.items():
            recorder.figure(f"of them {name}", 100 * value / max(sum(spent.values()), 1e-9), "%")
        busy = sum(spent.values()) * len(questions) / len(part)
        recorder.figure(
            "outside kernels, without the profiler", max(0.0, plain - busy), "s", note="time less kernel seconds"
        )
        for name, value in runtime_calls(averages).items():
            recorder.figure(f"host: {name}", value, "s", note=f"of {under:.3g} s under the profiler")
        for name, value in host.items():
            recorder.figure(f"Python: {name}", value, "s", note=f"of {seconds:.3g} s")
        sort = "self_cpu_time_total" if recorder.small else "self_device_time_total"
        recorder.attach("operators", averages.table(sort_by=sort, row_limit=40))
        calls = cProfile.Profile()
        calls.runcall(self._run_tree, part)
        text = io.StringIO()
        pstats.Stats(calls, stream=text).sort_stats("tottime").print_stats(40)
        recorder.attach("python", text.getvalue())

    def public(self) -> None:
        """The command itself, over as many whole subjects as fit into the time that is left."""
        recorder, large = self.recorder, self.large
        began = time.perf_counter()
        size = write_internlm2(large.folder, large.model, large.shape, recorder.tokenizer_folder)
        recorder.figure("checkpoint written", time.perf_counter() - began, "s", note=f"{size / 1e9:.3g} GB")
        self.__dict__.pop("path", None)
        large.drop()  # the worker loads the checkpoint
        subjects = self._fitting()
        datasets = f"{MMLU}:{','.join(subjects)}"
        work = recorder.options.scratch / "scoring"
        result, seconds = run_public(
            recorder, "--hf-path", large.folder, "--datasets", datasets, "--kind", "base", "--work-dir", work
        )
        recorder.figure("subjects", len(subjects))
        recorder.figure("complete", bool(result["complete"]), "", bool(result["complete"]))
        recorder.figure("launch to table", seconds, "s")
        headline = next(row for row in result["scores"] if row["level"] == "headline")
        recorder.figure("questions answered", headline["n"], "", headline["n"] == headline["n_expected"])
        (facts,) = json.loads((Path(result["run"]) / "manifest.json").read_text(encoding="utf-8"))["engines"].values()
        recorder.figure("path", facts["engine_path"], "", facts["engine_path"] == "tree", facts["engine_path_reason"])
        recorder.figure("device", facts["device_name"])
        noise = facts["score_noise"]
        recorder.figure("noise of a text's total", "not measured" if noise is None else noise, "nats")
        recorder.figure("peak memory", (facts["peak_memory"] or 0) / 1e9, "GB")
        run = sum(
            json.loads(line)["seconds"]
            for file in Path(result["run"]).glob("replies/**/*.jsonl")
            for line in file.read_text(encoding="utf-8").splitlines()
        )
        recorder.figure("seconds of the replies", run, "s", note="launch, plan and loading left out")
        recorder.figure("questions a second", headline["n"] / run, "1/s")

    def _fitting(self) -> list[str]:
        """Subjects, in the order of their names, that the estimate lets through; at least one."""
        handle = load_benchmark(MMLU, self.recorder.options.data_root)
        if self.recorder.small:
            return [SUBJECT]
        room = PUBLIC_SHARE * (self.recorder.left() - LAUNCH_SECONDS)
        each = self._per_question or 0.05
        chosen: list[str] = []
        for subject in handle.subsets:
            room -= each * len(handle.samples(subject))
            if room < 0 and chosen:
                break
            chosen.append(subject)
        return chosen


def margin(question: Sequence[Any], losses: Mapping[str, float], best: int, other: int) -> float:
    """Nats of whole texts by which one option beats another."""
    totals = [losses[item.request.key] * len(item.ids) for item in question]
    return totals[other] - totals[best]


def by_class(times: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Seconds of each class of kernels."""
    out = dict.fromkeys([*KERNELS, OTHERS], 0.0)
    for name, seconds in times:
        kind = next((k for k, marks in KERNELS.items() if any(mark in name.lower() for mark in marks)), OTHERS)
        out[kind] += seconds
    return out


def runtime_calls(averages: Any) -> dict[str, float]:
    """Host seconds inside CUDA's runtime by cause; all 0 in a rehearsal."""
    from torch.autograd import DeviceType

    out = dict.fromkeys(RUNTIME, 0.0)
    for event in averages:
        if event.device_type == DeviceType.CPU:
            name = next((n for n, marks in RUNTIME.items() if event.key.startswith(marks)), None)
            if name is not None:
                out[name] += event.self_cpu_time_total / 1e6
    return out


@contextmanager
def host_clock() -> Iterator[dict[str, float]]:
    """Inside, host seconds of the calls of the tree are added up by cause."""
    spent: dict[str, float] = {}

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        spent[name] = 0.0

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - began

        return wrapper

    masks = counted("masks, their kernels launched", Attention.masks)
    with (
        patch.object(tree, "make_trie", counted("trie", tree.make_trie)),
        patch.object(tree, "branches", counted("rows of branches", tree.branches)),
        patch.object(tree, "chain", counted("rows of prefixes", tree.chain)),
        patch.object(tree, "reply", counted("replies", tree.reply)),
        patch.object(forward, "losses_of", counted("losses, waiting for the device", forward.losses_of)),
        patch.object(tree, "row_losses", counted("passes, with masks and losses", tree.row_losses)),
        patch.object(Attention, "masks", masks),
    ):
        yield spent
