"""Instructions about how a response begins, ends and is put together."""

from __future__ import annotations

from evalkit.scoring.metrics.ifeval.base import CHECKS

DIVIDER = "******"


@CHECKS.register("combination:two_responses")
def two_responses(text: str) -> bool:
    """Two different responses, parted by six asterisks; a blank piece may only stand first or last."""
    pieces = [piece.strip() for piece in text.split(DIVIDER)]
    found = [piece for piece in pieces if piece]
    return all(pieces[1:-1]) and len(found) == 2 and found[0] != found[1]


@CHECKS.register("combination:repeat_prompt")
def repeat_prompt(text: str, prompt_to_repeat: str) -> bool:
    """The response begins with the prompt, case ignored."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


@CHECKS.register("startend:end_checker")
def end_checker(text: str, end_phrase: str) -> bool:
    """The response, quotation marks aside, ends with the phrase, case ignored."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


@CHECKS.register("startend:quotation")
def quotation(text: str) -> bool:
    """The whole response stands in double quotation marks."""
    text = text.strip()
    return len(text) > 1 and text.startswith('"') and text.endswith('"')
