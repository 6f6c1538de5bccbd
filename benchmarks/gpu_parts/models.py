"""Random checkpoints in folders: small ones of several families, and a large one in InternLM2's layout."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FAMILIES = ("llama", "qwen3", "gemma3_text")
DONE = "complete"


@dataclass(frozen=True)
class Shape:
    """Sizes of a model."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocab: int
    positions: int

    @property
    def body_parameters(self) -> int:
        """Weights of all matrices but embedding and head: what a token is multiplied with."""
        size = self.hidden // self.heads
        attention = self.hidden * size * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.inner)

    @property
    def head_parameters(self) -> int:
        """Weights of the output head."""
        return self.hidden * self.vocab

    def cache_bytes(self, item: int) -> int:
        """Bytes of keys and values of one token."""
        return 2 * self.layers * self.kv_heads * (self.hidden // self.heads) * item


# a CPU without bfloat16 units computes in it a hundred times slower
LARGE_DTYPE, LARGE_DTYPE_REHEARSED = "bfloat16", "float32"
INTERNLM2_7B = Shape(4096, 32, 32, 8, 14336, 92544, 262144)
LARGE_REHEARSED = Shape(64, 2, 4, 2, 128, 2048, 16384)
SMALL = Shape(768, 12, 12, 4, 2816, 2048, 2048)
SMALL_REHEARSED = Shape(64, 2, 4, 2, 128, 2048, 2560)


def tiny_tokenizer(folder: Path) -> Path:
    """A tokenizer of at most 2,048 tokens with a chat template; returns its folder."""
    from evalkit.engines.hf.tiny import generated_corpus, train_tokenizer

    if not folder.exists():
        size, length = LARGE_REHEARSED.vocab, LARGE_REHEARSED.positions
        train_tokenizer(generated_corpus(), size, True, length).save_pretrained(folder)
    return folder


def write_family(folder: Path, family: str, shape: Shape, tokenizer: Path, seed: int) -> Path:
    """A random float32 checkpoint of a family that transformers knows; returns its folder.

    Windows of sliding layers take half the positions, so that most texts fit and the long ones do not.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from evalkit.engines.hf.tiny import fill_random

    words: Any = AutoTokenizer.from_pretrained(tokenizer)
    config: Any = AutoConfig.for_model(
        family,
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.hidden // shape.heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=False,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    if getattr(config, "sliding_window", None):
        config.sliding_window = shape.positions // 2
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fill_random(model, seed, 1.4 * shape.hidden**-0.5)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def write_internlm2(folder: Path, shape: Shape, tokenizer: Path, device: str, dtype: str, seed: int) -> int:
    """A random checkpoint in InternLM2's layout, a shard a layer, made on the device; its bytes."""
    import torch
    from safetensors.torch import save_file

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generator = torch.Generator(device).manual_seed(seed)
    kind = getattr(torch, dtype)
    where: dict[str, str] = {}
    total = 0

    def matrix(rows: int, columns: int, scale: float = 0.02) -> torch.Tensor:
        made = torch.empty((rows, columns), dtype=kind, device=device)
        return made.normal_(0, scale, generator=generator).cpu()

    def save(name: str, tensors: dict[str, torch.Tensor]) -> None:
        nonlocal total
        save_file(tensors, folder / name, {"format": "pt"})
        where.update(dict.fromkeys(tensors, name))
        total += sum(tensor.nbytes for tensor in tensors.values())

    ones = torch.ones(shape.hidden, dtype=kind)
    fused = (shape.heads + 2 * shape.kv_heads) * (shape.hidden // shape.heads)
    for i in range(shape.layers):
        name = f"model.layers.{i}"
        save(
            f"layer-{i:02}.safetensors",
            {
                f"{name}.attention.wqkv.weight": matrix(fused, shape.hidden),
                f"{name}.attention.wo.weight": matrix(shape.hidden, shape.hidden),
                f"{name}.feed_forward.w1.weight": matrix(shape.inner, shape.hidden),
                f"{name}.feed_forward.w3.weight": matrix(shape.inner, shape.hidden),
                f"{name}.feed_forward.w2.weight": matrix(shape.hidden, shape.inner),
                f"{name}.attention_norm.weight": ones.clone(),
                f"{name}.ffn_norm.weight": ones.clone(),
            },
        )
    rest = {
        "model.tok_embeddings.weight": matrix(shape.vocab, shape.hidden),
        "model.norm.weight": ones,
        "output.weight": matrix(shape.vocab, shape.hidden),
    }
    save("rest.safetensors", rest)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(_internlm2_config(shape, dtype)), encoding="utf-8")
    for file in tokenizer.iterdir():
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
    (folder / DONE).write_text(json.dumps(asdict(shape)), encoding="utf-8")
    return total


def is_complete(folder: Path, shape: Shape) -> bool:
    """Whether `write_internlm2` has finished a checkpoint of this shape here."""
    mark = folder / DONE
    return mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == asdict(shape)


def _internlm2_config(shape: Shape, dtype: str) -> dict[str, Any]:
    """config.json in the names of the hub's checkpoints; long positions without rope scaling."""
    return {
        "architectures": ["InternLM2ForCausalLM"],
        "model_type": "internlm2",
        "bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.positions,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": 1e-5,
        "rope_theta": 50_000_000,
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
        "vocab_size": shape.vocab,
    }
