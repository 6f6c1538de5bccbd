"""Orders: messages over a socket that carry descriptors, and files that are handed on by them."""

from __future__ import annotations

import array
import socket

HEADER_BYTES = 1 << 16
MOST_DESCRIPTORS = 4
LOST = b"lost"
"""The judge's word when the program's process was gone."""


def received(control: socket.socket) -> tuple[bytes, list[int]]:
    """A message and its descriptors; nothing when the other side hung up."""
    space = socket.CMSG_SPACE(MOST_DESCRIPTORS * 4)
    message, extra, _, _ = control.recvmsg(HEADER_BYTES, space)
    found = array.array("i")
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % 4])
    return message, list(found)


def text_of(descriptor: int) -> str:
    """A file's whole text; the descriptor is closed."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read().decode("utf-8", "surrogatepass")
