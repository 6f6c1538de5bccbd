"""The store: appends survive a torn line, final files are replaced whole, runs are found again."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from evalkit.core.errors import StoreError
from evalkit.core.records import Reply, Request, Verdict
from evalkit.results import store as store_module
from evalkit.results.store import ReplyWriter, RunStore, create_run, find_unfinished, list_runs, open_run


def _request(key: str) -> Request:
    return Request(key, "s/0", "gen", text="p")


def _store(tmp_path: Path) -> RunStore:
    return create_run(tmp_path, {"plan_hash": "h"})


def test_replies_come_back(tmp_path: Path) -> None:
    store = _store(tmp_path)
    writer = store.writer("m", "b", "s/x", "w1")
    replies = [Reply("a", text="héllo\n\u2028", n_out=3, finish="eos"), Reply("b", nll=0.1 + 0.2, truncated=True)]
    for reply in replies:
        writer.append(_request(reply.key), reply)
    writer.close()
    assert store.replies("m", "b") == {r.key: r for r in replies}
    assert store.replies("m", "b", "s/x") == store.replies("m", "b")
    assert store.replies("m", "b", "other") == {}


def test_torn_line_is_skipped_and_closed(tmp_path: Path) -> None:
    store = _store(tmp_path)
    writer = store.writer("m", "b", "s", "w1")
    writer.append(_request("a"), Reply("a", text="one"))
    writer.close()
    with writer.path.open("ab") as handle:
        handle.write(b'{"key": "b", "text": "tor')
    again = store.writer("m", "b", "s", "w1")
    again.append(_request("c"), Reply("c", text="three"))
    again.close()
    assert set(store.replies("m", "b")) == {"a", "c"}


def test_answer_wins_over_error_of_another_worker(tmp_path: Path) -> None:
    store = _store(tmp_path)
    for worker, reply in (
        ("w1", Reply("a", error="oom")),
        ("w2", Reply("a", text="x")),
        ("w3", Reply("a", error="no")),
    ):
        writer = store.writer("m", "b", "s", worker)
        writer.append(_request("a"), reply)
        writer.close()
    assert store.replies("m", "b")["a"].text == "x"


def test_nonfinite_numbers_are_refused(tmp_path: Path) -> None:
    writer = _store(tmp_path).writer("m", "b", "s", "w1")
    with pytest.raises(ValueError, match="not JSON compliant"):
        writer.append(_request("a"), Reply("a", nll=float("nan")))


def test_names_are_made_safe(tmp_path: Path) -> None:
    store = _store(tmp_path)
    path = store.writer("../../m", "b/c", "../s", "w1").path
    assert path.resolve().is_relative_to(store.folder.resolve())


def test_unfinished_run_of_equal_plan_is_found(tmp_path: Path) -> None:
    first = create_run(tmp_path, {"plan_hash": "p"})
    second = create_run(tmp_path, {"plan_hash": "p"})
    create_run(tmp_path, {"plan_hash": "q"})
    found = find_unfinished(tmp_path, "p")
    assert found is not None and found.folder == second.folder
    second.set_status("complete")
    found = find_unfinished(tmp_path, "p")
    assert found is not None and found.folder == first.folder
    assert find_unfinished(tmp_path, "other") is None
    assert len(list_runs(tmp_path)) == 3


def test_runs_open_by_name_path_or_newest(tmp_path: Path) -> None:
    run = _store(tmp_path)
    assert open_run(run.name, tmp_path).folder == run.folder
    assert open_run(str(run.folder), tmp_path / "elsewhere").folder == run.folder
    assert open_run("", tmp_path).folder == run.folder
    with pytest.raises(StoreError, match="no run"):
        open_run("absent", tmp_path)


def test_lock_is_exclusive_and_released(tmp_path: Path) -> None:
    run = _store(tmp_path)
    with run.locked(), pytest.raises(StoreError, match="another process"), RunStore(run.folder).locked():
        pass
    with RunStore(run.folder).locked():
        pass


def test_full_disk_is_one_clear_error_and_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = _store(tmp_path)
    before = run.manifest()

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.Path, "write_bytes", full)
    with pytest.raises(StoreError) as caught:
        run.set_status("complete")
    monkeypatch.undo()
    assert "disk is full" in caught.value.message and "same command" in caught.value.hint
    assert run.manifest() == before
    assert not list(run.folder.glob("*.tmp"))


def test_dev_full_stops_an_append(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    writer = ReplyWriter(tmp_path / "r.jsonl")
    writer._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    with pytest.raises(StoreError, match="disk is full"):
        writer.append(_request("a"), Reply("a", text="x"))


def test_replies_are_readable_json_lines(tmp_path: Path) -> None:
    writer = _store(tmp_path).writer("m", "b", "s", "w1")
    writer.append(Request("k", "s/3", "ppl", text="t", label="C"), Reply("k", nll=1.5, n_tokens=7))
    writer.close()
    record = json.loads(writer.path.read_text())
    assert record.pop("sum")
    assert record == {"key": "k", "nll": 1.5, "n_tokens": 7, "sample": "s/3", "label": "C"}


def test_lone_surrogates_leave_every_file_readable_for_other_programs(tmp_path: Path) -> None:
    """A reply keeps its place with U+FFFD; names come back as they are."""
    store, odd = _store(tmp_path), "a\ud83d b\udc80"
    writer = store.writer("m", "b", "s", "w1")
    writer.append(_request("k"), Reply("k", text=odd, error=""))
    writer.append(_request("e"), Reply("e", error=odd))
    writer.close()
    index = store.index_writer("m", "b", "s", "w1")
    index.append_line({"version": "v", "sample": odd, "keys": {odd: "k"}})
    index.close()
    store.write_verdicts("m", "b", "s", [Verdict(odd, answer=odd, gold=odd, values={}, subset="s")])
    store.set_status("complete", note=odd)
    store.write_report("summary.txt", odd)
    files = [path for path in store.folder.rglob("*") if path.is_file()]
    assert len(files) == 5
    for path in files:
        text = path.read_bytes().decode("utf-8")  # strict
        for line in text.splitlines() if path.suffix == ".jsonl" else []:
            assert isinstance(json.loads(line), dict)
    assert store.replies("m", "b") == {
        "k": Reply("k", text="a\ufffd b\ufffd"),
        "e": Reply("e", error="a\ufffd b\ufffd"),
    }
    assert list(store.index_lines("m", "b", "s")) == [{"version": "v", "sample": odd, "keys": {odd: "k"}}]
    assert store.manifest()["note"] == odd and store.verdicts("m", "b")[0].answer == odd


def test_replies_with_surrogates_of_earlier_versions_are_read(tmp_path: Path) -> None:
    store = _store(tmp_path)
    path = store.writer("m", "b", "s", "w1").path
    path.write_bytes(json.dumps({"key": "k", "text": "a\ud83d"}, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    assert store.replies("m", "b")["k"].text == "a\ud83d"


@pytest.mark.parametrize("bad", ["long", "circle"])
def test_a_place_that_cannot_be_is_a_store_error(tmp_path: Path, bad: str) -> None:
    (tmp_path / "circle").symlink_to("circle")
    place = tmp_path / ("x" * 300 if bad == "long" else bad)
    with pytest.raises(StoreError, match=r"too long|circle"):
        create_run(place, {})
    for look in (lambda: open_run(str(place), tmp_path), lambda: open_run("", place)):
        with pytest.raises(StoreError):
            look()
