"""Are the numbers on the device those of the CPU, and do workers and memory behave."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial, wraps
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rows import MMLU, letters

from evalkit.api import load_benchmark
from evalkit.core.records import GenSettings, ModelSpec, Reply, Request, Turn
from gpu_parts.models import FAMILIES, SMALL, SMALL_REHEARSED, write_family
from gpu_parts.recorder import Recorder, Steps, command_line, peak_gb, reset_peak, run_public

DTYPES = ("float32", "bfloat16")
CLOSE = 1e-4
"""Nats by which float32 losses of two devices may differ."""
MOST_TOKENS, MOST_ROWS = 128, 2
"""What fits one pass of the rehearsal that has too little memory."""
SUBJECTS = ("anatomy", "astronomy")
GSM8K = "gsm8k_gen_17d0dc"
LONG = "long/"
"""Samples that do not fit the model."""
CHARACTERS, CHARACTERS_REHEARSED = None, 300
"""What is taken of the end of a text; None: all."""
WORKER_MODULE = "evalkit.execution.worker"
Replies = Mapping[str, Reply]


def steps(recorder: Recorder) -> Steps:
    """Float32, then workers and memory; bfloat16 comes last, since some CPUs take minutes for it."""
    part = Correct(recorder)
    float32, bfloat16 = (
        {f"{family}_{dtype}": partial(part.compare, family, dtype) for family in FAMILIES} for dtype in DTYPES
    )
    return {**float32, "workers": part.workers, "memory": part.memory, **bfloat16}


@dataclass(frozen=True)
class Variant:
    """How the same requests are run."""

    device: str
    path: str
    """`plain`: padded batches; `tree`: shared prefixes and continuous batching."""

    def __str__(self) -> str:
        return f"{self.device} {self.path}"


class Correct:
    """The steps; they share requests and checkpoints."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.shape = SMALL_REHEARSED if recorder.small else SMALL

    def checkpoint(self, family: str) -> Path:
        """A folder with a random model of the family, written at the first call."""
        folder = self.recorder.options.scratch / family
        if not (folder / "config.json").exists():
            write_family(folder, family, self.shape, self.tokenizer, seed=1)
        return folder

    @cached_property
    def tokenizer(self) -> Path:
        """Tiny and with a chat template, on the device too: small models need no large vocabulary."""
        from gpu_parts.models import tiny_tokenizer

        return tiny_tokenizer(self.recorder.options.scratch / "tokenizer-small")

    @cached_property
    def requests(self) -> list[Request]:
        """ppl, ll and generation: greedy, drawn, chats, and texts that must be cut on the left."""
        number, root = 1 if self.recorder.small else 2, self.recorder.options.data_root
        fresh, out, written = count(), [], 8 if self.recorder.small else 24
        characters = CHARACTERS_REHEARSED if self.recorder.small else CHARACTERS
        end = slice(None if characters is None else -characters, None)
        handle = load_benchmark(MMLU, root)
        for sample in handle.samples(SUBJECTS[0], number):
            prompts: Any = handle.render(sample)
            out += [
                Request(f"{next(fresh)}", sample.id, "ppl", text=f"{text}"[end], label=label)
                for label, text in prompts.items()
            ]
        questions = letters(root, SUBJECTS[1], number)
        for q in questions:
            out += [
                Request(f"{next(fresh)}", q.id, "ll", text=q.context[end], continuation=option, label=option)
                for option in q.options
            ]
        tasks = [load_benchmark(GSM8K, root).render(s) for s in load_benchmark(GSM8K, root).samples(None, 2 * number)]
        greedy, drawn = GenSettings(written), GenSettings(written, temperature=0.8, top_p=0.9, seed=7)
        for k, text in enumerate(tasks):
            out.append(
                Request(f"{next(fresh)}", f"gen/{k}", "gen", text=f"{text}"[end], gen=drawn if k % 2 else greedy)
            )
            turns = (Turn("user", f"{text}"[-300:]),)
            out.append(Request(f"{next(fresh)}", f"chat/{k}", "gen", turns=turns, gen=drawn if k % 2 else greedy))
        # in a vocabulary of 2,048 tokens a character takes at least a quarter of one here
        long = questions[0].context * (2 + 8 * self.shape.positions // len(questions[0].context))
        out.append(Request(f"{next(fresh)}", f"{LONG}ppl", "ppl", text=long, label="A"))
        out.append(Request(f"{next(fresh)}", f"{LONG}gen", "gen", text=long, gen=greedy))
        return out

    def compare(self, family: str, dtype: str) -> None:
        """The requests on the device, by both paths, against padded batches on the CPU."""
        recorder, folder = self.recorder, self.checkpoint(family)
        requests = self.requests
        if recorder.small and dtype == "bfloat16":
            requests = [r for r in requests if not r.sample_id.startswith(LONG)]  # a CPU may take minutes for it
        reference, facts = answer(folder, Variant("cpu", "plain"), dtype, requests)
        stopping = with_stops(requests, reference)
        expected = {request.key: cut_text(reference[request.key[1:]], request) for request in stopping}
        self._check_cut(requests, reference)
        for variant in (Variant(recorder.device, "tree"), Variant(recorder.device, "plain")):
            replies, described = answer(folder, variant, dtype, [*requests, *stopping])
            if variant.path == "tree":
                chosen = f"{described['engine_path']}, {described['generation_path']}"
                reason = f"{described['engine_path_reason']}; {described['generation_path_reason']}"
                recorder.figure(f"{variant}: path", chosen, "", chosen == "tree, stream", reason)
            exact = dtype == "float32"
            noise = None if exact else max(facts["score_noise"], described["score_noise"])
            self._check_losses(f"{variant}", requests, reference, replies, noise)
            texts = [r for r in requests if r.mode == "gen"]
            same = sum(replies[r.key].text == reference[r.key].text for r in texts)
            recorder.figure(
                f"{variant}: equal texts", f"{same}/{len(texts)}", "", same == len(texts) if exact else None
            )
            drawn = [r for r in texts if r.gen is not None and r.gen.temperature > 0]
            same = sum(replies[r.key].text == reference[r.key].text for r in drawn)
            recorder.figure(f"{variant}: of them drawn by seed", f"{same}/{len(drawn)}")
            same = sum(replies[key].text == text for key, text in expected.items())
            good = same == len(stopping) if exact else None
            recorder.figure(f"{variant}: cut at stop strings", f"{same}/{len(stopping)}", "", good)

    def _check_cut(self, requests: Sequence[Request], reference: Replies) -> None:
        cut = [r.key for r in requests if r.sample_id.startswith(LONG)]
        right = all(reference[key].truncated and reference[key].n_tokens <= self.shape.positions for key in cut)
        if cut:
            self.recorder.figure("long texts are cut on the left", right, "", right)

    def _check_losses(
        self, name: str, requests: Sequence[Request], reference: Replies, replies: Replies, noise: float | None
    ) -> None:
        """Losses and predictions; in half precision every flip must lie below the noise that loading measures."""
        recorder = self.recorder
        scored = [r for r in requests if r.mode != "gen"]
        missing = [r.key for r in requests if replies[r.key].error or reference[r.key].error]
        recorder.figure(
            f"{name}: unanswered", len(missing), "", not missing, replies[missing[0]].error if missing else ""
        )
        apart = max(abs(_nll(replies[r.key]) - _nll(reference[r.key])) for r in scored)
        recorder.figure(f"{name}: largest loss difference", apart, "nats", apart <= CLOSE if noise is None else None)
        flips = []
        for rows in by_sample(scored).values():
            totals = [_nll(reference[r.key]) * (reference[r.key].n_tokens if r.mode == "ppl" else 1) for r in rows]
            theirs = [_nll(replies[r.key]) for r in rows]
            if len(rows) > 1 and theirs.index(min(theirs)) != totals.index(min(totals)):
                flips.append(totals[theirs.index(min(theirs))] - min(totals))
        worst = max(flips, default=0.0)
        note = "" if noise is None else f"largest margin {worst:.3g} nats, noise {noise:.3g}"
        good = not flips if noise is None else worst <= noise
        recorder.figure(f"{name}: changed predictions", len(flips), "", good, note)

    def workers(self) -> None:
        """Two workers on one device, one of them killed in mid-run; the replies are those of a single process."""
        recorder, folder = self.recorder, self.checkpoint("llama")
        work = recorder.options.scratch / "runs"
        long = 64 if recorder.small else 256
        limit = 6 if recorder.small else 24
        common = ["--hf-path", folder, "--datasets", f"{MMLU}:{','.join(SUBJECTS)}", GSM8K, "--limit", limit]
        common += ["--dtype", "float32", "--kind", "base", "--set", f"{GSM8K}:gen.max_out_len={long}"]
        alone, seconds = run_public(recorder, *common, "--work-dir", work / "alone", "--debug")
        recorder.figure("in one process: complete", bool(alone["complete"]), "", bool(alone["complete"]))
        recorder.figure("in one process", seconds, "s")
        # each worker is given one of the listed ids, here the same device
        both = {} if recorder.small else {"CUDA_VISIBLE_DEVICES": "0,0"}
        command = command_line(*common, "--work-dir", work / "killed", "--max-num-workers", 2)
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--data-root", recorder.options.data_root, "--json", "--new"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **both},
        )
        try:
            workers, at = kill_busy_worker(process, work / "killed", max(1.0, recorder.left() - 5))
            output, errors = process.communicate(timeout=max(1.0, recorder.left() - 2))
        finally:
            process.kill()
        print(errors[-4000:], flush=True)
        result = json.loads(output)
        recorder.figure("two workers, one killed: complete", bool(result["complete"]), "", bool(result["complete"]))
        recorder.figure("workers seen", workers, "", workers == 2)
        recorder.figure("replies at the kill", at, "", workers == 2)
        recorder.figure("two workers, one killed", time.perf_counter() - began, "s")
        before, after = stored(Path(alone["run"])), stored(Path(result["run"]))
        recorder.figure("replies", len(after), "", before.keys() == after.keys() and len(before) > at)
        apart = max(abs((a["nll"] or 0) - (after[k]["nll"] or 0)) for k, a in before.items())
        recorder.figure("largest loss difference", apart, "nats", apart <= CLOSE)
        same = all(a["text"] == after[k]["text"] for k, a in before.items())
        recorder.figure("equal texts", same, "", same)

    def memory(self) -> None:
        """Too little memory for the batches that the engine chose: it halves them and gives the same numbers."""
        recorder, folder = self.recorder, self.checkpoint("llama")
        for path in ("plain", "tree"):
            with engine(folder, Variant(recorder.device, path), "float32") as made:
                reset_peak()
                usual = {reply.key: reply for reply in made.run(self.requests)}
                usual_peak = peak_gb()
                with scarce_memory(recorder) as refused:
                    replies = {reply.key: reply for reply in made.run(self.requests)}
                lost = sum(bool(r.error) for r in replies.values())
                recorder.figure(f"{path}: peak with enough memory", usual_peak, "GB")
                recorder.figure(f"{path}: times out of memory", refused[0], "", refused[0] > 0)
                recorder.figure(f"{path}: unanswered", lost, "", lost == 0)
                scored = [k for k, r in usual.items() if r.nll is not None and not replies[k].error]
                apart = max((abs(_nll(replies[k]) - _nll(usual[k])) for k in scored), default=0.0)
                recorder.figure(f"{path}: largest loss difference", apart, "nats", apart <= CLOSE)
                same = all(replies[k].text == r.text for k, r in usual.items())
                recorder.figure(f"{path}: equal texts", same, "", same)


def _nll(reply: Reply) -> float:
    return float("nan") if reply.nll is None else reply.nll


def by_sample(requests: Sequence[Request]) -> dict[str, list[Request]]:
    """Requests of each question."""
    out: dict[str, list[Request]] = {}
    for request in requests:
        out.setdefault(request.sample_id, []).append(request)
    return out


@contextmanager
def engine(folder: Path, variant: Variant, dtype: str) -> Iterator[Any]:
    """A loaded engine."""
    from evalkit.engines.hf.engine import HFEngine

    spec = ModelSpec(
        "m", str(folder), "chat", dtype=dtype, device=variant.device, options={"engine_path": variant.path}
    )
    made = HFEngine(spec)
    try:
        yield made
    finally:
        made.close()


def answer(
    folder: Path, variant: Variant, dtype: str, requests: Sequence[Request]
) -> tuple[Replies, Mapping[str, Any]]:
    """(replies by key, facts about the engine)."""
    with engine(folder, variant, dtype) as made:
        return {reply.key: reply for reply in made.run(requests)}, made.describe()


def with_stops(requests: Sequence[Request], replies: Replies) -> list[Request]:
    """The plain greedy generation requests once more, each with a stop string out of the middle of its output."""
    out = []
    for request in requests:
        text = replies[request.key].text
        if request.mode == "gen" and request.gen and request.gen.temperature == 0 and request.text and text:
            middle = text[len(text) // 2 :][:2]
            out.append(replace(request, key=f"s{request.key}", gen=replace(request.gen, stop=(middle,))))
    if not out:
        raise RuntimeError("no output to take stop strings from")
    return out


def cut_text(reply: Reply, request: Request) -> str | None:
    """A reply's text up to the stop string of a request."""
    stop = request.gen.stop[0] if request.gen else ""
    return None if reply.text is None else reply.text.partition(stop)[0]


def kill_busy_worker(process: subprocess.Popen[str], work: Path, seconds: float) -> tuple[int, int]:
    """Kill a worker that has given replies, as soon as there are two; (workers seen, replies at that moment)."""
    deadline = time.monotonic() + seconds
    most = 0
    while time.monotonic() < deadline and process.poll() is None:
        workers = workers_of(process.pid)
        most = max(most, len(workers))
        files = [file for file in work.glob("*/replies/**/*.jsonl") if file.stat().st_size]
        # a reply file is called SUBSET.WORKER.jsonl
        busy = [pid for name, pid in workers.items() if any(file.stem.endswith(f".{name}") for file in files)]
        if busy and most == 2:
            os.kill(busy[0], signal.SIGKILL)
            return most, sum(len(file.read_bytes().splitlines()) for file in files)
        time.sleep(0.02)
    raise RuntimeError(f"no worker could be killed: {most} seen, the command's status is {process.poll()}")


def workers_of(parent: int) -> dict[str, int]:
    """Name → process id of the workers that a run has started."""
    out = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            status = (folder / "stat").read_text().rpartition(")")[2].split()
        except (OSError, UnicodeDecodeError):
            continue  # it has ended meanwhile, or is none of ours
        if WORKER_MODULE in words and int(status[1]) == parent:
            # behind the module: the run's folder, the model, the worker's name
            out[words[words.index(WORKER_MODULE) + 3]] = int(folder.name)
    return out


def stored(run: Path) -> dict[str, dict[str, Any]]:
    """Replies of a run folder by key."""
    out = {}
    for file in run.glob("replies/**/*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            out[row["key"]] = {"nll": row.get("nll"), "text": row.get("text")}
    return out


@contextmanager
def scarce_memory(recorder: Recorder) -> Iterator[list[int]]:
    """Inside, memory does not suffice for the usual batches; yields the number of refusals, final on leaving.

    On CUDA the process may use what it holds and half of what it took at its peak beyond; in a rehearsal large
    passes are refused with the error of CUDA's allocator.
    """
    import torch
    from transformers import LlamaForCausalLM

    refused = [0]
    if recorder.device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        total, extra = torch.cuda.mem_get_info()[1], torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
        # the limit is on what the allocator has reserved, gaps included
        allowed = torch.cuda.memory_reserved() + extra // 2
        before = torch.cuda.memory_stats()["num_ooms"]
        torch.cuda.set_per_process_memory_fraction(allowed / total)
        try:
            yield refused
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
            refused[0] = torch.cuda.memory_stats()["num_ooms"] - before
        return
    with patch.object(LlamaForCausalLM, "forward", refusing(LlamaForCausalLM.forward, refused)):
        yield refused


def refusing(forward: Callable[..., Any], refused: list[int]) -> Callable[..., Any]:
    """`forward` of a model without memory for wide trees, for batches of long rows, and for many rows in flight."""
    import torch

    @wraps(forward)
    def limited(self: Any, **kwargs: Any) -> Any:
        rows, width = kwargs["input_ids"].shape
        mask = kwargs.get("attention_mask")
        if isinstance(mask, dict) or (mask is not None and mask.dim() == 4):
            fits = width <= MOST_TOKENS
        elif mask is None:
            fits = rows <= MOST_ROWS
        else:
            fits = rows == 1 or rows * width <= MOST_TOKENS
        if not fits:
            refused[0] += 1
            raise torch.OutOfMemoryError("out of memory, as the rehearsal has it")
        return forward(self, **kwargs)

    return limited
