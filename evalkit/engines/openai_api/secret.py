"""The key: read from the environment, put into one header, taken out of every text that comes back."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from evalkit.core.errors import ModelError
from evalkit.engines.openai_api.options import Options

LONG_ENOUGH = 16
"""Shorter keys are placeholders (`EMPTY`) and could be ordinary words of a reply."""
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
        """A message of the server without the key."""
        return text.replace(self._value, MARK) if self._value else text

    def hide_long(self, text: str) -> str:
        """A body or a reply without the key, unless the key is so short that it may be an ordinary word."""
        return self.hide(text) if len(self._value) >= LONG_ENOUGH else text


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
