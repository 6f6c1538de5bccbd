"""Extraction: from what a model wrote to the answer it gave.

Importing this package registers every step. A step is pure: the same text gives the same answer.
"""

from evalkit.extract import boxed as _boxed
from evalkit.extract import branch as _branch
from evalkit.extract import code as _code
from evalkit.extract import letters as _letters
from evalkit.extract import numbers as _numbers
from evalkit.extract import options as _options
from evalkit.extract import programs as _programs
from evalkit.extract import qa as _qa
from evalkit.extract import text as _text
from evalkit.extract import theorem as _theorem
from evalkit.extract.base import STEPS, Context, Step, check_steps, extract

__all__ = [
    "STEPS", "Context", "Step", "_boxed", "_branch", "_code", "_letters", "_numbers", "_options", "_programs", "_qa",
    "_text", "_theorem", "check_steps", "extract",
]  # fmt: skip
