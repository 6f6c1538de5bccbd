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
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
PAGES = "html"
REPLIES, REQUESTS, SAMPLES, SCORES = "replies", "requests", "samples", "scores"
"""Folders below a run's."""
RUNNING, COMPLETE, INCOMPLETE = "running", "complete", "incomplete"
UNSAFE = re.compile(r"[^\w.+=@-]+")
LONGEST_NAME = 150
"""Bytes; file systems take 255, and worker ids and suffixes follow."""
READ_BYTES = 1 << 16
"""Of lines that are parsed at once."""
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
        line = checked(escaped(json.dumps(record, ensure_ascii=False, allow_nan=False)).encode())
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
            loaded = _object_of(path)
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"{self.folder} is no run: {error}", "`run.py list runs` shows the runs") from error
        if loaded.pop(CHECKSUM, None) not in (None, _sum_of(loaded)):
            hint = "put the file back as it was, or start another run with --new"
            raise StoreError(f"{path} is damaged: it does not match its checksum", hint)
        return loaded

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace the manifest in one step."""
        plainly = json.loads(_json(manifest))
        write_file(self.folder / MANIFEST, _json({**plainly, CHECKSUM: _sum_of(plainly)}))

    def set_status(self, status: str, **more: Any) -> None:
        """Note how the run stands."""
        self.write_manifest({**self.manifest(), "status": status, **more})

    def writer(self, model: str, benchmark: str, subset: str, worker: str) -> ReplyWriter:
        """An appender for one worker's replies to one subset."""
        return ReplyWriter(self.folder / REPLIES / safe(model) / safe(benchmark) / f"{safe(subset)}.{worker}.jsonl")

    def replies(self, model: str, benchmark: str, subset: str | None = None) -> dict[str, Reply]:
        """key -> reply of all workers; an answer wins over an error, torn and damaged lines are skipped."""
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

    def damaged_lines(self, model: str, benchmark: str, subset: str) -> int:
        """How many lines of a subset's replies do not verify and so do not count."""
        return sum(_damaged(path) for path in self._worker_files(REPLIES, model, benchmark, subset))

    def index_lines(self, model: str, benchmark: str, subset: str) -> Iterator[dict[str, Any]]:
        """The lines of all workers; torn and damaged ones are skipped."""
        for path in self._worker_files(REQUESTS, model, benchmark, subset):
            yield from (line for line in _json_lines(path) if _is_index(line))

    def write_samples(self, benchmark: str, data_fingerprint: str, subset: str, content: bytes) -> None:
        """The samples of a subset (see `index.py`)."""
        write_file(self._samples(benchmark, data_fingerprint, subset), content)

    def samples(self, benchmark: str, data_fingerprint: str, subset: str) -> bytes | None:
        """What `write_samples` wrote; None where nothing was written."""
        try:
            return _regular(self._samples(benchmark, data_fingerprint, subset)).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read the samples of {benchmark}: {error}", "check the run's folder") from error

    def has_samples(self, benchmark: str, data_fingerprint: str, subset: str) -> bool:
        """Whether `samples` would give any, without reading them."""
        path = self._samples(benchmark, data_fingerprint, subset)
        with read_errors(path):
            return path.exists()

    def _samples(self, benchmark: str, data_fingerprint: str, subset: str) -> Path:
        return self.folder / SAMPLES / safe(benchmark) / data_fingerprint[:12] / f"{safe(subset)}.jsonl.gz"

    def write_exemplars(self, benchmark: str, data_fingerprint: str, subset: str, content: bytes) -> None:
        """The few-shot exemplars of a subset (see `index.py`), so that prompts can be shown without the data."""
        write_file(self._exemplars(benchmark, data_fingerprint, subset), content)

    def exemplars(self, benchmark: str, data_fingerprint: str, subset: str) -> bytes | None:
        """What `write_exemplars` wrote; None where nothing was written."""
        path = self._exemplars(benchmark, data_fingerprint, subset)
        with read_errors(path):
            return path.read_bytes() if path.is_file() else None

    def _exemplars(self, benchmark: str, data_fingerprint: str, subset: str) -> Path:
        return self._samples(benchmark, data_fingerprint, subset).with_name(f"{safe(subset)}.exemplars.json.gz")

    def _worker_files(self, kind: str, model: str, benchmark: str, subset: str | None) -> list[Path]:
        """The files of all workers, under the names of today and of earlier versions."""
        found: dict[Path, None] = {}
        for rename in (safe, legacy_safe):
            folder = self.folder / kind / rename(model) / rename(benchmark)
            pattern = "*.jsonl" if subset is None else f"{glob.escape(rename(subset))}.*.jsonl"
            found |= dict.fromkeys(path for path in sorted(folder.glob(pattern)) if path.is_file())
        return list(found)

    def write_verdicts(self, model: str, benchmark: str, subset: str, verdicts: Iterable[Verdict]) -> None:
        """The judgements on one subset, a line a sample, in sample order."""
        encode = json.JSONEncoder(ensure_ascii=False, default=str).encode
        lines = [checked(escaped(encode(plain(v))).encode()).decode() + "\n" for v in verdicts]
        write_file(self.verdicts_path(model, benchmark) / f"{safe(subset)}.jsonl", "".join(lines))

    def verdicts(self, model: str, benchmark: str, subset: str | None = None) -> list[Verdict]:
        """What `write_verdicts` wrote, of all subsets or of one; StoreError when a file is damaged."""
        found = []
        folder = self.verdicts_path(model, benchmark)
        if not folder.is_dir() and not self._is_anothers(model, benchmark):
            folder = self.folder / SCORES / legacy_safe(model) / legacy_safe(benchmark)
        names = {f"{rename(subset)}.jsonl" for rename in (safe, legacy_safe)} if subset is not None else None
        for path in sorted(p for p in folder.glob("*.jsonl") if names is None or p.name in names):
            try:
                text = _regular(path).read_bytes()
                found += [_verdict(_verified(line)) for line in text.split(b"\n") if line]
            except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
                raise StoreError(f"cannot read {path}: {error}", f"run.py score {self.folder}") from error
        return found if subset is None else [v for v in found if v.subset == subset]

    def _is_anothers(self, model: str, benchmark: str) -> bool:
        """Whether the pair's folder of earlier versions is that of another pair of the run today."""
        of_today = {(safe(p["model"]), safe(p["benchmark"])) for p in self.manifest().get("pairs", ())}
        return (legacy_safe(model), legacy_safe(benchmark)) in of_today

    def verdicts_path(self, model: str, benchmark: str) -> Path:
        """Folder of a benchmark's verdict files."""
        return self.folder / SCORES / safe(model) / safe(benchmark)

    def write_scores(self, content: Mapping[str, Any]) -> None:
        """All scores of the run."""
        plainly = json.loads(_json(content))
        write_file(self.folder / SCORES / "scores.json", _json({**plainly, CHECKSUM: _sum_of(plainly)}))

    def scores(self) -> dict[str, Any]:
        """What `write_scores` wrote; StoreError when the run was not scored."""
        path = self.folder / SCORES / "scores.json"
        try:
            loaded = _object_of(path)
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"{self.folder} has no scores: {error}", f"run.py score {self.folder}") from error
        if loaded.pop(CHECKSUM, None) not in (None, _sum_of(loaded)):
            raise StoreError(f"{path} is damaged: it does not match its checksum", f"run.py score {self.folder}")
        return loaded

    def write_results(self, content: Mapping[str, Any]) -> Path:
        """The numbers of the run for other programs (docs/results.md); returns the file."""
        write_file(self.folder / RESULTS, _json(json.loads(json_text(content))))
        return self.folder / RESULTS

    def results(self) -> dict[str, Any]:
        """What `write_results` wrote; empty in a run of an earlier version."""
        try:
            return _object_of(self.folder / RESULTS)
        except (OSError, ValueError, RecursionError):
            return {}

    @property
    def pages(self) -> Path:
        """Folder of the run's HTML report."""
        return self.folder / PAGES

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
            return _object_of(self.folder / PROGRESS)
        except (OSError, ValueError, RecursionError):
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


CHECKSUM = "sum"
"""Last key of every line, with the CRC-32 of the line without it; and a key of the manifest and of the scores."""
TAIL = re.compile(rb', "sum": "([0-9a-f]{8})"}$')
TAIL_BYTES = len(', "sum": "01234567"}')
REPLY_TYPES: dict[str, type | tuple[type, ...]] = {
    "key": str, "text": (str, type(None)), "nll": (int, float, type(None)), "n_tokens": int, "n_scored": int,
    "n_out": int,
    "token_logs": (list, tuple, type(None)), "token_deviations": (list, tuple, type(None)),
    "finish": str, "truncated": bool, "seconds": (int, float), "error": str,
    "top": (dict, type(None)), "transcript": (list, type(None)),
}  # fmt: skip


def checked(line: bytes) -> bytes:
    """A JSON object in one line, with its checksum as the last key."""
    return b'%b, "%b": "%08x"}' % (line[:-1], CHECKSUM.encode(), zlib.crc32(line))


def _verified(line: bytes) -> dict[str, Any]:
    """The object of a line, without its checksum; ValueError when it is none, or does not match.

    Lines of earlier versions have no checksum and are taken as they are.
    """
    return _checked_object(json.loads(line, parse_constant=_no_number), line)


def _checked_object(record: Any, line: bytes) -> dict[str, Any]:
    """What a line holds, without its checksum; ValueError as `_verified`."""
    if not isinstance(record, dict):
        raise ValueError("not an object")
    if CHECKSUM in record:
        stated = TAIL.search(line)
        if stated is None or int(stated[1], 16) != zlib.crc32(line[:-TAIL_BYTES] + b"}"):
            raise ValueError("the line does not match its checksum")
        del record[CHECKSUM]
    return record


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _sum_of(content: Mapping[str, Any]) -> str:
    """Of a whole document as JSON gives it back."""
    return digest(content, 16)


def _regular(path: Path) -> Path:
    """The path, unless a pipe or device lies there, whose reading might never end."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file", str(path))
    return path


def _object_of(path: Path) -> dict[str, Any]:
    """A JSON object in a file; OSError, ValueError or RecursionError where there is none."""
    loaded = json.loads(_regular(path).read_text(encoding="utf-8"), parse_constant=_no_number)
    if not isinstance(loaded, dict):
        raise ValueError("not an object")
    return loaded


def _read_replies(path: Path) -> Iterator[Reply]:
    for record in _json_lines(path):
        reply = _reply(record)
        if reply is not None:
            yield reply


def _is_usable(number: Any) -> bool:
    """Whether a number of a list is one, and of a size that engines give."""
    return isinstance(number, (int, float)) and not isinstance(number, bool) and abs(number) <= LARGEST


def _reply(record: Mapping[str, Any]) -> Reply | None:
    """The reply of a line, if it is one that an engine may give: of these types, finite, an answer or an error."""
    values = {k: v for k, v in record.items() if k in REPLY_DEFAULTS}
    for name, value in values.items():
        if not isinstance(value, REPLY_TYPES[name]) or (isinstance(value, bool) and name != "truncated"):
            return None
        if isinstance(value, (int, float)) and not abs(value) <= LARGEST:
            return None
        if name.startswith("token_") and isinstance(value, (list, tuple)) and not all(map(_is_usable, value)):
            return None
        if name in ("n_tokens", "n_scored", "n_out", "seconds") and isinstance(value, (int, float)) and value < 0:
            return None
    if not values.get("key"):
        return None
    if not values.get("error") and values.get("text") is None and values.get("nll") is None:
        return None
    return Reply(**values)


LARGEST = 1e300
"""Of any number in a reply; an int beyond cannot be added to a float."""


def _is_index(line: Mapping[str, Any]) -> bool:
    """Whether a line says which keys were asked for a sample."""
    keys = line.get("keys")
    return isinstance(line.get("sample"), str) and isinstance(keys, dict) and all(type(k) is str for k in keys.values())


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file, line by line; what is empty, torn by a kill or damaged is skipped: its sample is asked
    again."""
    yield from (record for record in _lines(path) if record is not None)


def _lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """The object of every line that is not empty; None for one that is none, or does not match its checksum.

    A line without a checksum counts in files of earlier versions, which later ones may have continued: not behind a
    line with one.
    """
    sums = False
    with path.open("rb") as handle:
        while block := handle.readlines(READ_BYTES):
            lines = [content for line in block if (content := line.rstrip(b"\n"))]
            for content, record in zip(lines, _parsed(lines), strict=True):
                has_sum = TAIL.search(content) is not None
                yield record if has_sum or not sums else None
                sums = sums or has_sum


def _parsed(lines: Sequence[bytes]) -> list[dict[str, Any] | None]:
    """The verified objects of lines, read at once; one by one where some line is no JSON."""
    try:
        # A line feed is not allowed inside a text, and a torn line leaves a bracket open: both fail here.
        values = json.loads(b"[" + b",\n".join(lines) + b"]", parse_constant=_no_number)
    except (ValueError, RecursionError):
        values = []
    if len(values) != len(lines):
        values = [_value_of(line) for line in lines]
    return [_object_or_none(value, line) for value, line in zip(values, lines, strict=True)]


def _value_of(line: bytes) -> Any:
    """The value of a line; None where it is no JSON."""
    try:
        return json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None


def _object_or_none(value: Any, line: bytes) -> dict[str, Any] | None:
    try:
        return _checked_object(value, line)
    except ValueError:
        return None


def _damaged(path: Path) -> int:
    """Lines that do not count, the last one aside if a kill tore it."""
    found = [record is None or _reply(record) is None for record in _lines(path)]
    return sum(found) - int(bool(found) and found[-1] and not _ends_with_newline(path))


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
