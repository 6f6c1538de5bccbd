"""IFEval: the share of prompts and of instructions that are followed (protocol sheet: ifeval)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.core import stats
from evalkit.core.calls import bound_arguments
from evalkit.core.errors import DataError
from evalkit.core.records import NamedCall
from evalkit.core.registry import METRICS
from evalkit.scoring.metrics.base import VALUE, Case, Judged, Metric, Values, each
from evalkit.scoring.metrics.ifeval.base import CHECKS

MODES = ("strict", "loose")
PRIMARY = "Prompt-level-strict-accuracy"


@METRICS.register("ifeval")
def ifeval() -> Metric:
    """Percent of prompts with all instructions followed, and of instructions followed, strictly and loosely.

    The gold has `instruction_id_list` and, in the same order, `kwargs`; arguments that are null do not count.
    """
    return Metric(PRIMARY, each(judge), combine, check_gold=_gold_fault)


def judge(case: Case) -> Values:
    """Verdicts on each instruction of one response, `strict` and `loose`."""
    response, calls = str(case.answer), _instructions(case)
    strict = [bool(response.strip()) and follows(response, call) for call in calls]
    # The response itself is the first of the loose variants.
    loose = [done or follows_loosely(response, call) for done, call in zip(strict, calls, strict=True)]
    return {VALUE: float(all(strict)), "strict": strict, "loose": loose}


def combine(judged: Sequence[Judged]) -> dict[str, float]:
    """The four published results, in percent; nothing for no samples."""
    results = {}
    for mode in MODES:
        verdicts: list[list[bool]] = [list(item.values[mode]) for item in judged]
        levels = {"Prompt": [all(v) for v in verdicts], "Inst": [done for v in verdicts for done in v]}
        for level, values in levels.items():
            if values:
                results[f"{level}-level-{mode}-accuracy"] = 100.0 * stats.mean([float(v) for v in values])
    return results


def follows(text: str, call: NamedCall) -> bool:
    """Whether a text follows one instruction; ConfigError for an unknown one or for wrong arguments."""
    check = CHECKS.get(call.name)
    return check(text, **bound_arguments(call, check, ("text",), CHECKS.what))


def follows_loosely(response: str, call: NamedCall) -> bool:
    """Whether some variant of the response that is not blank follows the instruction."""
    return any(text.strip() and follows(text, call) for text in variants(response))


def variants(response: str) -> Iterator[str]:
    """The response; without its first, its last, and both lines; and these four without asterisks."""
    lines = response.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    for text in (response, *cut):
        yield text
        yield text.replace("*", "")


def _gold_fault(case: Case) -> str:
    """Why the instructions cannot be checked: none, unknown ones, wrong arguments."""
    calls = _instructions(case)
    for call in calls:
        follows("A reply.", call)
    return "" if calls else "the gold lists no instruction"


def _instructions(case: Case) -> list[NamedCall]:
    gold: Any = case.gold
    try:
        ids, arguments = list(gold["instruction_id_list"]), list(gold["kwargs"])
    except (KeyError, TypeError, IndexError) as error:
        problem = f"{case.sample_id}: the gold has no list of instructions"
        raise DataError(problem, "it needs `instruction_id_list` and `kwargs`") from error
    if len(ids) != len(arguments):
        raise DataError(f"{case.sample_id}: {len(ids)} instructions, {len(arguments)} `kwargs`", "give one of each")
    return [NamedCall(name, _given(named)) for name, named in zip(ids, arguments, strict=True)]


def _given(arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (arguments or {}).items() if value is not None}
