"""Extraction: from what a model wrote to the answer it gave.

Importing this package registers every step. A step is pure: the same text gives the same answer.
"""

from evalkit.scoring.extract import blocks as _blocks
from evalkit.scoring.extract import boxed as _boxed
from evalkit.scoring.extract import branch as _branch
from evalkit.scoring.extract import choice as _choice
from evalkit.scoring.extract import cloze as _cloze
from evalkit.scoring.extract import code as _code
from evalkit.scoring.extract import letters as _letters
from evalkit.scoring.extract import leval as _leval
from evalkit.scoring.extract import needle as _needle
from evalkit.scoring.extract import numbers as _numbers
from evalkit.scoring.extract import options as _options
from evalkit.scoring.extract import programs as _programs
from evalkit.scoring.extract import qa as _qa
from evalkit.scoring.extract import quantity as _quantity
from evalkit.scoring.extract import text as _text
from evalkit.scoring.extract import theorem as _theorem
from evalkit.scoring.extract.base import Context, Step, extract

__all__ = [
    "Context", "Step", "_blocks", "_boxed", "_branch", "_choice", "_cloze", "_code", "_letters", "_leval",
    "_needle", "_numbers", "_options", "_programs", "_qa", "_quantity", "_text", "_theorem", "extract",
]  # fmt: skip
