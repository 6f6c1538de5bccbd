"""Writes the haystack of the sample data: essays of varied English prose, always the same ones.

    python tools/make_samples.py            # writes evalkit/builtin/samples/opencompass/NeedleBench/…

The sentences come from a small grammar with a seeded generator of its own, so that the text is
identical on every Python version. Nothing in it is taken from anywhere.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
TARGET = Path(__file__).resolve().parents[1] / "evalkit/builtin/samples/opencompass/NeedleBench/PaulGrahamEssays.jsonl"
ESSAYS = 40
PARAGRAPHS = (3, 5)
SENTENCES = (4, 6)

TOPICS = (  # many, one, who
    ("bridges", "a bridge", "engineer"), ("gardens", "a garden", "gardener"), ("maps", "a map", "surveyor"),
    ("clocks", "a clock", "clockmaker"), ("ovens", "an oven", "baker"), ("letters", "a letter", "clerk"),
    ("harbors", "a harbor", "pilot"), ("libraries", "a library", "librarian"), ("tools", "a good tool", "carpenter"),
    ("rivers", "a river", "ferryman"), ("songs", "a song", "singer"), ("roads", "a road", "mason"),
    ("markets", "a market", "trader"), ("orchards", "an orchard", "grower"), ("lighthouses", "a lighthouse", "keeper"),
    ("kitchens", "a kitchen", "cook"), ("windmills", "a windmill", "miller"), ("telescopes", "a telescope", "observer"),
    ("workshops", "a workshop", "apprentice"), ("railways", "a railway", "signalman"),
)  # fmt: skip
ANGLES = ("On {many}", "What {many} teach", "The patience of {many}", "Notes about {many}", "Why {many} last")
TRAITS = (
    "patience", "plain speech", "careful counting", "good light", "honest pricing", "steadiness", "fresh air", "memory",
    "self-correction", "outside advice", "quiet", "forgiveness", "tidiness", "routine", "stubbornness", "good company",
)  # fmt: skip
PLACES = (
    "in the valley", "near the old mill", "on the north coast", "behind the station", "at the edge of the village",
    "in the hills", "beside the canal", "on the island", "in the next town", "under the castle",
)  # fmt: skip
TIMES = (
    "last winter", "years ago", "in the first warm week of spring", "after the great storm", "every autumn",
    "long before the war", "on a wet Tuesday", "in my second year there", "when the prices fell", "one evening",
)  # fmt: skip
VERBS = (
    ("built", "build"), ("repaired", "repair"), ("measured", "measure"), ("described", "describe"),
    ("visited", "visit"), ("painted", "paint"), ("studied", "study"), ("defended", "defend"),
)  # fmt: skip
JUDGMENTS = (
    "cheaper than it looks", "harder than it sounds", "worth the trouble", "easy to forget", "never quite finished",
    "better learned by doing", "mostly a matter of attention", "the opposite of luck", "more common than people say",
    "older than the books about it",
)  # fmt: skip
PEOPLE = (
    "my aunt", "an old {who}", "the {who}", "a young {who}", "our neighbor", "a retired {who}", "my first teacher",
)  # fmt: skip
FORMS = (
    "{person} told me {time} that {one} needs {trait} more than {trait2}.",
    "People who {verb} {many} for a living seldom talk about {trait}, but they never work without it.",
    "{Time} {person} {verbed} {one} {place}, and nobody noticed until it was done.",
    "Most of what is said about {many} is {judgment}.",
    "If you ask why {one} was put {place}, you will hear {number} answers, and {few} of them are true.",
    "There is a kind of {trait} that only {many} demand.",
    "I once counted {number} {many} {place}, and each of them was different in some small way.",
    "It took {number} days and a good deal of {trait} to {verb} what had stood there {time}.",
    "The usual advice is to begin with {trait}; the better advice is to end with it.",
    "To {verb} {one} well is {judgment}.",
    "{Person} kept a notebook about {many}, and half of its pages were about {trait}.",
    "What looked like {trait} {time} turned out to be {trait2}.",
    "Nobody {place} would have called it progress, yet {one} changed how the whole street lived.",
    "Without {trait}, {one} is only a heap of material; without {trait2}, it is somebody else's.",
    "A visitor may think that {many} are simple, which is {judgment}.",
    "We argued {time} about whether {trait} can be taught, and {person} simply went on working.",
    "The first attempt failed, the second was too expensive, and the third is still in use {place}.",
    "Perhaps that is the reason why {many} outlive the people who {verb} them.",
    "Every {who} knows the moment when {trait} stops helping and {trait2} has to take over.",
    "It is tempting to write a theory of this, but {person} would laugh at it, and rightly so.",
)


class Dice:
    """A linear congruential generator: the same draws on every Python."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n

    def between(self, bounds: tuple[int, int]) -> int:
        """A whole number within the bounds, both included."""
        return bounds[0] + self.below(bounds[1] - bounds[0] + 1)

    def pick(self, items: tuple[T, ...]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def shuffled(self, items: tuple[T, ...]) -> list[T]:
        """All items in a drawn order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in items]


def sentence(form: str, topic: tuple[str, str, str], dice: Dice) -> str:
    """One sentence of the grammar, filled in."""
    many, one, who = topic
    first, second = dice.shuffled(TRAITS)[:2]
    verbed, verb = dice.pick(VERBS)
    person, time = dice.pick(PEOPLE).format(who=who), dice.pick(TIMES)
    text = form.format(
        many=many, one=one, who=who, trait=first, trait2=second, verb=verb, verbed=verbed, person=person,
        Person=person[0].upper() + person[1:], time=time, Time=time[0].upper() + time[1:], place=dice.pick(PLACES),
        judgment=dice.pick(JUDGMENTS), number=3 + dice.below(40), few=dice.pick(("two", "most", "none", "a few")),
    )  # fmt: skip
    return text[0].upper() + text[1:]


def essay(number: int) -> dict[str, str]:
    """Essay `number`: a title and paragraphs; no form of sentence stands in it twice in a row."""
    dice = Dice(1000 + 7919 * number)
    topic = TOPICS[number % len(TOPICS)]
    title = ANGLES[(number // len(TOPICS) + number) % len(ANGLES)].format(many=topic[0])
    forms: list[str] = []
    paragraphs = []
    for _ in range(dice.between(PARAGRAPHS)):
        made = []
        for _ in range(dice.between(SENTENCES)):
            forms = forms or dice.shuffled(FORMS)
            made.append(sentence(forms.pop(), topic, dice))
        paragraphs.append(" ".join(made))
    return {"title": title, "text": "\n\n".join(paragraphs) + "\n"}


def main() -> None:
    """Write all essays, one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TARGET)
    out: Path = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(essay(i), ensure_ascii=False) + "\n" for i in range(ESSAYS)]
    out.write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
