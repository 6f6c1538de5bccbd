"""Runs untrusted programs; the one way to do so is `run_programs`."""

from evalkit.sandbox.process import run_program, run_programs

__all__ = ["run_program", "run_programs"]
