"""The program in a reply: the step for benchmarks of one's own."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Sequence

from evalkit.core.registry import STEPS
from evalkit.scoring.extract.base import Context

FENCE = re.compile(r"^[ \t>]*(?P<mark>`{3,}|~{3,})[ \t]*(?P<tag>[^\n`]*)$", re.MULTILINE)
PYTHON = ("python", "python3", "py", "py3")
DEFINES = re.compile(r"^\s*(?:async\s+def|def|class)\s", re.MULTILINE)
BEGINS = re.compile(r"(?:async\s+def|def|class|import|from|@\w|[A-Za-z_][\w.]*\s*(?::\s*[\w\[\], .]+)?=[^=])")
MOST_LINES = 2000
"""Lines of prose and code without a fence that are searched."""


@STEPS.register("code_block")
def code_block(text: str, context: Context, languages: Sequence[str] = PYTHON) -> str:
    """The program in a reply, with newlines as `\\n` and without the indentation of the whole.

    The last fenced block (` ``` ` or `~~~`) of one of the `languages` that defines a function or class, else the last
    of these, else the same among blocks without a language; one that is never closed goes to the end. Without a fence,
    the lines from the first that looks like Python on, as far as they are a program; the text itself where none are.

    Example: a reply with a fenced function `f` and a fenced example of its use gives the function.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")
    blocks = fenced_blocks(text)
    for wanted in (tuple(languages), ("",)):
        bodies = [body for tag, body in blocks if tag in wanted]
        if bodies:
            defining = [body for body in bodies if DEFINES.search(body)]
            return textwrap.dedent((defining or bodies)[-1]).strip("\n") + "\n"
    if blocks:
        return textwrap.dedent(blocks[-1][1]).strip("\n") + "\n"
    return _unfenced(text)


def fenced_blocks(text: str) -> list[tuple[str, str]]:
    """(language in lower case, content) of every fenced block, in order; the last may be open."""
    blocks: list[tuple[str, str]] = []
    mark, tag, start = "", "", 0
    for found in FENCE.finditer(text):
        if not mark:
            mark, start = found["mark"], found.end() + 1
            tag = re.split(r"[\s{,:]", found["tag"].strip().lower(), maxsplit=1)[0]
        elif found["mark"].startswith(mark) and not found["tag"].strip():
            blocks.append((tag, text[start : found.start()]))
            mark = ""
    if mark:
        blocks.append((tag, text[start:]))
    return blocks


def _unfenced(text: str) -> str:
    """The program among lines of prose; the text itself where there is none."""
    if _parses(text):
        return text
    lines = text.split("\n")[:MOST_LINES]
    starts = [i for i, line in enumerate(lines) if BEGINS.match(line)]
    for start in starts[:20]:
        stops = [i for i in range(start + 1, len(lines)) if _ends_block(lines[i])]
        for stop in [len(lines), *reversed(stops[:50])]:
            program = "\n".join(lines[start:stop])
            if _parses(program):
                return program.rstrip("\n") + "\n"
    return text


def _ends_block(line: str) -> bool:
    """Whether a line may be the first one of prose behind a program."""
    return bool(line.strip()) and not line[0].isspace()


def _parses(program: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in tree.body)
