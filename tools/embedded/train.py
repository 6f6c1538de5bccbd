"""The training loop: plain torch on fixed threads; equal settings on an equal machine give equal weights."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from tools.embedded import corpus
from tools.embedded.tokens import BOS, EOS, MAX_LENGTH, PAD, Packed, encode, pack


@dataclass(frozen=True)
class Shape:
    """Sizes of the Llama."""

    hidden: int = 192
    layers: int = 4
    heads: int = 6
    feed_forward: int = 512


@dataclass(frozen=True)
class Stage:
    """One stage of the training: what is read, for how long, how fast."""

    style: str
    """`plain` or `chat`."""
    steps: int
    rate: float
    """Highest learning rate; it falls as a cosine to a twentieth."""
    lengths: tuple[int, ...]
    """Row lengths of the long texts, one after the other in equal parts of the stage."""
    warmup: int = 100
    short_rows: int = 24
    short_length: int = 256
    long_tokens: int = 4096
    decay: float = 0.05
    early: int = 0
    """The first so many steps read early texts."""
    keep_plain: int = 0
    """chat: every so many steps the plain texts are read instead, so that they are not forgotten."""


def new_model(shape: Shape, inner: Any, seed: int) -> Any:
    """A Llama with random weights drawn from the seed; embeddings tied."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=inner.get_vocab_size(),
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=inner.token_to_id(BOS),
        eos_token_id=inner.token_to_id(EOS),
        pad_token_id=inner.token_to_id(PAD),
    )
    return LlamaForCausalLM(config)


def batch(stage: Stage, style: str, inner: Any, kind: str, name: str, length: int, early: bool = False) -> Packed:
    """The packed batch called `name`; it depends on nothing else, so a restart needs no history."""
    rows = stage.short_rows if kind == corpus.SHORT else max(1, stage.long_tokens // length)
    parts = corpus.texts(kind, style, name, length, early)
    return pack((encode(p, inner) for p in parts), rows, length, inner.token_to_id(PAD))


def loss_of(model: Any, packed: Packed, body: Any = None) -> Any:
    """Mean cross entropy over the tokens, each by its weight; nats. A compiled `body` runs in bfloat16."""
    ids, positions = torch.tensor(packed.ids), torch.tensor(packed.positions)
    weights = torch.tensor(packed.weights)[:, 1:]
    counted = weights > 0
    with torch.autocast("cpu", torch.bfloat16, enabled=body is not None):
        run = model.model if body is None else body
        hidden = run(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][counted])
    losses = functional.cross_entropy(logits.float(), ids[:, 1:][counted], reduction="none")
    return (losses * weights[counted]).sum() / weights[counted].sum()


def rate_at(stage: Stage, step: int) -> float:
    """The learning rate of a step: a linear start, then a cosine."""
    if step < stage.warmup:
        return stage.rate * (step + 1) / stage.warmup
    done = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return stage.rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def optimizer_of(model: Any, stage: Stage) -> Any:
    """AdamW; vectors and embeddings are not decayed."""
    named = list(model.named_parameters())
    matrices = [p for n, p in named if p.dim() > 1 and "embed" not in n]
    rest = [p for n, p in named if p.dim() == 1 or "embed" in n]
    groups = [{"params": matrices, "weight_decay": stage.decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=stage.rate, betas=(0.9, 0.95), fused=True)


def train(
    model: Any, inner: Any, stage: Stage, seed: int, folder: Path, fast: bool = False, save_every: int = 100
) -> Iterator[dict[str, Any]]:
    """Run a stage, from its last saved step where there is one; yields a record a step for the log."""
    state_file = folder / f"{stage.style}.state.pt"
    optimizer, start = optimizer_of(model, stage), 0
    if state_file.is_file():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    body = torch.compile(model.model) if fast else None
    model.train()
    for step in range(start, stage.steps):
        began = time.monotonic()
        record = one_step(model, inner, stage, optimizer, seed, step, body)
        if (step + 1) % save_every == 0 or step + 1 == stage.steps:
            _save(state_file, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
        yield {**record, "seconds": round(time.monotonic() - began, 3)}


def one_step(
    model: Any, inner: Any, stage: Stage, optimizer: Any, seed: int, step: int, body: Any = None
) -> dict[str, Any]:
    """One update from a batch of short texts and one of long ones."""
    style = corpus.PLAIN if stage.keep_plain and step % stage.keep_plain == 0 else stage.style
    length = stage.lengths[step * len(stage.lengths) // stage.steps]
    rate = rate_at(stage, step)
    for group in optimizer.param_groups:
        group["lr"] = rate
    losses = {}
    for kind, row in ((corpus.SHORT, stage.short_length), (corpus.LONG, length)):
        loss = loss_of(model, batch(stage, style, inner, kind, f"{seed}/{step}", row, step < stage.early), body)
        loss.backward()
        losses[kind] = loss.item()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return {"stage": stage.style, "step": step, "rate": rate, "length": length, **losses, "norm": norm.item()}


def _save(file: Path, state: dict[str, Any]) -> None:
    aside = file.with_suffix(".aside")
    torch.save(state, aside)
    aside.rename(file)


def fixed(threads: int) -> None:
    """Settings under which the same machine computes the same numbers twice."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


def write_log(file: Path, record: dict[str, Any]) -> None:
    """Append one record as a line of JSON."""
    with file.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(record) + "\n")


def thin_log(file: Path, target: Path, every: int = 10) -> None:
    """A short log for the repository: means of the losses over `every` steps, the last record of a repeated step."""
    records: dict[tuple[str, int], dict[str, Any]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        records[record["stage"], record["step"]] = record
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for (stage, step), record in records.items():
        groups.setdefault((stage, step // every * every), []).append(record)
    lines = []
    for (stage, step), group in groups.items():
        means = {key: round(sum(r[key] for r in group) / len(group), 5) for key in ("short", "long", "norm", "seconds")}
        lines.append(
            {"stage": stage, "step": step, "rate": round(group[0]["rate"], 7), "length": group[0]["length"], **means}
        )
    target.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
