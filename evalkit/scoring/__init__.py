"""From replies to verdicts and scores.

Importing this package registers every extraction step, metric, contrast and solver.
"""

from evalkit import agents as _agents
from evalkit.scoring import contrasts as _contrasts
from evalkit.scoring import extract as _extract
from evalkit.scoring import metrics as _metrics

__all__ = ["_agents", "_contrasts", "_extract", "_metrics"]
