"""Requests → token ids: special tokens, chat templates, truncation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from evalkit.core.errors import ModelError
from evalkit.core.limits import Limited, OverLimit
from evalkit.core.reasoning import opened_by
from evalkit.core.records import ModelSpec, Reply, Request, Turn
from evalkit.core.sequences import shared_length

TRUNCATION = "truncation"
"""Option of a model: where prompts that are too long are cut, `left` (default) or `middle`."""
MIDDLE = "middle"


@dataclass(frozen=True)
class Encoded:
    """A request as the model reads it."""

    request: Request
    ids: tuple[int, ...]
    """Token ids after truncation."""
    scored: int = 0
    """ppl and ll: how many tokens at the end are scored."""
    truncated: bool = False
    opened: str = ""
    """gen: the mark at the end of the prompt that the output is a reasoning trace behind."""
    error: str = ""
    """Why it cannot be answered; empty when it can."""

    def failed(self, error: str) -> Reply:
        """The reply that carries an error."""
        return Reply(self.request.key, n_tokens=len(self.ids), truncated=self.truncated, error=error)


def group_equal(items: Iterable[Encoded], by_scored: bool = False) -> list[list[Encoded]]:
    """Answerable items, those of equal token ids together, and with `by_scored` of equally many scored tokens.

    A group is computed once, so that equal options tie exactly.
    """
    groups: dict[tuple[tuple[int, ...], int], list[Encoded]] = {}
    for item in items:
        if not item.error:
            groups.setdefault((item.ids, item.scored if by_scored else 0), []).append(item)
    return list(groups.values())


@dataclass(frozen=True)
class Encoder:
    """Encodes requests for one loaded model."""

    tokenizer: Any
    spec: ModelSpec
    max_seq_len: int
    """Most tokens of prompt and output together."""
    vocab_size: int
    """Rows of the embedding; larger ids cannot be looked up."""

    def encode(self, request: Request) -> Encoded:
        """Token ids of a request.

        What is wrong with this one request is told in `error`. Raises ModelError for a chat
        request to a tokenizer without a chat template, which concerns all of them.
        """
        if request.mode == "ppl":
            encoded = self._ppl(request)
        elif request.mode == "ll":
            encoded = self._ll(request)
        else:
            encoded = self._gen(request)
        if not encoded.error and max(encoded.ids) >= self.vocab_size:
            error = f"token id {max(encoded.ids)} is outside the model's vocabulary of {self.vocab_size}"
            return Encoded(request, (), error=error)
        return encoded

    def _ppl(self, request: Request) -> Encoded:
        ids, truncated = self._cut(self._tokens(request.text), self.max_seq_len)
        few = f"the text has {len(ids)} tokens; at least 2 are needed for a score" if len(ids) < 2 else ""
        return Encoded(request, ids, len(ids) - 1, truncated, error=few)

    def _ll(self, request: Request) -> Encoded:
        context = self._tokens(request.text)
        full = self._tokens(request.text + request.continuation)
        shared = shared_length(context, full)
        ids, truncated = self._cut(full, self.max_seq_len)
        own, error = len(full) - shared, ""
        if own == 0:
            error = "the continuation has no tokens of its own"
        elif shared == 0:
            error = "no token stands in front of the continuation (empty context, no BOS)"
        elif own >= len(ids):
            error = f"the continuation of {own} tokens does not fit max_seq_len {self.max_seq_len}"
        return Encoded(request, ids, own, truncated, error=error)

    def _gen(self, request: Request) -> Encoded:
        if request.gen is None:
            return Encoded(request, (), error="a generation request without generation settings")
        try:
            prompt = self._chat(request.turns) if request.turns else request.text
            full = self._tokens(prompt, special=not request.turns)
        except TemplateError as error:
            return Encoded(request, (), error=f"the chat template refuses the turns: {error}")
        if not full:
            return Encoded(request, (), error="the prompt has no tokens")
        room = self.max_seq_len - request.gen.max_out_len
        if room < 2:
            limits = f"max_out_len {request.gen.max_out_len}, max_seq_len {self.max_seq_len}"
            return Encoded(request, (), error=f"the output limit leaves no room for the prompt ({limits})")
        cut = self._cut_middle if self.spec.options.get(TRUNCATION) == MIDDLE else self._cut
        ids, truncated = cut(full, room)
        return Encoded(request, ids, 0, truncated, opened_by(prompt, self.spec.reasoning))

    def _tokens(self, text: str, special: bool = True) -> list[int]:
        """Ids of a text, with the tokenizer's own special tokens where no chat template has written them."""
        return list(self.tokenizer(text, add_special_tokens=special, truncation=False)["input_ids"])

    def _chat(self, turns: Sequence[Turn]) -> str:
        """A conversation as text, special tokens included."""
        return render_chat(self.tokenizer, with_system(turns, self.spec.system_prompt), self.spec)

    def _cut(self, ids: Sequence[int], limit: int) -> tuple[tuple[int, ...], bool]:
        """At most `limit` tokens: BOS, where there is one, and the last ones."""
        if len(ids) <= limit:
            return tuple(ids), False
        bos = self.tokenizer.bos_token_id
        if bos is not None and ids[0] == bos:
            return (ids[0], *ids[len(ids) - limit + 1 :]), True
        return tuple(ids[len(ids) - limit :]), True

    def _cut_middle(self, ids: Sequence[int], limit: int) -> tuple[tuple[int, ...], bool]:
        """The first and the last half of at most `limit` tokens, as LongBench cuts; one less where `limit` is odd."""
        if len(ids) <= limit:
            return tuple(ids), False
        half = limit // 2
        return (*ids[:half], *ids[len(ids) - half :]), True


def with_system(turns: Sequence[Turn], system_prompt: str) -> tuple[Turn, ...]:
    """The turns with a system prompt in front; joined to a system turn that is already there,
    since templates allow one only."""
    if not system_prompt:
        return tuple(turns)
    if turns and turns[0].role == "system":
        return (Turn("system", f"{system_prompt}\n{turns[0].text}"), *turns[1:])
    return (Turn("system", system_prompt), *turns)


def render_chat(tokenizer: Any, turns: Sequence[Turn], spec: ModelSpec) -> str:
    """The conversation as one text, up to where the assistant's answer begins.

    The template is the spec's, else the tokenizer's.
    Raises ModelError when there is none, and jinja2's TemplateError when the template refuses the turns.
    """
    own = spec.chat_template or None
    if not own and not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {spec.path} has no chat template",
            "evaluate it as a base model (--kind base), or give chat_template in a model config",
        )
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    try:
        with Limited():
            text = tokenizer.apply_chat_template(
                messages, chat_template=own, tokenize=False, add_generation_prompt=True
            )
    except OverLimit as error:
        hint = "give another one: chat_template in a model config"
        raise ModelError(f"{spec.name}: the chat template does not end: {error}", hint) from error
    return str(text)


def turn_end(tokenizer: Any, spec: ModelSpec) -> int | None:
    """The special token that the chat template writes behind an assistant's answer; None where there is none.

    Some checkpoints leave it out of their generation config and would write on after their turn.
    """
    turns = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "answer"}]
    own = spec.chat_template or None
    if not own and not tokenizer.chat_template:
        return None
    try:
        with Limited():
            text = str(tokenizer.apply_chat_template(turns, chat_template=own, tokenize=False))
    except (TemplateError, OverLimit):
        return None
    ids = tokenizer(text.rpartition("answer")[2], add_special_tokens=False)["input_ids"]
    return int(ids[0]) if ids and ids[0] in {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder} else None
