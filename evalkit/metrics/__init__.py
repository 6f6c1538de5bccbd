"""Metrics: from answers and golds to values a sample and results a subset.

Importing this package registers every metric. Judging is pure, but for programs that the caller's
tools execute and metric scripts that the `evaluate` library loads.
"""

from evalkit.metrics import asserts as _asserts
from evalkit.metrics import code as _code
from evalkit.metrics import equivalence as _equivalence
from evalkit.metrics import exact as _exact
from evalkit.metrics import ifeval as _ifeval
from evalkit.metrics import letters as _letters
from evalkit.metrics import library as _library
from evalkit.metrics import needle as _needle
from evalkit.metrics import qa as _qa
from evalkit.metrics import theorem as _theorem
from evalkit.metrics import vote as _vote
from evalkit.metrics.base import (
    FAILURE,
    FAILURES,
    METRICS,
    Case,
    Judged,
    Metric,
    Outcome,
    Program,
    Tools,
    Values,
    make_metric,
)

__all__ = [
    "FAILURE", "FAILURES", "METRICS", "Case", "Judged", "Metric", "Outcome", "Program", "Tools", "Values", "_asserts",
    "_code", "_equivalence", "_exact", "_ifeval", "_letters", "_library", "_needle", "_qa", "_theorem", "_vote",
    "make_metric",
]  # fmt: skip
