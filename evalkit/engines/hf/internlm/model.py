"""InternLM 1, 2 and 2.5 as transformers' Llama, without the code that comes with their checkpoints.

The equations are Llama's; what differs is the config's names, the fused query-key-value matrix of
InternLM2, and rotary embeddings whose base depends on each text's own length (dynamic NTK).
Source: modeling_internlm2.py and modeling_internlm.py of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel, PreTrainedConfig
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps, WeightConverter, WeightRenaming
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec

INTERNLM1, INTERNLM2 = "internlm", "internlm2"
ARCHITECTURES = ("InternLM2ForCausalLM", "InternLMForCausalLM")
DEFAULTS: Mapping[str, Any] = {"vocab_size": 103168, "pad_token_id": 0}
"""Values of the original config classes where they are not Llama's."""
NOT_FOR_LLAMA = (
    "model_type",
    "auto_map",
    "bias",
    "rotary",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    # a default that their code writes, not a wish: eager attention is slow and needs more memory
    "attn_implementation",
    "_attn_implementation",
)
ROPE_TYPES = {INTERNLM1: ("dynamic",), INTERNLM2: ("dynamic", "linear")}
"""Rope scaling that the original code knows."""
QKV = ("q_proj", "k_proj", "v_proj")
RENAMED = {
    r"^model\.tok_embeddings\.": "model.embed_tokens.",
    r"^output\.": "lm_head.",
    r"\.attention\.wo\.": ".self_attn.o_proj.",
    r"\.feed_forward\.w1\.": ".mlp.gate_proj.",
    r"\.feed_forward\.w2\.": ".mlp.down_proj.",
    r"\.feed_forward\.w3\.": ".mlp.up_proj.",
    r"\.attention_norm\.": ".input_layernorm.",
    r"\.ffn_norm\.": ".post_attention_layernorm.",
}
"""Names of InternLM2's weights, as patterns → Llama's."""


class InternLMConfig(LlamaConfig):  # type: ignore[misc]
    """InternLM 1 in Llama's terms."""

    model_type = INTERNLM1


class InternLM2Config(InternLMConfig):
    """InternLM 2 or 2.5 in Llama's terms."""

    model_type = INTERNLM2


class InternLMRotaryEmbedding(LlamaRotaryEmbedding):  # type: ignore[misc]
    """Rotary embeddings; the dynamic kind takes the base from the length of each row alone.

    transformers' dynamic kind keeps the base of the longest text until a short one comes, and gives
    all rows of a batch the base of the longest: values would depend on order and on batching. Here a
    row has what the original code gives to this text alone in a fresh process.
    """

    @torch.no_grad()
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin [rows, width, head_dim] of the positions [rows or 1, width]."""
        limit: int = self.config.max_position_embeddings
        if self.rope_type != "dynamic" or int(position_ids.max()) < limit:
            cos_sin: tuple[torch.Tensor, torch.Tensor] = super().forward(x, position_ids)
            return cos_sin
        lengths = position_ids.amax(-1) + 1
        config: Any = self.config
        rope, dim = config.rope_parameters, config.head_dim
        factor = rope["factor"]
        growth = factor * lengths.clamp(min=limit).double() / limit - (factor - 1)
        base = (rope["rope_theta"] * growth ** (dim / (dim - 2))).float()
        powers = torch.arange(0, dim, 2, device=base.device).float() / dim
        inverse = 1.0 / base[:, None] ** powers
        angles = position_ids[..., None].float() * inverse[:, None, :]
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


class InternLMModel(LlamaModel):  # type: ignore[misc]
    """Llama's layers with these rotary embeddings."""

    config_class = InternLMConfig

    def __init__(self, config: InternLMConfig) -> None:
        super().__init__(config)
        self.rotary_emb = InternLMRotaryEmbedding(config=config)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **rest: Any,
    ) -> Any:
        """As in Llama; without position ids those of a padded row end with its own last token."""
        padded = isinstance(attention_mask, torch.Tensor) and attention_mask.dim() == 2
        if position_ids is None and input_ids is not None and padded and self.rotary_emb.rope_type == "dynamic":
            counted = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)  # type: ignore[union-attr]
            position_ids = counted[:, -input_ids.shape[1] :]
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, **rest)


class InternLMForCausalLM(LlamaForCausalLM):  # type: ignore[misc]
    """InternLM 1, whose weights are named as Llama's."""

    config_class = InternLMConfig
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"rotary_emb\.inv_freq$"]  # type: ignore[misc]

    def __init__(self, config: InternLMConfig) -> None:
        super().__init__(config)
        self.model = InternLMModel(config)
        self.post_init()


class InternLM2ForCausalLM(InternLMForCausalLM):
    """InternLM 2 or 2.5; transformers finds `conversions` by the name of this class."""

    config_class = InternLM2Config


class SplitQKV(ConversionOps):  # type: ignore[misc]
    """wqkv → q, k and v, for the matrix and the bias (`split_qkv`)."""

    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        """The three tensors under `target_patterns`, which are in the order q, k, v."""
        (tensors,) = input_dict.values()
        fused = tensors[0] if isinstance(tensors, list) else tensors
        return dict(zip(target_patterns, split_qkv(fused, kwargs["config"]), strict=True))


def split_qkv(fused: torch.Tensor, config: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k, v out of InternLM2's fused rows [(heads + 2 kv_heads) * head_dim, ...].

    Rows lie by key-value head: the query heads of its group, then its key head, then its value head.
    Raises RuntimeError when the number of rows does not fit.
    """
    groups = config.num_attention_heads // config.num_key_value_heads
    rest = fused.shape[1:]
    heads = fused.reshape(config.num_key_value_heads, groups + 2, config.head_dim, *rest)
    parts = heads[:, :groups], heads[:, groups], heads[:, groups + 1]
    q, k, v = (part.reshape(-1, *rest).contiguous() for part in parts)
    return q, k, v


def conversions() -> list[Any]:
    """InternLM2's names and fused weights → Llama's, for transformers' own streamed loading."""
    fused = [
        WeightConverter(
            rf"\.attention\.wqkv\.{kind}", [f".self_attn.{name}.{kind}" for name in QKV], operations=[SplitQKV()]
        )
        for kind in ("weight", "bias")
    ]
    return [*(WeightRenaming(old, new) for old, new in RENAMED.items()), *fused]


def llama_config(raw: Mapping[str, Any], path: str) -> InternLMConfig:
    """The config of a checkpoint's config.json; ModelError for one that this code would compute wrongly."""
    refuse_variants(raw, path)
    values = {key: value for key, value in raw.items() if key not in NOT_FOR_LLAMA}
    values = {**DEFAULTS, **values, "attention_bias": bool(raw.get("bias", True))}
    scaling = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
    theta = scaling.pop("rope_theta", None) or raw.get("rope_theta") or 10000
    if raw["model_type"] == INTERNLM1:
        rotary = raw.get("rotary") or {"type": "dynamic"}
        theta = rotary.get("base", theta)
        scaling = {"type": rotary.get("type"), "factor": rotary.get("scaling_factor", 1.0)}
        scaling = {} if scaling["type"] == "origin" else scaling
    rope = _rope(scaling, str(raw["model_type"]), path)
    make: Any = InternLMConfig if raw["model_type"] == INTERNLM1 else InternLM2Config
    config: InternLMConfig = make(**values, rope_parameters={"rope_theta": float(theta), **rope})
    return config


def refuse_variants(raw: Mapping[str, Any], path: str) -> None:
    """ModelError unless config.json names the plain language model."""
    stated = [str(name) for name in raw.get("architectures") or ()]
    if stated and not set(stated) & set(ARCHITECTURES):
        raise ModelError(
            f"{path} is {', '.join(stated)}, not one of the language models {', '.join(ARCHITECTURES)}",
            "reward models and multimodal variants of InternLM have other heads and weights; give a base or chat model",
        )


def _rope(scaling: Mapping[str, Any], kind: str, path: str) -> dict[str, Any]:
    """`rope_type` and, where there is one, `factor`; ModelError for what the original code does not know."""
    asked, factor = scaling.get("rope_type", scaling.get("type", "default")), scaling.get("factor")
    if asked == "default":
        return {"rope_type": "default"}
    if asked not in ROPE_TYPES[kind] or not isinstance(factor, (int, float)) or factor < 1:
        raise ModelError(
            f"{path} asks for rope scaling {dict(scaling)}, which {kind} does not define",
            f"in config.json: a type of {', '.join(ROPE_TYPES[kind])}, with a factor of at least 1",
        )
    return {"rope_type": asked, "factor": float(factor)}


def load_internlm(spec: ModelSpec, arguments: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """The model and transformers' loading report; ModelError for weights that it has no place for."""
    raw, _ = PreTrainedConfig.get_config_dict(spec.path, revision=spec.revision or None)
    config = llama_config(raw, spec.path)
    family: Any = InternLMForCausalLM if raw["model_type"] == INTERNLM1 else InternLM2ForCausalLM
    register_checkpoint_conversion_mapping(InternLM2ForCausalLM.__name__, conversions(), overwrite=True)
    wanted = {**arguments, "trust_remote_code": False, "config": config, "output_loading_info": True}
    model, report = family.from_pretrained(spec.path, **wanted)
    unexpected = sorted(report["unexpected_keys"])
    if unexpected:
        shown = ", ".join(unexpected[:5]) + (", …" if len(unexpected) > 5 else "")
        raise ModelError(
            f"{spec.path} has {len(unexpected)} weights that {raw['model_type']} does not have: {shown}",
            "it is another model (a reward model, a multimodal one), or config.json is not its own",
        )
    return model, report
