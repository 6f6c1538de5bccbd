"""Conversations of several turns: solvers decide what is asked next, tools answer what models call."""

from evalkit.agents import dialogue as _dialogue
from evalkit.agents import react as _react

__all__ = ["_dialogue", "_react"]  # imported so that solvers are registered
