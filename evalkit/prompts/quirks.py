"""Reference behaviours that a published protocol needs bit for bit and nobody would choose today.

A config names the quirks it needs in `quirks:`; configs of the project's own need none.
Each quirk is one function here.
"""

from __future__ import annotations

from evalkit.core.records import Row, Turn

SEQUENTIAL = "sequential_fields"
USER_NEWLINE = "user_newline"

QUIRKS = {
    SEQUENTIAL: "fields are put in by plain text replacement, column after column, over text already put in",
    USER_NEWLINE: "every user message of a turn list ends in one newline more",
}


def placeholders(row: Row) -> dict[str, str]:
    """What jinja sees under `sequential_fields`: the text `{column}` for every column."""
    return {column: "{" + column + "}" for column in row}


def replace_in_order(text: str, row: Row, blank: str = "") -> str:
    """`sequential_fields`: replace `{column}` by its value, once per column, in column order.

    The published prompts were assembled so: an inserted value is scanned for the columns after
    it, exemplars are scanned again with the test row, and unknown braces stay. `blank` is the
    gold column, which generation prompts empty.
    """
    for column, value in row.items():
        mark = "{" + column + "}"
        if mark in text:
            text = text.replace(mark, "" if column == blank else str(value))
    return text


def user_newline(turn: Turn) -> Turn:
    """`user_newline`: an empty system slot was merged into every user turn with a newline."""
    return Turn(turn.role, turn.text + "\n") if turn.role == "user" else turn
