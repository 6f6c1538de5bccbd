"""InternLM checkpoints as the hub has them, and their equations in plain torch; no code of evalkit.

The equations are those of modeling_internlm2.py for one text alone in a fresh process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file

NAMED = ("<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
REMOTE = "raise SystemExit('remote code ran')\n"


@dataclass(frozen=True)
class Layout:
    """What a checkpoint is like."""

    heads: int = 4
    kv_heads: int = 2
    bias: bool = False
    rope_scaling: Mapping[str, Any] | None = None
    max_positions: int = 512
    theta: float = 1e4
    tied: bool = False
    vocab: int = 700
    hidden: int = 64
    inner: int = 96
    layers: int = 2
    shards: int = 1
    binary: bool = False
    """pytorch_model.bin in place of safetensors."""
    dtype: torch.dtype = torch.float32
    chat: bool = False
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Keys of config.json that replace what is written otherwise."""

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


def config_json(layout: Layout) -> dict[str, Any]:
    """config.json as on the hub, with remote code for everything."""
    return {
        "architectures": ["InternLM2ForCausalLM"],
        "attn_implementation": "eager",
        "auto_map": {
            "AutoConfig": "configuration_internlm2.InternLM2Config",
            "AutoModel": "modeling_internlm2.InternLM2ForCausalLM",
            "AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM",
        },
        "bias": layout.bias,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": layout.hidden,
        "initializer_range": 0.02,
        "intermediate_size": layout.inner,
        "max_position_embeddings": layout.max_positions,
        "model_type": "internlm2",
        "num_attention_heads": layout.heads,
        "num_hidden_layers": layout.layers,
        "num_key_value_heads": layout.kv_heads,
        "pad_token_id": 2,
        "rms_norm_eps": 1e-05,
        "rope_scaling": layout.rope_scaling,
        "rope_theta": layout.theta,
        "tie_word_embeddings": layout.tied,
        "torch_dtype": str(layout.dtype).removeprefix("torch."),
        "transformers_version": "4.37.1",
        "use_cache": True,
        "vocab_size": layout.vocab,
        **layout.extra,
    }


def random_weights(layout: Layout) -> dict[str, torch.Tensor]:
    """Random weights under the original names, norms included."""
    generator = torch.Generator().manual_seed(layout.seed)

    def matrix(rows: int, columns: int, scale: float = 0.2) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=generator) * scale).to(layout.dtype)

    def vector(size: int, middle: float) -> torch.Tensor:
        return (middle + 0.2 * torch.randn(size, generator=generator)).to(layout.dtype)

    fused = (layout.heads + 2 * layout.kv_heads) * layout.head_dim
    out = {"model.tok_embeddings.weight": matrix(layout.vocab, layout.hidden, 1.0)}
    for i in range(layout.layers):
        name = f"model.layers.{i}"
        out[f"{name}.attention.wqkv.weight"] = matrix(fused, layout.hidden)
        out[f"{name}.attention.wo.weight"] = matrix(layout.hidden, layout.hidden)
        if layout.bias:
            out[f"{name}.attention.wqkv.bias"] = vector(fused, 0.0)
            out[f"{name}.attention.wo.bias"] = vector(layout.hidden, 0.0)
        out[f"{name}.feed_forward.w1.weight"] = matrix(layout.inner, layout.hidden)
        out[f"{name}.feed_forward.w3.weight"] = matrix(layout.inner, layout.hidden)
        out[f"{name}.feed_forward.w2.weight"] = matrix(layout.hidden, layout.inner)
        out[f"{name}.attention_norm.weight"] = vector(layout.hidden, 1.0)
        out[f"{name}.ffn_norm.weight"] = vector(layout.hidden, 1.0)
    out["model.norm.weight"] = vector(layout.hidden, 1.0)
    if not layout.tied:
        out["output.weight"] = matrix(layout.vocab, layout.hidden)
    return out


def save_weights(folder: Path, weights: Mapping[str, torch.Tensor], shards: int, binary: bool) -> None:
    """One file, or several with an index, the names dealt out in turn."""
    stem, end = ("pytorch_model", "bin") if binary else ("model", "safetensors")
    parts = [dict(list(weights.items())[i::shards]) for i in range(shards)]
    names = [f"{stem}-{i + 1:05}-of-{shards:05}.{end}" for i in range(shards)] if shards > 1 else [f"{stem}.{end}"]
    for name, part in zip(names, parts, strict=True):
        if binary:
            torch.save(part, folder / name)
        else:
            save_file(part, folder / name, metadata={"format": "pt"})
    if shards > 1:
        where = {key: name for name, part in zip(names, parts, strict=True) for key in part}
        index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}, "weight_map": where}
        (folder / f"{stem}.{end}.index.json").write_text(json.dumps(index))


def tokenizer_config(pieces: int, chat: bool) -> dict[str, Any]:
    """tokenizer_config.json as on the hub; the last six pieces have the names of the chat format."""
    added = {i: token for i, token in enumerate(("<unk>", "<s>", "</s>"))}
    added |= {pieces - len(NAMED) + i: name for i, name in enumerate(NAMED)}
    return {
        "added_tokens_decoder": {
            str(i): {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "special": True}
            for i, token in added.items()
        },
        "additional_special_tokens": list(NAMED),
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "pad_token": "</s>",
        "tokenizer_class": "InternLM2Tokenizer",
        "unk_token": "<unk>",
        **({"chat_template": CHAT_TEMPLATE} if chat else {}),
    }


def write_checkpoint(
    folder: Path, layout: Layout, pieces: Path, weights: Mapping[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """A checkpoint with the SentencePiece model `pieces`; returns its weights in float32."""
    folder.mkdir(parents=True)
    made = dict(weights or random_weights(layout))
    save_weights(folder, made, layout.shards, layout.binary)
    (folder / "config.json").write_text(json.dumps(config_json(layout)))
    size = sentencepiece.SentencePieceProcessor(model_file=str(pieces)).get_piece_size()
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(size, layout.chat)))
    ends = [2, size - NAMED[::-1].index("<|im_end|>") - 1] if layout.chat else 2
    generation = {"bos_token_id": 1, "eos_token_id": ends, "pad_token_id": 2}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "tokenizer.model").write_bytes(pieces.read_bytes())
    for module in ("configuration_internlm2", "modeling_internlm2", "tokenization_internlm2"):
        (folder / f"{module}.py").write_text(REMOTE)
    return {key: value.float() for key, value in made.items()}


def reference_logits(
    weights: Mapping[str, torch.Tensor], layout: Layout, ids: Sequence[int], read: Sequence[int] | None = None
) -> torch.Tensor:
    """float32 logits [tokens, vocab] of one text.

    `read[p]` is the length of what was read when token p was (by default all at once), on which
    dynamic rotary embeddings depend.
    """
    angles = rotary_angles(layout, list(read or [len(ids)] * len(ids)))
    x = weights["model.tok_embeddings.weight"][torch.tensor(list(ids))]
    for i in range(layout.layers):
        part = {k.removeprefix(f"model.layers.{i}."): w for k, w in weights.items() if f"layers.{i}." in k}
        x = x + attention(part, layout, normed(x, part["attention_norm.weight"]), angles)
        h = normed(x, part["ffn_norm.weight"])
        gate = torch.nn.functional.silu(h @ part["feed_forward.w1.weight"].T)
        x = x + (gate * (h @ part["feed_forward.w3.weight"].T)) @ part["feed_forward.w2.weight"].T
    head = weights["model.tok_embeddings.weight" if layout.tied else "output.weight"]
    return normed(x, weights["model.norm.weight"]) @ head.T


def normed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * (x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5))


def rotary_angles(layout: Layout, read: Sequence[int]) -> torch.Tensor:
    """[tokens, head_dim / 2] angles in radians."""
    scaling, dim = dict(layout.rope_scaling or {"type": "default"}), layout.head_dim
    rows = []
    for position, length in enumerate(read):
        base, at = layout.theta, float(position)
        if scaling["type"] == "linear":
            at = at / scaling["factor"]
        if scaling["type"] == "dynamic" and length > layout.max_positions:
            growth = scaling["factor"] * length / layout.max_positions - (scaling["factor"] - 1)
            base = base * growth ** (dim / (dim - 2))
        rows.append([at / base ** (2 * j / dim) for j in range(dim // 2)])
    return torch.tensor(rows, dtype=torch.float64).float()


def rotated(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """x [tokens, head_dim], whose first half is rotated against its second."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def attention(part: Mapping[str, torch.Tensor], layout: Layout, h: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Causal attention, head by head, off the fused rows."""
    fused = h @ part["attention.wqkv.weight"].T
    if layout.bias:
        fused = fused + part["attention.wqkv.bias"]
    groups, dim = layout.heads // layout.kv_heads, layout.head_dim
    count = len(h)
    hidden = torch.ones(count, count).triu(1).bool()
    out = []
    for group in fused.split((groups + 2) * dim, dim=-1):
        *queries, key, value = group.split(dim, dim=-1)
        key = rotated(key, angles)
        for query in queries:
            scores = rotated(query, angles) @ key.T / dim**0.5
            out.append(scores.masked_fill(hidden, float("-inf")).softmax(-1) @ value)
    mixed = torch.cat(out, dim=-1) @ part["attention.wo.weight"].T
    return mixed + part["attention.wo.bias"] if layout.bias else mixed


def train_pieces(folder: Path, lines: Sequence[str], size: int, **changes: Any) -> Path:
    """A SentencePiece model of InternLM2's kind; the last six pieces are unused ones."""
    settings = {
        "model_type": "bpe",
        "vocab_size": size - len(NAMED),
        "byte_fallback": True,
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity",
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "character_coverage": 0.9995,
        "user_defined_symbols": ["……", "Ａ"],
        "minloglevel": 2,
        **changes,
    }
    from sentencepiece import sentencepiece_model_pb2

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(folder / "small"), **settings
    )
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString((folder / "small.model").read_bytes())
    last = min(piece.score for piece in proto.pieces)
    for i in range(len(NAMED)):
        proto.pieces.add(piece=f"[UNUSED_TOKEN_{141 + i}]", score=last - 1 - i)
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    return folder / "tokenizer.model"
