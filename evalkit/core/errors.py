"""The errors that a user sees: one message, one hint, one exit code."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130


def first_line(error: BaseException, limit: int = 300) -> str:
    """The first line of an error's text that holds anything, cut to `limit` characters; empty without one."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), "")[:limit]


class EvalkitError(Exception):
    """A failure with a cause and a way out.

    `message` says what is wrong in one sentence, `hint` what to do about it.
    """

    exit_code = EXIT_REFUSED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    @property
    def clause(self) -> str:
        """Both in one line, for the cell of a table or the middle of a sentence."""
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class ConfigError(EvalkitError):
    """A config file, a name or an option is wrong; nothing was run."""


class DataError(EvalkitError):
    """Rows, exemplars or a haystack are missing or malformed; nothing was run."""


class AbsentData(DataError):
    """Rows are nowhere to be found, neither in a data root nor at the hub."""


class ModelError(EvalkitError):
    """A checkpoint, tokenizer or device cannot be used.

    In a run of several models it is that model's failure and the others go on; it ends the command
    only where there is no other, before any job.
    """


class DeviceError(EvalkitError):
    """The device failed in the middle of a computation: this process cannot use it any more, a new one may."""

    exit_code = EXIT_FAILED


class StoreError(EvalkitError):
    """Results cannot be written or read (disk full, permissions, another run at work)."""

    exit_code = EXIT_FAILED


class RunFailed(EvalkitError):
    """A run ended with failed or incomplete parts; what was computed is kept."""

    exit_code = EXIT_FAILED
