"""Fingerprints, kinds and quick checks of checkpoints."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec
from evalkit.engines.catalog import fingerprint
from evalkit.engines.checkpoint import check_checkpoint, detect_kind, local_dir

Copy = Callable[[Path], Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def spec_of(path: Path | str, **fields: Any) -> ModelSpec:
    return ModelSpec("m", str(path), "base", **fields)


def test_a_copy_has_the_same_fingerprint(tiny_model: Path, copy_of: Copy) -> None:
    copy = copy_of(tiny_model)
    (copy / "README.md").write_text("not read by the model")
    assert fingerprint(spec_of(copy)) == fingerprint(spec_of(tiny_model))


@pytest.mark.parametrize(
    "name",
    ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json", "chat_template.jinja"],
)
def test_each_file_counts(name: str, tiny_chat_model: Path, copy_of: Copy) -> None:
    copy = copy_of(tiny_chat_model)
    before = fingerprint(spec_of(copy))
    content = bytearray((copy / name).read_bytes())
    content[-2] ^= 1
    (copy / name).write_bytes(bytes(content))
    assert fingerprint(spec_of(copy)) != before


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "float16"},
        {"kind": "chat"},
        {"max_seq_len": 100},
        {"system_prompt": "x"},
        {"end_strings": ("x",)},
        {"engine": "vllm"},
        {"attn_implementation": "eager"},
        {"options": {"a": 1}},
    ],
)
def test_fields_that_change_replies_count(change: dict[str, Any], tiny_model: Path) -> None:
    spec = spec_of(tiny_model)
    assert fingerprint(replace(spec, **change)) != fingerprint(spec)


def test_other_fields_do_not(tiny_model: Path) -> None:
    spec = spec_of(tiny_model)
    other = replace(spec, name="n", batch_tokens=7, notes="x", verified="y", source="z", max_new_tokens=3)
    assert fingerprint(other) == fingerprint(spec)


def test_an_adapter_counts(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    spec = spec_of(tiny_model, peft_path=str(tmp_path))
    first = fingerprint(spec)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"1")
    assert len({first, fingerprint(spec), fingerprint(spec_of(tiny_model))}) == 3


def test_chaos_options_of_the_fake_engine_do_not_count() -> None:
    spec = spec_of("fake-a", engine="fake")
    assert fingerprint(replace(spec, options={"crash_on": "x", "seconds": 1})) == fingerprint(spec)
    assert fingerprint(replace(spec, path="fake-b")) != fingerprint(spec)


@pytest.fixture
def cached(tiny_chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds `org/model`."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--org--model"
    shutil.copytree(tiny_chat_model, repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    return repo


def test_hub_ids_are_told_apart_by_commit(cached: Path) -> None:
    spec = spec_of("org/model")
    first = fingerprint(spec)
    assert fingerprint(replace(spec, revision=COMMIT)) == first
    (cached / "refs" / "main").write_text("f" * 40)
    assert fingerprint(spec) != first
    assert fingerprint(spec_of("org/other")) != fingerprint(spec_of("org/another"))


def test_cached_snapshot_is_found(cached: Path) -> None:
    assert local_dir("org/model") == cached / "snapshots" / COMMIT
    assert local_dir("org/other") is None
    assert detect_kind("org/model") == "chat"
    with pytest.raises(ModelError, match="not in the local cache"):
        detect_kind("org/other")
    check_checkpoint(spec_of("org/model"))
    check_checkpoint(spec_of("org/other"))


def test_kind_follows_the_chat_template(tiny_model: Path, tiny_chat_model: Path, copy_of: Copy) -> None:
    assert detect_kind(str(tiny_model)) == "base"
    assert detect_kind(str(tiny_chat_model)) == "chat"
    copy = copy_of(tiny_model)
    file = copy / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": "{{ messages }}"}))
    assert detect_kind(str(copy)) == "chat"


@pytest.mark.parametrize("call", [fingerprint, check_checkpoint, lambda spec: detect_kind(spec.path)])
def test_missing_directory(call: Callable[[ModelSpec], Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no checkpoint at") as caught:
        call(spec_of(tmp_path / "nowhere"))
    assert caught.value.hint


def test_check_accepts_a_good_and_refuses_a_broken_checkpoint(tiny_model: Path, copy_of: Copy) -> None:
    check_checkpoint(spec_of(tiny_model))
    copy = copy_of(tiny_model)
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    (copy / "model.safetensors").rename(copy / "part-1.safetensors")
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="1 of 2 weight files are missing.*part-2"):
        check_checkpoint(spec_of(copy))
    (copy / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        check_checkpoint(spec_of(copy))


def test_light_modules_import_neither_torch_nor_transformers() -> None:
    code = (
        "import sys\n"
        "import evalkit.engines, evalkit.engines.checkpoint, evalkit.engines.tokenizer, evalkit.engines.catalog\n"
        "import evalkit.engines.fake\n"
        "print([m for m in ('torch', 'transformers', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "[]", done.stderr
