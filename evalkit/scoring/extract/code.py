"""Steps that read program code out of an answer (protocol sheet: humaneval)."""

from __future__ import annotations

import ast
import re
import warnings

from evalkit.core.registry import STEPS
from evalkit.scoring.extract.base import Context

FENCE = "```"
PAIR = re.compile(r"```(.*?)```", re.DOTALL)
BLOCK = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
INDENT = "    "


@STEPS.register("humaneval_body")
def humaneval_body(text: str, context: Context) -> str:
    """The function body to append to a HumanEval prompt, as the published tables read it (May 2024).

    Imports and helpers before the function are thrown away and empty lines are removed. The
    reference evaluates the text as Python first; here only string literals are (sheet: humaneval, T rule).
    """
    text = fenced(literal(text).lstrip("\n"))
    text = _drop_imports(text)
    text = "\n".join(line for line in text.split("\n") if line).lstrip("\n")
    if text.strip().startswith("def"):
        text = text.partition("\n")[2]
    return _one_block(_indented(text))


@STEPS.register("humaneval_block")
def humaneval_block(text: str, context: Context) -> str:
    """The first fenced block, or the whole text, without leading white space (sheet: humaneval, H rule)."""
    return humaneval_block_2406(text, context).lstrip()


@STEPS.register("humaneval_block_2406")
def humaneval_block_2406(text: str, context: Context) -> str:
    """The first fenced block, or the whole text (sheet: humaneval, the rule of June 2024 to May 2025)."""
    found = BLOCK.search(text)
    return found[1] if found else text


def literal(text: str) -> str:
    """The string that the whole text is a literal of; else the text. Nothing is evaluated.

    An f-string without fields is a literal too.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in an answer are nobody's concern
            node = ast.parse(text.lstrip(" \t"), mode="eval").body
        if isinstance(node, ast.JoinedStr):
            return "".join(ast.literal_eval(part) for part in node.values)
        value = ast.literal_eval(node)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, str) else text


def fenced(text: str) -> str:
    """The content of the first fence; of an unclosed one, what follows it, language tag included."""
    if FENCE not in text:
        return text
    found = PAIR.search(text)
    if not found:
        return text.split(FENCE)[1]
    content = found[1]
    return content if content.startswith("\n") else content[content.find("\n") + 1 :]


def _drop_imports(text: str) -> str:
    """Where imports lead: what follows the line of the first `def`; all where no line follows it."""
    if not text.strip().startswith(("from", "import")):
        return text
    start = text.find("def")
    return text if start < 0 else text[text.find("\n", start) + 1 :]


def _indented(text: str) -> str:
    """Body lines, at least the first of them indented by four."""
    if text.startswith(" "):
        return INDENT + text.lstrip()
    return "\n".join(INDENT + line for line in text.split("\n"))


def _one_block(text: str) -> str:
    """The lines up to the first that is indented less than the first code line."""
    lines = text.split("\n")
    least: int | None = None
    for index, line in enumerate(lines):
        content = line.strip()
        if not content or content[0] in "'\"#":
            continue
        indent = len(line.rstrip()) - len(content)
        if least is None:
            least = indent
        elif indent < least:
            return "\n".join(lines[:index])
    return text
