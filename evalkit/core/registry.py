"""Named functions that configs may use; a name is registered once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from evalkit.core.errors import ConfigError

T = TypeVar("T")


def near(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The names most like `name`, best first."""
    pool = list(known)
    folded = {k.lower(): k for k in pool}
    found = difflib.get_close_matches(name.lower(), list(folded), count, 0.5)
    matches = [folded[f] for f in found]
    inside = [k for k in pool if name.lower() in k.lower() and k not in matches]
    return (matches + inside)[:count]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that lists near matches, or all names when they are few."""
    pool = sorted(known)
    close = near(name, pool)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known: " + ", ".join(pool) if len(pool) <= 20 else ""


class Registry(Generic[T]):
    """Maps names to functions; `what` names them in errors."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._items: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator; a second registration of a name is a programming error."""

        def add(item: T) -> T:
            if name in self._items:
                raise ValueError(f"{self.what} {name!r} is registered twice")
            self._items[name] = item
            return item

        return add

    def get(self, name: str) -> T:
        """The item called `name`; ConfigError with near matches otherwise."""
        if not self._items:
            raise LookupError(f"no {self.what} is registered: the room that holds them was not imported")
        if name not in self._items:
            raise ConfigError(f"unknown {self.what} {name!r}", did_you_mean(name, self._items))
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._items))

    def __contains__(self, name: object) -> bool:
        return name in self._items


STEPS: Registry[Callable[..., Any]] = Registry("extraction step")
"""Extraction steps by name: `step(text, context, **arguments)`; filled by `evalkit.scoring.extract`."""
STEP_CHECKS: Registry[Callable[..., None]] = Registry("check of an extraction step")
"""Looks at a step's arguments before any text is there; raises ConfigError."""
CONTRASTS: Registry[Callable[..., Any]] = Registry("contrast")
"""Comparisons between a benchmark's subsets by name; a config's arguments are the factory's. Filled by
`evalkit.scoring.contrasts`."""
SOLVERS: Registry[Callable[..., Any]] = Registry("solver")
"""Factories of solvers, which lead conversations, by name; a config's arguments are the factory's. Filled by
`evalkit.agents`."""
METRICS: Registry[Callable[..., Any]] = Registry("metric")
"""Metric factories by name; a config's arguments are the factory's. Filled by `evalkit.scoring.metrics`."""
