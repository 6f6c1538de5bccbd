"""Extraction: from what a model wrote to the answer it gave.

Importing this package registers every step. A step is pure: the same text gives the same answer.
"""

from evalkit.extract import code as _code
from evalkit.extract import numbers as _numbers
from evalkit.extract import options as _options
from evalkit.extract import text as _text
from evalkit.extract.base import STEPS, Context, Step, check_steps, extract

__all__ = ["STEPS", "Context", "Step", "_code", "_numbers", "_options", "_text", "check_steps", "extract"]
