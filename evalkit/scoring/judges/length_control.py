"""AlpacaEval 2.0's length-controlled win rate: a regression on the lengths (protocol sheet: alpaca_eval)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy

STRENGTHS = numpy.logspace(-4, 4, 10)
"""Inverse penalties that cross-validation chooses from."""
FOLDS = 5
ROUNDS, PRECISION = 500, 1e-9


def length_controlled(judged: Sequence[tuple[float, float]]) -> float | None:
    """The win rate in percent if both outputs were equally long, by logistic regression; None where it cannot be given.

    `judged`: of each pair the win, 0 to 1, and the reference's length less the model's, in characters. logit P(win) =
    phi tanh(delta) + theta, with delta that difference in its standard deviations; L1 penalty, its strength by 5-fold
    cross-validation; the prediction is that at delta 0.
    """
    gaps = numpy.array([gap for _, gap in judged], dtype=float)
    if len(judged) < 2 * FOLDS or not (spread := gaps.std(ddof=1)):
        return None
    features = numpy.stack([numpy.tanh(gaps / spread), numpy.ones(len(gaps))], axis=1)
    wins = numpy.array([win for win, _ in judged])
    folds = numpy.arange(len(wins)) % FOLDS
    losses = []
    for strength in STRENGTHS:
        fits = [_fit(features[folds != k], wins[folds != k], strength) for k in range(FOLDS)]
        held_out = [(folds == k, fit) for k, fit in enumerate(fits)]
        losses.append(sum(_loss(features[out] @ fit, wins[out]) / out.sum() for out, fit in held_out))
    weights = _fit(features, wins, STRENGTHS[int(numpy.argmin(losses))])
    return 100.0 / (1.0 + math.exp(-weights[1]))


def _loss(scores: numpy.ndarray, wins: numpy.ndarray) -> float:
    """Log loss of soft labels."""
    return float((numpy.logaddexp(0.0, scores) - wins * scores).sum())


def _fit(features: numpy.ndarray, wins: numpy.ndarray, strength: float) -> numpy.ndarray:
    """The weights with the least |w|_1 + strength * log loss, by coordinate descent with Newton's steps.

    A step that does not lower the objective is taken again with a curvature that bounds it from above (that of the
    logistic function is at most 1/4) and so never overshoots.
    """
    weights = numpy.zeros(features.shape[1])
    bounds = strength * (features**2).sum(axis=0) / 4.0

    def objective(at: numpy.ndarray) -> float:
        return float(numpy.abs(at).sum()) + strength * _loss(features @ at, wins)

    reached = objective(weights)
    for _ in range(ROUNDS):
        before = weights.copy()
        for place, bound in enumerate(bounds):
            column = features[:, place]
            chances = 1.0 / (1.0 + numpy.exp(-features @ weights))
            slope = strength * float(column @ (chances - wins))
            bend = strength * float((column**2) @ (chances * (1.0 - chances)))
            for curvature in (bend, bound):
                step = weights.copy()
                step[place] = _shrunk(curvature * weights[place] - slope) / curvature if curvature else 0.0
                if (value := objective(step)) <= reached:
                    weights, reached = step, value
                    break
        if numpy.abs(weights - before).max() < PRECISION:
            break
    return weights


def _shrunk(value: float) -> float:
    """The value moved towards 0 by the penalty."""
    return math.copysign(max(0.0, abs(value) - 1.0), value)
