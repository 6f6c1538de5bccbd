"""Metrics: from answers and golds to values a sample and results a subset.

Importing this package registers every metric. Judging is pure, but for programs that the caller's
tools execute and metric scripts that the `evaluate` library loads.
"""

from evalkit.metrics import code as _code
from evalkit.metrics import exact as _exact
from evalkit.metrics import library as _library
from evalkit.metrics import needle as _needle
from evalkit.metrics.base import METRICS, Case, Judged, Metric, Outcome, Program, Tools, Values, make_metric

__all__ = [
    "METRICS", "Case", "Judged", "Metric", "Outcome", "Program", "Tools", "Values", "_code", "_exact", "_library",
    "_needle", "make_metric",
]  # fmt: skip
