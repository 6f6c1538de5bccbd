"""`fetch` against servers that cut off, dawdle and redirect, and configs that name places outside."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from evalkit.core.errors import DataError
from evalkit.data import download as downloads
from evalkit.data.download import download
from evalkit.data.fetch import fetch_benchmarks, inside
from tests.data.web import Web, whole

BODY = bytes(range(256)) * 500
ROWS = '{"question": "q", "answer": "#### 1"}\n'


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_body(web: Web, tmp_path: Path) -> None:
    assert download(web.serve(BODY), tmp_path) == BODY
    assert left(tmp_path) == []


def test_a_body_that_is_cut_off_is_continued(web: Web, tmp_path: Path) -> None:
    def cut(headers: dict[str, str]) -> list[bytes | float]:
        begin = int(headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        rest = BODY[begin:]
        if begin:
            assert headers["if-range"] == '"v1"'
            more = f"Content-Range: bytes {begin}-{len(BODY) - 1}/{len(BODY)}"
            return whole(rest[:50_000], more, status="206 Partial Content", length=len(rest))
        return whole(rest[:50_000], 'ETag: "v1"', length=len(rest))

    assert download(web.serve(cut), tmp_path) == BODY
    assert len(web.asked) == 3 and left(tmp_path) == []


def test_a_later_command_continues_and_a_changed_file_begins_anew(web: Web, tmp_path: Path) -> None:
    answer: list[list[bytes | float]] = [whole(BODY[:1000], 'ETag: "v1"', length=len(BODY))]
    address = web.serve(lambda headers: answer[0])
    with pytest.raises(DataError, match=r"ended after 1000 of 128000 bytes \(the same command continues\)"):
        download(address, tmp_path)
    assert len(left(tmp_path)) == 2
    answer[0] = whole(BODY[::-1], 'ETag: "v2"')
    assert download(address, tmp_path) == BODY[::-1]
    assert web.asked[-1]["range"] == "bytes=1000-" and web.asked[-1]["if-range"] == '"v1"'
    assert left(tmp_path) == []


def test_without_a_version_nothing_is_continued(web: Web, tmp_path: Path) -> None:
    bodies = [whole(BODY[:1000], length=len(BODY)), whole(BODY)]
    assert download(web.serve(lambda headers: bodies.pop(0)), tmp_path) == BODY
    assert "range" not in web.asked[-1]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
BAD = {
    "no chunks to the end": lambda headers: [CHUNKED, b"5\r\nhello\r\n"],
    "no chunk": lambda headers: [CHUNKED, b"nonsense\r\n"],
    "no response": lambda headers: [b"nonsense\r\n\r\n"],
    "nothing": lambda headers: [],
    "a cut head": lambda headers: [b"HTTP/1.1 200"],
    "a head without end": lambda headers: [b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000],
    "an odd length": lambda headers: [b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", b"x"],
    "an error": lambda headers: whole(b"", status="503 Busy"),
    "not there": lambda headers: whole(b"", status="404 Not Found"),
    "another place": lambda headers: whole(b"x", "Content-Range: bytes 7-7/8", status="206 Partial Content"),
    "round and round": lambda headers: whole(b"", "Location: /0.txt", status="302 Found"),
    "no place to go": lambda headers: whole(b"", "Location: http://[", status="302 Found"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_server_that_serves_badly_is_one_error(name: str, web: Web, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot fetch http://127.0.0.1"):
        download(web.serve(BAD[name]), tmp_path)
    assert len(web.asked) <= 50


@pytest.mark.parametrize(
    "where", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "/etc/hostname", "", "http://["]
)
def test_http_alone(where: str, web: Web, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot fetch"):
        download(where, tmp_path)
    with pytest.raises(DataError, match="cannot fetch"):
        download(web.serve(lambda headers: whole(b"", f"Location: {where}", status="302 Found")), tmp_path)


def test_size_and_time_are_limited(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MOST_BYTES", 100_000)
    endless = web.serve(lambda headers: [b"HTTP/1.0 200 OK\r\n\r\n", *[bytes(1 << 16)] * 10_000])
    for address in (web.serve(BODY), endless):
        with pytest.raises(DataError, match="more than 0 MiB"):
            download(address, tmp_path)
    assert left(tmp_path) == []
    monkeypatch.setattr(downloads, "TOTAL_SECONDS", 0.5)
    slow = web.serve(lambda headers: [b"HTTP/1.0 200 OK\r\n\r\n", *[b"x", 0.05] * 10_000])
    with pytest.raises(DataError, match="not whole after 0 s"):
        download(slow, tmp_path)
    monkeypatch.setattr(downloads, "SILENT_SECONDS", 0.2)
    with pytest.raises(DataError, match="timed out"):
        download(web.serve(lambda headers: [600.0]), tmp_path)


def fetch(tmp_path: Path, text: str) -> list[str]:
    """The lines of a `fetch` of a config with that line of its own."""
    rows = tmp_path / "root" / "openai" / "gsm8k" / "main" / "test.jsonl"
    rows.parent.mkdir(parents=True, exist_ok=True)
    rows.write_text(ROWS)
    config = tmp_path / "configs" / "mine_gen.yaml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(f"base: gsm8k_gen_17d0dc\n{text}\n")
    return list(fetch_benchmarks(["mine_gen"], tmp_path / "root", [str(config.parent)]))


def test_a_checksum_is_recorded_where_none_is_declared(web: Web, tmp_path: Path) -> None:
    body = b'{"role": "user", "content": "q"}\n{"role": "assistant", "content": "a"}\n'
    text = f"shots: {{sha256: null, file: mine/shots.jsonl, fetch: {{url: '{web.serve(body)}', convert: none}}}}"
    line = fetch(tmp_path, text)[0]
    assert "as published" not in line and "no checksum is declared; recorded in shots.jsonl.sha256" in line
    file = tmp_path / "root" / "mine" / "shots.jsonl"
    record = file.with_name("shots.jsonl.sha256")
    assert file.read_bytes() == body
    assert record.read_text() == f"{hashlib.sha256(body).hexdigest()}  shots.jsonl\n"
    assert len(web.asked) == 1 and "complete" in fetch(tmp_path, text)[0] and len(web.asked) == 1
    file.write_bytes(body + b"x")
    with pytest.raises(DataError, match="has changed since it was fetched"):
        fetch(tmp_path, text)


@pytest.mark.parametrize("name", ["../out.jsonl", "a/../../out.jsonl", "/tmp/evalkit-out.jsonl", "a/../..", "."])
def test_nothing_is_written_outside_of_the_data_root(name: str, web: Web, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lies outside of the data root"):
        fetch(tmp_path, f"shots: {{sha256: null, file: '{name}', fetch: {{url: '{web.serve(BODY)}', convert: none}}}}")
    assert not web.asked
    assert sorted(left(tmp_path)) == ["configs", "root"]


def test_what_is_inside(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/./b/../c") == tmp_path / "a" / "c"
    assert inside(Path("root"), "a") == Path("root/a")
    for name in ("..", "", "a/..", "\0", "/", str(tmp_path) + "x"):
        with pytest.raises(DataError):
            inside(tmp_path, name)
