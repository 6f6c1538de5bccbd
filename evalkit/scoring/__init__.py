"""From replies to verdicts and scores.

Importing this package registers every extraction step, every metric and every contrast.
"""

from evalkit.scoring import contrasts as _contrasts
from evalkit.scoring import extract as _extract
from evalkit.scoring import metrics as _metrics

__all__ = ["_contrasts", "_extract", "_metrics"]
