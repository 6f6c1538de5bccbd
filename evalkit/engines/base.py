"""What every engine offers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from evalkit.core.records import Reply, Request


class Engine(Protocol):
    """A loaded model, or whatever answers in its place."""

    def run(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Yield one reply a request, each as soon as it is known, in any order.

        A request that cannot be answered yields a Reply with `error`; only a failure that
        concerns all requests raises.
        """
        ...

    def describe(self) -> Mapping[str, Any]:
        """Facts for the manifest: device, dtype, attention, limits."""
        ...

    def close(self) -> None:
        """Give back the device."""
        ...
