"""Which option does a reply choose? The step for benchmarks of one's own, in English and Chinese.

A reply is read as a person would: what it declares last (`the answer is`, `\\boxed{}`, `故选`), else a letter that
stands by itself, else the only option that it judges right, else an option's own text. A reply that names several
options, or none, chooses nothing.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from evalkit.core.errors import ConfigError
from evalkit.core.registry import STEPS
from evalkit.scoring.extract.base import Context

LETTERS = string.ascii_uppercase
YES = frozenset(("yes", "true", "correct", "right", "✓", "✔", "√", "✅", "☑", "对", "正确", "是"))
MOST_LEADS = 300
"""From the end of a reply on; a longer one repeats itself."""
SHORT = 200
"""Characters up to which a reply is one statement, in which an option's text is looked for anywhere."""

# Leads to an answer. What follows is skipped by FILLER up to a letter or an option's text.
_ADJECTIVE = r"(?:(?:final|correct|right|best|proper|appropriate|suitable|most \w+|only|true|likely|single)\s+){0,3}"
_NOUN = r"(?:answer|choice|option|ans|response|selection|solution|statement)s?"
_OF = r"(?:\s+(?:choice|option|letter|here|for this|to this|to the|for the|question|problem|statement|one)){0,4}"
_IS = (
    r"[\"']?\s*(?:is|are|was|(?:would|should|must|will|has to|can|could|may|might)(?: only)? be|becomes|:|=|-+>|"
    r"→|⇒|—|–|-)"
)
LEADS = (
    rf"{_ADJECTIVE}{_NOUN}{_OF}{_IS}",
    r"\b(?:correct|right|best|true)(?:\s+(?:one|statement|answer|option))?\s+(?:is|would be|should be|must be)\b",
    r"\b(?:choose|chose|pick|picked|select|selected|go(?:ing)? with|went with|opt(?:ed)? for|vote for|settle on|"
    r"choosing|picking|selecting|lean(?:ing)? towards?|bet on|leaves|say|guess|believe|think|conclude)\b(?:\s+that)?",
    r"\b(?:it|that|this)(?:'s| is| must be| should be| has to be| would be)\b",
    r"\b(?:therefore|thus|hence|so|consequently|then)\b,?",
    r"(?:正确)?(?:的)?(?:最终|最佳|正确|最合适的|最恰当的|标准|参考|本题)?(?:的)?(?:答案|回答|选项|选择|结果)"
    r"(?:的)?(?:选项|字母)?\s*(?:应该|应当|应|就|也|只能|可能)?(?:是|为|选择|选|:|=|即|】)+",
    r"(?:正确|对|合适|恰当|符合\S{0,6}|错误|不正确)的(?:选项|答案|说法|一项|一个|是){0,3}(?:应该|应)?(?:是|为|:)",
    r"(?<![不未非没勿可供])(?:故|应该?|所以|因此|我|只能|综上|于是|可以|就|则|建议|倾向于?|最终|我会|我的){0,4}"
    r"(?:选择|选取|选)(?:的是|出|:|了)*",
    r"(?:所以|因此|故|综上(?:所述)?|显然|可知|应该?|那么|则|从而)[,:]?\s*(?:答案|应该?|就)?(?:是|为|选择?)?",
    r"我?(?:认为|觉得|猜测?|相信|判断)(?:答案|应该?)*(?:是|选择?|为)?|而是|,\s*是|答\s*:",
    r"\bans\.\s*|\b(?:i|i'd|i'll|would|will)\s+answer\b",
    r"\b(?:we|i)\s+(?:get|have|obtain|find|arrive at|end up with)\b",
)
TAGS = r"<(?:answer|ans|final_answer|choice|option)>|####"
LEAD = re.compile("|".join(f"(?:{lead})" for lead in (*LEADS, TAGS)), re.IGNORECASE)
FILLER = re.compile(
    r"(?:\s|[\"'“”‘’「」『』《》\[\]【】{}<>:;,=—–\-~]|\((?![A-Za-z0-9]\))|"
    r"\b(?:is|be|that|option|choice|letter|answer|likely|probably|clearly|definitely|therefore|thus|simply|"
    r"obviously|indeed|most|number|it's|it|just|only|still|going to|to|with|will|would|should|must)\b|"
    r"选项|选择|答案|第|选|应该?|就|是|为|字母|的)*",
    re.IGNORECASE,
)
BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
NOT = re.compile(r"\s*(?:not\b|n't|neither|none|never|isn't|不|非|没|并非|无)", re.IGNORECASE)
NEGATED = re.compile(
    r"(?:\b(?:not|never|cannot|can't|don't|doesn't|won't|wouldn't|isn't|neither|nor|without|rather than|instead of|"
    r"if|whether|suppose|assuming|unless|eliminate|exclude)\b|不|未|没|别|非|勿|排除|如果|若|假如|假设|是否)[^.,!?。;、\n]{0,12}$",
    re.IGNORECASE,
)
LONE = re.compile(
    r"^(?:(?:option|choice|letter|probably|definitely|certainly|likely|maybe|perhaps|surely|clearly|选项|选|大概|可能|是)"
    r"[\s,]*)+|(?:\s*选?项|[\s,]*i (?:think|guess|believe))$",
    re.IGNORECASE,
)
DENIED = re.compile(r"\b(?:not|never|cannot|neither|nor|either|or|if|whether)\b|n't\b|不|没|非|无法|或")
ASKED = re.compile(r"[)\].\"'”’\s]*(?:吗|么|呢|,? right|,? or)?\s*\?")
RETRACTED = re.compile(
    r"\b(?:wait|actually|hmm+|sorry|correction|on second thou?ghts?|scratch that|let me re\w+|no,|oops|my mistake)"
    r"|等等|等一下|更正|不对[,,。]|重新|抱歉|我错了|改为|改选",
    re.IGNORECASE,
)
WRONG = (
    r"\s*[:–-]?(?:\s*(?:is|are|was|seems?|looks?|项|选项|的?说法|的?表述|答案)*\s*"
    r"(?:clearly|also|definitely|therefore|obviously|simply|just|completely|都|也|是|显然|明显|均)*\s*"
    r"(?:wrong|incorrect|not (?:correct|right|true|the answer|it)|false|inaccurate|untrue|ruled out|eliminated|"
    r"excluded|错误|错|不对|不正确|不符|不合|不成立|不选|排除|有误))"
)
RIGHT = (
    r"\s*[:–-]?(?:\s*(?:项|选项|的?说法|的?表述|答案)?(?:\s*(?:is|must be|seems?|looks?|as|to be|being))*\s*"
    r"(?:the|a|most|clearly|also|definitely|therefore|only|indeed|best|是|才是|显然|最|完全|均|也|为)*\s*"
    r"(?:\s*(?:one|option|choice|statement)\s+(?:that is)?\s*)?"
    r"(?:correct|right|true|best|accurate|(?<=the )answer|"
    r"only (?:one|option|choice) that (?:fits|works|applies)|正确|对|符合|合适|恰当|准确|成立|最佳))"
)


@STEPS.register("choice")
def choice(text: str, context: Context, options: str | Sequence[str] = "", texts: str | Sequence[str] = "") -> str:
    """The letter of the option that a reply chooses, or an empty text.

    Letters come from `options`, else from the benchmark's labels, else they count the options' texts from A on.
    `texts` names the column of the row with the options' texts (a list, or a mapping with `text` and `label`), or one
    column an option; without it columns named as the letters, `choices` or `options` are taken. 1 to 26 options; rows
    may differ in how many. Bold type, LaTeX, full-width and invisible characters do not matter.

    Example: `Let me see… ANSWER: **(b)**` gives B; `As a large language model I cannot answer` gives nothing.
    """
    letters, own = option_list(context, options, texts)
    return chosen(text, letters, own)


def option_list(
    context: Context, options: str | Sequence[str] = "", texts: str | Sequence[str] = ""
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(letters, the options' texts, empty where none are known) of a sample; ConfigError where there are no letters."""
    row = context.get("row") or {}
    labels = tuple(map(str, options or context.get("options") or ()))
    listed, own_labels = _listed(row, texts, labels)
    letters = labels or own_labels or tuple(LETTERS[: len(listed)])
    if listed and not options and len(listed) != len(letters) and not context.get("varying"):
        letters = letters[: len(listed)] if len(listed) < len(letters) else tuple(LETTERS[: len(listed)])
    if not letters or len(letters) > len(LETTERS) or any(len(x) != 1 for x in letters):
        raise ConfigError(
            f"choice needs 1 to {len(LETTERS)} options of one letter each, not {list(letters)}",
            "labels: [A, B, C, D], or `choice: {texts: COLUMN}` for a column with the options' texts",
        )
    return letters, listed if len(listed) == len(letters) else ()


def _listed(row: Mapping[str, Any], texts: str | Sequence[str], labels: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """(the options' texts, the letters that the column itself gives them)."""
    names = [texts] if isinstance(texts, str) else list(texts)
    if not names or names == [""]:
        if labels and all(label in row for label in labels):
            names = list(labels)
        else:
            names = [name for name in ("choices", "options") if isinstance(row.get(name), (list, tuple, Mapping))][:1]
    elif missing := [name for name in names if name not in row]:
        if row:
            raise ConfigError(f"choice: the row has no column {missing[0]!r}", f"columns: {', '.join(row)}")
        return (), ()
    if not names:
        return (), ()
    if len(names) > 1:
        values = [row[name] for name in names]
        return tuple(str(v) for v in values if v is not None and str(v).strip()), ()
    value = row[names[0]]
    if isinstance(value, Mapping):
        value, own = value.get("text", ()), value.get("label", ())
        return tuple(map(str, value)), tuple(map(str, own))
    return (tuple(map(str, value)), ()) if isinstance(value, (list, tuple)) else ((), ())


def chosen(text: str, letters: Sequence[str], texts: Sequence[str] = ()) -> str:
    """The chosen letter, or an empty text; `texts` are the options' own, in the letters' order."""
    reader = _reader(tuple(letters))
    shown = plain(text)
    own = {letter: key(option) for letter, option in zip(letters, texts, strict=False) if key(option)}
    if len(set(own.values())) < len(own):
        own = {}
    return reader.declared(shown, own) or reader.alone(shown, own) or reader.judged(shown) or by_text(shown, own)


def plain(text: str) -> str:
    """Without full-width forms, invisible characters, bold type and the LaTeX around letters."""
    text = unicodedata.normalize("NFKC", text).replace("\r\n", "\n")
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Mn") or c == "\n")
    text = re.sub(r"\\(?:text|textbf|textit|mathrm|mathbf|mathsf|rm|bf|operatorname)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"<\|[^|<>]{0,40}\|>", "\n", text)
    text = re.sub(r"\\[()\[\],;!: ]", " ", text)
    text = re.sub(r"\s*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", text))  # patterns below try runs of white space
    return re.sub(r"[*`$_]+|^#{1,3}(?=\s)|</?(?:b|strong|i|em|u|code|p|span)>", "", text, flags=re.MULTILINE)


def key(text: str) -> str:
    """A text by which options are compared: lower case, no punctuation at its ends, one space between words."""
    text = " ".join(plain(str(text)).casefold().split())
    text = text.strip(" .,;:!?\"'()[]{}。，；：！？“”‘’、<>")
    return re.sub(r"^(?:the|an?)\s+(?=\w)", "", text)


@dataclass(frozen=True)
class _Reader:
    """The patterns for one set of letters."""

    letters: tuple[str, ...]
    any_case: re.Pattern[str]
    """A letter that stands by itself, of either case, with the brackets around it."""
    line: re.Pattern[str]
    """The beginning of a line that begins with a letter as an option does."""
    right: tuple[re.Pattern[str], ...]
    """A letter and the judgement that it is right."""
    wrong: tuple[re.Pattern[str], ...]
    only: tuple[re.Pattern[str], ...]
    """The same, with the word that no other is."""
    also: re.Pattern[str]
    """Behind a letter: another one, as in `A or B`."""
    named: tuple[re.Pattern[str], ...]
    """A letter that is called an option, or stands in brackets."""
    last: re.Pattern[str]
    """A letter that ends a line behind a comma or colon, where no other one stands before that."""
    listed: re.Pattern[str]
    """A letter that begins an option in the middle of a line."""

    def declared(self, text: str, own: Mapping[str, str]) -> str:
        """The last answer that the reply commits itself to."""
        leads = sorted([*BOXED.finditer(text), *LEAD.finditer(text)], key=lambda found: found.end())
        for found in reversed(leads[-MOST_LEADS:]):
            front = text[max(0, found.start() - 30) : found.start()]
            if NEGATED.search(front) and not re.match(r",|而是", found[0]):
                continue
            answer, end = self._after(text, found.end(), own, weak=self._is_weak(found))
            if answer is None or ASKED.match(text, end):
                continue
            better = self._retracted(text, end, answer) if answer else None
            return answer if better is None else better
        return ""

    @staticmethod
    def _is_weak(found: re.Match[str]) -> bool:
        """Leads that also stand before other words, so that only a letter which ends its clause counts."""
        lead = found[0].casefold()
        return bool(
            re.match(r"(?:it|that|this)\b|(?:therefore|thus|hence|so|consequently|then)\b|think|say|believe", lead)
        )

    def _after(self, text: str, at: int, own: Mapping[str, str], weak: bool) -> tuple[str | None, int]:
        """(the answer behind a lead, where it ends); None where nothing is declared, empty where several are."""
        if NOT.match(text, at):
            return None, at
        filled = FILLER.match(text, at)
        start = filled.end() if filled else at
        if NOT.match(text, start):
            return None, at
        found = self.any_case.match(text, start)
        if found and self._is_letter(text, found, weak):
            letter = found["x"].upper() if found["x"].upper() in self.letters else found["x"]
            if self.also.match(text, found.end()):
                return "", found.end()
            rest = text[found.end() : found.end() + 300].partition("\n")[0]
            if len({m[0][0] for m in self.listed.finditer(rest)} - {letter}) > 1:
                return None, at
            return letter, found.end()
        clause = re.split(r"[\n。;；]|\.(?=\s|$)", text[start : start + 300], maxsplit=1)[0]
        said = key(clause)
        fits = [letter for letter, option in own.items() if said == option or _begins(said, option)]
        if fits:
            return max(fits, key=lambda letter: len(own[letter])), start + len(clause)
        if not weak:
            named = _letters_in(self.named, clause[:120])
            if len(named) == 1 and not NEGATED.search(clause[:60]):
                return named.pop(), start + len(clause)
        return None, at

    def _is_letter(self, text: str, found: re.Match[str], weak: bool) -> bool:
        """Whether a match is an option's letter: no article, no pronoun, no lower-case word."""
        letter, after = found["x"], text[found.end() : found.end() + 24]
        ends = not after.strip() or bool(re.match(r"\s*(?:[.,;:!?)\]}\"'”。,;!、）】<\n|]|$)", after))
        if letter.islower() and letter.upper() in self.letters and letter not in self.letters:
            return ends or found[0].rstrip()[-1:] in ")]}"
        if weak and not ends:
            return bool(re.match(r"\s*(?:because|since|as\b|due|is (?:the|right|correct|best|my)\b|项|选项)", after))
        if letter in "AI" and re.match(r"\s+[a-z]", after):
            return bool(
                re.match(r"\s+(?:because|since|as\b|due|which|for\b|is\b|and not|not\b|based|given|with)", after)
            )
        return True

    def _retracted(self, text: str, end: int, last: str) -> str | None:
        """What a reply says after it has taken its answer back; None where it has not."""
        found = RETRACTED.search(text, end)
        if not found:
            return None
        rest = text[found.start() :]
        right = _letters_in(self.right, rest)
        wrong = _letters_in(self.wrong, rest)
        better = right - wrong
        if len(better) == 1:
            return better.pop()
        said_wrong = re.search(
            r"(?:that|this|it)(?:'s| is| was)\s+(?:wrong|incorrect|not right)|我错了|不对", rest, re.I
        )
        return "" if last in wrong or (said_wrong and not right) else None

    def alone(self, text: str, own: Mapping[str, str]) -> str:
        """The letter that a whole reply, its last line or its first line consists of."""
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        if not lines:
            return ""
        begun = [found["x"] if (found := self.line.match(line)) else "" for line in lines]
        for index, beside in ((-1, -2), (0, 1)):
            listed = len(lines) > 1 and begun[index] and begun[beside] not in ("", begun[index])
            letter = "" if listed else self._lone(lines[index], own, whole=len(lines) == 1)
            if letter:
                return letter
        if begun[0] and set(begun) <= {begun[0], ""} and not self.also.match(lines[0], self._end_of_letter(lines[0])):
            return begun[0]
        verdicts = {x for line, x in zip(lines, begun, strict=True) if x and self._is_yes(line, own)}
        if len(verdicts) == 1:
            return verdicts.pop()
        last = self.last.search(lines[-1])
        return last["x"] if last else ""

    def _end_of_letter(self, line: str) -> int:
        found = self.line.match(line)
        return found.end("x") if found else 0

    def _is_yes(self, line: str, own: Mapping[str, str]) -> bool:
        """Whether a line that begins with an option says yes to it, where that is not the option's own text."""
        found = self.line.match(line)
        said = key(line[found.end() :]) if found else ""
        return said in YES and said not in own.values()

    def _lone(self, line: str, own: Mapping[str, str], whole: bool) -> str:
        bare = re.sub(r"^\W+|\W+$", "", line)
        bare = LONE.sub("", bare).strip(" .:()")
        if bare in self.letters:
            return bare
        if bare.upper() in self.letters and len(bare) == 1 and (whole or "(" in line or ")" in line):
            return bare.upper()
        found = self.line.match(line)
        if found and own:
            said = key(line[found.end() :])
            if said and (said == own.get(found["x"]) or _begins(said, own.get(found["x"], ""))):
                return found["x"]
        return ""

    def judged(self, text: str) -> str:
        """The only option that the reply calls right; `only B is right` outweighs the rest."""
        only = _letters_in(self.only, text)
        if len(only) == 1:
            return only.pop()
        wrong = _letters_in(self.wrong, text)
        right = _letters_in(self.right, text) - wrong
        if len(right) == 1:
            return right.pop()
        return self._last_named(text) if not right else ""

    def _last_named(self, text: str) -> str:
        """The letter that a short statement ends in or begins with, where it names no other."""
        found = [match for pattern in self.named for match in pattern.finditer(text)]
        edges = [m for m in found if not text[m.end() :].strip(" .!。)\n") or not text[: m.start()].strip(" (\n")]
        if len({m["x"] for m in found}) != 1 or not edges or len(text) > SHORT or self.wrong[0].search(text):
            return ""
        at = edges[0].start()
        return "" if NEGATED.search(text[max(0, at - 30) : at]) else edges[0]["x"]


def _begins(said: str, option: str) -> bool:
    """Whether a statement begins with an option's text, as whole words."""
    if not option or not said.startswith(option):
        return False
    after = said[len(option) : len(option) + 1]
    return not (after.isalnum() and option[-1:].isascii() and after.isascii())


def by_text(text: str, own: Mapping[str, str]) -> str:
    """The option whose own text the reply, its last line or, in a short reply, any part of it is."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines or not own:
        return ""
    for said in (key(text), key(lines[-1])):
        equal = [letter for letter, option in own.items() if said == option]
        if equal:
            return equal[0]
    said = " ".join(text.casefold().split())
    if len(said) > SHORT:
        return ""
    places = {letter: _place(said, option) for letter, option in own.items()}
    found = {letter: at for letter, at in places.items() if at >= 0}
    left = [x for x in found if not any(other != x and own[x] in own[other] for other in found)]
    if len(left) != 1 or len(own[left[0]]) < 2 or own[left[0]].isdigit():
        return ""
    at = found[left[0]]
    sentence = re.split(r"[.!?。\n]", said[:at])[-1]
    return "" if DENIED.search(sentence) or ASKED.match(said, at + len(own[left[0]])) else left[0]


def _place(said: str, option: str) -> int:
    """Where an option's text stands as whole words; -1 where it does not."""
    edge = r"(?<![a-z0-9])" if option[:1].isascii() else ""
    found = re.search(edge + re.escape(option) + (r"(?![a-z0-9])" if option[-1:].isascii() else ""), said)
    return found.start() if found else -1


@lru_cache(maxsize=64)
def _reader(letters: tuple[str, ...]) -> _Reader:
    one = "[" + "".join(map(re.escape, letters)) + "]"
    both = "[" + "".join(re.escape(c) for x in letters for c in dict.fromkeys((x, x.lower()))) + "]"
    front, back = r"(?<![A-Za-z0-9\\])", r"(?![A-Za-z0-9])(?!['’][A-Za-z])(?!-[A-Za-z])(?!\.[A-Za-z0-9])"
    x = rf"{front}(?P<x>{one}){back}"
    named = rf"(?:\b(?:[Oo]ption|[Cc]hoice|[Ss]tatement|[Aa]nswer)s?\s*|选项\s*)?\(?\s*{x}\s*\)?"
    return _Reader(
        letters=letters,
        any_case=re.compile(rf"\(?\s*{front}(?P<x>{both}){back}\s*[)\]}}]?"),
        line=re.compile(rf"\(?(?P<x>{one})\s*(?:[).:、,]|$)(?!\S*[A-Za-z]\.)"),
        right=(re.compile(named + RIGHT),),
        wrong=(re.compile(named + WRONG),),
        only=(
            re.compile(rf"(?:只有|仅有?|唯有)\s*(?:选项)?\s*{x}\s*(?:选项|项)?\s*(?:是|才)*(?:对|正确|符合|成立|可行)"),
            re.compile(rf"\b[Oo]nly\s+(?:option |choice |statement )?\(?{x}\)?\s+(?:is|can be|must be|fits|works)\b"),
        ),
        also=re.compile(
            rf"\s*[)\]]?\s*(?:\bor\b|\band\b|/|&|\||或者?|和|与|及|以及)\s*(?:option\s*|选项)?\(?{one}{back}"
            rf"|\s*[)\]]?\s*[,、]\s*(?:and\s+|or\s+)?\(?{one}{back}\s*\)?\s*(?:[.。;,、)\]]|and\b|or\b|或|和|$|\n)"
            rf"|\s*,?\s*(?:也|还)?(?:有)?(?:可能|也许|或许|还是)(?:是|选)?{one}{back}"
        ),
        named=(
            re.compile(rf"(?:\b[Oo]ption|\b[Cc]hoice|选项)\s*\(?{x}\)?"),
            re.compile(rf"\({x}\)"),
            re.compile(rf"{x}\s*(?:选项|项)"),
        ),
        last=re.compile(rf"(?<![\s:(]{one})(?<!^{one})[,:;]\s+\(?{x}\)?\W*$"),
        listed=re.compile(rf"(?<=[\s(]){one}\s*[.):、]\s*(?=\S)"),
    )


def _letters_in(patterns: Iterable[re.Pattern[str]], text: str) -> set[str]:
    """The letters that stand where the patterns say."""
    return {match["x"] for pattern in patterns for match in pattern.finditer(text)}
