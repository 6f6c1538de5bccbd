"""Random models: small checkpoints of several families, and a large model in InternLM2's layout."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAMILIES = ("llama", "qwen3", "gemma3_text")
INITIAL_RANGE = 0.02
"""Standard deviation of the large model's matrices."""


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
SMALL_REHEARSED = Shape(64, 2, 4, 2, 128, 2048, 512)


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


def random_internlm2(shape: Shape, device: str, dtype: str, seed: int) -> Any:
    """A random model of InternLM2's kind, made on the device, in eval mode."""
    import torch

    from evalkit.engines.hf.internlm.model import InternLM2ForCausalLM, llama_config

    config = llama_config(_internlm2_config(shape, dtype), "the random model")
    make: Any = InternLM2ForCausalLM
    with torch.device(device):
        model = make._from_config(config, dtype=getattr(torch, dtype))
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, INITIAL_RANGE, generator=generator)
    return model.eval()


def write_internlm2(folder: Path, model: Any, shape: Shape, tokenizer: Path) -> int:
    """The model as a checkpoint in InternLM2's own names and layout, a shard a layer; its bytes."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    where: dict[str, str] = {}
    total = 0

    def save(name: str, tensors: dict[str, Any]) -> None:
        nonlocal total
        kept = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(kept, folder / name, {"format": "pt"})
        where.update(dict.fromkeys(kept, name))
        total += sum(tensor.nbytes for tensor in kept.values())

    for i, layer in enumerate(model.model.layers):
        name = f"model.layers.{i}"
        save(
            f"layer-{i:02}.safetensors",
            {
                f"{name}.attention.wqkv.weight": _fuse(layer.self_attn, shape),
                f"{name}.attention.wo.weight": layer.self_attn.o_proj.weight,
                f"{name}.feed_forward.w1.weight": layer.mlp.gate_proj.weight,
                f"{name}.feed_forward.w3.weight": layer.mlp.up_proj.weight,
                f"{name}.feed_forward.w2.weight": layer.mlp.down_proj.weight,
                f"{name}.attention_norm.weight": layer.input_layernorm.weight,
                f"{name}.ffn_norm.weight": layer.post_attention_layernorm.weight,
            },
        )
    rest = {
        "model.tok_embeddings.weight": model.model.embed_tokens.weight,
        "model.norm.weight": model.model.norm.weight,
        "output.weight": model.lm_head.weight,
    }
    save("rest.safetensors", rest)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    dtype = str(model.dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(_internlm2_config(shape, dtype)), encoding="utf-8")
    for file in tokenizer.iterdir():
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
    return total


def _fuse(attention: Any, shape: Shape) -> Any:
    """q, k and v as InternLM2 keeps them: for every key-value head its query heads, its key, its value."""
    import torch

    size = shape.hidden // shape.heads
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    parts = [p.weight.reshape(shape.kv_heads, -1, size, shape.hidden) for p in projections]
    return torch.cat(parts, dim=1).reshape(-1, shape.hidden)


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
