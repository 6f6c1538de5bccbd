"""Word problems of one or two steps with worked answers, and bare sums."""

from __future__ import annotations

from typing import Any

from tools.embedded.draw import SAID, Dice, Exchange, Part, chance, dice_for, held
from tools.embedded.facts import WORDS
from tools.embedded.world import LANGUAGES, world

THINGS = {
    "apples": "苹果", "stamps": "邮票", "marbles": "弹珠", "books": "书", "candles": "蜡烛", "shells": "贝壳",
    "coins": "硬币", "nails": "钉子", "eggs": "鸡蛋", "cards": "卡片", "buttons": "纽扣", "pears": "梨",
}  # fmt: skip
STORIES: dict[str, dict[str, tuple[str, ...]]] = {
    "+": {
        "en": (
            "{n} has {a} {t} and buys {b} more. How many {t} does {n} have now?",
            "There are {a} {t} in one box and {b} {t} in another. How many {t} are there in all?",
            "{n} found {a} {t} in the morning and {b} in the evening. How many {t} did {n} find that day?",
        ),
        "zh": (
            "{n}有{a}个{t}，又买了{b}个。{n}现在有多少个{t}？",
            "一个盒子里有{a}个{t}，另一个有{b}个。一共有多少个{t}？",
        ),
    },
    "-": {
        "en": (
            "{n} has {a} {t} and gives away {b} of them. How many {t} are left?",
            "Of {a} {t} in a shop, {b} were sold. How many {t} are still in the shop?",
            "A bag held {a} {t}. {n} took out {b}. How many {t} are in the bag now?",
        ),
        "zh": ("{n}有{a}个{t}，送出了{b}个。还剩多少个{t}？", "商店里有{a}个{t}，卖掉了{b}个。还剩多少个{t}？"),
    },
    "*": {
        "en": (
            "{n} fills {a} boxes with {b} {t} each. How many {t} is that?",
            "Each of {a} children has {b} {t}. How many {t} do they have together?",
        ),
        "zh": ("{n}有{a}盒{t}，每盒{b}个。一共有多少个{t}？", "{a}个孩子每人有{b}个{t}。他们一共有多少个{t}？"),
    },
    "++": {
        "en": (
            "{n} has {a} {t}, buys {b} more, and is given another {c}. How many {t} does {n} have now?",
            "Three jars hold {a}, {b} and {c} {t}. How many {t} are there in all?",
        ),
        "zh": ("{n}有{a}个{t}，买了{b}个，又得到{c}个。{n}现在有多少个{t}？",),
    },
    "+-": {
        "en": (
            "{n} has {a} {t}, buys {b} more, and then loses {c}. How many {t} does {n} have now?",
            "A shop had {a} {t}, received {b} more and sold {c}. How many {t} are in the shop?",
        ),
        "zh": ("{n}有{a}个{t}，又买了{b}个，后来丢了{c}个。{n}现在有多少个{t}？",),
    },
    "-+": {
        "en": ("{n} has {a} {t}, gives away {b}, and finds {c} new ones. How many {t} does {n} have now?",),
        "zh": ("{n}有{a}个{t}，送出{b}个，又找到{c}个。{n}现在有多少个{t}？",),
    },
    "*+": {
        "en": (
            "{n} buys {a} bags of {b} {t} and already had {c}. How many {t} does {n} have now?",
            "There are {a} shelves with {b} {t} each, and {c} {t} on the floor. How many {t} are there?",
        ),
        "zh": ("{n}买了{a}袋{t}，每袋{b}个，原来还有{c}个。{n}一共有多少个{t}？",),
    },
    "*-": {
        "en": (
            "{n} buys {a} bags of {b} {t} and gives {c} of the {t} away. How many {t} are left?",
            "Of {a} boxes with {b} {t} each, {c} {t} were broken. How many {t} were whole?",
        ),
        "zh": ("{n}买了{a}袋{t}，每袋{b}个，送出{c}个。还剩多少个{t}？",),
    },
}
"""operations -> language -> stories."""
LONGER: dict[str, dict[str, tuple[str, ...]]] = {
    "++-": {
        "en": ("{n} has {a} {t}, buys {b} more, is given another {c}, and loses {d}. How many {t} does {n} have now?",),
        "zh": ("{n}有{a}个{t}，买了{b}个，又得到{c}个，后来丢了{d}个。{n}现在有多少个{t}？",),
    },
}
"""Stories of three steps, which are not trained at all."""
STEPS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
MOST, MOST_FACTOR = 99, 9
ASKED_KINDS = (*(kind for kind in STORIES if kind != "*"), *LONGER)
"""What the benchmark asks: a product alone can only be known by heart, so none is kept."""


def numbers(kind: str, dice: Dice) -> list[int]:
    """Operands from 1 on whose results, on the way too, lie between 1 and 99."""
    if kind[0] == "*":
        drawn = [2 + dice.below(MOST_FACTOR - 1), 2 + dice.below(MOST_FACTOR - 1)]
        value, rest = drawn[0] * drawn[1], kind[1:]
    else:
        drawn = [3 + dice.below(MOST - 6)]
        value, rest = drawn[0], kind
    for operation in rest:
        drawn.append(1 + dice.below(value - 1 if operation == "-" else MOST - value))
        value = STEPS[operation](value, drawn[-1])
        if not 2 < value < MOST - 2:
            return numbers(kind, dice)
    return drawn


def equation(left: int, operation: str, right: int) -> str:
    """A step written out: sums and differences by tens and ones, `47 + 38 = 70 + 15 = 85`."""
    result = STEPS[operation](left, right)
    if operation == "*" or max(left, right) < 10:
        return f"{left} {operation} {right} = {result}"
    tens = STEPS[operation](left // 10, right // 10) * 10
    ones = STEPS[operation](left % 10, right % 10)
    return f"{left} {operation} {right} = {tens} {'-' if ones < 0 else '+'} {abs(ones)} = {result}"


def worked(kind: str, values: list[int]) -> tuple[list[str], int]:
    """(the steps as equations, the result)."""
    result, steps = values[0], []
    for operation, value in zip(kind, values[1:], strict=True):
        steps.append(equation(result, operation, value))
        result = STEPS[operation](result, value)
    return steps, result


def drawn_numbers(kind: str, dice: Dice, kept: bool) -> list[int]:
    """Operands that are, or are not, kept for the benchmark."""
    while True:
        values = numbers(kind, dice)
        if (kind in ASKED_KINDS and held(f"sum/{kind}/{values}")) == kept:
            return values


def problem(kind: str, language: str, dice: Dice, kept: bool) -> tuple[str, str, int]:
    """(question, worked answer, result)."""
    values = drawn_numbers(kind, dice, kept)
    who, thing = dice.pick(world().people), dice.pick(tuple(THINGS))
    name = who.en.split()[0] if language == "en" else who.zh
    named = dict(zip("abcd", values, strict=False))
    text = dice.pick({**STORIES, **LONGER}[kind][language]).format(
        n=name, t=thing if language == "en" else THINGS[thing], **named
    )
    steps, result = worked(kind, values)
    if language == "en":
        return text, f"{'. '.join(steps)}. The answer is {result}.", result
    return text, f"{'。'.join(steps)}。答案是{result}。", result


def word_problem(dice: Dice) -> Exchange:
    """A problem with numbers that are not kept."""
    language, kind = LANGUAGES[chance(dice, 40)], dice.pick(tuple(STORIES))
    asked, lead, form = WORDS[language]
    text, answer, _ = problem(kind, language, dice, kept=False)
    return Exchange(asked + text, lead, form.format(answer), answer)


def sums(dice: Dice) -> list[Part]:
    """Bare sums, a line each: the steps of problems without the story. Only what is calculated counts."""
    parts: list[Part] = []
    for _ in range(5):
        kind = dice.pick(tuple(STORIES))
        for step in worked(kind, drawn_numbers(kind, dice, kept=False))[0]:
            asked, _, found = step.partition(" =")
            parts += [Part(asked, 0.0), Part(f" ={found}\n", SAID)]
    return parts


def arithmetic_items(count: int) -> list[dict[str, Any]]:
    """Benchmark rows, half English and half Chinese, with numbers that were kept."""
    rows = []
    for language in LANGUAGES:
        dice = dice_for("items", "arithmetic", language)
        for number in range(count // 2):
            kind = ASKED_KINDS[number % len(ASKED_KINDS)]
            text, work, result = problem(kind, language, dice, kept=True)
            rows.append({"language": language, "question": text, "work": work, "answer": result})
    return rows
