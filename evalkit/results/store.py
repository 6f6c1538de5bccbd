"""Results on disk: the only module that knows a path below a run's folder.

Replies are appended line by line and survive a kill at any moment; everything else is written
aside and renamed. The layout is described in DESIGN.md.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from evalkit.core.digest import digest, plain
from evalkit.core.errors import StoreError
from evalkit.core.jsontext import escaped, json_text, without_surrogates
from evalkit.core.records import Reply, Request, Verdict

MANIFEST = "manifest.json"
LOCK = ".lock"
PROGRESS = "progress.json"
RESULTS = "results.json"
REPLIES, REQUESTS, SAMPLES, SCORES = "replies", "requests", "samples", "scores"
"""Folders below a run's."""
RUNNING, COMPLETE, INCOMPLETE = "running", "complete", "incomplete"
UNSAFE = re.compile(r"[^\w.+=@-]+")
LONGEST_NAME = 150
"""Bytes; file systems take 255, and worker ids and suffixes follow."""
REPLY_DEFAULTS = {f.name: f.default for f in fields(Reply)}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns the system's write errors into one StoreError with a way out."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: ("the disk is full", "free some space and run the same command again: it continues"),
            errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again: it continues"),
            errno.EROFS: ("the file system is read-only", "choose another folder with --work-dir"),
            errno.EACCES: ("permission denied", "choose another folder with --work-dir"),
            errno.ENAMETOOLONG: ("the path is too long", "choose a shorter --work-dir"),
            errno.ELOOP: ("symbolic links lead in a circle", "choose another folder with --work-dir"),
        }
        why, hint = hints.get(error.errno or 0, (error.strerror or str(error), "check the folder of --work-dir"))
        raise StoreError(f"cannot write {path}: {why}", hint) from error


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turns the system's errors in looking for runs into one StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}", "check --work-dir and the name of the run") from error


def safe(name: str) -> str:
    """A file name for any model, benchmark or subset name: two names never share one.

    Names of letters, digits and `._+=@-` stand for themselves; others get `~` and a digest behind what is
    readable of them.
    """
    readable = UNSAFE.sub("_", name)
    if readable == name and name.strip(".") and len(name.encode()) <= LONGEST_NAME:
        return name
    short = readable.strip(".").encode()[: LONGEST_NAME - 9].decode("utf-8", "ignore")
    return f"{short}~{digest(name, 8)}"


def legacy_safe(name: str) -> str:
    """The file name that runs before version 0.1.0 have, where two names could share one."""
    return UNSAFE.sub("_", name) or "_"


class LineWriter:
    """Appends JSON lines of one worker to one file, each flushed at once: on return it survives this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("ab")
            if self._file.tell() and not _ends_with_newline(path):
                self._file.write(b"\n")  # closes the line that a kill tore

    def append_line(self, record: Mapping[str, Any]) -> None:
        """Write one line."""
        line = escaped(json.dumps(record, ensure_ascii=False, allow_nan=False)).encode()
        with disk_errors(self.path):
            self._file.write(line + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Push the lines through to the disk."""
        with disk_errors(self.path):
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            finally:
                self._file.close()


class ReplyWriter(LineWriter):
    """Appends replies of one worker to one file."""

    def append(self, request: Request, reply: Reply) -> None:
        """Write one reply; a lone surrogate becomes U+FFFD, as few readers of JSON take it even as an escape."""
        record = {k: v for k, v in plain(reply).items() if v != REPLY_DEFAULTS.get(k, ...)}
        record = {k: without_surrogates(v) if isinstance(v, str) else v for k, v in record.items()}
        record |= {"sample": request.sample_id}
        record |= {"label": request.label} if request.label else {}
        self.append_line(record)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as handle:
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) == b"\n"


class RunStore:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return self.folder.name

    def manifest(self) -> dict[str, Any]:
        """The manifest; StoreError when it is absent or damaged."""
        path = self.folder / MANIFEST
        try:
            loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return loaded
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.folder} is no run: {error}", "`run.py list runs` shows the runs") from error

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace the manifest in one step."""
        write_file(self.folder / MANIFEST, _json(manifest))

    def set_status(self, status: str, **more: Any) -> None:
        """Note how the run stands."""
        self.write_manifest({**self.manifest(), "status": status, **more})

    def writer(self, model: str, benchmark: str, subset: str, worker: str) -> ReplyWriter:
        """An appender for one worker's replies to one subset."""
        return ReplyWriter(self.folder / REPLIES / safe(model) / safe(benchmark) / f"{safe(subset)}.{worker}.jsonl")

    def replies(self, model: str, benchmark: str, subset: str | None = None) -> dict[str, Reply]:
        """key -> reply of all workers; an answer wins over an error, torn lines are skipped."""
        found: dict[str, Reply] = {}
        for path in self._worker_files(REPLIES, model, benchmark, subset):
            for reply in _read_replies(path):
                if reply.key not in found or found[reply.key].error:
                    found[reply.key] = reply
        return found

    def has_replies(self, model: str, benchmark: str, subset: str | None = None) -> bool:
        """Whether anything was ever answered."""
        return any(path.stat().st_size for path in self._worker_files(REPLIES, model, benchmark, subset))

    def index_writer(self, model: str, benchmark: str, subset: str, worker: str) -> LineWriter:
        """An appender for the keys of requests (see `index.py`)."""
        return LineWriter(self.folder / REQUESTS / safe(model) / safe(benchmark) / f"{safe(subset)}.{worker}.jsonl")

    def index_lines(self, model: str, benchmark: str, subset: str) -> Iterator[dict[str, Any]]:
        """The lines of all workers; torn ones are skipped."""
        for path in self._worker_files(REQUESTS, model, benchmark, subset):
            yield from _json_lines(path)

    def write_samples(self, benchmark: str, data_fingerprint: str, subset: str, content: bytes) -> None:
        """The samples of a subset (see `index.py`)."""
        write_file(self._samples(benchmark, data_fingerprint, subset), content)

    def samples(self, benchmark: str, data_fingerprint: str, subset: str) -> bytes | None:
        """What `write_samples` wrote; None where nothing was written."""
        try:
            return self._samples(benchmark, data_fingerprint, subset).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read the samples of {benchmark}: {error}", "check the run's folder") from error

    def _samples(self, benchmark: str, data_fingerprint: str, subset: str) -> Path:
        return self.folder / SAMPLES / safe(benchmark) / data_fingerprint[:12] / f"{safe(subset)}.jsonl.gz"

    def _worker_files(self, kind: str, model: str, benchmark: str, subset: str | None) -> list[Path]:
        """The files of all workers, under the names of today and of earlier versions."""
        found: dict[Path, None] = {}
        for rename in (safe, legacy_safe):
            folder = self.folder / kind / rename(model) / rename(benchmark)
            pattern = "*.jsonl" if subset is None else f"{glob.escape(rename(subset))}.*.jsonl"
            found |= dict.fromkeys(sorted(folder.glob(pattern)))
        return list(found)

    def write_verdicts(self, model: str, benchmark: str, subset: str, verdicts: Iterable[Verdict]) -> None:
        """The judgements on one subset, a line a sample, in sample order."""
        lines = [escaped(json.dumps(plain(v), ensure_ascii=False, default=str)) + "\n" for v in verdicts]
        write_file(self.verdicts_path(model, benchmark) / f"{safe(subset)}.jsonl", "".join(lines))

    def verdicts(self, model: str, benchmark: str) -> list[Verdict]:
        """What `write_verdicts` wrote, all subsets of a benchmark; StoreError when a file is damaged."""
        found = []
        folders = [self.folder / SCORES / rename(model) / rename(benchmark) for rename in (safe, legacy_safe)]
        folder = next((f for f in folders if f.is_dir()), folders[0])
        for path in sorted(folder.glob("*.jsonl")):
            try:
                text = path.read_text(encoding="utf-8", errors="surrogatepass")
                found += [_verdict(json.loads(line)) for line in text.split("\n") if line]
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise StoreError(f"cannot read {path}: {error}", f"run.py score {self.folder}") from error
        return found

    def verdicts_path(self, model: str, benchmark: str) -> Path:
        """Folder of a benchmark's verdict files."""
        return self.folder / SCORES / safe(model) / safe(benchmark)

    def write_scores(self, content: Mapping[str, Any]) -> None:
        """All scores of the run."""
        write_file(self.folder / SCORES / "scores.json", _json(content))

    def scores(self) -> dict[str, Any]:
        """What `write_scores` wrote; StoreError when the run was not scored."""
        path = self.folder / SCORES / "scores.json"
        try:
            loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return loaded
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.folder} has no scores: {error}", f"run.py score {self.folder}") from error

    def write_results(self, content: Mapping[str, Any]) -> Path:
        """The numbers of the run for other programs (docs/results.md); returns the file."""
        write_file(self.folder / RESULTS, _json(json.loads(json_text(content))))
        return self.folder / RESULTS

    def write_report(self, name: str, content: str | bytes) -> Path:
        """One file of the report; returns its path."""
        path = self.folder / "report" / name
        write_file(path, content)
        return path

    def write_picture(self, what: str, model: str, row: str, kind: str, content: bytes) -> Path:
        """A picture of one row of the table, named after what it shows; returns its path."""
        return self.write_report(f"{what}_{safe(model)}_{safe(row)}.{kind}", content)

    def write_progress(self, content: Mapping[str, Any]) -> None:
        """How far the run is."""
        write_file(self.folder / PROGRESS, _json(content))

    def progress(self) -> dict[str, Any]:
        """What `write_progress` wrote last; empty when nothing."""
        try:
            loaded: dict[str, Any] = json.loads((self.folder / PROGRESS).read_text(encoding="utf-8"))
            return loaded
        except (OSError, ValueError):
            return {}

    def is_locked(self) -> bool:
        """Whether a process is at work on the run now."""
        try:
            with (self.folder / LOCK).open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        except OSError:  # no lock file, or a file system without locks
            return False

    def events_path(self, worker: str) -> Path:
        """Where a worker that has no pipe writes what happens; its folder is made."""
        path = self.folder / "events" / f"{safe(worker)}.jsonl"
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def log_path(self, worker: str) -> Path:
        """Log file of a worker; its folder is made."""
        path = self.folder / "logs" / f"{safe(worker)}.log"
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; StoreError when another process has it.

        The kernel drops the lock with the process, so a killed run leaves none behind.
        """
        path = self.folder / LOCK
        with disk_errors(path):
            handle = path.open("a+")
        try:
            for last in (False, False, False, True):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if last:
                        raise StoreError(
                            f"another process is working on {self.folder}",
                            "wait for it, or start a run of your own with --new",
                        ) from error
                    time.sleep(0.1)  # `status` holds a run for a moment to see whether it is free
                except OSError as error:
                    raise StoreError(
                        f"{self.folder} cannot be locked: {error.strerror}",
                        "choose a --work-dir on a file system with locks (flock)",
                    ) from error
            yield
        finally:
            handle.close()


def write_file(path: Path, content: str | bytes) -> None:
    """Replace a file in one step, its folder made; StoreError when that is not possible."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_bytes(content if isinstance(content, bytes) else without_surrogates(content).encode())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def _json(value: Any) -> str:
    return escaped(json.dumps(plain(value), ensure_ascii=False, indent=1, default=str)) + "\n"


def _read_replies(path: Path) -> Iterator[Reply]:
    for record in _json_lines(path):
        try:
            yield Reply(**{k: v for k, v in record.items() if k in REPLY_DEFAULTS})
        except TypeError:
            continue  # no key: not a reply


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file, line by line; what is empty or torn by a kill is skipped: its sample is asked again."""
    with path.open("rb") as handle:
        for line in handle:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


def _verdict(record: Mapping[str, Any]) -> Verdict:
    """A verdict from its line; earlier versions left the subset to the sample's id."""
    return Verdict(**{"subset": str(record["sample_id"]).rpartition("/")[0], **record})


def create_run(parent: Path, manifest: Mapping[str, Any]) -> RunStore:
    """A new run folder named after the time, made in one step."""
    stamp = datetime.now().strftime("%Y%m%d_%H%M%S")
    with disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        for number in range(1000):
            folder = parent / (stamp if not number else f"{stamp}_{number}")
            try:
                folder.mkdir()
                break
            except FileExistsError:
                continue
    store = RunStore(folder)
    store.write_manifest({**manifest, "status": RUNNING, "created": datetime.now().isoformat(timespec="seconds")})
    return store


def list_runs(parent: Path) -> list[RunStore]:
    """All runs below `parent`, oldest first."""
    with read_errors(parent):
        return [RunStore(path.parent) for path in sorted(parent.glob(f"*/{MANIFEST}"))]


def find_unfinished(parent: Path, plan_hash: str) -> RunStore | None:
    """The newest run of an equal plan that is not complete."""
    for store in reversed(list_runs(parent)):
        try:
            manifest = store.manifest()
        except StoreError:
            continue
        if manifest.get("plan_hash") == plan_hash and manifest.get("status") != COMPLETE:
            return store
    return None


def open_run(name: str, parent: Path) -> RunStore:
    """A run by path or by name below `parent`, the newest without a name; StoreError when there is none."""
    if not name:
        runs = list_runs(parent)
        name = runs[-1].name if runs else "?"
    for folder in (Path(name), parent / name):
        with read_errors(folder):
            if (folder / MANIFEST).is_file():
                return RunStore(folder)
    known = ", ".join(s.name for s in list_runs(parent)[-5:]) or "none"
    raise StoreError(f"no run at {name}", f"runs in {parent}: {known}")
