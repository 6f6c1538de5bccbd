"""Seeded draws, and the line between what is trained on and what is kept for the benchmarks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tools.make_samples import Dice

__all__ = ["Dice", "Exchange", "Part", "chance", "dice_for", "held", "parts_of"]

HELD_SHARE = 8
"""One in so many combinations (of numbers, of parameters) is kept for the benchmarks."""
ASKED, SAID = 0.1, 1.0
"""Loss weights: what is asked, and what the model is to say."""


@dataclass(frozen=True)
class Part:
    """A stretch of a training text and how much its tokens count in the loss."""

    text: str
    weight: float


@dataclass(frozen=True)
class Exchange:
    """A question with its answer, in the plain form for base models and as two chat messages."""

    user: str
    """The question, as a user's message."""
    lead: str
    """What stands in front of the answer in plain text (`Answer:`); no part of the chat."""
    answer: str
    """The plain answer, its leading space included."""
    reply: str
    """The answer as the assistant's message."""
    asked: float = ASKED
    """Loss weight of the question."""
    said: float = SAID
    """Loss weight of the answer; higher where it is a single letter."""

    @property
    def message(self) -> str:
        """The user's message; without a lead the plain text's newline stays in it."""
        return self.user if self.lead else self.user + "\n"


def parts_of(exchange: Exchange) -> list[Part]:
    """The plain form: question, lead and answer in one text."""
    return [Part(f"{exchange.user}\n{exchange.lead}", exchange.asked), Part(exchange.answer, exchange.said)]


def held(key: str, share: int = HELD_SHARE) -> bool:
    """Whether the combination called `key`, one in `share`, is kept for the benchmarks."""
    return hashlib.sha256(key.encode()).digest()[0] % share == 0


def dice_for(*names: object) -> Dice:
    """A generator of its own for each name, so that one stream's draws never shift another's."""
    return Dice(int.from_bytes(hashlib.sha256("/".join(map(str, names)).encode()).digest()[:8]))


def chance(dice: Dice, percent: int) -> bool:
    """True in `percent` of 100 draws."""
    return dice.below(100) < percent
