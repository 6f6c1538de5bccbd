"""Instructions about marks and layout that can be found in a response."""

from __future__ import annotations

import json
import re

from evalkit.scoring.metrics.ifeval.base import CHECKS, Number, matches

PLACEHOLDER = re.compile(r"\[.*?\]")
# The reference lets the leading white space begin on earlier, blank lines. The count is the same
# without them, and so the time stays linear.
STAR_BULLET = re.compile(r"^[^\S\n]*\*[^\*].*$", re.MULTILINE)
DASH_BULLET = re.compile(r"^[^\S\n]*-.*$", re.MULTILINE)
HIGHLIGHT = re.compile(r"\*[^\n\*]*\*")
DOUBLE_HIGHLIGHT = re.compile(r"\*\*[^\n\*]*\*\*")
TITLE = re.compile(r"<<[^\n]+>>")
POSTSCRIPTS = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
FENCES = ("```json", "```Json", "```JSON", "```")
ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


@CHECKS.register("detectable_content:number_placeholders")
def number_placeholders(text: str, num_placeholders: Number) -> bool:
    """At least so many `[placeholders]`, each within one line."""
    return len(PLACEHOLDER.findall(text)) >= num_placeholders


@CHECKS.register("detectable_content:postscript")
def postscript(text: str, postscript_marker: str) -> bool:
    """The marker stands anywhere, in any case; one that is neither P.S. nor P.P.S is a regular expression."""
    pattern = POSTSCRIPTS.get(postscript_marker, postscript_marker.lower())
    return matches(pattern, text.lower(), flags=0) > 0


@CHECKS.register("detectable_format:number_bullet_lists")
def number_bullet_lists(text: str, num_bullets: Number) -> bool:
    """Exactly so many lines that begin with one `*` or with `-`."""
    return len(STAR_BULLET.findall(text)) + len(DASH_BULLET.findall(text)) == num_bullets


@CHECKS.register("detectable_format:constrained_response")
def constrained_response(text: str) -> bool:
    """One of the three answers stands anywhere."""
    return any(answer in text for answer in ANSWERS)


@CHECKS.register("detectable_format:number_highlighted_sections")
def number_highlighted_sections(text: str, num_highlights: Number) -> bool:
    """At least so many `*highlights*` that are not blank; `**x**` counts once, `***x***` twice."""
    single = sum(bool(found.strip("*").strip()) for found in HIGHLIGHT.findall(text))
    double = sum(bool(found[2:-2].strip()) for found in DOUBLE_HIGHLIGHT.findall(text))
    return single + double >= num_highlights


@CHECKS.register("detectable_format:multiple_sections")
def multiple_sections(text: str, section_spliter: str, num_sections: Number) -> bool:
    """At least so many headings: the word and a number, in the case given."""
    return matches(rf"\s?{section_spliter.strip()}\s?\d+\s?", text, flags=0) >= num_sections


@CHECKS.register("detectable_format:json_format")
def json_format(text: str) -> bool:
    """The response, code fence aside, is JSON as Python reads it; a lone number or string is JSON too."""
    text = text.strip()
    for fence in FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):  # nested too deeply
        return False
    return True


@CHECKS.register("detectable_format:title")
def title(text: str) -> bool:
    """A `<<title>>` that is not blank stands on one line."""
    return any(found.lstrip("<").rstrip(">").strip() for found in TITLE.findall(text))
