"""What decides a reply decides whether a run goes on; what is about speed alone does not."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.errors import ConfigError
from evalkit.core.reasoning import Reasoning
from evalkit.core.records import ModelSpec
from evalkit.engines.catalog import ENGINES, check_options, fingerprint, performance
from evalkit.engines.fake import FakeOptions
from tests import helpers
from tests.execution.test_resume import wait_for_replies


def spec_of(path: Path, **changes: Any) -> ModelSpec:
    return replace(ModelSpec("m", str(path), "chat"), **changes)


@pytest.mark.parametrize(
    "change",
    [
        {"gpus": 2},
        {"device": "cpu"},
        {"batch_tokens": 9},
        {"options": {"engine_path": "tree"}},
        {"options": {"generation_path": "stream"}},
        {"reasoning": Reasoning()},
        {"notes": "n", "verified": "v"},
    ],
    ids=str,
)
def test_speed_and_scoring_leave_the_fingerprint_alone(tiny_model: Path, change: dict[str, Any]) -> None:
    assert fingerprint(spec_of(tiny_model, **change)) == fingerprint(spec_of(tiny_model))


@pytest.mark.parametrize(
    "change",
    [
        {"engine": "vllm"},
        {"dtype": "float32"},
        {"system_prompt": "s"},
        {"chat_template": "{{ messages }}"},
        {"attn_implementation": "eager"},
        {"options": {"quantization": "8bit"}},
        {"end_strings": ("x",)},
    ],
    ids=str,
)
def test_what_decides_replies_is_in_the_fingerprint(tiny_model: Path, change: dict[str, Any]) -> None:
    assert fingerprint(spec_of(tiny_model, **change)) != fingerprint(spec_of(tiny_model))


def test_every_engine_names_its_options() -> None:
    for engine, known in ENGINES.items():
        assert not set(known.performance_options) & set(known.reply_options)
        with pytest.raises(ConfigError, match=f"unknown option 'nope' of the {engine} engine"):
            check_options(ModelSpec("m", "x", "base", engine=engine, options={"nope": 1}))
    assert set(ENGINES["fake"].performance_options) == {f.name for f in fields(FakeOptions)}
    spec = ModelSpec("m", "x", "base", gpus=2, options={"engine_path": "tree", "quantization": "8bit"})
    assert performance(spec) == {"gpus": 2, "device": "auto", "batch_tokens": None, "engine_path": "tree"}


@pytest.mark.skipif(sys.platform != "linux", reason="kills a process group")
def test_a_run_goes_on_with_another_engine_path(tmp_path: Path, tiny_model: Path) -> None:
    common = [
        "--hf-path", tiny_model, "--datasets", helpers.MMLU, "gsm8k_gen_17d0dc", "--data-root", "samples",
        "--dtype", "float32", "--set", "gsm8k_gen_17d0dc:gen.max_out_len=48", "--work-dir", tmp_path,
    ]  # fmt: skip
    process = helpers.start(*common, "--engine-path", "plain")
    wait_for_replies(tmp_path, 20, timeout=120)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=240)
    before = helpers.reply_keys(helpers.run_folder(tmp_path))
    done = helpers.run(*common, "--engine-path", "auto")
    assert done.returncode == 0, done.stderr
    assert "continuing" in done.stderr
    folder = helpers.run_folder(tmp_path)
    after = helpers.reply_keys(folder)
    assert 20 <= len(before) < len(after) == len(set(after)) == 4 * 8 * 4 + 16
    manifest = json.loads((folder / "manifest.json").read_text())
    (entry,) = manifest["models"].values()
    assert entry["performance"]["engine_path"] == "auto" and entry["fingerprint"]
    assert set(entry["identity"]["checkpoint"]) >= {"config.json", "model.safetensors", "tokenizer.json"}
    (earlier,) = manifest["earlier"]
    assert [p["engine_path"] for p in earlier["performance"].values()] == ["plain"]
    (facts,) = manifest["engines"].values()
    assert facts["engine_path"] == "tree" and "self-check" in facts["engine_path_reason"]
