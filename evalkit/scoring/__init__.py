"""From replies to verdicts and scores.

Importing this package registers every extraction step, every metric and every solver.
"""

from evalkit import agents as _agents
from evalkit.scoring import extract as _extract
from evalkit.scoring import metrics as _metrics

__all__ = ["_agents", "_extract", "_metrics"]
