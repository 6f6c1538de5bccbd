"""Continuous batching behind a shared prefix, against the plain path and a loop without a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from evalkit.core.records import GenSettings, ModelSpec, Reply, Request, Turn
from evalkit.engines.hf.generate import stream as stream_module
from evalkit.engines.hf.generate.plain import generate
from evalkit.engines.hf.generate.slots import Slots
from evalkit.engines.hf.generate.stop_criteria import StopCriteria
from evalkit.engines.hf.generate.stream import families as split_families
from evalkit.engines.hf.generate.stream import prefix_length, stream, waves
from evalkit.engines.hf.tokens import Encoded, Encoder

SHOTS = "Question: what is the number?\nAnswer: because the total number is 5\n\n" * 4
TAILS = ("who", "The answer is", "a b c d e f g h " * 6, "x", "water is long", "1 2 3", "step", "你好", "may", "def f(")
ENDS = StopCriteria((2,), (2,), ("</s>",), 0)
TOKENS = 1 << 14


class Loaded:
    """A model with its tokenizer, and both paths."""

    def __init__(self, path: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self.model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.encoder = Encoder(self.tokenizer, ModelSpec("m", "p", "base"), 4096, len(self.tokenizer))

    def items(self, requests: Sequence[Request]) -> list[Encoded]:
        return [self.encoder.encode(request) for request in requests]

    def plain(self, requests: Sequence[Request], ends: StopCriteria = ENDS) -> dict[str, Reply]:
        return bare(generate(self.model, self.tokenizer, self.items(requests), ends, TOKENS, 8))

    def stream(
        self, requests: Sequence[Request], rows: int = 3, tokens: int = TOKENS, ends: StopCriteria = ENDS
    ) -> dict[str, Reply]:
        return bare(stream(self.model, self.tokenizer, self.items(requests), ends, tokens, rows, 8))

    def naive(self, text: str, count: int) -> list[int]:
        ids = self.tokenizer(text).input_ids
        with torch.no_grad():
            for _ in range(count):
                ids = [*ids, int(self.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())]
        return list(ids[-count:])


def bare(replies: Any) -> dict[str, Reply]:
    """Replies by key, without their times; each key once."""
    found = [replace(reply, seconds=0.0) for reply in replies]
    assert len({reply.key for reply in found}) == len(found)
    return {reply.key: reply for reply in found}


def gen(text: str, limit: int = 12, **settings: Any) -> Request:
    return Request(f"{text}/{limit}/{settings}", "s/0", "gen", text=text, gen=GenSettings(limit, **settings))


def shared(limits: Sequence[int] = (4, 17, 9, 30, 1, 12, 25, 6, 14, 2), **settings: Any) -> list[Request]:
    return [gen(SHOTS + tail, limit, **settings) for tail, limit in zip(TAILS, limits, strict=True)]


@pytest.fixture(scope="module")
def llama(tiny_model: Path) -> Loaded:
    return Loaded(tiny_model)


@pytest.mark.parametrize("family", ["llama", "neox", "no_bos"])
def test_greedy_equals_plain_and_a_loop_without_cache(family: str, families: dict[str, Path]) -> None:
    loaded, requests = Loaded(families[family]), shared()
    plain = loaded.plain(requests)
    for rows, tokens in ((1, TOKENS), (3, TOKENS), (16, TOKENS), (4, 1), (4, 250)):
        assert loaded.stream(requests, rows, tokens) == plain
    for request in requests:
        assert request.gen is not None
        ids = loaded.naive(request.text, request.gen.max_out_len)
        kept = ids[: ids.index(2)] if 2 in ids else ids
        assert plain[request.key].text == loaded.tokenizer.decode(kept, skip_special_tokens=True)
    assert len({reply.text for reply in plain.values()}) > 7


def test_without_a_common_prefix(families: dict[str, Path]) -> None:
    loaded = Loaded(families["no_bos"])
    requests = [gen(tail, 5 + i) for i, tail in enumerate(TAILS)]
    assert prefix_length(loaded.items(requests)) == 0
    assert loaded.stream(requests) == loaded.plain(requests)


def test_one_prompt_is_the_beginning_of_another(llama: Loaded) -> None:
    requests = [gen(SHOTS, 7), gen(SHOTS, 9), gen(SHOTS + " the answer", 8)]
    items = llama.items(requests)
    assert prefix_length(items) == len(items[0].ids) - 1
    assert llama.stream(requests) == llama.plain(requests)


def test_long_prompts_are_filled_in_chunks(llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit.engines.hf.generate.slots.CHUNK", 7)
    assert llama.stream(shared()) == llama.plain(shared())


@pytest.mark.parametrize("tokens", [1, 400, 700, 2000])
def test_slots_stay_within_the_token_budget(tokens: int, llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int, int]] = []
    original = Slots.__init__

    def note(self: Slots, model: Any, prefix: Sequence[int], count: int, capacity: int) -> None:
        sizes.append((len(prefix), count, capacity))
        original(self, model, prefix, count, capacity)

    monkeypatch.setattr(Slots, "__init__", note)
    assert len(llama.stream(shared(), rows=8, tokens=tokens)) == len(TAILS)
    assert all(count == 1 or prefix + count * capacity <= tokens for prefix, count, capacity in sizes)
    assert max(count for _, count, _ in sizes) == (8 if tokens == 2000 else 1 if tokens == 1 else sizes[-1][1])


def test_order_and_company_do_not_matter(llama: Loaded) -> None:
    together = llama.stream(shared())
    assert llama.stream(shared()[::-1], rows=2) == together
    for request in shared()[:4]:
        assert llama.stream([request])[request.key] == together[request.key]


def test_stop_strings_end_a_row_in_the_generated_part_only(llama: Loaded) -> None:
    free = llama.plain(shared([30] * 10))
    stops = tuple(str(reply.text)[6 + i : 9 + i] for i, reply in enumerate(free.values()) if reply.text)
    requests = shared([30] * 10, stop=(*stops[:4], "Question:"))
    plain = llama.plain(requests)
    assert llama.stream(requests) == plain
    assert {reply.finish for reply in plain.values()} >= {"stop"}
    assert any(reply.n_out < 30 for reply in plain.values())


def test_end_tokens_end_a_row(llama: Loaded) -> None:
    ids = {request.key: llama.naive(request.text, 12) for request in shared([12] * 10)}
    often = [token for row in ids.values() for token in row[:6]]
    ends = replace(ENDS, base_ids=(2, *often[::3]))
    plain = llama.plain(shared([12] * 10), ends)
    assert llama.stream(shared([12] * 10), ends=ends) == plain
    assert sum(reply.finish == "eos" for reply in plain.values()) > 3


def test_sampled_rows_draw_what_they_draw_alone(llama: Loaded) -> None:
    hot = shared([20] * 10, temperature=1.0, top_p=0.9, seed=4)
    mixed = [*hot[:5], *shared()[5:]]
    plain = llama.plain(mixed)
    assert llama.stream(mixed) == plain
    assert plain[hot[0].key].text != llama.plain([shared([20] * 10)[0]])[shared([20] * 10)[0].key].text


def test_chats_and_errors(tiny_chat_model: Path) -> None:
    loaded = Loaded(tiny_chat_model)
    chats = [
        Request(f"chat {tail}", "s/0", "gen", turns=(Turn("user", SHOTS + tail),), gen=GenSettings(10 + i))
        for i, tail in enumerate(TAILS)
    ]
    bad = Request("bad", "s/0", "gen", text="x", gen=GenSettings(9999))
    free = loaded.plain(chats)
    ends = replace(ENDS, chat_strings=tuple(str(r.text)[5:8] for r in list(free.values())[:3]))
    requests = [*chats, bad, *shared()]
    plain = loaded.plain(requests, ends)
    assert loaded.stream(requests, ends=ends) == plain
    assert plain["bad"].error and any(r.finish == "eos" for r in plain.values())


def test_rows_beyond_the_window_stream_too(families: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = Loaded(families["mistral"])  # a window of 16
    requests = [*shared(), gen("who", 4), gen("The answer", 6)]
    streamed: list[int] = []
    original = Slots.prefill

    def prefill(self: Slots, slot: int, ids: Sequence[int]) -> torch.Tensor:
        streamed.append(len(ids))
        return original(self, slot, ids)

    monkeypatch.setattr(Slots, "prefill", prefill)
    assert loaded.stream(requests) == loaded.plain(requests)
    assert len(streamed) == len(requests)


def test_the_prefix_runs_once_and_steps_are_few(llama: Loaded) -> None:
    requests, passes = shared(), []
    hook = llama.model.register_forward_pre_hook(
        lambda _m, _a, kwargs: passes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    replies = llama.stream(requests, rows=3)
    hook.remove()
    items = llama.items(requests)
    own = sum(len(item.ids) - prefix_length(items) for item in items)
    made = sum(reply.n_out for reply in replies.values())
    assert sum(rows * width for rows, width in passes) == prefix_length(items) + own + made - len(items)


def test_a_reply_comes_as_soon_as_its_row_ends(llama: Loaded) -> None:
    requests = [gen(SHOTS + "who", 40), gen(SHOTS + "may", 3)]
    replies = stream(llama.model, llama.tokenizer, llama.items(requests), ENDS, TOKENS, 2, 8)
    passes: list[int] = []
    hook = llama.model.register_forward_pre_hook(lambda *_: passes.append(1))
    assert next(replies).key == requests[1].key
    assert len(passes) == 5  # the prefix, two prompts, two steps
    assert next(replies).key == requests[0].key
    hook.remove()


@pytest.mark.parametrize("where", ["prefill", "decode", "__init__"])
def test_out_of_memory_leaves_the_rest_to_the_plain_path(
    where: str, llama: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = getattr(Slots, where), []

    def fail(self: Slots, *args: Any) -> Any:
        calls.append(1)
        if len(calls) > 4 or where == "__init__":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, *args)

    monkeypatch.setattr(Slots, where, fail)
    assert llama.stream(shared()) == llama.plain(shared())


def test_other_errors_pass_and_leave_the_model_as_it_was(llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    before, plain = llama.model.config._attn_implementation, llama.plain(shared())
    with monkeypatch.context() as patch:
        patch.setattr(stream_module.Slots, "move", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            llama.stream(shared())
    hook = llama.model.model.layers[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        llama.stream(shared())
    hook.remove()
    assert llama.model.config._attn_implementation == before
    assert llama.plain(shared()) == plain


def item(ids: Sequence[int], limit: int = 10) -> Encoded:
    return Encoded(Request(str(ids), "s/0", "gen", text="x", gen=GenSettings(limit)), tuple(ids))


def test_a_prompt_that_begins_otherwise_does_not_cost_the_others_their_prefix() -> None:
    main = [item([1, *range(5, 205), 900 + i]) for i in range(8)]
    other = [item([1, *range(400, 600), 900 + i]) for i in range(5)]
    odd = [item([1, 7, 8]), item([1, 300])]
    found = split_families([*odd, *main, *other], rows=8)
    assert sorted(map(len, found)) == [2, 5, 8]
    assert sorted(prefix_length(family) for family in found) == [1, 201, 201]
    assert split_families(main, 8) and len(split_families(main, 8)) == 1
    assert split_families([], 8) == []


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=9), st.integers(1, 60)), max_size=30),
    st.integers(1, 6),
    st.integers(1, 300),
)
def test_every_item_gets_one_place_behind_a_prefix_of_its_own(
    drawn: list[tuple[list[int], int]], rows: int, tokens: int
) -> None:
    items = [item(ids, limit) for ids, limit in drawn]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "WORTH_TOKENS", 3)
        placed = [wave for family in split_families(items, rows) for wave in waves(family, tokens, rows)]
    assert sorted(map(repr, (i for wave in placed for i in wave))) == sorted(map(repr, items))
    for wave in placed:
        length = prefix_length(wave)
        assert len({i.ids[:length] for i in wave}) == 1 and all(len(i.ids) > length for i in wave)
        sizes = [stream_module.full_length(i) for i in wave]
        assert sizes == sorted(sizes, reverse=True)


def test_one_long_row_does_not_take_the_slots_of_short_ones() -> None:
    items = [item([1, i, 2], limit) for i, limit in enumerate([1000, 20, 30, 600, 25])]
    found = waves(items, tokens=1200, rows=4)
    assert [[len(i.ids) + i.request.gen.max_out_len for i in wave] for wave in found if wave] == [
        [1003, 603],
        [33, 28, 23],
    ]
    assert len(waves(items, tokens=10_000, rows=4)) == 1
