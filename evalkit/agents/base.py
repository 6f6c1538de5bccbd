"""The protocol of solvers: the state of a conversation goes in; a request, a tool call or the answer comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from evalkit.core.records import Sample, Turn

MODEL, TOOL = "assistant", "tool"
"""Whose an event is, as transcripts name it."""


@dataclass(frozen=True)
class Event:
    """A turn of the model, or the result of a tool."""

    role: str
    """`MODEL` or `TOOL`."""
    text: str
    """What the model wrote, without its reasoning trace; what the tool gave back."""
    tokens: int = 0
    """Generated tokens."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Of a tool: its name, the input, and `ok`, whether it did what it was called for."""


@dataclass(frozen=True)
class State:
    """A conversation so far."""

    sample: Sample
    opening: tuple[Turn, ...]
    """The benchmark's prompt; for a base model one user turn that holds all its text."""
    events: tuple[Event, ...] = ()

    def of(self, role: str) -> tuple[Event, ...]:
        """The events of the model or of the tools."""
        return tuple(event for event in self.events if event.role == role)


@dataclass(frozen=True)
class Ask:
    """The model is to go on after these turns."""

    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Call:
    """A tool is to be run."""

    tool: str
    input: str
    seconds: float
    """CPU seconds it may take."""


@dataclass(frozen=True)
class Answer:
    """The conversation is over."""

    text: str
    """What is scored, as the output of a benchmark of one turn would be."""


Move = Ask | Call | Answer


class Solver(Protocol):
    """Leads conversations. It keeps nothing: the same state gives the same move, so that a broken run goes on."""

    @property
    def runs_code(self) -> bool:
        """Whether its tools execute what models write."""
        ...

    def most_requests(self, sample: Sample) -> int:
        """How often it asks the model at most."""
        ...

    def fault(self, sample: Sample) -> str:
        """Why no conversation can be led about this sample, in a clause; empty when one can."""
        ...

    def next(self, state: State) -> Move:
        """What comes next."""
        ...


@dataclass(frozen=True)
class ToolResult:
    """What a tool gave back."""

    text: str
    ok: bool
    """Whether it did what it was called for."""
    failure: str = ""
    """The class of its failure (`sandbox.records.FAILURES`)."""


class Toolbox(Protocol):
    """The tools of one conversation."""

    def run(self, call: Call, earlier: Sequence[Call]) -> ToolResult:
        """The result of a call; `earlier` are the conversation's calls before it, which may have been run elsewhere."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class NoTools:
    """Of solvers that call none."""

    def run(self, call: Call, earlier: Sequence[Call]) -> ToolResult:
        """There is nothing to run."""
        raise LookupError(f"no tool is called {call.tool!r}")

    def close(self) -> None:
        """Nothing is held."""
