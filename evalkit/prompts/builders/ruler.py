"""RULER's 13 tasks, generated with a seed: needles, variable tracking, common and frequent words, questions.

The tasks and their parameters are those of NVIDIA/RULER (Hsieh et al. 2024); the words, and which rows are drawn, are
our own, so that scores compare with each other and not digit for digit with published ones. A prompt with room for
its output has at least 99 % of the length that it is made for, and never more.
"""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import Row
from evalkit.prompts.builders.base import BUILDERS, Material, TextTokenizer

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
ADJECTIVES = (
    "amber", "brisk", "calm", "dusty", "eager", "faint", "gentle", "hollow", "icy", "jolly", "keen", "lively",
    "mellow", "noble", "ornate", "plain", "quiet", "rapid", "silent", "tidy", "upbeat", "vivid", "warm", "young",
    "zesty",
)  # fmt: skip
NOUNS = (
    "anchor", "basket", "candle", "desert", "engine", "feather", "garden", "hammer", "island", "jacket", "kettle",
    "ladder", "mirror", "needle", "orchard", "pencil", "quarry", "ribbon", "saddle", "temple", "umbrella", "valley",
    "window", "yard", "zeppelin",
)  # fmt: skip
SYLLABLES = (
    "ba", "be", "bi", "bo", "da", "de", "di", "do", "fa", "fe", "ga", "go", "ka", "ke", "ki", "ko", "la", "le",
    "li", "lo", "ma", "me", "mi", "mo", "na", "ne", "ni", "no", "pa", "pe",
)  # fmt: skip
COMMON, COMMON_TIMES, RARE_TIMES, FREQUENT = 10, 30, 3, 3
"""cwe: how many words are common, how often these and the others stand there; fwe: how many words are asked for."""
HOPS = 4
ATTEMPTS = 12

Made = tuple[str, tuple[str, ...]]
"""A prompt, and the texts that a right answer has."""


@dataclass(frozen=True)
class Sources:
    """What tasks draw from."""

    essays: Sequence[str]
    """Sentences of the haystack."""
    questions: Sequence[Mapping[str, Any]]
    """Rows {context, question, answers}."""


Task = Callable[[random.Random, int, Sources], Made]
"""Makes a prompt of so many units (sentences, words, documents); equal generators give prompts that differ in
their size alone."""


def niah(
    haystack: str, key: str = "words", value: str = "numbers", keys: int = 1, values: int = 1, queries: int = 1
) -> Task:
    """Needles `One of the special magic <values> for <key> is: <value>.` in noise, essays or other needles."""

    def make(draw: random.Random, units: int, sources: Sources) -> Made:
        named = _distinct(draw, key, keys)
        held = {name: _distinct(draw, value, values) for name in named}
        asked = named[:queries]
        needles = [_needle(value, name, one) for name in named for one in held[name]]
        draw.shuffle(needles)
        places = sorted(draw.random() for _ in needles)
        filler = random.Random(draw.random())
        if haystack == "needle":
            lines = [_needle(value, _other(filler, key, named), _one(filler, value)) for _ in range(units)]
        else:
            lines = [NOISE] * units if haystack == "noise" else _sentences(filler, units, sources.essays)
        text = _hidden(lines, needles, places, "\n" if haystack != "essay" else " ")
        query = ", ".join(asked[:-1]) + (", and " if len(asked) > 1 else "") + asked[-1]
        many = len(asked) * values > 1
        kind = value if many else value.removesuffix("s")
        prompt = (
            f"{'Some' if many else 'A'} special magic {kind} {'are' if many else 'is'} hidden within the following "
            f"text. Make sure to memorize it. I will quiz you about the {kind} afterwards.\n{text}\n"
            f"What {'are all' if many else 'is'} the special magic {kind} for {query} mentioned in the provided text? "
            f"The special magic {kind} for {query} mentioned in the provided text {'are' if many else 'is'}"
        )
        return prompt, tuple(one for name in asked for one in held[name])

    return make


def _needle(kind: str, key: str, value: str) -> str:
    return f"One of the special magic {kind} for {key} is: {value}."


def variable_tracking(draw: random.Random, units: int, sources: Sources) -> Made:
    """A chain of assignments in noise; all variables with the value are asked for."""
    names = _distinct(draw, "letters", HOPS + 1)
    value = str(draw.randint(10000, 99999))
    chain = [f"VAR {names[0]} = {value}"]
    chain += [f"VAR {after} = VAR {before}" for before, after in itertools.pairwise(names)]
    places = sorted(draw.random() for _ in chain)
    text = _hidden([NOISE] * units, chain, places, "\n")
    prompt = (
        "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
        f"{text}\nQuestion: Find all variables that are assigned the value {value} in the text above. Answer: "
        f"According to the chain(s) of variable assignment in the text above, {len(names)} variables are assigned the "
        f"value {value}, they are: "
    )
    return prompt, tuple(names)


def common_words(draw: random.Random, units: int, sources: Sources) -> Made:
    """A numbered list of words, ten of them ten times as often as the others; each unit is one of the others."""
    words = _distinct(draw, "pseudo", COMMON + units)
    listed = words[:COMMON] * COMMON_TIMES + words[COMMON:] * RARE_TIMES
    draw.shuffle(listed)
    text = " ".join(f"{number}. {word}" for number, word in enumerate(listed, 1))
    prompt = (
        "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
        f"appear most often.\n{text}\nQuestion: What are the {COMMON} most common words in the above list? Answer: The "
        f"top {COMMON} words that appear most often in the list are:"
    )
    return prompt, tuple(words[:COMMON])


def frequent_words(draw: random.Random, units: int, sources: Sources) -> Made:
    """Coded words whose frequencies fall with the square of their rank, among dots; each unit is one word."""
    count = max(FREQUENT + 1, int(units**0.5))
    words = _distinct(draw, "pseudo", count)
    total = sum(1 / rank**2 for rank in range(1, count + 1))
    times = [max(1, round(units / (total * rank**2))) for rank in range(1, count + 1)]
    listed = [word for word, n in zip(words, times, strict=True) for _ in range(n)] + ["...."] * times[0]
    draw.shuffle(listed)
    prompt = (
        "Read the following coded text and track the frequency of each coded word. Find the three most frequently "
        f"appeared coded words. {' '.join(listed)}\nQuestion: Do not provide any explanation. Please ignore the dots "
        "'....'. What are the three most frequently appeared words in the above coded text? Answer: According to the "
        "coded text above, the three most frequently appeared words are:"
    )
    return prompt, tuple(words[:FREQUENT])


def questions(draw: random.Random, units: int, sources: Sources) -> Made:
    """A question on one document among others; each unit is a sentence of the others."""
    row = sources.questions[draw.randrange(len(sources.questions))]
    others = [str(r["context"]) for r in sources.questions if r["context"] != row["context"]]
    draw.shuffle(others)
    place, documents, left = draw.random(), [], units
    for text in _cycled(others, units):
        words = text.split()
        if left <= 0:
            break
        documents.append(" ".join(words[:left]))
        left -= len(words)
    documents.insert(int(place * (len(documents) + 1)), str(row["context"]))
    listed = "\n\n".join(f"Document {number}:\n{text}" for number, text in enumerate(documents, 1))
    ask = "Answer the question based on the given documents. Only give me the answer and do not output any other words."
    prompt = f"{ask}\n\nThe following are given documents.\n\n{listed}\n\n{ask}\n\nQuestion: {row['question']} Answer:"
    return prompt, tuple(row["answers"])


TASKS: Mapping[str, Task] = {
    "niah_single_1": niah("noise"),
    "niah_single_2": niah("essay"),
    "niah_single_3": niah("essay", value="uuids"),
    "niah_multikey_1": niah("essay", keys=4),
    "niah_multikey_2": niah("needle"),
    "niah_multikey_3": niah("needle", key="uuids", value="uuids"),
    "niah_multivalue": niah("essay", values=4),
    "niah_multiquery": niah("essay", keys=4, queries=4),
    "vt": variable_tracking,
    "cwe": common_words,
    "fwe": frequent_words,
    "qa_1": questions,
    "qa_2": questions,
}
OUTPUT = {"vt": 30, "cwe": 120, "fwe": 50, "qa_1": 32, "qa_2": 32}
"""Tokens kept free for the answer; 128 for needles."""


@BUILDERS.register("ruler")
def build_ruler(material: Material, repeats: int = 100, seed: int = 42) -> list[Row]:
    """Prompts of the subset's `task` and `length` (tokens): columns `prompt` and `answers`.

    The rows are the essays {text} of the haystack, for qa_1 and qa_2 rows of SQuAD or HotpotQA. DataError where the
    length is too short for the task.
    """
    name, length = str(material.variables["task"]), int(material.variables["length"])
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r} of RULER", ", ".join(TASKS))
    sources = _sources(material, name)
    room = length - OUTPUT.get(name, 128)
    rows: list[Row] = []
    for number in range(repeats):
        prompt, answers = fitted(TASKS[name], f"{seed}/{name}/{length}/{number}", sources, room, material.tokenizer())
        rows.append({"prompt": prompt, "answers": list(answers), "task": name, "length": length})
    return rows


def fitted(task: Task, seed: str, sources: Sources, room: int, tokenizer: TextTokenizer) -> Made:
    """The largest prompt of at most `room` tokens, by a secant search on the number of units."""

    def size(units: int) -> tuple[int, Made]:
        made = task(random.Random(seed), units, sources)
        return len(tokenizer.encode(made[0])), made

    low = 4
    low_size, best = size(low)
    if low_size > room:
        raise DataError(f"{room} tokens are too few: the shortest prompt has {low_size}", "take a longer length")
    high, high_size = 0, 0
    step = max(1, (room - low_size) // 40)
    while not high:  # a number of units that is too many
        tried, made = size(low + step)
        if tried > room:
            high, high_size = low + step, tried
        else:
            low, low_size, best, step = low + step, tried, made, 2 * step
    for _ in range(ATTEMPTS):
        if high - low <= 1 or low_size >= 0.995 * room:
            break
        guess = low + int((room - low_size) / max(1e-9, (high_size - low_size) / (high - low)))
        units = min(max(low + 1, guess), high - 1)
        tried, made = size(units)
        if tried > room:
            high, high_size = units, tried
        else:
            low, low_size, best = units, tried, made
    return best


def _sources(material: Material, task: str) -> Sources:
    kind = "questions" if task.startswith("qa_") else "essays"
    if kind not in material.cache:
        material.cache[kind] = (
            [_question(row) for row in material.rows] if kind == "questions" else _split(material.rows)
        )
        if not material.cache[kind]:
            raise DataError(f"the data of RULER's {task} have no rows", "see docs/long_context.md")
    found = material.cache[kind]
    return Sources((), found) if kind == "questions" else Sources(found, ())


def _split(rows: Sequence[Row]) -> list[str]:
    """Sentences of essays."""
    text = " ".join(str(row["text"]) for row in rows)
    return [f"{part.strip()}." for part in text.replace("\n", " ").split(". ") if part.strip()]


def _question(row: Row) -> dict[str, Any]:
    """A row of SQuAD or HotpotQA as {context, question, answers}."""
    context = row["context"]
    if isinstance(context, Mapping):  # HotpotQA: titles and lists of sentences
        context = "\n".join(" ".join(sentences) for sentences in context["sentences"])
    answers = row["answers"] if "answers" in row else [row["answer"]]
    texts = answers["text"] if isinstance(answers, Mapping) else answers
    return {"context": context, "question": row["question"], "answers": list(dict.fromkeys(map(str, texts)))}


def _hidden(lines: Sequence[str], facts: Sequence[str], places: Sequence[float], join: str) -> str:
    """The facts among the lines, in order, each at its share of them."""
    text, taken = [], 0
    for fact, place in zip(facts, places, strict=True):
        upto = int(place * len(lines))
        text += [*lines[taken:upto], fact]
        taken = upto
    return join.join([*text, *lines[taken:]])


def _sentences(draw: random.Random, units: int, essays: Sequence[str]) -> list[str]:
    start = draw.randrange(len(essays))
    return [essays[(start + i) % len(essays)] for i in range(units)]


def _cycled(texts: Sequence[str], most: int) -> Sequence[str]:
    """The texts, again from the start as often as may be needed."""
    if not texts:
        raise DataError("a single document is too few", "questions on at least two documents")
    words = max(1, sum(len(text.split()) for text in texts))
    return list(texts) * (most // words + 1)


def _one(draw: random.Random, kind: str) -> str:
    if kind == "words":
        return f"{draw.choice(ADJECTIVES)}-{draw.choice(NOUNS)}"
    if kind == "numbers":
        return str(draw.randint(1_000_000, 9_999_999))
    if kind == "letters":
        return "".join(draw.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(5))
    if kind == "pseudo":
        return "".join(draw.choice(SYLLABLES) for _ in range(4))
    return str(uuid.UUID(int=draw.getrandbits(128), version=4))


def _other(draw: random.Random, kind: str, taken: Sequence[str]) -> str:
    """One that is none of those taken: a needle with the key that is asked for would be a second answer."""
    while (found := _one(draw, kind)) in taken:
        pass
    return found


def _distinct(draw: random.Random, kind: str, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[_one(draw, kind)] = None
    return list(found)
