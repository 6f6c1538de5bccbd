"""Standard streams: what is printed where, and what happens when they are closed or full."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO, Any

import click

from evalkit.core.errors import EvalkitError, StoreError
from evalkit.core.jsontext import json_text


class Documents:
    """Standard output of a command.

    With `--json` it gets exactly one document: whatever else is printed there, by libraries and engines in this
    process too, goes to standard error.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._written = False
        self._file: IO[str] | None = None

    def __enter__(self) -> Documents:
        if self.as_json:
            sys.stdout.flush()
            self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
            os.dup2(2, 1)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os.dup2(self._file.fileno(), 1)
            with contextlib.suppress(OSError):
                self._file.close()

    def write(self, value: Any) -> None:
        """Print a document; StoreError when standard output takes nothing."""
        self._written = True
        if self._file is None:
            click.echo(json_text(value))
            return
        try:
            self._file.write(json_text(value) + "\n")
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise unwritable(error) from error

    def close(self, code: int, error: EvalkitError | None = None) -> None:
        """The last word of a command with `--json` that has printed no document: its error, or the code alone."""
        if self.as_json and not self._written:
            told = {"error": error.message, "hint": error.hint} if error else {}
            self.write({**told, "exit_code": code})


def unwritable(error: OSError) -> StoreError:
    """Standard output is full, or gone."""
    return StoreError(
        f"standard output cannot be written: {error.strerror}", "results are in the run's folder: `run.py list runs`"
    )


def emit(value: Any) -> None:
    """Print the document of a command with `--json`."""
    documents = click.get_current_context().find_root().obj
    if isinstance(documents, Documents):
        documents.write(value)
    else:
        click.echo(json_text(value))


def note(text: str, **style: Any) -> None:
    """A line on standard error; a stream that takes nothing does not end a run."""
    with contextlib.suppress(OSError, ValueError):
        click.secho(text, err=True, **style)


def open_streams() -> None:
    """Whatever stream the caller closed leads nowhere, so that no other file takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.dup(number), mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def close_streams() -> None:
    """Write what is buffered; a stream that takes nothing leads nowhere from now on, so that Python ends in peace."""
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, number)
            os.close(null)
