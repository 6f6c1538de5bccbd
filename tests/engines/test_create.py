"""Dispatch to engines, the fake engine, and tiny checkpoints."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.digest import file_sha256
from evalkit.core.errors import ConfigError, ModelError
from evalkit.core.records import GenSettings, ModelSpec, Request, Turn
from evalkit.engines.catalog import create_engine
from evalkit.engines.fake import CRASH_CODE


def fake(**options: Any) -> Any:
    return create_engine(ModelSpec("f", "fake-a", "base", engine="fake", options=options))


def gen(text: str, **fields: Any) -> Request:
    return Request(text, "s/0", "gen", text=text, gen=GenSettings(10), **fields)


def test_unknown_engine_lists_near_names() -> None:
    with pytest.raises(ConfigError, match="unknown engine") as caught:
        create_engine(ModelSpec("m", "x", "base", engine="fakee"))
    assert "fake" in caught.value.hint


def test_hf_engine_is_made(tiny_model: Path) -> None:
    engine = create_engine(ModelSpec("m", str(tiny_model), "base", device="cpu"))
    assert engine.describe()["engine"] == "hf"
    engine.close()


def test_fake_answers_follow_from_the_request() -> None:
    requests = [
        gen("a"),
        gen("b"),
        Request("p", "s/0", "ppl", text="a"),
        Request("q", "s/0", "ppl", text="b"),
    ]
    first, second = list(fake().run(requests)), list(fake().run(list(reversed(requests))))
    assert {r.key: r for r in first} == {r.key: r for r in second}
    assert first[0].text != first[1].text and first[2].nll != first[3].nll
    other = create_engine(ModelSpec("g", "fake-b", "base", engine="fake"))
    assert next(iter(other.run([requests[2]]))).nll != first[2].nll
    cut = Request("a", "s/0", "gen", text="a", gen=GenSettings(10, stop=(" is",)))
    assert next(iter(fake().run([cut]))).text == "The answer"


def test_fake_fails_on_demand() -> None:
    with pytest.raises(ConfigError, match="unknown option"):
        fake(crashon="x")
    replies = list(fake(error_on="bad").run([gen("good"), gen("very bad")]))
    assert [bool(r.error) for r in replies] == [False, True]
    with pytest.raises(ModelError):
        list(fake(fail_on="bad").run([Request("k", "s/0", "gen", turns=(Turn("user", "bad"),))]))
    began = time.perf_counter()
    list(fake(seconds=0.02).run([gen(str(i)) for i in range(5)]))
    assert time.perf_counter() - began >= 0.1


def test_fake_crash_ends_the_process_after_earlier_replies() -> None:
    code = (
        "from evalkit.engines.catalog import create_engine\nfrom evalkit.core.records import *\n"
        "e = create_engine(ModelSpec('f', 'a', 'base', engine='fake', options={'crash_on': 'boom'}))\n"
        "rs = [Request(t, 's', 'ppl', text=t) for t in ('ok', 'boom', 'late')]\n"
        "for r in e.run(rs): print(r.key, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout) == (CRASH_CODE, "ok\n")


def test_tiny_checkpoints_depend_on_the_seed_alone(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    from evalkit.engines.hf.tiny import make_tiny

    torch.manual_seed(123)
    same, other = make_tiny(tmp_path / "same"), make_tiny(tmp_path / "other", seed=1)
    for name in ("model.safetensors", "tokenizer.json"):
        assert file_sha256(same / name) == file_sha256(tiny_model / name)
    assert file_sha256(other / "model.safetensors") != file_sha256(same / "model.safetensors")
