"""ppl and ll by an endpoint, over the tokens that the hf engine scores."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

from evalkit.core.records import ModelSpec, Reply, Request
from evalkit.core.sequences import shared_length
from evalkit.engines.openai_api.client import Client
from evalkit.engines.openai_api.faults import Rejected
from evalkit.engines.openai_api.first import first_loss
from evalkit.engines.openai_api.limits import BudgetReached
from evalkit.engines.openai_api.local import LocalTokens
from evalkit.engines.openai_api.options import Options
from evalkit.engines.openai_api.probe import Layout
from evalkit.engines.openai_api.prompts import Scored, ask_scored, score_body

UNCLEAR = "\ufffd"


class Scorer:
    """Scores the requests of one run of an engine; equal texts are asked once, so that equal options tie exactly."""

    def __init__(
        self, client: Client, spec: ModelSpec, options: Options, layout: Layout, local: LocalTokens | None
    ) -> None:
        self._client, self._spec, self._options = client, spec, options
        self._layout, self._local = layout, local
        self._texts: dict[str, asyncio.Future[Scored]] = {}
        self._firsts: dict[int, float] = {}

    async def prepare(self, requests: Sequence[Request]) -> None:
        """Ask for what the server tells only apart, one after the other: it breaks streams off when others wait."""
        if not self._layout.hides or self._local is None:
            return
        texts = [r.text + r.continuation for r in requests if r.mode == "ppl" or (r.mode == "ll" and not r.text)]
        for token in sorted({ids[0] for ids in map(self._local.ids, texts) if ids} - set(self._firsts)):
            with contextlib.suppress(Rejected, BudgetReached):  # told by every request that needs it
                self._firsts[token] = await first_loss(self._client, self._spec, self._options, token)

    async def answer(self, request: Request) -> Reply:
        """The reply to a ppl or ll request; Rejected when there is none."""
        began, own = time.monotonic(), 0
        if request.mode == "ppl":
            scored = await self._scored(request.text)
            if scored.count < 2:
                raise Rejected(f"the text has {scored.count} tokens; at least 2 are needed for a score")
            nll = (self._front(request.text, scored) + scored.loss(1)) / scored.count
        else:
            scored = await self._scored(request.text + request.continuation)
            nll, own = await self._continuation(request, scored)
        return Reply(request.key, nll=nll, n_tokens=scored.count, n_scored=own, seconds=time.monotonic() - began)

    def forget(self) -> None:
        """Drop what was scored."""
        self._texts.clear()

    async def _continuation(self, request: Request, scored: Scored) -> tuple[float, int]:
        """(minus log P of the tokens behind the longest common prefix of context and whole text, how many they are)."""
        start = await self._shared(request, scored)
        if start >= len(scored.tokens):
            raise Rejected("the continuation has no tokens of its own")
        if start > 0:
            return scored.loss(start), len(scored.tokens) - start
        if not scored.hidden:
            raise Rejected("no token stands in front of the continuation (empty context, no BOS)")
        return self._front(request.text + request.continuation, scored) + scored.loss(1), scored.count

    async def _shared(self, request: Request, scored: Scored) -> int:
        """How many of the tokens shown stand before the continuation."""
        if self._local is not None:
            front = scored.count - scored.hidden - len(self._local.ids(request.text + request.continuation))
            return front + shared_length(
                self._local.ids(request.text), self._local.ids(request.text + request.continuation)
            )
        if not request.text:
            return int(self._layout.shows_bos)
        context = await self._scored(request.text)
        shared = shared_length(context.tokens, scored.tokens)
        if self._layout.style == "echo" and shared and _unclear(scored.tokens[shared - 1]):
            raise Rejected(
                "where the continuation begins cannot be told: the server's tokens there are parts of characters; "
                "options.tokenizer helps"
            )
        return shared

    def _front(self, text: str, scored: Scored) -> float:
        """The loss of the first token shown, where a BOS that is counted and not shown stands before it."""
        if not scored.hidden:
            return 0.0
        if scored.logprobs[0] is not None:
            return scored.loss(0) - scored.loss(1)
        if self._local is None:
            raise Rejected("the server hides the first token's log-probability: options.tokenizer is needed")
        token = self._local.ids(text)[0]
        if token not in self._firsts:
            raise Rejected("the server did not tell the first token's log-probability")
        return self._firsts[token]

    async def _scored(self, text: str) -> Scored:
        """The text's tokens and values; one request for all that ask for it."""
        if text not in self._texts:
            self._texts[text] = asyncio.ensure_future(self._ask(text))
        return await asyncio.shield(self._texts[text])

    async def _ask(self, text: str) -> Scored:
        style = self._layout.style
        body: dict[str, Any] = score_body(self._spec.path, text, style, self._options)
        scored = await ask_scored(self._client, body, style, self._layout.hides)
        if self._local is not None:
            self._local.check(text, scored.count)
        return scored


def _unclear(token: str) -> bool:
    """Whether several tokens may have this text: parts of characters."""
    return not token or UNCLEAR in token
