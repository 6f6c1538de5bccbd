"""The key: read from the environment, put into one header, taken out of every text that comes back."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote

from evalkit.core.errors import ModelError
from evalkit.engines.openai_api.options import Options

LONG_ENOUGH = 16
"""Shorter keys are placeholders (`EMPTY`) and could be ordinary words of a reply."""
SHORT_PART = 8
"""Characters of a part that no message shows; replies may hold such by chance."""
SEPARATORS = r"[\s\-_.,:;|/*'\"]{0,3}"
MARK = "[key]"


@dataclass(frozen=True)
class Secret:
    """A key that shows itself only in `headers`."""

    _value: str = field(default="", repr=False)
    _header: str = ""

    def headers(self) -> dict[str, str]:
        """The header that carries the key; none without one."""
        if not self._value:
            return {}
        return {self._header: self._value} if self._header else {"Authorization": f"Bearer {self._value}"}

    def hide(self, text: str) -> str:
        """A message of the server without the key: whole, in parts, spelled apart, or encoded."""
        if not self._value:
            return text
        text = text.replace(self._value, MARK)
        return _traces(self._value, SHORT_PART).hide(text) if len(self._value) >= LONG_ENOUGH else text

    def hide_long(self, text: str) -> str:
        """A body or a reply without the key or long parts of it, unless it is so short that it may be a word."""
        return _traces(self._value, LONG_ENOUGH).hide(text) if len(self._value) >= LONG_ENOUGH else text


@dataclass(frozen=True)
class Traces:
    """What gives a key away."""

    spelled: re.Pattern[str]
    """The whole key, also with separators between its characters."""
    blocks: tuple[str, ...]
    """Every part holds one of these; a text without any is quickly done."""
    parts: re.Pattern[str]
    """Runs of parts that overlap."""

    def hide(self, text: str) -> str:
        """The text with a mark for every trace."""
        text = self.spelled.sub(MARK, text)
        return self.parts.sub(MARK, text) if any(block in text for block in self.blocks) else text


@lru_cache(maxsize=4)
def _traces(key: str, part: int) -> Traces:
    """The key spelled apart, and parts of so many characters of its usual forms."""
    forms = [key, key[::-1], quote(key, safe=""), key.encode().hex(), key.encode().hex().upper(), *_base64_forms(key)]
    parts = {form[i : i + part] for form in forms for i in range(len(form) - part + 1)}
    block = part // 2  # a window of `part` characters holds a whole block, wherever it begins
    blocks = {form[i : i + block] for form in forms for i in range(0, len(form) - block + 1, block)}
    starts = "|".join(map(re.escape, sorted(parts)))
    return Traces(
        re.compile(SEPARATORS.join(map(re.escape, key))),
        tuple(sorted(blocks)),
        re.compile(f"(?:(?={starts}).)+.{{{part - 1}}}", re.DOTALL),
    )


def _base64_forms(key: str) -> Iterator[str]:
    """The key in base64 at each of the three places in a longer text, without the characters that depend on it."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift, begin in ((0, 0), (1, 2), (2, 3)):
            whole = (shift + len(key)) // 3 * 4
            yield encode(b"\0" * shift + key.encode()).decode()[begin:whole]


def read_secret(options: Options, model: str) -> Secret:
    """The key of the environment; ModelError, with the variable's name, when it is not set or fits no header."""
    if not options.api_key_env:
        return Secret()
    value = os.environ.get(options.api_key_env, "").strip()
    if not value:
        raise ModelError(f"{model}: no key, ${options.api_key_env} is not set", f"export {options.api_key_env}=…")
    if not (value.isascii() and value.isprintable()):
        raise ModelError(f"{model}: the key in ${options.api_key_env} holds signs that no header can carry", "check it")
    return Secret(value, options.api_key_header)
