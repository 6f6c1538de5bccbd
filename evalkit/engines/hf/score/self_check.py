"""Whether prefix sharing gives a model's own numbers: found out by a tiny batch that goes both ways.

Never by the model's name. What the batch cannot show is read off the config: windows other than the
usual one, positions by place in memory, and rotary tables that change with the length of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evalkit.core.errors import ConfigError, ModelError, first_line
from evalkit.core.records import ModelSpec, Request
from evalkit.core.registry import did_you_mean
from evalkit.engines.hf.memory import is_oom
from evalkit.engines.hf.positions import steady_length
from evalkit.engines.hf.score.forward import SINGLE, Attention
from evalkit.engines.hf.score.plain import token_losses
from evalkit.engines.hf.score.tree import TreeLimits, score_tree
from evalkit.engines.hf.score.trie import Ids
from evalkit.engines.hf.tokens import Encoded
from evalkit.engines.hf.windows import WINDOW, short_window

PATHS = ("auto", "plain", "tree")
DEFAULT_PATH = "auto"
FULL, SLIDING = "full_attention", "sliding_attention"
FLOORS = {torch.float32: 2e-4, torch.float16: 6e-3, torch.bfloat16: 0.04}
"""Differences of one token's loss, in nats, that always count as rounding; tight, since a model
that passes wrongly has wrong scores and one that fails wrongly is only slower."""
NOISE_FACTOR, MOST_FLOORS = 4.0, 4.0
PREFIX = 29
FAULTS = (
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    NotImplementedError,
    AssertionError,
)
"""What models raise that do not take the cache, the mask or the positions."""


@dataclass(frozen=True)
class ScorePath:
    """How a loaded model scores."""

    attention: Attention | None
    """The masks of the tree; None: plain batches."""
    reason: str
    longest: int | None = None
    """Longer texts go by plain batches; None: no such limit."""

    @property
    def name(self) -> str:
        """`tree` or `plain`."""
        return "plain" if self.attention is None else "tree"


def asked_path(spec: ModelSpec) -> str:
    """The path that a model config asks for; ConfigError for an unknown one."""
    asked = str(spec.options.get("engine_path", DEFAULT_PATH))
    if asked not in PATHS:
        raise ConfigError(f"unknown engine_path {asked!r} of model {spec.name}", did_you_mean(asked, PATHS))
    return asked


def choose_path(model: Any, pad: int, asked: str) -> ScorePath:
    """The path of a loaded model; ModelError when the tree is asked for and does not fit."""
    if asked == "plain":
        return ScorePath(None, "engine_path is plain")
    found = try_tree(model, pad)
    if asked == "tree" and found.attention is None:
        raise ModelError(
            f"this model cannot be scored by prefix sharing: {found.reason}", "use engine_path: auto, or plain"
        )
    return found


def try_tree(model: Any, pad: int) -> ScorePath:
    """Score a tiny batch plainly and by the tree; the tree where all its losses agree."""
    config = model.config.get_text_config()
    attention, why_not = attention_of(config)
    if attention is None:
        return ScorePath(None, why_not)
    try:
        worst, allowed = compare(model, pad, attention)
        if worst <= allowed and any(w is not None for w in attention.windows.values()):
            # the same once more with texts longer than the window, which is made short for it
            with short_window(config):
                short = Attention({k: w if w is None else WINDOW for k, w in attention.windows.items()})
                worst, allowed = compare(model, pad, short)
    except FAULTS as error:
        kind = "out of memory" if is_oom(error) else type(error).__name__
        return ScorePath(None, f"the self-check failed: {kind}: {first_line(error)}")
    said = f"largest difference of a token's loss {worst:.1e} nats, {allowed:.1e} allowed"
    if not worst <= allowed:
        return ScorePath(None, f"the self-check disagrees with plain batches: {said}")
    return ScorePath(attention, f"self-check passed: {said}", steady_length(config))


def attention_of(config: Any) -> tuple[Attention | None, str]:
    """The masks that a model of this config takes; None, with the reason, where that is not known."""
    kinds = set(getattr(config, "layer_types", None) or [])
    odd = sorted(kinds - {FULL, SLIDING})
    if odd:
        return None, f"layers of kind {', '.join(odd)}"
    if getattr(config, "alibi", False) or getattr(getattr(config, "attn_config", None), "alibi", False):
        return None, "positions that are counted in memory instead of in the text (ALiBi)"
    known = ("sliding_window", "max_window_layers", "use_sliding_window")
    others = [
        key
        for key, value in config.to_dict().items()
        if ("window" in key or "chunk" in key) and key not in known and isinstance(value, (int, list)) and value
    ]
    # a size of chunks in a feed-forward layer does not limit attention
    others = [key for key in others if not key.startswith("chunk_size_feed") and "pattern" not in key]
    if others:
        return None, f"attention limited by {', '.join(sorted(others))}"
    window = getattr(config, "sliding_window", None)
    if kinds == {FULL, SLIDING}:
        return Attention({FULL: None, SLIDING: window}), ""
    return Attention({SINGLE: None if kinds == {FULL} else window}), ""


def compare(model: Any, pad: int, attention: Attention) -> tuple[float, float]:
    """Largest difference of one token's loss between the tree and plain batches, and what is allowed.

    Allowed is what a dtype always has, or a few times what plain batches differ among themselves.
    """
    texts = trial_texts(model.get_input_embeddings().num_embeddings)
    together = token_losses(model, texts, pad)
    alone = [token_losses(model, [text], pad)[0] for text in texts]
    noise = max(float((a - b).abs().max()) for a, b in zip(together, alone, strict=True))
    items = [
        Encoded(Request(f"{i} {scored}", "", "ll"), text, scored)
        for i, text in enumerate(texts)
        for scored in range(1, len(text))
    ]
    sums = {r.key: r.nll for r in score_tree(model, items, attention, TreeLimits(width=16, stem=6))}
    worst = 0.0
    for i, losses in enumerate(alone):
        # a sum of n losses is compared by the loss that it adds to the sum of n - 1
        before = 0.0
        for scored in range(1, len(losses) + 1):
            now = sums[f"{i} {scored}"]
            if now is None:
                return float("inf"), 0.0
            worst = max(worst, abs(now - before - float(losses[-scored])))
            before = now
    floor = FLOORS.get(model.dtype, FLOORS[torch.bfloat16])
    return worst, min(max(floor, NOISE_FACTOR * noise), MOST_FLOORS * floor)


def total_noise(model: Any, pad: int, attention: Attention | None = None) -> float:
    """Largest difference of a text's total loss, in nats, between ways of computing it.

    Compared with the text alone are a padded batch and, where the model is scored by it, the tree with the masks
    of `attention`. Two options whose totals lie closer than this could be ranked the other way by another batch.
    Nothing of the kind is reported in float32, where it is about 1e-5.
    """
    texts = trial_texts(model.get_input_embeddings().num_embeddings)
    alone = [float(token_losses(model, [text], pad)[0].sum()) for text in texts]
    others = [[float(losses.sum()) for losses in token_losses(model, texts, pad)]]
    if attention is not None:
        items = [Encoded(Request(f"{i}", "", "ll"), text, len(text) - 1) for i, text in enumerate(texts)]
        totals = {reply.key: reply.nll for reply in score_tree(model, items, attention, TreeLimits(width=16, stem=6))}
        others.append([value if (value := totals[f"{i}"]) is not None else alone[i] for i in range(len(texts))])
    return max(abs(a - b) for way in others for a, b in zip(way, alone, strict=True))


def trial_texts(vocab: int) -> list[Ids]:
    """Texts with a common prefix, bodies that branch, and tails of different lengths."""

    def run(start: int, count: int) -> Ids:
        return tuple((3 + start + 7 * i + i * i) % vocab for i in range(count))

    prefix = run(1, PREFIX)
    out: list[Ids] = [prefix[:5] + run(50, 4)]
    for number, body in enumerate((run(11, 9), run(23, 3), run(37, 5))):
        tails: Sequence[int] = (1, 2, 6) if number else (1, 1, 5)
        out += [prefix + body + run(60 + 5 * k + number, count) for k, count in enumerate(tails)]
    return list(dict.fromkeys(out))
