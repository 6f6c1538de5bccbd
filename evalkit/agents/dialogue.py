"""Chats whose further questions are in the rows: each is asked after the model's own answers so far (MT-Bench)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evalkit.agents.base import MODEL, Answer, Ask, Move, State
from evalkit.core.errors import ConfigError
from evalkit.core.records import Sample, Turn
from evalkit.core.registry import SOLVERS


@dataclass(frozen=True)
class Dialogue:
    """Asks the prompt, then one question after the other; the answer is the model's last one."""

    turns: str
    """An expression over the row: the list of the questions after the first one, which the prompt holds."""
    runs_code: bool = False

    def most_requests(self, sample: Sample) -> int:
        """See `Solver`."""
        return 1 + len(self._questions(sample))

    def fault(self, sample: Sample) -> str:
        """See `Solver`."""
        try:
            questions = self._questions(sample)
        except ConfigError as error:
            return error.message
        if not isinstance(questions, (list, tuple)) or not all(isinstance(q, str) and q.strip() for q in questions):
            return f"`turns: {self.turns}` gives {questions!r}, which is no list of texts"
        return ""

    def next(self, state: State) -> Move:
        """See `Solver`."""
        said, questions = state.of(MODEL), self._questions(state.sample)
        if len(said) > len(questions):
            return Answer(said[-1].text)
        turns = list(state.opening)
        for event, question in zip(said, questions, strict=False):
            turns += [Turn("assistant", event.text), Turn("user", question)]
        return Ask(tuple(turns))

    def _questions(self, sample: Sample) -> Any:
        from evalkit.core import template  # brings jinja, which most runs do without

        return template.evaluate(self.turns, {**sample.variables, **sample.row}, "solver: turns")


@SOLVERS.register("dialogue")
def dialogue(turns: str) -> Dialogue:
    """Asks the prompt, then each text of the list that the expression `turns` gives, after the answers so far."""
    return Dialogue(turns)
