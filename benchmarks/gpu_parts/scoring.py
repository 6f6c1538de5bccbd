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

import scoring as ways
from rows import MMLU

from evalkit.api import load_benchmark
from evalkit.engines.hf.memory import choose_budget
from evalkit.engines.hf.score import tree
from evalkit.engines.hf.score.forward import Attention
from evalkit.engines.hf.score.pass_width import tree_limits
from evalkit.engines.hf.score.plain import score
from evalkit.engines.hf.score.self_check import total_noise, try_tree
from gpu_parts.lab import Lab, Steps, run_public, timed
from gpu_parts.loaded import LoadedModel

SUBJECT = "anatomy"
PUBLIC_SHARE = 0.75
"""Of the time that is left: what the public command may take by the estimate."""
LAUNCH_SECONDS = 35
"""The public command's start, plan and loading, as the estimate takes them."""
KERNELS: Mapping[str, tuple[str, ...]] = {
    "matrix products": ("gemm", "cutlass", "nvjet", "xmma", "wgmma", "addmm", "aten::mm", "bmm"),
    "attention": ("flash", "fmha", "attention", "sdpa", "softmax"),
    "copies": ("memcpy", "memset", "copy"),
    "gathers": ("index", "gather", "scatter", "cat", "embedding"),
}
"""Classes of kernels by what their names contain, the first that fits; others are `elementwise and others`."""
OTHERS = "elementwise and others"


def steps(lab: Lab) -> Steps:
    """The device's peaks, our way, padded batches, longer options, where the time goes, the command."""
    part = Scoring(lab)
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

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.large = LoadedModel(lab)
        self._per_question = 0.0

    def _questions(self, option_texts: bool) -> Any:
        lab = self.lab
        return ways.encode(
            argparse.Namespace(
                benchmark=MMLU,
                data_root=lab.setup.data_root,
                tokenizer=str(lab.tokenizer_folder),
                shots=5,
                subject=SUBJECT,
                questions=3 if lab.small else 60 if option_texts else None,
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
        found = try_tree(model, 0)
        self.lab.figure("self-check", found.name, "", found.attention is not None, found.reason)
        if found.attention is None:
            raise RuntimeError(found.reason)
        budget = choose_budget(self.large.spec, model, model.device, True).score_tokens
        self.lab.figure("padded tokens of a batch", budget)
        return found.attention, budget

    def _run_tree(self, questions: Any) -> dict[str, float]:
        attention, budget = self.path
        items = [item for question in questions for item in question]
        limits = tree_limits(self.large.model, items, budget, None)
        return {r.key: r.nll for r in tree.score_tree(self.large.model, items, attention, limits)}

    @cached_property
    def measured(self) -> Any:
        """One pass over the questions by the tree, after one to warm up."""
        self._run_tree(self.letters[:2])
        return ways.timed(self.large.model, lambda: self._run_tree(self.letters))

    def tree(self) -> None:
        """Unique tokens a second, and their share of the matrix peak."""
        lab, questions = self.lab, self.letters
        run, shape = self.measured, self.large.shape
        items = [item for question in questions for item in question]
        trie = tree.make_trie(tree.group_by_ids(items))
        sent = sum(len(item.ids) for item in items)
        # ppl asks for every token; attention is left out, so the share is a little too low
        flops = 2 * trie.tokens * (shape.body_parameters + shape.head_parameters)
        self._per_question = run.seconds / len(questions)
        lab.figure("questions", len(questions))
        lab.figure("tokens sent by padded ways", sent)
        lab.figure("unique tokens", trie.tokens)
        lab.figure("forwarded tokens", run.tokens)
        lab.figure("time", run.seconds, "s")
        lab.figure("unique tokens a second", trie.tokens / run.seconds, "1/s")
        lab.figure("questions a second", len(questions) / run.seconds, "1/s")
        lab.figure("share of the matrix peak", 100 * flops / run.seconds / self.large.peaks.flops, "%")
        lab.figure("peak memory above the weights", run.peak / 1e9, "GB")
        _, budget = self.path
        lab.figure("tokens of a pass, at most", tree_limits(self.large.model, items, budget, None).width)

    def _against_padded(self, questions: Any, mine: Any, part: Any) -> None:
        lab, model = self.lab, self.large.model
        _, budget = self.path
        few = [item for question in part for item in question]
        scale = sum(len(i.ids) for q in questions for i in q) / sum(len(i.ids) for i in few)
        runs = {
            "padded batches of 8": lambda: ways.naive(model, part),
            "plain path": lambda: {r.key: r.nll for r in score(model, few, budget, 0)},
        }
        noise = total_noise(model, 0)
        lab.figure("noise of a text's total", noise, "nats")
        for name, way in runs.items():
            run = ways.timed(model, way)
            lab.figure(f"{name}: time, scaled", run.seconds * scale, "s", note=f"{len(part)} questions run")
            lab.figure(f"{name}: times the tree's", run.seconds * scale / mine.seconds)
            lab.figure(f"{name}: peak memory", run.peak / 1e9, "GB")
            apart = max(abs(run.losses[i.request.key] - mine.losses[i.request.key]) * len(i.ids) for i in few)
            lab.figure(f"{name}: largest difference of totals", apart, "nats")
            theirs, ours = ways.predictions(part, run.losses), ways.predictions(part, mine.losses)
            flips = [k for k, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b]
            margins = [margin(part[k], run.losses, theirs[k], ours[k]) for k in flips]
            worst = max(margins, default=0.0)
            note = f"largest margin {worst:.3g} nats" if flips else ""
            lab.figure(f"{name}: changed predictions", f"{len(flips)}/{len(part)}", "", worst <= noise, note)

    def padded(self) -> None:
        """The same by padded batches, on a part."""
        self._against_padded(self.letters, self.measured, self.letters[: 2 if self.lab.small else 8])

    def option_texts(self) -> None:
        """Options that are texts, behind 10 exemplars."""
        questions = self._questions(option_texts=True)
        self._run_tree(questions[:1])
        mine = ways.timed(self.large.model, lambda: self._run_tree(questions))
        self.lab.figure("questions", len(questions))
        self.lab.figure("time", mine.seconds, "s")
        self._against_padded(questions, mine, questions[: 1 if self.lab.small else 4])

    def profile(self) -> None:
        """Seconds in kernels by class, outside of kernels by cause; the profilers' tables are attached."""
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile

        lab, questions = self.lab, self.letters
        plain = self.measured.seconds
        with host_clock() as host:
            seconds = timed(lambda: self._run_tree(questions))
        activities = [ProfilerActivity.CPU] + ([] if lab.small else [ProfilerActivity.CUDA])
        part = questions[: len(questions) if lab.small else 40]
        with profile(activities=activities) as kernels:
            under = timed(lambda: self._run_tree(part))
        averages = kernels.key_averages()
        if lab.small:
            times = [(e.key, e.self_cpu_time_total / 1e6) for e in averages]
        else:
            # an operator's own row repeats the time of its kernels
            kernel_rows = [e for e in averages if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
            times = [(e.key, e.self_device_time_total / 1e6) for e in kernel_rows]
        spent = by_class(times)
        share = sum(spent.values()) / under
        where = "operators on the CPU" if lab.small else "kernels"
        lab.figure("the pass, as measured", plain, "s")
        lab.figure(f"in {where}, under the profiler", 100 * share, "%", note=f"{len(part)} questions, {under:.3g} s")
        for name, value in spent.items():
            lab.figure(f"of them {name}", 100 * value / max(sum(spent.values()), 1e-9), "%")
        busy = sum(spent.values()) * len(questions) / len(part)
        lab.figure(
            "outside kernels, without the profiler", max(0.0, plain - busy), "s", note="time less kernel seconds"
        )
        for name, value in host.items():
            lab.figure(f"Python: {name}", value, "s", note=f"of {seconds:.3g} s")
        sort = "self_cpu_time_total" if lab.small else "self_device_time_total"
        lab.attach("operators", averages.table(sort_by=sort, row_limit=40))
        calls = cProfile.Profile()
        calls.runcall(self._run_tree, part)
        text = io.StringIO()
        pstats.Stats(calls, stream=text).sort_stats("tottime").print_stats(40)
        lab.attach("python", text.getvalue())

    def public(self) -> None:
        """The command itself, over as many whole subjects as fit into the time that is left."""
        import gc

        import torch

        lab = self.lab
        subjects = self._fitting()
        self.large.__dict__.pop("model", None)  # the worker loads its own
        self.__dict__.pop("path", None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        datasets = f"{MMLU}:{','.join(subjects)}"
        work = lab.setup.scratch / "scoring"
        result, seconds = run_public(
            lab, "--hf-path", lab.setup.weights, "--datasets", datasets, "--kind", "base", "--work-dir", work
        )
        lab.figure("subjects", len(subjects))
        lab.figure("complete", bool(result["complete"]), "", bool(result["complete"]))
        lab.figure("launch to table", seconds, "s")
        headline = next(row for row in result["scores"] if row["level"] == "headline")
        lab.figure("questions answered", headline["n"], "", headline["n"] == headline["n_expected"])
        (facts,) = json.loads((Path(result["run"]) / "manifest.json").read_text(encoding="utf-8"))["engines"].values()
        lab.figure("path", facts["engine_path"], "", facts["engine_path"] == "tree", facts["engine_path_reason"])
        lab.figure("device", facts["device_name"])
        noise = facts["score_noise"]
        lab.figure("noise of a text's total", "not measured" if noise is None else noise, "nats")
        lab.figure("peak memory", (facts["peak_memory"] or 0) / 1e9, "GB")
        run = sum(
            json.loads(line)["seconds"]
            for file in Path(result["run"]).glob("replies/**/*.jsonl")
            for line in file.read_text(encoding="utf-8").splitlines()
        )
        lab.figure("seconds of the replies", run, "s", note="launch, plan and loading left out")
        lab.figure("questions a second", headline["n"] / run, "1/s")

    def _fitting(self) -> list[str]:
        """Subjects, in the order of their names, that the estimate lets through; at least one."""
        handle = load_benchmark(MMLU, self.lab.setup.data_root)
        if self.lab.small:
            return [SUBJECT]
        room = PUBLIC_SHARE * (self.lab.left() - LAUNCH_SECONDS)
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


@contextmanager
def host_clock() -> Iterator[dict[str, float]]:
    """Inside, seconds that the tree's own Python takes are added up by cause."""
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

    masks = counted("masks (launching included)", Attention.masks)
    with (
        patch.object(tree, "make_trie", counted("trie", tree.make_trie)),
        patch.object(tree, "branches", counted("rows of branches", tree.branches)),
        patch.object(tree, "chain", counted("rows of prefixes", tree.chain)),
        patch.object(tree, "reply", counted("replies", tree.reply)),
        patch.object(Attention, "masks", masks),
    ):
        yield spent
