"""ppl and ll against a direct, unbatched computation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evalkit.core.records import Reply, Request
from evalkit.engines.hf.score import plain as score_module

FAMILIES = ("llama", "neox", "mistral", "no_bos")
ONE_ROW = 1
REST = " the answer is 7"


class Direct:
    """The definitions, written down once more: one row, no padding, float64 log-softmax."""

    def __init__(self, path: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    def losses(self, ids: Sequence[int]) -> list[float]:
        with torch.no_grad():
            logs = self.model(torch.tensor([list(ids)])).logits[0].double().log_softmax(-1)
        return [-float(logs[i - 1, ids[i]]) for i in range(1, len(ids))]

    def ppl(self, text: str) -> float:
        ids = self.tokenizer(text).input_ids
        return sum(self.losses(ids)) / len(ids)

    def ll(self, context: str, rest: str) -> float:
        first, full = self.tokenizer(context).input_ids, self.tokenizer(context + rest).input_ids
        start = next((i for i, (a, b) in enumerate(zip(first, full, strict=False)) if a != b), len(first))
        start = min(start, len(full))
        return sum(self.losses(full)[start - 1 :])


def answers(engine: Any, requests: Sequence[Request]) -> dict[str, Reply]:
    replies = list(engine.run(requests))
    assert len(replies) == len(requests)
    return {reply.key: reply for reply in replies}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [1, 8])
def test_equals_direct(
    family: str, rows: int, families: dict[str, Path], engine_for: Any, texts: list[str], ppl: Any, ll: Any
) -> None:
    direct = Direct(families[family])
    longest = max(len(direct.tokenizer(t + REST).input_ids) for t in texts)
    assert longest > 16 * 3  # beyond Mistral's window
    engine = engine_for(families[family], batch_tokens=rows * longest)
    sizes: list[int] = []
    engine._model.register_forward_pre_hook(
        lambda _m, _a, kwargs: sizes.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    scored = [t for t in texts if len(direct.tokenizer(t).input_ids) > 1]
    pairs = [(t, REST) for t in scored]
    got = answers(engine, [ppl(t) for t in scored] + [ll(*pair) for pair in pairs])
    assert sizes[0] == rows
    for text in scored:
        assert got[text].nll == pytest.approx(direct.ppl(text), rel=1e-5, abs=1e-5)
        assert got[text].n_tokens == len(direct.tokenizer(text).input_ids)
    for pair in pairs:
        assert got["|".join(pair)].nll == pytest.approx(direct.ll(*pair), rel=1e-5, abs=1e-5)
    values = [got[t].nll for t in scored]
    assert len({round(v, 3) for v in values}) == len(values)  # a constant would pass the rest


def test_bos_counts_in_n(families: dict[str, Path], engine_for: Any, ppl: Any) -> None:
    text = "The answer is 5"
    with_bos = answers(engine_for(families["llama"]), [ppl(text)])[text]
    without = answers(engine_for(families["no_bos"]), [ppl(text)])[text]
    assert with_bos.n_tokens == without.n_tokens + 1
    losses = Direct(families["llama"]).losses(Direct(families["llama"]).tokenizer(text).input_ids)
    assert with_bos.nll == pytest.approx(sum(losses) / (len(losses) + 1), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("family", "kept"), [("llama", 1), ("no_bos", 0)])
def test_truncation_keeps_bos_and_the_end(
    family: str, kept: int, families: dict[str, Path], engine_for: Any, texts: list[str], ppl: Any, ll: Any
) -> None:
    direct, limit = Direct(families[family]), 20
    engine = engine_for(families[family], max_seq_len=limit)
    long, short, rest = texts[2], texts[0], " five six"
    got = answers(engine, [ppl(long), ppl(short), ll(long, rest)])
    ids = direct.tokenizer(long).input_ids
    cut = ids[:kept] + ids[-(limit - kept) :]
    assert got[long].truncated and got[long].n_tokens == limit
    assert got[long].nll == pytest.approx(sum(direct.losses(cut)) / limit, rel=1e-5, abs=1e-5)
    assert not got[short].truncated
    full = direct.tokenizer(long + rest).input_ids
    own = len(full) - len(ids)
    expected = sum(direct.losses(full[:kept] + full[-(limit - kept) :])[-own:])
    assert got[f"{long}|{rest}"].truncated
    assert got[f"{long}|{rest}"].nll == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_ll_starts_after_the_common_token_prefix(tiny_model: Path, engine_for: Any, ll: Any) -> None:
    """The context's last token merges with the continuation, so that it belongs to it."""
    direct = Direct(tiny_model)
    context, rest = "The ans", "wer is 5"
    first, full = direct.tokenizer(context).input_ids, direct.tokenizer(context + rest).input_ids
    assert full[: len(first)] != first
    shared = next(i for i, (a, b) in enumerate(zip(first, full, strict=False)) if a != b)
    got = answers(engine_for(tiny_model), [ll(context, rest)])[f"{context}|{rest}"]
    assert got.nll == pytest.approx(sum(direct.losses(full)[shared - 1 :]), rel=1e-5, abs=1e-5)
    assert abs(got.nll - sum(direct.losses(full)[len(first) - 1 :])) > 0.1


def test_unanswerable_requests_get_an_error_reply(
    families: dict[str, Path], engine_for: Any, ppl: Any, ll: Any
) -> None:
    engine = engine_for(families["llama"], max_seq_len=16)
    bad = {
        "": ppl(""),
        "The answer|": ll("The answer", ""),
        "x|" + " long" * 40: ll("x", " long" * 40),
    }
    got = answers(engine, [*bad.values(), ppl("The answer is")])
    for key in bad:
        assert got[key].error and got[key].nll is None
    assert "not fit" in got["x|" + " long" * 40].error
    assert got["The answer is"].nll is not None
    bare = answers(engine_for(families["no_bos"]), [ppl(""), ppl("The"), ll("", "The answer")])
    assert "0 tokens" in bare[""].error
    assert "1 token" in bare["The"].error
    assert "in front of" in bare["|The answer"].error


def test_empty_context_is_scored_after_bos(tiny_model: Path, engine_for: Any, ll: Any) -> None:
    direct = Direct(tiny_model)
    got = answers(engine_for(tiny_model), [ll("", "The answer")])["|The answer"]
    assert got.nll == pytest.approx(sum(direct.losses(direct.tokenizer("The answer").input_ids)), rel=1e-5, abs=1e-5)


def test_equal_texts_tie_exactly(tiny_model: Path, engine_for: Any, texts: list[str]) -> None:
    requests = [Request(f"{i} {t}", "s/0", "ppl", text=t) for i in range(3) for t in texts[:3]]
    got = answers(engine_for(tiny_model), requests)
    for text in texts[:3]:
        assert len({got[f"{i} {text}"].nll for i in range(3)}) == 1


def test_chunks_do_not_change_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 17, 50, generator=generator)
    ids = torch.randint(0, 50, (3, 17), generator=generator)
    whole = score_module.chunked_losses(logits, ids)
    monkeypatch.setattr(score_module, "CHUNK_NUMBERS", 3 * 50 * 4)
    assert torch.equal(score_module.chunked_losses(logits, ids), whole)


def test_a_value_that_is_not_finite_is_an_error(tiny_model: Path, engine_for: Any, ppl: Any) -> None:
    engine = engine_for(tiny_model)
    with torch.no_grad():
        engine._model.lm_head.weight[5] = float("nan")
    reply = next(iter(engine.run([ppl("The answer")])))
    assert reply.nll is None and "not finite" in reply.error


def test_replies_come_batch_by_batch(
    tiny_model: Path, engine_for: Any, texts: list[str], ppl: Callable[[str], Request]
) -> None:
    engine = engine_for(tiny_model, batch_tokens=ONE_ROW)
    calls: list[int] = []
    engine._model.register_forward_pre_hook(lambda *_: calls.append(1))
    replies = engine.run([ppl(t) for t in texts[:4]])
    next(replies)
    assert len(calls) == 1
    assert len(list(replies)) == 3
    assert len(calls) == 4
