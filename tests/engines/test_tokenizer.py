"""Text tokenizers without a model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.core.errors import DataError
from evalkit.engines.tokenizer import load_tokenizer

SAMPLES = ("Hello world", " leading", "\n\n  indented", "你好，世界", "tail \n", "😀", "")


@pytest.mark.parametrize("text", SAMPLES)
def test_fast_round_trip(text: str, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    ids = tokenizer.encode(text)
    assert 1 not in ids  # no BOS
    assert tokenizer.decode(ids) == text
    assert load_tokenizer(str(tiny_model / "tokenizer.json")).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("text", SAMPLES)
def test_sentencepiece_round_trip(text: str, shared: Path) -> None:
    tokenizer = load_tokenizer(str(shared / "tokenizers" / "internlm2"))
    ids = tokenizer.encode(text)
    assert 1 not in ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.name == "internlm2"
    file = shared / "tokenizers" / "internlm2" / "tokenizer.model"
    assert load_tokenizer(str(file)).fingerprint == tokenizer.fingerprint


def test_sentencepiece_keeps_the_space_of_a_later_piece(shared: Path) -> None:
    tokenizer = load_tokenizer(str(shared / "tokenizers" / "internlm2"))
    ids = tokenizer.encode("one two three")
    assert tokenizer.decode(ids[:1]) + "".join(tokenizer.decode([i]) for i in ids[1:]) == "one two three"


def test_other_directories_go_through_transformers(tiny_model: Path, tmp_path: Path) -> None:
    """The same vocabulary as GPT-2's two files, without merges."""
    content = json.loads((tiny_model / "tokenizer.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.decode(tokenizer.encode("  a b\n")) == "  a b\n"
    assert tokenizer.fingerprint != load_tokenizer(str(tiny_model)).fingerprint


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tokenizer at"):
        load_tokenizer(str(tmp_path / "none"))
    with pytest.raises(DataError, match="holds no tokenizer"):
        load_tokenizer(str(tmp_path))
    for name in ("tokenizer.json", "tokenizer.model"):
        (tmp_path / name).write_text("{broken")
        with pytest.raises(DataError, match="not a readable") as caught:
            load_tokenizer(str(tmp_path / name))
        assert caught.value.hint
    (tmp_path / "x.bin").write_text("x")
    with pytest.raises(DataError, match="not a tokenizer file"):
        load_tokenizer(str(tmp_path / "x.bin"))


def test_files_load_without_torch_and_transformers(tiny_model: Path, shared: Path) -> None:
    code = (
        "import sys\nfrom evalkit.engines.tokenizer import load_tokenizer\n"
        "for path in sys.argv[1:]: assert load_tokenizer(path).encode('hi')\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    paths = [str(tiny_model), str(shared / "tokenizers" / "internlm2")]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], check=False, capture_output=True, text=True, timeout=240
    )
    assert done.stdout.strip() == "[]", done.stderr
