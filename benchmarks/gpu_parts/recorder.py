"""What the parts share: figures that are written as soon as they are known, steps that may fail, sizes."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ("raise", "die", "hang")
"""Faults that can be planted: an exception in a step, the death of the process, a step that never ends."""
FREE_SHARE, FREE_SECONDS = 0.9, 15.0
"""Memory that must be free before a part begins, and how long it waits for a process that has just been ended."""
NO_DEVICE = "torch sees no CUDA device here; --rehearse runs the same on the CPU"
Steps = Mapping[str, Callable[[], None]]


@dataclass(frozen=True)
class PartOptions:
    """The command line of a part."""

    part: str
    out: Path
    scratch: Path
    """For files that are not results."""
    data_root: str
    tokenizer: Path | None
    rehearse: bool
    until: float
    """Monotonic time at which the part is stopped."""
    steps: tuple[str, ...]
    """The steps to run; none named means all."""
    fault: str
    """One of `FAULTS`, or nothing."""


@dataclass(frozen=True)
class Figure:
    """One measured value."""

    step: str
    name: str
    value: float | int | str
    unit: str
    good: bool | None
    """Whether it is inside its limit; None where there is no limit."""
    note: str


class Recorder:
    """Runs the steps of one part and keeps what they find in PART.json."""

    def __init__(self, setup: PartOptions) -> None:
        self.options = setup
        self._figures: list[Figure] = []
        self._faults: list[dict[str, str]] = []
        self._steps: list[dict[str, Any]] = []
        self._attachments: dict[str, str] = {}
        self._step = "start"
        self._finished = False
        self._device = ""
        self._write()

    @property
    def small(self) -> bool:
        """Whether this is a rehearsal, whose models are tiny."""
        return self.options.rehearse

    @property
    def device(self) -> str:
        """`cuda`, in a rehearsal `cpu`."""
        return "cpu" if self.small else "cuda"

    @cached_property
    def tokenizer_folder(self) -> Path:
        """A folder with a tokenizer: the one named, InternLM2's beside the data, else a tiny one made here."""
        from gpu_parts.models import tiny_tokenizer

        if self.options.tokenizer is not None:
            return self.options.tokenizer
        root = Path(self.options.data_root)
        for place in (root, root.parent):
            if not self.small and (place / "tokenizers" / "internlm2").is_dir():
                return place / "tokenizers" / "internlm2"
        if not self.small:
            raise FileNotFoundError(f"no tokenizers/internlm2 in or beside {root}; name one with --tokenizer")
        return tiny_tokenizer(self.options.scratch / "tokenizer")

    def left(self) -> float:
        """Seconds until the part is stopped."""
        return self.options.until - time.monotonic()

    def figure(
        self, name: str, value: float | int | str | bool, unit: str = "", good: bool | None = None, note: str = ""
    ) -> None:
        """Keep a value; `good` says whether it is inside its limit, where it has one."""
        kept = float(f"{value:.6g}") if isinstance(value, float) else str(value) if isinstance(value, bool) else value
        self._figures.append(Figure(self._step, name, kept, unit, good, note))
        print(render_figure(self._figures[-1]), flush=True)
        self._write()

    def attach(self, name: str, text: str) -> None:
        """Keep a longer text, such as a profile."""
        self._attachments[name] = text
        self._write()

    def run(self, load: Callable[[], Steps]) -> None:
        """Run the steps that `load` gives; a step that fails leaves its traceback and the next one runs."""
        steps = self._guard("start", lambda: self._start(load))
        names = list(steps or ())
        unknown = [name for name in self.options.steps if steps and name not in steps]
        if unknown:
            self._guard("start", lambda: _raise(ValueError(f"no step {unknown[0]!r}; steps: {', '.join(names)}")))
        chosen = [name for name in names if not self.options.steps or name in self.options.steps]
        for number, name in enumerate(chosen):
            began, computed = time.monotonic(), cpu_seconds()
            self._guard(name, (steps or {})[name])
            seconds, cpu = round(time.monotonic() - began, 2), round(cpu_seconds() - computed, 2)
            self._steps.append({"name": name, "seconds": seconds, "cpu_seconds": cpu})
            self._write()
            if number == 0 and self.options.fault:
                self._guard("planted", self._plant)
        self._finished = True
        self._write()

    def _start(self, load: Callable[[], Steps]) -> Steps:
        import torch

        if not self.small and not torch.cuda.is_available():
            raise RuntimeError(NO_DEVICE)
        self._device = "CPU (rehearsal)" if self.small else torch.cuda.get_device_name()
        self.figure("memory free at the start", 100 * wait_for_memory(), "%", note=versions())
        return load()

    def _guard(self, name: str, step: Callable[[], Any]) -> Any:
        """The result of a step, or None when it failed."""
        self._step = name
        print(f"--- {name}", flush=True)
        try:
            return step()
        except (Exception, SystemExit) as error:
            text = traceback.format_exc()
            print(text, flush=True)
            first = next(iter(str(error).splitlines()), "")
            self._faults.append({"step": name, "error": f"{type(error).__name__}: {first}", "traceback": text})
            self._write()
            return None

    def _plant(self) -> None:
        kind = self.options.fault
        if kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hang":
            time.sleep(3600)
        raise RuntimeError("planted fault")

    def _write(self) -> None:
        """Rewrite PART.json in one go, so that it is whole at any moment."""
        facts = {
            "part": self.options.part,
            "device": self._device,
            "finished": self._finished,
            "steps": self._steps,
            "figures": [asdict(figure) for figure in self._figures],
            "faults": self._faults,
            "attachments": self._attachments,
        }
        _replace(self.options.out / f"{self.options.part}.json", facts)


def _raise(error: Exception) -> None:
    raise error


def cpu_seconds() -> float:
    """Processor time of this process and of the commands that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def wait_for_memory() -> float:
    """Share of the device's memory that is free, as soon as it is most of it or the time is up; 1 without CUDA."""
    import torch

    if not torch.cuda.is_available():
        return 1.0
    deadline = time.monotonic() + FREE_SECONDS
    while True:
        free, total = torch.cuda.mem_get_info()
        if free > FREE_SHARE * total or time.monotonic() > deadline:
            return free / total
        time.sleep(0.2)


def versions() -> str:
    """What computes."""
    import platform

    import torch
    import transformers

    cuda = f", CUDA {torch.version.cuda}" if torch.version.cuda else ""
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}{cuda}, transformers {transformers.__version__}"
    )


def _replace(file: Path, facts: Mapping[str, Any]) -> None:
    aside = file.with_suffix(".new")
    aside.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(file)


def clear(file: Path) -> None:
    """Forget the results of an earlier call."""
    file.unlink(missing_ok=True)


def read_part(out: Path, name: str, outcome: str | None = None) -> dict[str, Any]:
    """The results of a part; `outcome`, where given, says why it did not end well and is kept with them."""
    file = out / f"{name}.json"
    empty = {"part": name, "device": "", "finished": False, "steps": [], "figures": [], "faults": [], "attachments": {}}
    part: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else empty
    if outcome is not None:
        part["outcome"] = outcome
        failed = part["faults"] or any(figure["good"] is False for figure in part["figures"])
        part["good"] = bool(part["finished"] and not outcome and not failed)
        _replace(file, part)
    return part


def render(parts: Sequence[Mapping[str, Any]]) -> str:
    """The table of figures and failures."""
    lines = []
    for part in parts:
        seconds = sum(step["seconds"] for step in part["steps"])
        state = "passed" if part["good"] else "FAILED"
        lines += ["", f"{part['part']}: {state}, {seconds:.0f} s, {part['device'] or 'no device'}"]
        lines += [render_figure(Figure(**figure)) for figure in part["figures"]]
        lines += [f"  FAILED {fault['step']}: {fault['error']}" for fault in part["faults"]]
        lines += [f"  FAILED {part['outcome']}"] if part.get("outcome") else []
    return "\n".join(lines)


def render_figure(figure: Figure) -> str:
    """One line of the table."""
    mark = {None: "", True: "ok", False: "FAILED"}[figure.good]
    value = f"{figure.value:,.4g}" if isinstance(figure.value, float) else f"{figure.value}"
    value = f"{figure.value:,}" if isinstance(figure.value, int) else value
    return f"  {figure.step:16} {figure.name:42} {value:>12} {figure.unit:10} {mark:6} {figure.note}".rstrip()


def command_line(*args: object) -> list[str]:
    """The public command from this checkout."""
    return [sys.executable, str(ROOT / "run.py"), *map(str, args)]


def run_public(recorder: Recorder, *args: object, **environment: str) -> tuple[dict[str, Any], float]:
    """(the command's JSON result, wall seconds); RuntimeError with its messages when it fails."""
    began = time.perf_counter()
    done = subprocess.run(
        command_line(*args, "--data-root", recorder.options.data_root, "--json", "--new"),
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=max(1.0, recorder.left() - 1),
    )
    seconds = time.perf_counter() - began
    print(done.stderr[-4000:], flush=True)
    if done.returncode != 0:
        print(done.stdout[-4000:], flush=True)
        raise RuntimeError(f"status {done.returncode}: {last_line(done.stderr) or failures(done.stdout)}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result, seconds


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def failures(text: str) -> str:
    """Why a command that wrote its JSON result failed, else the end of what it wrote."""
    try:
        causes = [str(failure) for failure in json.loads(text)["failures"]]
    except (ValueError, KeyError, TypeError):
        return last_line(text)
    return "; ".join(causes)[:1500]


def peak_gb() -> float:
    """Most gigabytes of tensors since the last reset; 0 without CUDA."""
    import torch

    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0


def reset_peak() -> None:
    """Count the peak from here."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def free_memory() -> None:
    """Give back what no tensor needs any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def synchronize() -> None:
    """Wait for the device."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(run: Callable[[], Any], repeats: int = 1) -> float:
    """Mean seconds of `run`, the device's work included."""
    synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        run()
    synchronize()
    return (time.perf_counter() - began) / repeats
