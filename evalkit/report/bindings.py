"""What a row of a published table is among ours: its row, its metric, and the config behind the published numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.core.records import Issue, Kind, Score

KINDS: tuple[Kind, ...] = ("base", "chat")


@dataclass(frozen=True)
class Binding:
    """One published row."""

    row: str
    """The row of ours that is the same measure."""
    metric: str = ""
    """Empty: the row's primary metric."""
    configs: Mapping[Kind, str] = field(default_factory=dict)
    """Kind of model -> the config that its published number was most likely made with; none known: absent."""
    inferred: str = ""
    """What of this is inferred, and what speaks against it."""

    def fits(self, score: Score) -> bool:
        """Whether a score is of this row and metric."""
        return score.row == self.row and self.metric in ("", score.metric)

    def preferred(self, scores: Sequence[Score], kind: Kind) -> list[Score]:
        """Of one model's scores those by the published config; all where there is none of it."""
        return [s for s in scores if s.benchmark == self.configs.get(kind)] or list(scores)

    def doubt(self, score: Score, kind: Kind) -> Issue | None:
        """That a score was measured by another config than the published number."""
        config = self.configs.get(kind, "")
        if not config:
            return Issue("other_config", f"measured by {score.benchmark}; which config was published is not known")
        if score.benchmark == config:
            return None
        return Issue("other_config", f"measured by {score.benchmark}, the published number most likely by {config}")

    def told(self, row: str) -> str:
        """A published row with its configs."""
        names = list(dict.fromkeys(self.configs.values()))
        names = names if len(names) < 2 else [f"{name} ({kind})" for kind, name in self.configs.items()]
        return f"{row} by {' and '.join(names)}" if names else f"{row} by one that is not known"


def bindings_from(rows: Sequence[Any]) -> dict[str, Binding]:
    """Published row -> its binding, from the entries of a summarizer that have one."""
    return {row: _binding(row, told) for row, told in _entries(rows) if isinstance(told, dict)}


def _entries(rows: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for entry in rows:
        if isinstance(entry, dict):
            yield from entry.items()


def _binding(row: str, told: Mapping[str, Any]) -> Binding:
    config = told.get("config", {})
    configs = dict.fromkeys(KINDS, config) if isinstance(config, str) else {k: config[k] for k in KINDS if k in config}
    return Binding(told.get("row", row), told.get("metric", ""), configs, told.get("inferred", ""))


def notes_of(bindings: Mapping[str, Binding]) -> list[str]:
    """The config that each published row most likely comes from, rows of which the same is inferred in one line."""
    groups: dict[str, list[str]] = {}
    for row, binding in bindings.items():
        groups.setdefault(binding.inferred, []).append(binding.told(row))
    return [": ".join(filter(None, ["configs: " + ", ".join(rows), why])) for why, rows in groups.items()]
