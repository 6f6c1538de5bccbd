"""Reads the JSON lines that a worker writes, without ever waiting for the rest of a line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

CHUNK = 1 << 16


class EventReader:
    """Non-blocking reader of one worker's event pipe."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""
        os.set_blocking(fd, False)

    def read(self) -> tuple[list[Mapping[str, Any]], bool]:
        """(complete events, has the pipe been closed); a line torn by a kill is dropped."""
        ended = False
        while True:
            try:
                chunk = os.read(self.fd, CHUNK)
            except BlockingIOError:
                break
            if not chunk:
                ended = True
                break
            self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n")
        return [json.loads(line) for line in lines if line], ended

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self.fd)
