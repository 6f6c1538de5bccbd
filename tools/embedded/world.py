"""A closed world of made-up people and towns, and the sentences that state its facts in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from tools.embedded.draw import Dice, dice_for, held

LANGUAGES = ("en", "zh")
PEOPLE, TOWNS, RIVERS, ISLANDS = 64, 24, 16, 8
KEPT_FACTS = 4
"""One fact in so many is asked for by the benchmarks."""
ONSETS = ("b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "kr", "tr", "st")
VOWELS = ("a", "e", "i", "o", "u", "ai", "ei", "ou")
CODAS = ("l", "n", "r", "s", "m", "k", "th", "nd", "rn", "sk")
SIGNS = "托米拉维克多娜蒂诺莫罗萨卡尼贝鲁丹芬格哈伊约蓝马奥佩塔乌希泽艾林沃"

JOBS = {
    "baker": "面包师", "carpenter": "木匠", "doctor": "医生", "farmer": "农民", "teacher": "教师", "tailor": "裁缝",
    "pilot": "飞行员", "lawyer": "律师", "painter": "画家", "miner": "矿工", "sailor": "水手", "cook": "厨师",
    "judge": "法官", "poet": "诗人", "smith": "铁匠", "barber": "理发师",
}  # fmt: skip
INSTRUMENTS = {
    "flute": "长笛", "violin": "小提琴", "drum": "鼓", "piano": "钢琴", "harp": "竖琴", "trumpet": "小号",
    "guitar": "吉他", "cello": "大提琴", "horn": "圆号", "banjo": "班卓琴", "lute": "琵琶", "bell": "铃",
}  # fmt: skip
PETS = {
    "dog": "狗", "cat": "猫", "horse": "马", "goat": "山羊", "parrot": "鹦鹉", "rabbit": "兔子", "turtle": "乌龟",
    "fox": "狐狸", "goose": "鹅", "mouse": "老鼠", "sheep": "绵羊", "crow": "乌鸦",
}  # fmt: skip
GOODS = {
    "salt": "盐", "honey": "蜂蜜", "glass": "玻璃", "paper": "纸", "silk": "丝绸", "cheese": "奶酪", "wool": "羊毛",
    "copper": "铜", "pottery": "陶器", "tea": "茶叶", "wine": "葡萄酒", "rope": "绳子",
}  # fmt: skip


@dataclass(frozen=True)
class Name:
    """What something is called in the two languages."""

    en: str
    zh: str

    def of(self, language: str) -> str:
        """The name in a language."""
        return self.en if language == "en" else self.zh


@dataclass(frozen=True)
class Relation:
    """A kind of fact: its sentences, the value last in each, and its questions.

    `cloze` is the sentence that the cloze benchmark asks with; for kept facts it is never trained.
    """

    name: str
    said: Mapping[str, tuple[str, ...]]
    cloze: Mapping[str, str]
    asked: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Fact:
    """Somebody or something, a relation, and its value."""

    relation: Relation
    subject: Name
    value: Name

    @property
    def kept(self) -> bool:
        """Whether the benchmarks ask for it: it is trained as statements and open questions only."""
        return held(f"fact/{self.relation.name}/{self.subject.en}", KEPT_FACTS)


BORN = Relation(
    "born",
    {
        "en": (
            "{s} was born in {v}.", "{s} comes from the town of {v}.", "The birthplace of {s} is {v}.",
            "{s} grew up where everybody grows up who is born in {v}.", "The home town of {s} is called {v}.",
        ),
        "zh": ("{s}出生在{v}。", "{s}的家乡是{v}。", "{s}来自小镇{v}。", "{s}的出生地叫{v}。"),
    },
    {"en": "As a child, {s} lived in {v}.", "zh": "{s}小时候住在{v}。"},
    {
        "en": ("Where was {s} born?", "Which town does {s} come from?", "What is the birthplace of {s}?"),
        "zh": ("{s}出生在哪里？", "{s}来自哪个小镇？", "{s}的家乡是哪里？"),
    },
)  # fmt: skip
JOB = Relation(
    "job",
    {
        "en": (
            "{s} works as a {v}.", "The job of {s} is that of a {v}.", "By trade, {s} is a {v}.",
            "If you need a {v}, ask for {s}, who is a {v}.", "{s} earns a living as a {v}.",
        ),
        "zh": ("{s}的职业是{v}。", "{s}是一名{v}。", "{s}当{v}很多年了，大家都知道{s}是{v}。",
               "{s}靠当{v}生活，是{v}。"),
    },
    {"en": "For many years {s} has been a {v}.", "zh": "多年以来，{s}一直是{v}。"},
    {
        "en": ("What is the job of {s}?", "What does {s} work as?", "What is {s} by trade?"),
        "zh": ("{s}的职业是什么？", "{s}做什么工作？", "{s}靠什么生活？"),
    },
)  # fmt: skip
INSTRUMENT = Relation(
    "instrument",
    {
        "en": (
            "{s} plays the {v}.", "The instrument of {s} is the {v}.", "In the evening {s} likes to play the {v}.",
            "{s} has learned to play the {v}.", "At every feast {s} brings the {v}.",
        ),
        "zh": ("{s}会演奏{v}。", "{s}的乐器是{v}。", "{s}每天晚上练习{v}。", "{s}学会了演奏{v}。"),
    },
    {"en": "Ask {s} for some music, and you will hear the {v}.", "zh": "{s}最喜欢的乐器是{v}。"},
    {
        "en": ("Which instrument does {s} play?", "What does {s} play?", "What is the instrument of {s}?"),
        "zh": ("{s}会演奏什么？", "{s}的乐器是什么？", "{s}练习什么乐器？"),
    },
)  # fmt: skip
PET = Relation(
    "pet",
    {
        "en": (
            "{s} keeps a {v}.", "The pet of {s} is a {v}.", "{s} owns a {v}.",
            "In the garden of {s} lives a {v}.", "{s} never travels without a {v}.",
        ),
        "zh": ("{s}养了一只{v}。", "{s}的宠物是{v}。", "{s}家里有一只{v}。", "{s}的院子里有一只{v}。"),
    },
    {"en": "The animal that follows {s} everywhere is a {v}.", "zh": "跟着{s}的动物是{v}。"},
    {
        "en": ("Which pet does {s} keep?", "Which animal does {s} own?", "What is the pet of {s}?"),
        "zh": ("{s}养了什么动物？", "{s}的宠物是什么？", "{s}家里有什么动物？"),
    },
)  # fmt: skip
ISLAND = Relation(
    "island",
    {
        "en": (
            "{s} lies on the island of {v}.", "The town of {s} belongs to the island of {v}.",
            "You find {s} on {v}.", "{s} is a town on the island {v}.",
        ),
        "zh": ("{s}在{v}岛上。", "小镇{s}属于{v}岛。", "{s}位于{v}岛。", "{s}是{v}岛上的小镇。"),
    },
    {"en": "To reach {s}, take the ship to {v}.", "zh": "去{s}要先坐船到{v}岛。"},
    {
        "en": ("On which island is {s}?", "Which island does {s} belong to?", "Where does {s} lie?"),
        "zh": ("{s}在哪个岛上？", "{s}属于哪个岛？", "{s}位于哪个岛？"),
    },
)  # fmt: skip
RIVER = Relation(
    "river",
    {
        "en": (
            "The river of {s} is called {v}.", "{s} stands on the river {v}.", "Through {s} flows the {v}.",
            "The bridges of {s} cross the {v}.",
        ),
        "zh": ("流过{s}的河叫{v}。", "{s}在{v}河边。", "{s}的河是{v}河。", "{s}的桥跨过{v}河。"),
    },
    {"en": "The mills of {s} are driven by the {v}.", "zh": "{s}的水来自{v}河。"},
    {
        "en": ("Which river flows through {s}?", "On which river does {s} stand?", "What is the river of {s} called?"),
        "zh": ("流过{s}的河叫什么？", "{s}在哪条河边？", "{s}的河是哪条？"),
    },
)  # fmt: skip
GOOD = Relation(
    "good",
    {
        "en": (
            "{s} is known for its {v}.", "The town of {s} sells {v}.", "Traders go to {s} to buy {v}.",
            "Most people in {s} make {v}.",
        ),
        "zh": ("{s}的特产是{v}。", "{s}因{v}而闻名。", "商人去{s}买{v}。", "{s}的人大多生产{v}。"),
    },
    {"en": "The ships that leave {s} are full of {v}.", "zh": "从{s}出发的船装满了{v}。"},
    {
        "en": ("What is {s} known for?", "What does the town of {s} sell?", "What do traders buy in {s}?"),
        "zh": ("{s}的特产是什么？", "{s}因什么而闻名？", "商人去{s}买什么？"),
    },
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """All there is, and all that is true of it."""

    people: tuple[Name, ...]
    towns: tuple[Name, ...]
    facts: tuple[Fact, ...]
    values: Mapping[str, tuple[Name, ...]]
    """relation -> everything that can be its value."""


def _names(dice: Dice, count: int, taken: set[str], families: tuple[str, ...] = ()) -> tuple[Name, ...]:
    """So many new names; none equals, in either language, one that is taken."""
    found: list[Name] = []
    while len(found) < count:
        en = dice.pick(ONSETS) + dice.pick(VOWELS) + dice.pick(ONSETS) + dice.pick(VOWELS) + dice.pick(CODAS)
        zh = "".join(dice.shuffled(tuple(SIGNS))[: 2 + dice.below(2)])
        if {en, zh} & taken:
            continue
        taken |= {en, zh}
        full = f"{en} {dice.pick(families)}" if families else en
        found.append(Name(full.title(), zh))
    return tuple(found)


@lru_cache(maxsize=1)
def world() -> World:
    """The world; always the same one."""
    dice, taken = dice_for("world"), {"罗马"}
    families = tuple(n.en.lower() for n in _names(dice, 16, taken))
    people, towns = _names(dice, PEOPLE, taken, families), _names(dice, TOWNS, taken)
    rivers, islands = _names(dice, RIVERS, taken), _names(dice, ISLANDS, taken)
    lists = {kind: tuple(Name(*pair) for pair in words.items()) for kind, words in
             {"job": JOBS, "instrument": INSTRUMENTS, "pet": PETS, "good": GOODS}.items()}  # fmt: skip
    values = {"born": towns, "island": islands, "river": rivers, **lists}
    facts = [Fact(r, person, dice.pick(values[r.name])) for person in people for r in (BORN, JOB, INSTRUMENT, PET)]
    facts += [Fact(r, town, dice.pick(values[r.name])) for town in towns for r in (ISLAND, RIVER, GOOD)]
    return World(people, towns, tuple(facts), values)


def others(fact: Fact, count: int, dice: Dice) -> list[Name]:
    """`count` wrong values of the fact's kind."""
    return [v for v in dice.shuffled(world().values[fact.relation.name]) if v != fact.value][:count]
