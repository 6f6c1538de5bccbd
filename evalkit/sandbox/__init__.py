"""Runs untrusted programs: confined, within limits, judged from outside. docs/sandbox.md explains how."""

from evalkit.sandbox.backend import Backend, SandboxError
from evalkit.sandbox.interpreter import CellResult, Interpreter
from evalkit.sandbox.pool import choose, run_program, run_programs, survey

__all__ = [
    "Backend",
    "CellResult",
    "Interpreter",
    "SandboxError",
    "choose",
    "run_program",
    "run_programs",
    "survey",
]  # fmt: skip
