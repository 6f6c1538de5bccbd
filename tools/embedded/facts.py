"""Facts as statements, open questions, choices among four, and cloze sentences."""

from __future__ import annotations

from typing import Any

from tools.embedded.draw import SAID, Dice, Exchange, Part, chance, dice_for
from tools.embedded.hops import joined
from tools.embedded.world import LANGUAGES, Fact, others, world

LETTERS = "ABCD"
ABOUT = 0.3
"""Loss weight of what stands in front of a value: whom a sentence is about cannot be foreseen."""
WORDS = {"en": ("Question: ", "Answer:", " {}"), "zh": ("问题：", "答案：", "{}")}
"""language -> what stands in front of a question, in front of an answer, and the answer itself."""
OPTION = "{value} {letter}"
"""An option as it is listed and answered: the letter is the very next token, so that naming it is copying."""
BRACKETED = {"en": "{value} ({letter})", "zh": "{value}({letter})"}
"""How options were written at the beginning of the training."""


def statement(fact: Fact, language: str, dice: Dice) -> tuple[str, str]:
    """A drawn sentence that states the fact, parted in front of its value; for a kept fact never the cloze sentence."""
    forms = fact.relation.said[language]
    if not fact.kept:
        forms = (*forms, fact.relation.cloze[language])
    return filled(dice.pick(forms), fact, language)


def filled(form: str, fact: Fact, language: str) -> tuple[str, str]:
    """A sentence up to its last value, and the rest with the space in front of it."""
    before, after = form.replace("{s}", fact.subject.of(language)).rsplit("{v}", 1)
    value, space = fact.value.of(language), " " if before.endswith(" ") else ""
    return before.rstrip(" ").replace("{v}", value), f"{space}{value}{after}"


def statements(dice: Dice) -> list[Part]:
    """A few sentences, either about one subject or about several."""
    language = LANGUAGES[chance(dice, 40)]
    facts = world().facts
    told = [dice.pick(facts) for _ in range(4)]
    if chance(dice, 50):
        told = dice.shuffled(tuple(f for f in facts if f.subject == told[0].subject))
    parts: list[Part] = []
    for fact in told:
        before, after = statement(fact, language, dice)
        space = " " if parts and language == "en" else ""
        parts += [Part(space + before, ABOUT), Part(after, SAID)]
    return parts


def open_question(dice: Dice) -> Exchange:
    """A question about any fact, answered by its value; the reply is a sentence."""
    fact, language = dice.pick(world().facts), LANGUAGES[chance(dice, 40)]
    asked, lead, form = WORDS[language]
    question = dice.pick(fact.relation.asked[language]).format(s=fact.subject.of(language))
    return Exchange(
        asked + question, lead, form.format(fact.value.of(language)), "".join(statement(fact, language, dice))
    )


def choice_question(fact: Fact, language: str, dice: Dice) -> tuple[str, list[str], int]:
    """(question, four options, number of the right one)."""
    question = dice.pick(fact.relation.asked[language]).format(s=fact.subject.of(language))
    return question, *options_of(fact, language, dice)


def options_of(fact: Fact, language: str, dice: Dice) -> tuple[list[str], int]:
    """(the fact's value among three others in a drawn order, its number)."""
    options = [v.of(language) for v in dice.shuffled((fact.value, *others(fact, 3, dice)))]
    return options, options.index(fact.value.of(language))


def choice(dice: Dice, bracketed: bool = False) -> Exchange:
    """A choice among four about a fact that is not kept; the answer says the fact with the option's letter."""
    language = LANGUAGES[chance(dice, 40)]
    while (fact := dice.pick(world().facts)).kept:
        pass
    question, options, right = choice_question(fact, language, dice)
    asked, lead, form = WORDS[language]
    form_of = BRACKETED[language] if bracketed else OPTION
    lines = [form_of.format(value=v, letter=x) for v, x in zip(options, LETTERS, strict=True)]
    said = fact.relation.said[language][0].format(s=fact.subject.of(language), v=lines[right])
    return Exchange("\n- ".join([asked + question, *lines]), lead, form.format(said), said)


def choice_items(count: int) -> list[dict[str, Any]]:
    """Benchmark rows, half English and half Chinese; of each half one are kept facts, the other two facts joined."""
    rows = []
    for language in LANGUAGES:
        dice = dice_for("items", "choice", language)
        for fact in kept_facts(dice)[: count // 4]:
            question, options, right = choice_question(fact, language, dice)
            rows.append({"language": language, "question": question, "choices": options, "answer": right})
        for hop in joined(dice)[: count // 4]:
            options, right = options_of(hop.fact, language, dice)
            rows.append({"language": language, "question": hop.question(language), "choices": options, "answer": right})
    return rows


def kept_facts(dice: Dice) -> list[Fact]:
    """The facts that benchmarks ask for, in a drawn order."""
    return dice.shuffled(tuple(f for f in world().facts if f.kept))


def cloze_items(count: int) -> list[dict[str, Any]]:
    """Benchmark rows: kept facts in a sentence that was trained with other facts only, and two facts joined."""
    rows = []
    for language in LANGUAGES:
        dice = dice_for("items", "cloze", language)
        asked = [(f, filled(f.relation.cloze[language], f, language)) for f in kept_facts(dice)[: count // 4]]
        asked += [(hop.fact, hop.cloze(language)) for hop in joined(dice)[: count // 4]]
        for fact, (sentence, right) in asked:
            options, answer = options_of(fact, language, dice)
            endings = [right.replace(fact.value.of(language), v) for v in options]
            rows.append({"language": language, "sentence": sentence, "endings": endings, "answer": answer})
    return rows
