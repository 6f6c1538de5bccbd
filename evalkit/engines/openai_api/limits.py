"""Rate limits and budgets."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable

from evalkit.engines.openai_api.options import Options

MINUTE = 60.0
ROUGH = re.compile(r"[A-Za-z]{1,4}|\d{1,3}|\s+|.")


class BudgetReached(Exception):
    """What is left does not fit into the budget."""


def rough_tokens(text: str) -> list[str]:
    """Pieces of a text, about as many as its tokens, rather more; for estimates where no tokenizer is at hand."""
    return ROUGH.findall(text)


class Window:
    """At most `limit` units in any minute, first come, first served."""

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit` 0: without end."""
        self._limit = limit
        self._clock = clock
        self._used: deque[list[float]] = deque()
        self._turn = asyncio.Lock()

    async def take(self, amount: float) -> list[float] | None:
        """Wait until `amount` fits; more than the limit has a minute to itself. Returns the entry for `correct`."""
        if not self._limit:
            return None
        async with self._turn:
            while (wait := self._wait(amount)) > 0:
                await asyncio.sleep(wait)
            entry = [self._clock(), amount]
            self._used.append(entry)
            return entry

    def correct(self, entry: list[float] | None, amount: float) -> None:
        """Put the true amount in place of the estimate."""
        if entry is not None:
            entry[1] = amount

    def _wait(self, amount: float) -> float:
        """Seconds until the oldest entry leaves the minute; 0 when `amount` fits now."""
        now = self._clock()
        while self._used and now - self._used[0][0] >= MINUTE:
            self._used.popleft()
        if not self._used or sum(e[1] for e in self._used) + amount <= self._limit:
            return 0.0
        return max(self._used[0][0] + MINUTE - now, 0.001)


class SpendingLimit:
    """What may be spent, what was spent, and what requests under way may still cost."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._freed = asyncio.Condition()
        self._reserved = (0, 0)
        self.spent = (0, 0)
        """Prompt and output tokens."""

    @property
    def limited(self) -> bool:
        """Whether there is a budget at all."""
        return bool(self._options.budget or self._options.budget_tokens)

    def money(self, tokens: tuple[int, int]) -> float:
        """The price of prompt and output tokens."""
        return (tokens[0] * self._options.price_in + tokens[1] * self._options.price_out) / 1e6

    def text(self) -> str:
        """The budget in words."""
        parts = [f"{self._options.budget:g} (money)"] if self._options.budget else []
        parts += [f"{self._options.budget_tokens:,} tokens"] if self._options.budget_tokens else []
        return " and ".join(parts)

    async def reserve(self, tokens: tuple[int, int]) -> None:
        """Set aside what a request may cost at most; BudgetReached when it fits not even after all others ended."""
        async with self._freed:
            while not self._fits(tokens):
                if self._reserved == (0, 0):
                    raise BudgetReached
                await self._freed.wait()
            self._reserved = _add(self._reserved, tokens)

    async def settle(self, reserved: tuple[int, int], used: tuple[int, int]) -> None:
        """Replace what was set aside by what was used."""
        async with self._freed:
            self._reserved = _add(self._reserved, (-reserved[0], -reserved[1]))
            self.spent = _add(self.spent, used)
            self._freed.notify_all()

    def _fits(self, tokens: tuple[int, int]) -> bool:
        total = _add(_add(self.spent, self._reserved), tokens)
        options = self._options
        return not (options.budget and self.money(total) > options.budget) and not (
            options.budget_tokens and sum(total) > options.budget_tokens
        )


def _add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]
