"""What a metric knows of judges: the questions it asks, and who answers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evalkit.core.records import Reply, Turn


@dataclass(frozen=True)
class Question:
    """What a judge is asked about one sample."""

    sample_id: str
    turns: tuple[Turn, ...]
    max_out_len: int
    temperature: float = 0.0
    top_logprobs: int = 0
    """How many of the likeliest first tokens are wanted with their log-probabilities."""
    mark: str = ""
    """Distinguishes the questions about one sample."""


class Jury(Protocol):
    """The judges of one benchmark's subset."""

    def named(self, names: Sequence[str]) -> tuple[str, ...]:
        """These judges, or the command's; ConfigError where there are none."""

    def ask(self, judge: str, questions: Sequence[Question]) -> list[Reply]:
        """The replies in order, without reasoning traces. EvalkitError where a question has no answer."""
