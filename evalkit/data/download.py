"""Downloads over HTTP: bounded in size and time, whole or not at all, continued where they were cut off."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from contextlib import suppress
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from evalkit.core.digest import digest
from evalkit.core.errors import DataError

MOST_BYTES = 256 << 20
SILENT_SECONDS = 60.0
"""Time without a byte after which a download counts as cut off."""
TOTAL_SECONDS = 900.0
"""Time of a whole download, tries included; the same command continues it."""
TRIES = 4
CHUNK_BYTES = 1 << 16
RANGE_REFUSED = 416
SCHEMES = ("http", "https")
HINT = "check the network, or put the file in place by hand"


class _CutOff(Exception):
    """A body ended before its end."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTP only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme not in SCHEMES:
        raise DataError(f"cannot fetch {url}: only http and https are fetched from", "put the file in place by hand")


def _opener() -> urllib.request.OpenerDirector:
    """Of HTTP alone: no file, FTP or data addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), urllib.request.UnknownHandler(), urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(), urllib.request.HTTPDefaultErrorHandler(), _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


def download(url: str, folder: Path) -> bytes:
    """The whole body; what came of one that was cut off stays in `folder` until it is whole.

    DataError when the address is none of HTTP, when the body is larger than MOST_BYTES, does not come within
    TOTAL_SECONDS, or ends too early in every try.
    """
    try:
        _check_scheme(url)
    except ValueError as error:
        raise DataError(f"cannot fetch {url}: {error}", HINT) from error
    part = _Part(folder / f".{digest(url, 16)}.part")
    deadline = time.monotonic() + TOTAL_SECONDS
    for last in [False] * (TRIES - 1) + [True]:
        try:
            _continue(url, part, deadline)
            return part.taken()
        except (_CutOff, http.client.HTTPException, OSError, ValueError) as error:
            code = error.code if isinstance(error, urllib.error.HTTPError) else 500
            if code == RANGE_REFUSED:
                part.remove()
            hopeless = code < 500 and code != RANGE_REFUSED
            if last or hopeless or time.monotonic() >= deadline:
                kept = " (the same command continues)" if part.size() else ""
                why = str(error) or type(error).__name__
                raise DataError(f"cannot fetch {url}: {why}{kept}", HINT) from error
    raise AssertionError("unreachable")


class _Part:
    """What has come so far, and which version of the file it belongs to."""

    def __init__(self, path: Path) -> None:
        self.path, self.tag_path = path, path.with_suffix(".tag")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def tag(self) -> str:
        """The server's word for the version; without one nothing can be continued."""
        return self.tag_path.read_text(encoding="utf-8") if self.tag_path.is_file() else ""

    def begin(self, tag: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")
        self.tag_path.write_text(tag, encoding="utf-8")

    def remove(self) -> None:
        for path in (self.path, self.tag_path):
            with suppress(FileNotFoundError):
                path.unlink()

    def taken(self) -> bytes:
        content = self.path.read_bytes()
        self.remove()
        return content


def _continue(url: str, part: _Part, deadline: float) -> None:
    """One try: from where the last was cut off if the file is still the same, else from the beginning."""
    tag, begin = part.tag(), part.size()
    request = urllib.request.Request(url, headers={"User-Agent": "evalkit", "Accept-Encoding": "identity"})
    if tag and begin:
        request.add_header("Range", f"bytes={begin}-")
        request.add_header("If-Range", tag)
    with _opened(request) as response:
        if response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
            expected = begin + int(response.headers.get("Content-Length") or -1 - begin)
        elif response.status == 206:
            part.remove()
            raise _CutOff("the server continues at another place")
        else:
            begin, expected = 0, int(response.headers.get("Content-Length") or -1)
            strong = response.headers.get("ETag", "")
            part.begin(strong if not strong.startswith("W/") else response.headers.get("Last-Modified", ""))
        _read(response, part, expected, deadline)


def _opened(request: urllib.request.Request) -> Any:
    return _opener().open(request, timeout=SILENT_SECONDS)


def _read(response: Any, part: _Part, expected: int, deadline: float) -> None:
    """Append the body; _CutOff when it is shorter than the server said, or too slow."""
    size = part.size()
    with part.path.open("ab") as file:
        while chunk := response.read1(CHUNK_BYTES):
            size += len(chunk)
            if size > MOST_BYTES or expected > MOST_BYTES:
                file.close()
                part.remove()
                raise DataError(f"cannot fetch {response.url}: more than {MOST_BYTES >> 20} MiB", HINT)
            file.write(chunk)
            if time.monotonic() > deadline:
                raise _CutOff(f"not whole after {TOTAL_SECONDS:.0f} s")
    if not size:
        raise _CutOff("the body is empty")
    if 0 <= expected != size:
        raise _CutOff(f"the body ended after {size} of {expected} bytes")
