"""Checkpoints of several families, and requests, for the engine tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.records import ModelSpec, Request


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """Copies a checkpoint, so that a test may break it."""

    def copy(source: Path) -> Path:
        return Path(shutil.copytree(source, tmp_path / source.name))

    return copy


@pytest.fixture(scope="session")
def edit_json() -> Callable[..., None]:
    """Changes keys of a JSON file."""

    def edit(file: Path, **values: Any) -> None:
        content = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**content, **values}))

    return edit


@pytest.fixture(scope="session")
def families(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random checkpoints by family, all with the tokenizer of `tiny_model`."""
    from transformers import AutoTokenizer

    from tests.engines.models import SIZES, build

    folder = tmp_path_factory.mktemp("families")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    sizes = {**SIZES, "vocab_size": len(tokenizer)}
    models = {
        "neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", sizes),
        "mistral": ("MistralConfig", "MistralForCausalLM", {**sizes, "num_key_value_heads": 2, "sliding_window": 16}),
    }
    out = {"llama": tiny_model}
    for name, classes in models.items():
        build(*classes).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        out[name] = folder / name
    out["no_bos"] = Path(shutil.copytree(tiny_model, folder / "no_bos"))
    file = out["no_bos"] / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "post_processor": None}))
    return out


@pytest.fixture
def engine_for() -> Iterator[Callable[..., Any]]:
    """Loads engines (float32, CPU) and closes them after the test."""
    from evalkit.engines.hf.engine import HFEngine

    engines: list[HFEngine] = []

    def make(path: Path, **changes: Any) -> HFEngine:
        fields = {
            "name": "m",
            "path": str(path),
            "kind": "base",
            "dtype": "float32",
            "device": "cpu",
            **changes,
        }
        engines.append(HFEngine(ModelSpec(**fields)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture(scope="session")
def ppl() -> Callable[..., Request]:
    """Makes a ppl request; its key is its text."""
    return lambda text: Request(text, "s/0", "ppl", text=text)


@pytest.fixture(scope="session")
def ll() -> Callable[..., Request]:
    """Makes an ll request; its key is context, bar, continuation."""
    return lambda context, rest: Request(f"{context}|{rest}", "s/0", "ll", text=context, continuation=rest)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Texts of very different lengths, the longest beyond any window of the test models."""
    base = "Question: what is the number of words? 你好 answer (x=1)\n\n"
    return [
        "The answer is 5",
        base,
        base * 4 + "Therefore",
        "a b",
        "\n\n  leading space",
        base * 2,
        "def f(x):\n    return x",
        "naïve 😀 emoji",
        "The",
    ]


@pytest.fixture(scope="session")
def small_pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece model of InternLM2's kind with 700 pieces."""
    from evalkit.engines.hf.tiny import generated_corpus
    from tests.engines.internlm_layout import train_pieces

    lines = [*generated_corpus(seed=1, lines=400), "def f(x):\n\treturn x  # y", "a  b   c    d"]
    return train_pieces(tmp_path_factory.mktemp("pieces"), lines, 700)


@pytest.fixture
def internlm(tmp_path: Path, small_pieces: Path) -> Callable[..., Any]:
    """Writes an InternLM2 checkpoint of a layout; gives its folder and its weights in float32."""
    from tests.engines.internlm_layout import Layout, write_checkpoint

    def write(layout: Layout, weights: Any = None) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path / f"internlm-{len(list(tmp_path.iterdir()))}"
        return folder, write_checkpoint(folder, layout, small_pieces, weights)

    return write
