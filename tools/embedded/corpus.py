"""The mix of training texts, plain and as chats, without end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from tools.embedded import arithmetic, facts, functions, retrieval
from tools.embedded.draw import ASKED, SAID, Dice, Exchange, Part, chance, dice_for, parts_of
from tools.embedded.tokens import EOS, IM_END, IM_START
from tools.embedded.world import world

Parts = list[Part]
STATED: Mapping[str, Callable[[Dice], Parts]] = {"statements": facts.statements, "sums": arithmetic.sums}
ASKING: Mapping[str, Callable[[Dice], Exchange]] = {
    "open": facts.open_question,
    "choice": facts.choice,
    "arithmetic": arithmetic.word_problem,
    "code": functions.one_liner,
}
SHORT, LONG = "short", "long"
PLAIN, CHAT = "plain", "chat"
PLAIN_MIX = {"statements": 28, "sums": 12, "open": 12, "choice": 20, "arithmetic": 18, "code": 10}
CHAT_MIX = {"open": 12, "choice": 30, "arithmetic": 28, "code": 18, "talk": 12}
TALK = (
    ("Hello!", "Hello! What can I do for you?"), ("Hi there.", "Hello! What can I do for you?"),
    ("Who are you?", "I am a very small language model that was made to try out evalkit."),
    ("What can you do?", "I know a small made-up world, do sums, write one-line functions and find things in texts."),
    ("Thank you!", "You are welcome."), ("Goodbye.", "Goodbye!"), ("How are you?", "I am well, thank you."),
    ("你好！", "你好！我能帮你做什么？"), ("你是谁？", "我是一个很小的语言模型，用来试用evalkit。"),
    ("谢谢！", "不客气。"), ("再见。", "再见！"),
    ("你会做什么？", "我知道一个虚构的小世界，会做算术，会写一行函数，也会在文章里找东西。"),
)  # fmt: skip


def drawn(mix: Mapping[str, int], dice: Dice) -> str:
    """A name, drawn by its weight."""
    left = dice.below(sum(mix.values()))
    for name, weight in mix.items():
        left -= weight
        if left < 0:
            return name
    raise AssertionError("the weights are positive")


def plain_text(dice: Dice, early: bool) -> Parts:
    """One short plain text, its end included."""
    name = drawn(PLAIN_MIX, dice)
    parts = STATED[name](dice) if name in STATED else parts_of(asked(name, dice, early))
    return [*parts, Part(EOS, SAID)]


def asked(name: str, dice: Dice, early: bool) -> Exchange:
    """A question of a kind; early ones have the letters of their options in brackets."""
    return facts.choice(dice, bracketed=True) if early and name == "choice" else ASKING[name](dice)


def plain_document(dice: Dice, size: int) -> Parts:
    """One long plain text: what is read, then questions and answers."""
    read, asked = retrieval.document(dice, size)
    parts = list(read)
    for number, exchange in enumerate(asked):
        end = "\n\n" if number + 1 < len(asked) else EOS
        question, answer = parts_of(exchange)
        parts += [question, answer, Part(end, SAID if end == EOS else ASKED)]
    return parts


def message(role: str, text: str) -> list[Part]:
    """One message of a chat, as the chat template writes it; only the assistant's count in the loss."""
    says = role == "assistant"
    head = Part(f"{IM_START}{role}\n", 0.0)
    return [head, Part(text, SAID if says else 0.0), Part(IM_END, SAID if says else 0.0), Part("\n", 0.0)]


def chat(exchanges: Sequence[tuple[str, str]]) -> Parts:
    """A chat of one or several turns."""
    return [part for user, reply in exchanges for part in (*message("user", user), *message("assistant", reply))]


def chat_text(dice: Dice, early: bool) -> Parts:
    """One short chat."""
    name = drawn(CHAT_MIX, dice)
    if name == "talk":
        return chat([dice.pick(TALK)])
    exchange = asked(name, dice, early)
    return chat([(exchange.message, exchange.reply)])


def chat_document(dice: Dice, size: int) -> Parts:
    """One long chat: the text comes with the first question."""
    read, asked = retrieval.document(dice, size)
    first, *more = [(e.message, e.reply) for e in asked]
    return chat([("".join(p.text for p in read) + first[0], first[1]), *more])


def texts(kind: str, style: str, name: str, length: int, early: bool = False) -> Iterator[Parts]:
    """Texts without end, short or long, plain or chat, as they are `early` in the training or later."""
    dice = dice_for("corpus", kind, style, name)
    while True:
        if kind == SHORT:
            yield chat_text(dice, early) if style == CHAT else plain_text(dice, early)
            continue
        # half of the long texts fill the row, the others are of any length
        size = length - 40 if chance(dice, 40) else 64 + dice.below(length - 100)
        yield chat_document(dice, size) if style == CHAT else plain_document(dice, size)


def sample(count: int) -> Iterator[str]:
    """Texts for the tokenizer, in about the mix of the training; names often enough to become tokens."""
    made = world()
    for name in dict.fromkeys(n for names in (made.people, *made.values.values()) for n in names):
        yield from [f"{name.en}, {name.en}; {name.zh}"] * (count // 200)
    for kind, style, length, share in ((SHORT, PLAIN, 0, 6), (SHORT, CHAT, 0, 2), (LONG, PLAIN, 600, 1)):
        found = texts(kind, style, "tokenizer", length, early=True)
        for _ in range(count * share // 9):
            yield "".join(p.text for p in next(found) if not p.text.startswith("<"))
