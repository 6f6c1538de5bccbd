"""Generation against a naive loop without a cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evalkit.core.errors import ConfigError, ModelError
from evalkit.core.records import GenSettings, ModelSpec, Reply, Request, Turn
from evalkit.engines.catalog import check_options
from evalkit.engines.hf.generate.sampling import draw
from evalkit.engines.hf.tokens import Encoder

PROMPTS = (
    "The answer",
    "Question: what is the number?\n" * 5,
    "def",
    "你好",
    "a b c d e f g h",
    "step",
    "1 2 3 " * 9,
    "who",
    "may",
    "water is",
)


def gen(text: str, limit: int = 12, **settings: Any) -> Request:
    return Request(f"{text}/{limit}/{settings}", "s/0", "gen", text=text, gen=GenSettings(limit, **settings))


def chat(text: str, limit: int = 12, **settings: Any) -> Request:
    turns = (Turn("user", text),)
    return Request(f"chat {text}", "s/0", "gen", turns=turns, gen=GenSettings(limit, **settings))


def run(engine: Any, requests: Sequence[Request]) -> list[Reply]:
    """Replies in the order of the requests."""
    found = {reply.key: reply for reply in engine.run(requests)}
    assert len(found) == len(requests)
    return [found[request.key] for request in requests]


def naive(path: Path, ids: list[int], count: int) -> list[int]:
    """The greedy continuation: the whole row is computed anew for every token."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    out: list[int] = []
    with torch.no_grad():
        for _ in range(count):
            out.append(int(model(torch.tensor([ids + out])).logits[0, -1].argmax()))
    return out


PLAIN = {"engine_path": "plain"}


@pytest.mark.parametrize("way", ["plain", "auto"])
@pytest.mark.parametrize("family", ["llama", "neox", "mistral", "no_bos"])
def test_greedy_equals_naive_loop(family: str, way: str, families: dict[str, Path], engine_for: Any) -> None:
    path = families[family]
    tokenizer = AutoTokenizer.from_pretrained(path)
    requests = [gen(text, 6 + 3 * (i % 3)) for i, text in enumerate(PROMPTS)]
    engine = engine_for(path, options={"engine_path": way})
    rows: list[int] = []
    engine._model.register_forward_pre_hook(
        lambda _m, _a, kwargs: rows.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    replies = run(engine, requests)
    padded = way == "plain"
    assert engine.describe()["generation_path"] == ("plain" if padded else "stream")
    assert max(rows) == (8 if padded else len(PROMPTS))
    for request, reply in zip(requests, replies, strict=True):
        assert request.gen is not None
        ids = tokenizer(request.text).input_ids
        expected = naive(path, ids, request.gen.max_out_len)
        ended = 2 in expected
        kept = expected[: expected.index(2)] if ended else expected
        assert reply.text == tokenizer.decode(kept, skip_special_tokens=True)
        assert reply.finish == ("eos" if ended else "length")
        assert (reply.n_tokens, reply.n_out) == (len(ids), len(kept) + ended)
    assert len({reply.text for reply in replies}) == len(replies)


def test_stop_string_cuts_at_its_first_occurrence(tiny_model: Path, engine_for: Any) -> None:
    engine, tokenizer = engine_for(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    free = run(engine, [gen("The answer", 30)])[0].text
    stop = free[20:23]
    assert stop.isascii()
    requests = [gen("The answer", 30, stop=(stop, free[40:44])), gen("who", 30), gen("water is", 7)]
    stopped, other, _ = run(engine, requests)
    assert stopped.text == free[: free.index(stop)]
    assert stopped.finish == "stop"
    assert other.finish == "length" and other.n_out == 30
    ids = naive(tiny_model, tokenizer("The answer").input_ids, 30)
    least = next(n for n in range(31) if stop in tokenizer.decode(ids[:n], skip_special_tokens=True))
    assert stopped.n_out == least < 30


def test_stop_string_in_the_prompt_does_not_stop(tiny_model: Path, engine_for: Any) -> None:
    reply = run(engine_for(tiny_model), [gen("Question: The", 9, stop=("Question:", " The"))])[0]
    assert (reply.finish, reply.n_out) == ("length", 9)


@pytest.mark.parametrize("way", ["plain", "auto"])
def test_batch_ends_with_its_last_row(way: str, tiny_model: Path, engine_for: Any) -> None:
    engine = engine_for(tiny_model, options={"engine_path": way})
    free = run(engine, [gen("The answer", 30)])[0].text
    calls: list[int] = []
    engine._model.register_forward_pre_hook(lambda *_: calls.append(1))
    run(engine, [gen("The answer", 500, stop=(free[10:14],))])
    assert len(calls) < 30


def test_checkpoint_settings_are_ignored_but_its_end_tokens_count(
    tiny_model: Path, copy_of: Callable[[Path], Path], edit_json: Any, engine_for: Any
) -> None:
    path, tokenizer = copy_of(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    ids = naive(tiny_model, tokenizer("The answer").input_ids, 12)
    end = ids[6]
    at = ids.index(end)
    edit_json(
        path / "generation_config.json",
        do_sample=True,
        temperature=5.0,
        top_k=3,
        repetition_penalty=9.0,
        no_repeat_ngram_size=1,
        max_new_tokens=2,
        min_new_tokens=11,
        suppress_tokens=[ids[0]],
        eos_token_id=[2, end],
    )
    engine = engine_for(path)
    reply = run(engine, [gen("The answer", 12)])[0]
    assert reply.text == tokenizer.decode(ids[:at], skip_special_tokens=True)
    assert (reply.finish, reply.n_out) == ("eos", at + 1)


def test_chat_prompt_has_bos_once(tiny_chat_model: Path, engine_for: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_chat_model)
    spec = ModelSpec("m", "p", "chat", system_prompt="Be brief.")
    ids = Encoder(tokenizer, spec, 512, len(tokenizer)).encode(chat("hi")).ids
    text = "<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert list(ids) == tokenizer(text, add_special_tokens=False).input_ids
    assert ids.count(tokenizer.bos_token_id) == 1
    reply = run(engine_for(tiny_chat_model, kind="chat", system_prompt="Be brief."), [chat("hi")])[0]
    assert reply.n_tokens == len(ids)


def test_system_prompt_joins_a_system_turn() -> None:
    from evalkit.engines.hf.tokens import with_system

    turns = (Turn("system", "B"), Turn("user", "u"))
    assert with_system(turns, "A") == (Turn("system", "A\nB"), Turn("user", "u"))
    assert with_system(turns, "") == turns


def test_chat_without_template_is_refused(tiny_model: Path, engine_for: Any) -> None:
    with pytest.raises(ModelError, match="no chat template") as caught:
        list(engine_for(tiny_model).run([chat("hi")]))
    assert caught.value.hint


def test_chat_ends_at_end_tokens_and_strings(
    tiny_chat_model: Path, copy_of: Callable[[Path], Path], edit_json: Any, engine_for: Any
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_chat_model)
    engine = engine_for(tiny_chat_model, kind="chat")
    free = run(engine, [chat("hi", 30)])[0]
    assert free.finish == "length" and free.text
    cut = free.text[15:18]
    reply = run(engine_for(tiny_chat_model, kind="chat", end_strings=(cut,)), [chat("hi", 30)])[0]
    assert (reply.text, reply.finish) == (free.text[: free.text.index(cut)], "eos")
    assert reply.n_out < 30
    path = copy_of(tiny_chat_model)
    ids = tokenizer(free.text, add_special_tokens=False).input_ids
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    ids = naive(tiny_chat_model, tokenizer(prompt, add_special_tokens=False).input_ids, 8)
    edit_json(path / "generation_config.json", eos_token_id=[ids[5]])
    reply = run(engine_for(path, kind="chat"), [chat("hi", 30)])[0]
    at = ids.index(ids[5])
    assert (reply.text, reply.finish, reply.n_out) == (tokenizer.decode(ids[:at]), "eos", at + 1)


def test_chat_shows_special_tokens_that_are_no_ends_and_base_does_not(tiny_chat_model: Path, engine_for: Any) -> None:
    """The head is made to prefer one special token: it is text for a chat, nothing for a base prompt."""
    engine = engine_for(tiny_chat_model, kind="chat")
    start = AutoTokenizer.from_pretrained(tiny_chat_model).convert_tokens_to_ids("<|im_start|>")
    engine._model.lm_head.register_forward_hook(lambda _m, _a, out: out.index_fill(-1, torch.tensor([start]), 1e4))
    talk, plain = run(engine, [chat("hi", 3), gen("hi", 3)])
    assert talk.text == "<|im_start|>" * 3
    assert plain.text == ""


def test_prompt_is_cut_to_leave_room(tiny_model: Path, engine_for: Any) -> None:
    engine, tokenizer = engine_for(tiny_model, max_seq_len=30), AutoTokenizer.from_pretrained(tiny_model)
    long = PROMPTS[1]
    ids = tokenizer(long).input_ids
    cut, full, impossible = run(engine, [gen(long, 12), gen("who", 12), gen("who", 29)])
    assert cut.truncated and cut.n_tokens == 18 and not full.truncated
    expected = naive(tiny_model, [ids[0], *ids[-17:]], 12)
    assert cut.text == tokenizer.decode(expected, skip_special_tokens=True)
    assert "no room" in impossible.error and impossible.text is None


@pytest.mark.parametrize("way", ["plain", "auto"])
def test_sampling_is_reproducible_and_independent_of_the_batch(way: str, tiny_model: Path, engine_for: Any) -> None:
    engine = engine_for(tiny_model, options={"engine_path": way})
    hot = [replace(gen("The answer", 12, temperature=1.0, top_p=0.9, seed=s), key=f"k{s}") for s in range(4)]
    together = run(engine, [*hot, gen("who is there", 15), gen("water", 3, temperature=0.7, top_k=5)])[:4]
    alone = [run(engine, [request])[0] for request in hot]
    assert [r.text for r in together] == [r.text for r in alone]
    greedy = run(engine, [gen("The answer", 12)])[0]
    assert len({r.text for r in [*alone, greedy]}) == 5
    again = run(engine, [replace(hot[0], repeat=1)])[0]
    assert again.text != alone[0].text


def test_draw_follows_the_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -9.0])
    generator = torch.Generator().manual_seed(1)

    def shares(**settings: Any) -> list[float]:
        chosen = [draw(logits, GenSettings(1, **settings), generator) for _ in range(4000)]
        return [chosen.count(i) / 4000 for i in range(5)]

    for temperature in (1.0, 0.5):
        expected = (logits / temperature).softmax(-1).tolist()
        assert shares(temperature=temperature) == pytest.approx(expected, abs=0.03)
    two = logits[:2].softmax(-1).tolist()
    assert shares(temperature=1.0, top_k=2) == pytest.approx([*two, 0, 0, 0], abs=0.03)
    # 0.64 of the mass is in the first token: the second crosses 0.7 and stays
    assert shares(temperature=1.0, top_p=0.7) == pytest.approx([*two, 0, 0, 0], abs=0.03)
    assert shares(temperature=1.0, top_p=0.01) == [1, 0, 0, 0, 0]


def test_replies_come_batch_by_batch(tiny_model: Path, engine_for: Any) -> None:
    engine = engine_for(tiny_model, batch_tokens=1, options=PLAIN)
    calls: list[int] = []
    engine._model.register_forward_pre_hook(lambda *_: calls.append(1))
    replies = engine.run([gen(text, 2) for text in PROMPTS[:3]])
    next(replies)
    assert len(calls) == 2
    assert len(list(replies)) == 2


def test_replies_come_as_soon_as_their_rows_end(tiny_model: Path, engine_for: Any) -> None:
    engine = engine_for(tiny_model)
    calls: list[int] = []
    engine._model.register_forward_pre_hook(lambda *_: calls.append(1))
    replies = engine.run([gen(text, 2 if i else 30) for i, text in enumerate(PROMPTS[:3])])
    assert next(replies).key != gen(PROMPTS[0], 30).key
    assert len(calls) == 5  # the shared beginning, three prompts, one step
    assert len(list(replies)) == 2


def test_a_model_that_reads_its_padding_is_found_out(tiny_model: Path, engine_for: Any) -> None:
    from evalkit.engines.hf.load.probe import pads_well

    model = engine_for(tiny_model)._model
    assert pads_well(model, 0)

    def forget_mask(_model: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        return args, {**kwargs, "attention_mask": None, "position_ids": None}

    model.register_forward_pre_hook(forget_mask, with_kwargs=True)
    assert not pads_well(model, 0)


def test_describe_tells_what_ran(tiny_model: Path, engine_for: Any) -> None:
    facts = engine_for(tiny_model, max_seq_len=77).describe()
    assert facts["engine_path"] == "tree" and facts["generation_path"] == "stream" and facts["gen_slots"] == 16
    assert "passed" in facts["engine_path_reason"] and facts["device"] == "cpu" and facts["dtype"] == "float32"
    assert facts["max_seq_len"] == 77 and facts["vocab_size"] == 2048
    config = json.loads((tiny_model / "config.json").read_text())
    assert facts["attn_implementation"] == "sdpa" and facts["parameters"] > config["vocab_size"] * 128
    assert facts["left_padding_exact"] is True
    json.dumps(dict(facts))


def test_prompts_are_cut_in_the_middle_where_the_model_says_so(tiny_model: Path, engine_for: Any) -> None:
    """The first and the last half of what fits; a prompt that fits is left alone."""
    engine = engine_for(tiny_model, max_seq_len=30, options={"truncation": "middle"})
    ids = AutoTokenizer.from_pretrained(tiny_model)(PROMPTS[1]).input_ids
    for limit in (10, 9):  # room for 20 and 21 tokens: an odd one is left free
        encoded = engine._encoder.encode(gen(PROMPTS[1], limit))
        assert encoded.truncated and list(encoded.ids) == ids[:10] + ids[-10:]
    (cut, full) = run(engine, [gen(PROMPTS[1], 10), gen("who", 10)])
    assert cut.truncated and not full.truncated
    assert cut.text == AutoTokenizer.from_pretrained(tiny_model).decode(
        naive(tiny_model, ids[:10] + ids[-10:], 10), skip_special_tokens=True
    )
    with pytest.raises(ConfigError, match="truncation: 'right'"):
        check_options(ModelSpec("m", str(tiny_model), "base", options={"truncation": "right"}))
