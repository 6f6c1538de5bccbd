"""evalkit: benchmark evaluation of language models whose numbers match the published tables.

import evalkit
benchmark = evalkit.load_benchmark("gsm8k_gen_17d0dc", data_root="data")
scores = evalkit.evaluate(models=["tiny_base"], datasets=["gsm8k"], data_root="data", limit=8)
"""

from typing import TYPE_CHECKING, Any

from evalkit.core.version import __version__

if TYPE_CHECKING:
    from evalkit.api import BenchmarkHandle, evaluate, load_benchmark

__all__ = ["BenchmarkHandle", "__version__", "evaluate", "load_benchmark"]


def __getattr__(name: str) -> Any:
    """The public functions, imported when first used, so that `import evalkit` costs nothing."""
    if name in __all__:
        import importlib

        return getattr(importlib.import_module("evalkit.api"), name)
    raise AttributeError(f"module 'evalkit' has no attribute {name!r}")
