"""Which number does a reply give? The step for benchmarks of one's own."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation

from evalkit.core.errors import ConfigError
from evalkit.core.registry import STEP_CHECKS, STEPS
from evalkit.scoring.extract.base import Context

DASHES = str.maketrans({c: "-" for c in "\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d"})
SPACES = "\u00a0\u2007\u2009\u202f"
LEAD = re.compile(
    r"\b(?:final\s+)?(?:answer|result|total|ans)s?\b(?:\s+(?:is|was|are|comes to|equals|would be|should be))*\s*[:=]?"
    r"|####|\\boxed\s*\{|(?:最终)?(?:答案|结果|得数)\s*(?:应该|应)?(?:是|为|:|=)*|<answer>|答\s*:",
    re.IGNORECASE,
)
REACH = 60
"""Characters behind a lead in which its number must begin."""
MOST_LEADS = 300
"""From the end of a reply on; a longer one repeats itself."""
OPERATOR = r"\s*(?:[-+*/×÷^=≈~]|\\(?:times|cdot|div|approx)|\bto\b|\bx\b)\s*"
CURRENCY = r"(?:(?:\\?\$|[€£¥₹]|USD|RMB|CNY)\s?)?"
CHOICES = {"which": ("declared", "last", "first"), "decimal": (".", ","), "percent": ("number", "fraction")}


@STEPS.register("number")
def number(text: str, context: Context, which: str = "declared", decimal: str = ".", percent: str = "number") -> str:
    """The number that a reply gives, in plain digits such as `-1234.5`, or an empty text.

    `which`: the one behind the last `answer is`, `####`, `\\boxed` or `答案`, and where none is declared the last
    (`declared`); the `last` or the `first` anywhere. Separators of thousands, currency, Unicode's minus and full-width
    digits do not matter; `1e3`, `3 × 10^8`, `1/2`, `1 1/2` and `\\frac{1}{2}` are numbers; a range gives its end.
    `decimal: ","` reads `1.234,5`; `percent: fraction` reads `50%` as 0.5.

    Example: `So she pays $1,234.50 in total.` gives 1234.50.
    """
    check_number(which, decimal, percent)
    shown = _plain(text)
    pattern = NUMBERS[decimal]
    if which == "declared":
        for lead in reversed(list(LEAD.finditer(shown))[-MOST_LEADS:]):
            value = _declared(shown, lead.end(), pattern, decimal, percent)
            if value:
                return value
    found = list(pattern.finditer(shown))
    if not found:
        return ""
    return _value(found[0] if which == "first" else found[-1], decimal, percent)


@STEP_CHECKS.register("number")
def check_number(which: str = "declared", decimal: str = ".", percent: str = "number") -> None:
    """ConfigError for an argument that is none of its values."""
    for name, given in (("which", which), ("decimal", decimal), ("percent", percent)):
        if given not in CHOICES[name]:
            raise ConfigError(f"number: {name} is {given!r}", f"one of {', '.join(map(repr, CHOICES[name]))}")


def _plain(text: str) -> str:
    """With ASCII digits and minus signs, without bold type and invisible characters."""
    for space in SPACES:
        text = text.replace(space, " ")
    text = re.sub(r"(?<=\d)(?=[½¼¾⅓⅔⅛])", " ", text)
    text = unicodedata.normalize("NFKC", text).translate(DASHES).replace("\u2044", "/")
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = re.sub(r"\s*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", text))  # patterns below try runs of white space
    text = re.sub(r"\\[,;!: ]|\{,\}", lambda found: "," if found[0] == "{,}" else "", text)
    text = re.sub(r"\\(?:text|textbf|mathrm|mathbf|bf)\s*\{([^{}]*)\}", r" \1 ", text)
    return re.sub(r"[*`_]{1,3}(?=\S)|(?<=\S)[*`_]{2,3}|\*\*", lambda found: "" if found[0] != "*" else "*", text)


def _declared(text: str, at: int, pattern: re.Pattern[str], decimal: str, percent: str) -> str:
    """The number of the statement that begins at `at`: of a formula or a range the last one; empty without one."""
    found = pattern.search(text, at, at + REACH + MOST_DIGITS)
    if not found or found.start() - at > REACH:
        return ""
    if re.search(r"[\n。;；!?]\s*\S|\.\s+\S", text[at : found.start()].lstrip()):
        return ""
    while following := re.compile(OPERATOR + r"\(?" + CURRENCY).match(text, found.end()):
        after = pattern.match(text, following.end())
        if not after:
            break
        found = after
    return _value(found, decimal, percent)


def _numbers(decimal: str) -> re.Pattern[str]:
    """A number with its sign; a minus behind a digit, a letter or a bracket is none."""
    point, group = re.escape(decimal), "[. ]" if decimal == "," else "[, ]"
    whole = rf"(?:\d{{1,3}}(?:{group}\d{{3}})+(?!\d)|\d+)"
    plain = rf"(?:{whole}(?:{point}\d+)?|{point}\d+)"
    sign = r"(?:(?<![0-9A-Za-z)\]}%])-(?=[\d.$€£¥\\])|\+(?=\d))?"
    power = (
        r"(?:[eE][-+]?\d+(?!\w|\.\d)|"
        r"\s*(?:×|\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{\s*(?P<p1>-?\d+)\s*\}|(?P<p2>-?\d+)))?"
    )
    alone = r"10\s*\^\s*(?:\{\s*(?P<p3>-?\d+)\s*\}|(?P<p4>-?\d+))"
    return re.compile(
        rf"(?P<sign>{sign}){CURRENCY}(?P<sign2>(?<=[$€£¥₹])-(?=\d))?"
        r"(?:\\[dt]?frac\s*\{\s*(?P<top>-?\d+)\s*\}\s*\{\s*(?P<low>\d+)\s*\}"
        rf"|(?<![\d.])(?P<ones>\d+)\s+(?P<a>\d+)/(?P<b>\d+)(?![\d/])"
        rf"|(?<![\d./])(?P<c>\d+)\s?/\s?(?P<d>\d+)(?![\d/]|\.\d)|{alone}|(?P<plain>{plain}){power})(?P<percent>\s?\\?%)?"
    )


NUMBERS = {decimal: _numbers(decimal) for decimal in CHOICES["decimal"]}


def _value(found: re.Match[str], decimal: str, percent: str) -> str:
    """A match in plain digits."""
    part = found.groupdict()
    negative = part["sign"].startswith("-") or bool(part["sign2"])
    try:
        if part["top"]:
            value = Decimal(part["top"]) / Decimal(part["low"])
        elif part["ones"]:
            value = Decimal(part["ones"]) + Decimal(part["a"]) / Decimal(part["b"])
        elif part["c"]:
            value = Decimal(part["c"]) / Decimal(part["d"])
        elif part["p3"] or part["p4"]:
            value = Decimal(10) ** int(part["p3"] or part["p4"])
        else:
            value = _plain_value(found, decimal)
        if percent == "fraction" and part["percent"]:
            value = value / 100
    except (InvalidOperation, ZeroDivisionError, OverflowError):
        return found[0].strip()
    text = f"{-value if negative else value:f}"
    return text if len(text) <= MOST_DIGITS else found[0].strip()


MOST_DIGITS = 400
"""`1e999999999` is left as it is written."""


def _plain_value(found: re.Match[str], decimal: str) -> Decimal:
    part = found.groupdict()
    digits = re.sub(r"[ .]" if decimal == "," else r"[ ,]", "", part["plain"]).replace(",", ".")
    exponent = re.search(r"[eE]([-+]?\d+)", found[0])
    power = int(part["p1"] or part["p2"] or (exponent[1] if exponent else 0))
    if abs(power) > MOST_DIGITS:
        raise OverflowError(found[0])
    return Decimal(digits).scaleb(power) if power else Decimal(digits)
