"""The ReAct text protocol: thought, tool, tool input; the tool's response; at last the final answer.

Yao et al., 2022 (https://arxiv.org/abs/2210.03629), in the form of Lagent, with which code interpreter scores on GSM8K
and MATH were published.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from evalkit.agents.base import MODEL, TOOL, Answer, Ask, Call, Move, State
from evalkit.agents.python import SOLUTION
from evalkit.core.errors import ConfigError
from evalkit.core.records import Sample, Turn
from evalkit.core.registry import SOLVERS

GIVEN_UP = "Sorry that I cannot answer your question."
"""The answer where there is none within the limits."""
LAST_TURN = "You should directly give results based on history information."
NO_ACTION = "Please follow the format"
"""What a model is told that calls no tool and gives no answer."""
UNKNOWN_ACTION = "The action is invalid, please check the action name."


@dataclass(frozen=True)
class Action:
    """A tool's name and its input as the model wrote them."""

    name: str
    input: str


@dataclass(frozen=True)
class React:
    """Lets a model call tools until it gives its final answer."""

    action: str
    action_input: str
    response: str
    finish: str
    max_turns: int
    max_tokens: int
    seconds: float
    role: str
    runs_code: bool = True

    def most_requests(self, sample: Sample) -> int:
        """See `Solver`."""
        return self.max_turns

    def fault(self, sample: Sample) -> str:
        """See `Solver`."""
        return ""

    def next(self, state: State) -> Move:
        """See `Solver`."""
        turns, count, tokens = list(state.opening), 0, 0
        for place, event in enumerate(state.events):
            if event.role == TOOL:
                continue
            count, tokens = count + 1, tokens + event.tokens
            if self.finish in event.text:
                return Answer(event.text.rpartition(self.finish)[2])
            action = self.parse(event.text)
            if action is not None and action.name == SOLUTION:
                result = state.events[place + 1 : place + 2]
                if not result or result[0].role != TOOL:
                    return Call(SOLUTION, action.input, self.seconds)
                said = result[0].text
            else:
                said = NO_ACTION if action is None else UNKNOWN_ACTION
            turns += [Turn(MODEL, event.text), Turn(self.role, f"{self.response}{said}\n")]
        if count >= self.max_turns or (self.max_tokens and tokens >= self.max_tokens):
            return Answer(GIVEN_UP)
        if count == self.max_turns - 1:
            turns.append(Turn(self.role, LAST_TURN))
        return Ask(tuple(turns))

    def parse(self, text: str) -> Action | None:
        """The last tool that a text names and the input that goes to its end; None where one of both is absent."""
        names = re.findall(f"{re.escape(self.action)}(.*?)\n", text)
        inputs = re.findall(f"{re.escape(self.action_input)}(.*)", text, re.DOTALL)
        return Action(names[-1].strip(), inputs[-1].strip().strip('"')) if names and inputs else None


@SOLVERS.register("react")
def react(
    action: str = "Tool:",
    action_input: str = "Tool Input:",
    response: str = "Response:",
    finish: str = "FinalAnswer:",
    max_turns: int = 3,
    max_tokens: int = 0,
    seconds: float = 20.0,
    role: str = "system",
) -> React:
    """A model with a Python interpreter, by the ReAct text protocol (protocol sheet: code_interpreter, A).

    The first four arguments are the marks of the protocol. `max_turns`: turns of the model, in the last of which it is
    told to answer; `max_tokens`: new tokens of all turns together, 0: no limit; `seconds`: CPU time of one call;
    `role`: whose the tool's responses are (some chat templates take `system` at the beginning only).
    """
    if max_turns < 1 or seconds <= 0 or max_tokens < 0:
        raise ConfigError("react: the limits must be positive", "max_turns: 3, seconds: 20")
    if role not in ("system", "user"):
        raise ConfigError(f"react: the role {role!r} cannot give a tool's response", "role: system, or user")
    return React(action, action_input, response, finish, max_turns, max_tokens, seconds, role)
