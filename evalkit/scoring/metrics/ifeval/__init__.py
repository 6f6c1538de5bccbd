"""IFEval: 25 checks of whether a response follows an instruction, and the metric over them.

Importing this package registers the checks and the metric.
"""

from evalkit.scoring.metrics.ifeval import ends as _ends
from evalkit.scoring.metrics.ifeval import formats as _formats
from evalkit.scoring.metrics.ifeval import keywords as _keywords
from evalkit.scoring.metrics.ifeval import language as _language
from evalkit.scoring.metrics.ifeval import lengths as _lengths
from evalkit.scoring.metrics.ifeval import score as _score

__all__ = ["_ends", "_formats", "_keywords", "_language", "_lengths", "_score"]
