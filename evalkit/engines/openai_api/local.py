"""The model's tokenizer beside the endpoint: counts, boundaries, first tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.engines.openai_api.faults import Rejected
from evalkit.engines.openai_api.options import Options
from evalkit.engines.tokenizer import FastTokenizer, TextTokenizer, load_tokenizer


@dataclass(frozen=True)
class LocalTokens:
    """A tokenizer that must be the server's own."""

    tokenizer: TextTokenizer
    specials: int | None
    """Special tokens that it puts around a text; None where it does not say."""

    def ids(self, text: str) -> Sequence[int]:
        """Token ids without special ones."""
        return self.tokenizer.encode(text)

    def check(self, text: str, count: int) -> None:
        """Rejected when the server counts other tokens than this tokenizer has."""
        own = len(self.ids(text))
        if self.specials is None and count - own in (0, 1):
            return
        if count != own + (self.specials or 0):
            raise Rejected(
                f"the server counts {count} tokens, {self.tokenizer.name} has {own} and {self.specials} special ones: "
                "not the same tokenizer, or a BOS too few or too many"
            )


def load_local(options: Options) -> LocalTokens | None:
    """The tokenizer of the options; None without one. DataError when it cannot be read."""
    if not options.tokenizer:
        return None
    tokenizer = load_tokenizer(options.tokenizer)
    inner: Any = tokenizer.inner if isinstance(tokenizer, FastTokenizer) else None
    return LocalTokens(tokenizer, inner.num_special_tokens_to_add(False) if inner is not None else None)
