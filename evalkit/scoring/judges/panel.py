"""The judges of a run: their replies go through the run's store, and only what is not there is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

from evalkit.core.digest import digest
from evalkit.core.errors import ConfigError, EvalkitError, ModelError
from evalkit.core.reasoning import split_reasoning
from evalkit.core.records import GenSettings, ModelSpec, Reply, Request
from evalkit.engines.base import Engine
from evalkit.engines.catalog import create_engine
from evalkit.results.store import RunStore
from evalkit.scoring.judges.base import Question

WORKER = "judge"
"""Writes judges' replies."""
FOLDER = "judge="
"""In front of a judge's name in the store: one that is also evaluated keeps its own replies apart."""


class Panel:
    """All judges of a run; engines are made when they are first needed, one at a time."""

    def __init__(
        self, store: RunStore, specs: Mapping[str, ModelSpec], fingerprints: Mapping[str, str], names: Sequence[str]
    ) -> None:
        """`names`: those that judge where a metric names none."""
        self.store, self.specs, self.fingerprints, self.names = store, specs, fingerprints, tuple(names)
        self._loaded: tuple[str, Engine] | None = None
        self._broken: dict[str, EvalkitError] = {}

    def at(self, benchmark: str, subset: str) -> SubsetJury:
        """The panel before the answers to one subset."""
        return SubsetJury(self, benchmark, subset)

    def engine(self, name: str) -> Engine:
        """The judge's engine; ModelError, at once the second time, where it cannot be had."""
        if name in self._broken:
            raise self._broken[name]
        if self._loaded is None or self._loaded[0] != name:
            self.close()
            try:
                with self.log():
                    self._loaded = (name, create_engine(self.specs[name]))
            except EvalkitError as error:
                self._broken[name] = ModelError(f"the judge {name} cannot be asked: {error.message}", error.hint)
                raise self._broken[name] from error
        return self._loaded[1]

    @contextmanager
    def log(self) -> Iterator[None]:
        """What engines and libraries print goes to the run's log of judges, as that of workers goes to theirs."""
        path = self.store.log_path(WORKER)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as log, redirect_stdout(log):
            yield

    def failed(self, name: str, error: EvalkitError) -> None:
        """Ask a judge nothing more that ended with an error for all."""
        self._broken.setdefault(name, ModelError(f"the judge {name} cannot be asked: {error.message}", error.hint))

    def close(self) -> None:
        """Give back what is loaded."""
        if self._loaded is not None:
            with self.log():
                self._loaded[1].close()
            self._loaded = None


@dataclass(frozen=True)
class SubsetJury:
    """The judges of one benchmark's subset."""

    panel: Panel
    benchmark: str
    subset: str

    def named(self, names: Sequence[str]) -> tuple[str, ...]:
        """These judges, or the command's; ConfigError where there are none."""
        chosen = tuple(names) or self.panel.names
        absent = [name for name in chosen if name not in self.panel.specs]
        if absent or not chosen:
            raise ConfigError("no model is named as a judge", "--judge MODEL")
        return chosen

    def ask(self, judge: str, questions: Sequence[Question]) -> list[Reply]:
        """The replies in order, without reasoning traces; new ones are stored as they come.

        EvalkitError where a question has no answer.
        """
        store, spec = self.panel.store, self.panel.specs[judge]
        requests = [self._request(judge, spec, question) for question in questions]
        folder = f"{FOLDER}{judge}"
        known = {k: r for k, r in store.replies(folder, self.benchmark, self.subset).items() if not r.error}
        missing = {r.key: r for r in requests if r.key not in known}
        if missing:
            engine = self.panel.engine(judge)
            writer = store.writer(folder, self.benchmark, self.subset, WORKER)
            try:
                with self.panel.log():
                    for reply in engine.run(list(missing.values())):
                        writer.append(missing[reply.key], reply)
                        known[reply.key] = reply
            except EvalkitError as error:
                self.panel.failed(judge, error)
                raise
            finally:
                writer.close()
        replies = [known.get(r.key, Reply(r.key, error="no reply")) for r in requests]
        for question, reply in zip(questions, replies, strict=True):
            if reply.error:
                raise ModelError(f"the judge {judge} did not answer on {question.sample_id}: {reply.error}", "")
        return [replace(r, text=split_reasoning(r.text or "", spec.reasoning).answer) for r in replies]

    def _request(self, judge: str, spec: ModelSpec, question: Question) -> Request:
        """The request of a question; equal questions about one sample have one key."""
        budget = spec.reasoning.budget if spec.reasoning else 0
        gen = GenSettings(question.max_out_len + budget, temperature=question.temperature)
        plain = "" if spec.kind == "chat" else "\n".join(turn.text for turn in question.turns)
        turns = question.turns if spec.kind == "chat" else ()
        content: list[Any] = [self.panel.fingerprints[judge], question.sample_id, question.mark, plain, turns, gen]
        tops = question.top_logprobs
        key = digest([*content, tops])
        mark = question.mark
        return Request(key, question.sample_id, "gen", plain, turns, mark, gen=gen, top_logprobs=tops)
