"""What a worker reports while it works, and the one text form in which reports travel.

The form is one JSON object a line; pipes (local workers), files (Slurm) and actor calls (Ray) carry the same lines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evalkit.core.digest import plain
from evalkit.core.records import Reply

CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Alive:
    """The heartbeat."""


@dataclass(frozen=True)
class Ready:
    """The model is loaded."""

    seconds: float
    """How long loading took."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the engine reports about itself, JSON-ready."""


@dataclass(frozen=True)
class LoadFailed:
    """The model cannot be loaded; the worker ends."""

    kind: str
    """Class name of the error."""
    error: str
    hint: str = ""


@dataclass(frozen=True)
class JobProgress:
    """How many of a job's open requests have a reply."""

    job: int
    """The job's id."""
    done: int
    total: int


@dataclass(frozen=True)
class JobDone:
    """A job has run to its end."""

    job: int
    asked: int
    """Requests that were sent to the engine; those answered before are not among them."""
    seconds: float
    errors: int = 0
    """Replies that hold an error in place of an answer."""
    first_error: str = ""
    peak_memory: int | None = None
    """Most bytes that tensors have taken on the worker's device so far; None where it cannot tell."""


@dataclass(frozen=True)
class JobFailed:
    """A job was broken off by an error."""

    job: int
    kind: str
    """Class name of the error."""
    error: str
    hint: str = ""
    worker_ends: bool = False
    """Whether the worker cannot take another job."""


@dataclass(frozen=True)
class ReplyMade:
    """A reply, from a worker that cannot write into the run's folder."""

    job: int
    sample_id: str
    label: str
    reply: Reply


@dataclass(frozen=True)
class RequestIndexed:
    """A line of the request index, from a worker that cannot write into the run's folder."""

    job: int
    line: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """The worker's last report, where its end cannot be seen otherwise."""


Event = Alive | Ready | LoadFailed | JobProgress | JobDone | JobFailed | ReplyMade | RequestIndexed | Ended
KINDS: Mapping[str, type[Event]] = {
    "alive": Alive,
    "ready": Ready,
    "load_failed": LoadFailed,
    "progress": JobProgress,
    "done": JobDone,
    "failed": JobFailed,
    "reply": ReplyMade,
    "indexed": RequestIndexed,
    "ended": Ended,
}
NAMES = {kind: name for name, kind in KINDS.items()}


def encode(event: Event) -> str:
    """The event as one line of ASCII JSON, with its line end."""
    return json.dumps({"event": NAMES[type(event)], **plain(event)}) + "\n"


def decode(line: str | bytes) -> Event:
    """The event that `encode` wrote; ValueError for any other text."""
    try:
        values = dict(json.loads(line))
        kind = KINDS[values.pop("event")]
        if kind is ReplyMade:
            values["reply"] = Reply(**values["reply"])
        return kind(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no event of a worker: {line!r}") from error


class EventReader:
    """Non-blocking reader of one worker's event pipe."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""
        os.set_blocking(fd, False)

    def read(self) -> tuple[list[Event], bool]:
        """(complete events, has the pipe been closed); a line torn by a kill is dropped."""
        closed = False
        while True:
            try:
                chunk = os.read(self.fd, CHUNK_BYTES)
            except BlockingIOError:
                break
            if not chunk:
                closed = True
                break
            self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n")
        return [decode(line) for line in lines if line], closed

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.fd)
