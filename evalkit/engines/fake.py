"""An engine without a model: answers come from a digest of the request.

It exercises runners, resume and scoring, and fails on demand.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.core.digest import digest
from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec, Reply, Request

CRASH_CODE = 9


@dataclasses.dataclass(frozen=True)
class FakeOptions:
    """`options:` of a model config with `engine: fake`; the texts are looked for in each request."""

    seconds: float = 0.0
    """Sleep a request, in seconds."""
    gen_seconds: float | None = None
    """Sleep a gen request; default: `seconds`."""
    crash_on: str = ""
    """The process ends at once, as if killed, at a request that contains this."""
    hang_on: str = ""
    """Nothing more comes, though the process lives."""
    fail_on: str = ""
    """A ModelError, which ends the whole run of this engine."""
    error_on: str = ""
    """A reply that has only `error`."""
    prints: str = ""
    """Printed on standard output for each request, as libraries do: by Python and by the file descriptor."""


class FakeEngine:
    """Deterministic answers for a given path and request."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._options = FakeOptions(**spec.options)

    def run(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """One reply a request, in order."""
        for request in requests:
            yield self._answer(request)

    def describe(self) -> Mapping[str, Any]:
        """Only that it is fake."""
        return {"engine": "fake", "path": self._spec.path, "device": "none"}

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self, request: Request) -> Reply:
        text = "\n".join([request.text, request.continuation, *(turn.text for turn in request.turns)])
        options = self._options
        if options.prints:
            print(options.prints)
            os.write(1, f"{options.prints}\n".encode())
        if options.crash_on and options.crash_on in text:
            os._exit(CRASH_CODE)
        if options.hang_on and options.hang_on in text:
            time.sleep(3600)
        if options.fail_on and options.fail_on in text:
            raise ModelError(f"the fake engine fails on {options.fail_on!r}", "take fail_on out of its options")
        time.sleep(self._seconds(request))
        if options.error_on and options.error_on in text:
            return Reply(request.key, error=f"the fake engine has no answer to {options.error_on!r}")
        return self._reply(request, text)

    def _seconds(self, request: Request) -> float:
        longer = self._options.gen_seconds
        return self._options.seconds if request.mode != "gen" or longer is None else longer

    def _reply(self, request: Request, text: str) -> Reply:
        mark = digest([self._spec.path, self._spec.kind, text, request.label, request.gen, request.repeat])
        n_tokens, seconds = len(text.split()), self._seconds(request)
        if request.mode != "gen":
            nll = int(mark[:8], 16) / 16**8 * 5
            scored = len(request.continuation.split()) if request.mode == "ll" else 0
            return Reply(request.key, nll=nll, n_tokens=n_tokens, n_scored=scored, seconds=seconds)
        letter = "ABCD"[int(mark[8:10], 16) % 4]
        answer = f"The answer is {letter}. {int(mark[10:13], 16)}"
        for stop in request.gen.stop if request.gen else ():
            answer = answer.split(stop, 1)[0]
        n_out = len(answer.split())
        return Reply(request.key, text=answer, n_tokens=n_tokens, n_out=n_out, finish="stop", seconds=seconds)
