"""A web server on this machine that serves as badly as a test asks for."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Answer = Callable[[dict[str, str]], list[bytes | float]]
"""From a request's headers (lower case) to what is sent: bytes, and seconds to wait."""


def whole(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> list[bytes | float]:
    """A response of that body, with another length in its head on demand."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return ["\r\n".join([*lines, "Connection: close", "", ""]).encode(), body]


@dataclass
class Web:
    """What it answers, and what it was asked."""

    address: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)

    def serve(self, answer: bytes | Answer) -> str:
        """The address of a new path with that answer."""
        path = f"/{len(self.answers)}.txt"
        self.answers[path] = (lambda headers: whole(answer)) if isinstance(answer, bytes) else answer
        return self.address + path


@contextmanager
def web_server() -> Iterator[Web]:
    """One that runs."""
    web = Web()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            path = self.rfile.readline().split()[1].decode()
            headers = {}
            while line := self.rfile.readline().strip():
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            web.asked.append(headers)
            with suppress(OSError):
                for piece in web.answers[path](headers):
                    if isinstance(piece, float):
                        time.sleep(piece)
                    else:
                        self.wfile.write(piece)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        web.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield web
        finally:
            server.shutdown()
