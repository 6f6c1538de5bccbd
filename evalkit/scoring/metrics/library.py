"""Any metric of the `evaluate` library: `evaluate:<name or path>` in a config.

The library is loaded when results are computed, never before; a metric that is not on this machine
is fetched from the hub by the library itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalkit.core.calls import EVALUATE, check_steps, parse_calls
from evalkit.core.errors import ConfigError, DataError, first_line
from evalkit.core.registry import METRICS, did_you_mean
from evalkit.scoring.extract import extract
from evalkit.scoring.metrics.base import Case, Judged, Metric, each
from evalkit.scoring.metrics.golds import has_gold, shown

CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {"": lambda value: value, "int": int, "float": float, "str": str}


@METRICS.register(EVALUATE)
def evaluate_metric(
    path: str, name: str = "", config: str = "", gold: Any = (), convert: str = "", scale: float = 100.0,
    compute: Mapping[str, Any] | None = None,
) -> Metric:  # fmt: skip
    """A metric of the `evaluate` library over all answers and golds of a subset.

    `name`: the primary result among those it returns (default: the metric's own name); `config`: its
    configuration; `gold`: extraction steps for the gold; `convert`: int, float or str, where the metric
    wants such values; `scale`: what results are multiplied by to be percent; `compute`: arguments of
    its `compute`. Samples have no value of their own, so the score has no standard error.
    """
    if convert not in CONVERSIONS:
        raise ConfigError(f"'evaluate:{path}' cannot convert to {convert!r}", did_you_mean(convert, CONVERSIONS))
    steps = parse_calls(gold)
    check_steps(steps)
    primary = name or os.path.splitext(os.path.basename(path))[0]

    def judge(case: Case) -> dict[str, Any]:
        return {"answer": case.answer, "gold": extract(case.gold, steps, case.context)}

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        if not judged:
            return {}
        answers, golds = (_converted(judged, key, convert, path) for key in ("answer", "gold"))
        results = _compute(_load(path, config), path, answers, golds, compute or {})
        return {key: scale * value for key, value in _with_primary(results, primary, path).items()}

    def check(case: Case) -> str:
        gold = extract(case.gold, steps, case.context)
        if not has_gold(gold) or gold in ([], (), {}):
            return f"{shown(gold)} is nothing to compare with"
        try:
            CONVERSIONS[convert](gold)
        except (ValueError, TypeError):
            return f"{shown(gold)} is no {convert}"
        return ""

    return Metric(primary, each(judge), combine, check_gold=check, repeatable=False)


def _converted(judged: Sequence[Judged], key: str, convert: str, path: str) -> list[Any]:
    try:
        return [CONVERSIONS[convert](item.values[key]) for item in judged]
    except (ValueError, TypeError) as error:
        raise DataError(f"'evaluate:{path}': {key} is no {convert}: {error}", "extraction must give one") from error


def _load(path: str, config: str) -> Any:
    try:
        import evaluate

        return evaluate.load(path, config or None)
    except Exception as error:  # whatever a metric script, its imports or the network raise
        raise ConfigError(
            f"metric 'evaluate:{path}' cannot be loaded: {type(error).__name__}: {first_line(error)}",
            "without network, give the path of a metric script and install what it imports",
        ) from error


def _compute(metric: Any, path: str, answers: list[Any], golds: list[Any], more: Mapping[str, Any]) -> dict[str, float]:
    try:
        results = metric.compute(predictions=answers, references=golds, **more)
    except Exception as error:  # a metric script may raise anything
        raise DataError(
            f"metric 'evaluate:{path}' failed: {type(error).__name__}: {first_line(error)}",
            "does it take such values? `convert: int` turns answers and golds into numbers",
        ) from error
    return {key: float(value) for key, value in (results or {}).items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    """A single number, NumPy's included."""
    return not isinstance(value, (str, bytes, Sequence, Mapping)) and hasattr(value, "__float__")


def _with_primary(results: dict[str, float], primary: str, path: str) -> dict[str, float]:
    """The primary result first; a single one takes its name. ConfigError when it is not among them."""
    if primary in results:
        return {primary: results[primary], **results}
    if len(results) == 1:
        return {primary: next(iter(results.values()))}
    raise ConfigError(
        f"metric 'evaluate:{path}' gives no {primary!r}", f"set `name` to one of: {', '.join(results) or 'none'}"
    )
