"""General steps on text, for benchmarks of one's own."""

from __future__ import annotations

import re
from functools import lru_cache

from evalkit.core.errors import ConfigError
from evalkit.core.registry import STEP_CHECKS, STEPS
from evalkit.scoring.extract.base import Context

BRACKETED = re.compile(r"\(([A-Z])")
CAPITAL = re.compile(r"([A-Z])")


@STEPS.register("strip")
def strip(text: str, context: Context) -> str:
    """Without white space at both ends."""
    return text.strip()


@STEPS.register("lower")
def lower(text: str, context: Context) -> str:
    """In lower case."""
    return text.lower()


@STEPS.register("remove")
def remove(text: str, context: Context, what: str) -> str:
    """Without any occurrence of `what`."""
    return text.replace(what, "")


@STEPS.register("before")
def before(text: str, context: Context, marker: str) -> str:
    """The text before the first `marker`; all of it where there is none."""
    return text.partition(marker)[0]


@STEPS.register("after")
def after(text: str, context: Context, marker: str, last: bool = False) -> str:
    """The text behind the first `marker` (`last`: the last one); all of it where there is none."""
    head, found, tail = text.rpartition(marker) if last else text.partition(marker)
    return tail if found else head or tail


@STEPS.register("between")
def between(text: str, context: Context, marker: str) -> str:
    """What stands between the first and the second `marker`, stripped; the text as it is where there is none.

    Without a second marker it goes on to the end (protocol sheet: bbh).
    """
    parts = text.split(marker, 2)
    return parts[1].strip() if len(parts) > 1 else text


@STEPS.register("remove_suffix")
def remove_suffix(text: str, context: Context, what: str) -> str:
    """Without one `what` at the end."""
    return text.removesuffix(what)


@STEPS.register("bracketed_capital")
def bracketed_capital(text: str, context: Context) -> str:
    """The first capital letter A to Z behind a `(`, else the first one anywhere, else the text (protocol sheet: bbh).

    So a sentence without an option gives its own first letter: "Therefore" gives T.
    """
    found = BRACKETED.search(text) or CAPITAL.search(text)
    return found[1] if found else text


@STEPS.register("first_line")
def first_line(text: str, context: Context) -> str:
    """The first line that is not blank, stripped; empty for a blank text."""
    return text.strip().partition("\n")[0].strip()


@STEPS.register("leading_line")
def leading_line(text: str, context: Context) -> str:
    """What stands before the first newline, newlines in front of the text aside; spaces stay (sheet: longbench)."""
    return text.lstrip("\n").split("\n", 1)[0]


@STEPS.register("regex")
def regex(text: str, context: Context, pattern: str, group: int | str = 0, last: bool = False, none: str = "") -> str:
    """A group of the first match of a Python regular expression (`last`: of the last one), or `none`.

    `.` does not match a newline; begin the pattern with `(?s)` where it should. ConfigError for a
    malformed pattern or an unknown group.
    """
    matches = compiled(pattern, group).finditer(text)
    found = max(matches, key=re.Match.start, default=None) if last else next(matches, None)
    return none if found is None or found[group] is None else found[group]


@STEP_CHECKS.register("regex")
def check_regex(pattern: str, group: int | str = 0, last: bool = False, none: str = "") -> None:
    """ConfigError for a malformed pattern or an unknown group."""
    compiled(pattern, group)


@lru_cache(maxsize=256)
def compiled(pattern: str, group: int | str) -> re.Pattern[str]:
    """The compiled pattern, once it is known to have the group."""
    try:
        made = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"malformed pattern {pattern!r}: {error}", "Python's `re` syntax") from error
    known = group in made.groupindex if isinstance(group, str) else 0 <= group <= made.groups
    if not known:
        raise ConfigError(f"the pattern {pattern!r} has no group {group!r}", f"it has {made.groups}, beside 0")
    return made
