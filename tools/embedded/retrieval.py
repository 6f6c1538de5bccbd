"""Texts in which one or several facts are hidden and asked for: key–value lists and needles in filler."""

from __future__ import annotations

from typing import Any

from tools.embedded.draw import Dice, Exchange, Part, chance, dice_for
from tools.embedded.facts import WORDS
from tools.make_samples import essay

PLACES = (
    "harbor", "library", "castle", "station", "museum", "mill", "school", "garden", "bridge", "tower", "market",
    "hospital", "theater", "palace", "prison", "bakery", "temple", "stable", "cellar", "office", "factory", "barn",
    "chapel", "archive", "armory", "bank", "brewery", "dock", "forge", "gallery", "inn", "kitchen", "laundry",
    "mine", "nursery", "orchard", "pantry", "quarry", "shipyard", "vault",
)  # fmt: skip
KEPT_PLACES = ("lighthouse", "windmill", "observatory", "granary")
"""Asked for by the benchmark; never the place of a code in training."""
SAID = {"en": "The secret code of the {place} is {code}.", "zh": "{place}的密码是{code}。"}
ASKED = {"en": "What is the secret code of the {place}?", "zh": "{place}的密码是多少？"}
CHINESE_PLACES = (
    "港口", "图书馆", "城堡", "车站", "博物馆", "磨坊", "学校", "花园", "大桥", "钟楼", "市场", "医院", "剧院", "宫殿",
    "面包房", "寺庙", "马厩", "地窖", "办公室", "工厂", "仓库", "银行", "酒馆", "厨房", "矿山", "果园",
)  # fmt: skip
CHINESE_FILLER = (
    "那天早上下着小雨，街上没有人。", "老人坐在门口，看着远处的山。", "孩子们在河边玩到很晚才回家。",
    "这条路很长，走起来并不累。", "他把书放在桌上，慢慢地喝茶。", "春天来了，院子里的花都开了。",
    "很多人问起这件事，但是没有人知道。", "她写了一封信，又把它收了起来。", "船慢慢离开了岸边。",
    "大家都说今年的天气很好。", "晚上的灯光照在水面上。", "他们在山下住了很多年。",
)  # fmt: skip
KEYS = tuple(a + b for a in ("ka", "lo", "mi", "ru", "se", "ti", "vo", "za") for b in ("b", "d", "f", "k", "n", "r"))
COPIES, LISTS = 15, 20
"""Percent of the documents; the others are needles."""
ESSAYS = 5000
"""Essays of the filler that is trained on."""


def code(dice: Dice) -> str:
    """Four digits."""
    return f"{dice.below(10_000):04}"


def key_values(dice: Dice, pairs: int) -> tuple[list[Part], list[Exchange]]:
    """(a list of keys with values, questions for some of them)."""
    keys = dice.shuffled(KEYS)[:pairs]
    values = [code(dice)[: 2 + dice.below(3)] for _ in keys]
    listed = "\n".join(f"{key}: {value}" for key, value in zip(keys, values, strict=True))
    asked = dice.shuffled(tuple(range(pairs)))[:4]
    questions = [
        Exchange(f"Question: What is the value of {keys[at]}?", "Answer:", f" {values[at]}", values[at], 0.0)
        for at in asked
    ]
    return [Part(listed + "\n\n", 0.0)], questions


def copying(dice: Dice, size: int) -> tuple[list[Part], list[Exchange]]:
    """(words and digits in no order, the request to say them again): the simplest look back, in every token."""
    said = " ".join(dice.pick((*KEYS, *PLACES, code(dice))) for _ in range(max(4, size // 6)))
    return [], [Exchange(f"Repeat: {said}", "Answer:", f" {said}", said, 0.0)]


def filler(dice: Dice, language: str, sentences: int) -> list[str]:
    """So many sentences or more of text that says nothing of codes."""
    if language == "zh":
        return [dice.pick(CHINESE_FILLER) for _ in range(sentences)]
    found: list[str] = []
    while len(found) < sentences:
        found += essay(dice.below(ESSAYS))["text"].replace("\n\n", " ").rstrip().replace(". ", ".\t").split("\t")
    return found


def needles(dice: Dice, size: int) -> tuple[list[Part], list[Exchange]]:
    """(filler with hidden codes, a question for each of them), about `size` tokens in all."""
    language = "zh" if chance(dice, 12) else "en"
    hidden, asked, (first, lead, form) = SAID[language], ASKED[language], WORDS[language]
    places = dice.shuffled(PLACES if language == "en" else CHINESE_PLACES)[: 1 + dice.below(min(6, size // 64))]
    sentences = max(1, (size - 10 - 42 * len(places)) // 20)
    codes = [code(dice) for _ in places]
    text = filler(dice, language, sentences)[:sentences]
    for place, number in zip(places, codes, strict=True):
        sentence, at = hidden.format(place=place, code=number), dice.below(len(text) + 1)
        if chance(dice, 50) and at < len(text):  # on a line of its own, inside a sentence
            cut = dice.below(len(text[at]))
            text[at] = f"{text[at][:cut]}\n{sentence}\n{text[at][cut:]}"
        else:
            text.insert(at, sentence)
    questions = []
    for place, number in dice.shuffled(tuple(zip(places, codes, strict=True))):
        answer = hidden.format(place=place, code=number)
        questions.append(Exchange(first + asked.format(place=place), lead, form.format(answer), answer, 0.0))
    return [Part((" " if language == "en" else "").join(text) + "\n\n", 0.0)], questions


def document(dice: Dice, size: int) -> tuple[list[Part], list[Exchange]]:
    """A text of about `size` tokens, of one of the three kinds, and what is asked of it."""
    kind = dice.below(100)
    if kind < COPIES:
        return copying(dice, min(size, 240))
    if kind < COPIES + LISTS:
        return key_values(dice, max(2, min(len(KEYS), (size - 64) // 8)))
    return needles(dice, size)


def haystack(count: int) -> list[dict[str, Any]]:
    """Lines of filler for the benchmark; none of these essays is read in training."""
    return [{"text": " ".join(essay(ESSAYS + number)["text"].split()) + " "} for number in range(count)]


def needle_items() -> list[tuple[str, str, str]]:
    """(needle, question, keyword) for the benchmark, of places and codes of their own."""
    dice = dice_for("items", "needle")
    hidden, asked = SAID["en"], ASKED["en"]
    codes = [code(dice) for _ in KEPT_PLACES]
    named = zip(KEPT_PLACES, codes, strict=True)
    return [(hidden.format(place=p, code=c), asked.format(place=p), c) for p, c in named]
