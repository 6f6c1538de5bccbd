"""From replies to verdicts and scores.

Importing this package registers every extraction step and every metric.
"""

from evalkit.scoring import extract as _extract
from evalkit.scoring import metrics as _metrics

__all__ = ["_extract", "_metrics"]
