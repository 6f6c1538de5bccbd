"""A damaged store gives the same table, or says what is missing; never another number."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit.core.errors import StoreError
from evalkit.core.records import Reply, Request, Score
from evalkit.execution.debug import DebugRunner
from evalkit.plan.manifest import from_manifest
from evalkit.plan.options import RunOptions
from evalkit.results.store import RunStore, checked, create_run
from evalkit.scoring.score import Options
from evalkit.session import Finished, RunSettings, run, score_pair, score_run
from tests import helpers

DATASETS = ("mmlu_ppl_ac766d:anatomy,astronomy", "gsm8k_gen_17d0dc")
READ = ("manifest.json", "replies", "requests", "samples")
"""What scoring reads; everything else in a run's folder it writes."""
Values = dict[str, tuple[float | None, int]]


@dataclass(frozen=True)
class Original:
    """A complete run, what its table says, and its files that scoring reads."""

    place: Path
    folder: Path
    values: Values
    files: tuple[Path, ...]

    def command(self, work: Path, **more: Any) -> Finished:
        options = RunOptions(("m",), DATASETS, config_dirs=(str(self.place / "configs"),), data_root="samples", limit=4)
        finished = run(options, RunSettings((), work, runner=DebugRunner(), **more))
        assert isinstance(finished, Finished)
        return finished


def values(scores: tuple[Score, ...] | list[Score]) -> Values:
    return {f"{s.row} {s.metric}": (s.value, s.n) for s in scores}


@pytest.fixture(scope="module")
def original() -> Iterator[Original]:
    with tempfile.TemporaryDirectory() as folder:
        helpers.fake_model(Path(folder) / "configs", "m")
        made = Original(Path(folder), Path(folder), {}, ())
        finished = made.command(Path(folder) / "work")
        assert finished.complete
        place = finished.store.folder
        files = [
            p.relative_to(place) for part in READ for p in (place / part, *(place / part).rglob("*")) if p.is_file()
        ]
        yield Original(Path(folder), place, values(finished.scores), tuple(sorted(files)))


def damaged(content: bytes, kind: str, where: int, how: int) -> bytes:
    """The content with one damage: to a byte at `where`, or to lines there."""
    lines = content.split(b"\n")
    at, line, other = where % max(1, len(content)), where % len(lines), how % len(lines)
    if kind == "flip":
        return content[:at] + bytes([content[at] ^ (how % 255 + 1)]) + content[at + 1 :] if content else content
    if kind == "digit":  # what damages valid JSON least
        places = [n for n, byte in enumerate(content) if chr(byte).isdigit()]
        at = places[where % len(places)] if places else 0
        return content[:at] + str(how % 10).encode() + content[at + 1 :]
    if kind == "cut":
        return content[:at]
    if kind == "hole":
        return content[:at] + content[at + how % 40 + 1 :]
    if kind == "double":
        return b"\n".join([*lines[: line + 1], *lines[line:]])
    if kind == "torn":
        lines[line] = lines[line][: how % (len(lines[line]) + 1)]
    if kind == "gone":
        del lines[line]
    if kind == "swap":
        lines[line], lines[other] = lines[other], lines[line]
    if kind == "exchange":  # the ends of two lines
        one, two = lines[line], lines[other]
        lines[line], lines[other] = (
            one[: len(one) // 2] + two[len(two) // 2 :],
            two[: len(two) // 2] + one[len(one) // 2 :],
        )
    return b"\n".join(lines)


KINDS = ("flip", "digit", "cut", "hole", "double", "torn", "gone", "swap", "exchange")
NUMBERS = st.integers(0, 1 << 20)


def copy_of(original: Original, folder: Path, file: Path, kind: str, where: int, how: int) -> RunStore:
    shutil.copytree(original.folder, folder)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(damaged(content, kind, where, how))
    return RunStore(folder)


def check(found: list[Score], original: Original) -> None:
    """The same numbers, or fewer samples, which is said."""
    expected = {s: v for s, v in original.values.items() if s in {f"{x.row} {x.metric}" for x in found}}
    assert {row.split()[0] for row in expected} == {row.split()[0] for row in original.values}
    for score in found:
        name = f"{score.row} {score.metric}"
        if (score.value, score.n) != expected.get(name):
            assert score.n < score.n_expected or score.value is None, name
            assert score.n_expected == original.values.get(name, (None, 0))[1] or score.issues, name


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(number=NUMBERS, kind=st.sampled_from(KINDS), where=NUMBERS, how=NUMBERS)
def test_one_damage_gives_no_other_number(original: Original, number: int, kind: str, where: int, how: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = original.files[number % len(original.files)]
        store = copy_of(original, Path(folder) / "run", file, kind, where, how)
        try:
            plan = from_manifest(store.manifest())
        except StoreError as error:
            assert file.name == "manifest.json" and error.hint
            return
        check([s for pair in plan.pairs for s in score_pair(store, plan, pair, Options(), {})], original)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(number=NUMBERS, kind=st.sampled_from(KINDS), where=NUMBERS, how=NUMBERS)
def test_the_same_command_mends_it(original: Original, number: int, kind: str, where: int, how: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = original.files[number % len(original.files)]
        store = copy_of(original, Path(folder) / original.folder.name, file, kind, where, how)
        try:
            check(list(score_run(store, Options()).scores), original)
            finished = original.command(Path(folder), reuse=store.name)
        except StoreError as error:
            assert file.name == "manifest.json" and error.hint
            finished = original.command(Path(folder))
        assert finished.complete and values(finished.scores) == original.values
        assert not [s for s in finished.scores if any(i.kind == "damaged_lines" for i in s.issues)]


VALUES = {
    "NaN": '{"key": "a", "nll": NaN}', "infinity": '{"key": "a", "nll": -Infinity}',
    "overflow": '{"key": "a", "nll": 1e999}',
    "null": '{"key": "a", "nll": null}', "text": '{"key": "a", "nll": "1"}', "true": '{"key": "a", "nll": true}',
    "list": '{"key": "a", "nll": [1]}', "nothing": '{"key": "a"}', "renamed": '{"key": "a", "nlm": 1.0}',
    "no key": '{"nll": 1.0}', "key of another type": '{"key": 1, "nll": 1.0}',
    "number as text": '{"key": "a", "text": 5}',
    "object as text": '{"key": "a", "text": {}}', "tokens": '{"key": "a", "nll": 1.0, "n_tokens": "5"}',
    "fewer than none": '{"key": "a", "nll": 1.0, "n_out": -5}', "error of another type": '{"key": "a", "error": 5}',
    "huge": '{"key": "a", "nll": 1' + "0" * 400 + "}", "digits": '{"key": "a", "nll": 1' + "0" * 5000 + "}",
    "deep": '{"key": "a", "nll": ' + "[" * 200_000 + "]" * 200_000 + "}", "array": "[1]", "bytes": "\udcff",
    "number": "5", "flag": '{"key": "a", "text": "x", "truncated": 1}',
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_lines_without_a_checksum_hold_what_engines_give(name: str, tmp_path: Path) -> None:
    store = create_run(tmp_path, {})
    writer = store.writer("m", "b", "s", "w")
    writer.close()
    line = VALUES[name].encode("utf-8", "surrogateescape")
    writer.path.write_bytes(line + b"\n" + b'{"key": "b", "nll": 1.5}\n')
    assert store.replies("m", "b") == {"b": Reply("b", nll=1.5)}
    assert store.damaged_lines("m", "b", "s") == 1
    again = store.writer("m", "b", "s", "w")  # and it is mended
    again.append(Request("a", "s/0", "ppl"), Reply("a", nll=2.0))
    again.close()
    assert store.replies("m", "b")["a"].nll == 2.0


def test_a_line_that_does_not_verify_does_not_count(tmp_path: Path) -> None:
    store = create_run(tmp_path, {})
    writer = store.writer("m", "b", "s", "w")
    for key in "abc":
        writer.append(Request(key, f"s/{key}", "ppl"), Reply(key, nll=1.25))
    writer.close()
    lines = writer.path.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[0])["sum"] and lines[0] == checked(b'{"key": "a", "nll": 1.25, "sample": "s/a"}') + b"\n"
    for changed in (
        lines[1].replace(b"1.25", b"1.26"), lines[1].replace(b'"sum"', b'"sun"'), lines[1].replace(b"}", b" }"),
        b'{"key": "b", "nll": 1.26}\n', lines[1][:-2] + b"x\n", lines[1][:-3] + b"\n",
    ):  # fmt: skip
        writer.path.write_bytes(lines[0] + changed + lines[2])
        assert set(store.replies("m", "b")) == {"a", "c"}, changed
        assert store.damaged_lines("m", "b", "s") == 1


def test_lines_of_earlier_versions_count_before_those_with_checksums(tmp_path: Path) -> None:
    store = create_run(tmp_path, {})
    writer = store.writer("m", "b", "s", "w")
    writer.path.write_bytes(b'{"key": "old", "nll": 1.5, "sample": "s/0"}\n')
    writer.append(Request("new", "s/1", "ppl"), Reply("new", nll=2.5))
    writer.close()
    assert {k: r.nll for k, r in store.replies("m", "b").items()} == {"old": 1.5, "new": 2.5}
    assert store.damaged_lines("m", "b", "s") == 0
    with writer.path.open("ab") as file:
        file.write(b'{"key": "torn')
    assert store.damaged_lines("m", "b", "s") == 0  # by a kill


def test_manifests_and_scores_verify(tmp_path: Path) -> None:
    store = create_run(tmp_path, {"plan_hash": "h", "ü": [1.5, None]})
    store.write_scores({"scores": [{"value": 75.5}]})
    assert store.manifest()["ü"] == [1.5, None] and store.scores() == {"scores": [{"value": 75.5}]}
    for path, read in (
        (store.folder / "manifest.json", store.manifest),
        (store.folder / "scores/scores.json", store.scores),
    ):
        text = path.read_text()
        path.write_text(text.replace("5", "6", 1))
        with pytest.raises(StoreError, match="damaged: it does not match its checksum"):
            read()
        for bad in ("[" * 200_000, "[]", '{"a": NaN}', "", "{"):
            path.write_text(bad)
            with pytest.raises(StoreError):
                read()
        path.write_text('{"of": "an earlier version"}')
        assert read() == {"of": "an earlier version"}


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    store = create_run(tmp_path, {})
    writer = store.writer("m", "b", "s", "w")
    writer.close()
    for path, read in (
        (writer.path, lambda: store.replies("m", "b")), (store.folder / "manifest.json", store.manifest),
        (store.folder / "scores" / "scores.json", store.scores), (store.folder / "progress.json", store.progress),
        (store.folder / "scores" / "m" / "b" / "s.jsonl", lambda: store.verdicts("m", "b")),
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        with suppress(StoreError):
            assert not read()
