"""Metrics: from answers and golds to values a sample and results a subset.

Importing this package registers every metric. Judging is pure, but for programs that the caller's
tools execute and metric scripts that the `evaluate` library loads.
"""

from evalkit.scoring.metrics import asserts as _asserts
from evalkit.scoring.metrics import branch as _branch
from evalkit.scoring.metrics import code as _code
from evalkit.scoring.metrics import contamination as _contamination
from evalkit.scoring.metrics import equivalence as _equivalence
from evalkit.scoring.metrics import exact as _exact
from evalkit.scoring.metrics import hendrycks as _hendrycks
from evalkit.scoring.metrics import ifeval as _ifeval
from evalkit.scoring.metrics import judge as _judge
from evalkit.scoring.metrics import letters as _letters
from evalkit.scoring.metrics import leval as _leval
from evalkit.scoring.metrics import library as _library
from evalkit.scoring.metrics import longbench as _longbench
from evalkit.scoring.metrics import math_process as _math_process
from evalkit.scoring.metrics import needle as _needle
from evalkit.scoring.metrics import normalised as _normalised
from evalkit.scoring.metrics import qa as _qa
from evalkit.scoring.metrics import ruler as _ruler
from evalkit.scoring.metrics import spans as _spans
from evalkit.scoring.metrics import texts as _texts
from evalkit.scoring.metrics import theorem as _theorem
from evalkit.scoring.metrics import tools as _tools
from evalkit.scoring.metrics import vote as _vote
from evalkit.scoring.metrics.base import Case, Judged, Metric, Tools, Values, make_metric

__all__ = [
    "Case", "Judged", "Metric", "Tools", "Values", "_asserts", "_branch", "_code", "_contamination", "_equivalence",
    "_exact", "_hendrycks", "_ifeval", "_judge", "_letters", "_leval", "_library", "_longbench", "_math_process",
    "_needle", "_normalised", "_qa", "_ruler", "_spans", "_texts", "_theorem", "_tools", "_vote", "make_metric",
]  # fmt: skip
