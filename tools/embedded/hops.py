"""Items that join two facts: where somebody was born, and what is true of that town. Never trained in one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from tools.embedded.draw import Dice
from tools.embedded.world import BORN, GOOD, ISLAND, RIVER, Fact, Name, world

ASKED = {
    ISLAND.name: {"en": "On which island was {s} born?", "zh": "{s}出生在哪个岛上？"},
    RIVER.name: {"en": "Which river flows through the birthplace of {s}?", "zh": "流过{s}家乡的河叫什么？"},
    GOOD.name: {"en": "What is the home town of {s} known for?", "zh": "{s}的家乡因什么而闻名？"},
}
SENTENCE = {
    ISLAND.name: {"en": "The birthplace of {s} lies on the island of {v}.", "zh": "{s}的家乡在{v}岛上。"},
    RIVER.name: {"en": "The river of the birthplace of {s} is called {v}.", "zh": "流过{s}家乡的河叫{v}。"},
    GOOD.name: {"en": "The birthplace of {s} is known for its {v}.", "zh": "{s}的家乡因{v}而闻名。"},
}


@dataclass(frozen=True)
class Joined:
    """A person, and a fact of the town of birth."""

    person: Name
    fact: Fact

    def question(self, language: str) -> str:
        """The question that only both facts together answer."""
        return ASKED[self.fact.relation.name][language].format(s=self.person.of(language))

    def cloze(self, language: str) -> tuple[str, str]:
        """A sentence up to its value, and the rest, with the space in front of it."""
        form = SENTENCE[self.fact.relation.name][language].replace("{s}", self.person.of(language))
        before, after = form.split("{v}")
        space = " " if before.endswith(" ") else ""
        return before.rstrip(" "), f"{space}{self.fact.value.of(language)}{after}"


def joined(dice: Dice) -> list[Joined]:
    """All of them, in a drawn order."""
    facts = world().facts
    home = {f.subject: f.value for f in facts if f.relation == BORN}
    every = [Joined(person, fact) for person, town in home.items() for fact in facts if fact.subject == town]
    return dice.shuffled(tuple(every))
