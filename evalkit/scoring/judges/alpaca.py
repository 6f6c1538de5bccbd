"""AlpacaEval 2.0: win rates out of preferences (Dubois et al., 2024, https://arxiv.org/abs/2404.04475).

A preference is in [1, 2]: 1, the reference's output is better; 2, the model's. Log-probabilities of the judge give
values in between, so that the mean is a weighted win rate.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.core import stats
from evalkit.core.errors import DataError

TIE = 1.5
LENGTH_CONTROLLED = "length_controlled_minimal"
"""Without instruction difficulties and regularising rows, which are not public: not the leaderboard's number."""


@dataclass(frozen=True)
class Preference:
    """One judged instruction."""

    win: float
    """0: the reference's output is better; 1: the model's; 0.5: a draw."""
    reference_length: int
    """Characters of the reference's output."""
    length: int
    """Characters of the model's output."""


def is_switched(instruction: str) -> bool:
    """Whether AlpacaEval shows the model's output of this instruction first."""
    return random.Random(f"is_switched_outputs{instruction}0").choice([False, True])


def preferences(rows: Sequence[Mapping[str, Any]], place: str) -> tuple[list[Preference], list[int]]:
    """(the judged ones of AlpacaEval's annotation records, the lengths of all of the model's outputs).

    A preference of 0 is a draw, one that is missing has not been judged. DataError for a record of another shape.
    """
    judged: list[Preference] = []
    lengths: list[int] = []
    for number, row in enumerate(rows):
        texts = [row.get("output_1"), row.get("output_2")]
        value = row.get("preference")
        number_ok = value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
        if not all(isinstance(text, str) for text in texts) or not number_ok:
            raise DataError(
                f"{place}, row {number}: not an annotation of AlpacaEval",
                "each has the texts output_1 (the reference's) and output_2, and the number preference",
            )
        lengths.append(len(str(texts[1])))
        if value is None or math.isnan(value):
            continue
        value = TIE if value == 0 else float(value)
        if not 1 <= value <= 2:
            raise DataError(f"{place}, row {number}: the preference {value} is not within 1 and 2", "check the file")
        judged.append(Preference(value - 1.0, len(str(texts[0])), lengths[-1]))
    return judged, lengths


def results(judged: Sequence[Preference], lengths: Sequence[int], controlled: bool = True) -> dict[str, float]:
    """`win_rate`, its standard error, wins, draws, the discrete win rate, the mean length; percent and characters."""
    if not judged:
        return {}
    wins = [p.win for p in judged]
    won, drawn = sum(w > 0.5 for w in wins), sum(w == 0.5 for w in wins)
    found = {
        "win_rate": 100.0 * stats.mean(wins),
        "standard_error": 100.0 * (stats.standard_error(wins) or 0.0),
        "discrete_win_rate": 100.0 * (won + drawn / 2) / len(wins),
        "avg_length": stats.mean(lengths),
        "n_wins": float(won),
        "n_wins_base": float(len(wins) - won - drawn),
        "n_draws": float(drawn),
        "n_total": float(len(wins)),
    }
    if not controlled:
        return found
    from evalkit.scoring.judges.length_control import length_controlled  # brings NumPy

    rate = length_controlled([(p.win, p.reference_length - p.length) for p in judged])
    return found if rate is None else {**found, LENGTH_CONTROLLED: rate}
