"""Conversations of several turns: solvers decide what is asked next, tools answer what models call."""

from evalkit.agents import dialogue as _dialogue

__all__ = ["_dialogue"]  # imported so that solvers are registered
