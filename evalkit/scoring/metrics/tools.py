"""Answers that were given with or without the help of a tool (protocol sheet: code_interpreter)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evalkit.core.calls import parse_calls
from evalkit.core.errors import ConfigError
from evalkit.core.registry import METRICS
from evalkit.scoring.metrics.base import VALUE, Case, Judged, Metric, Tools, Values, make_metric

CALLED, WORKED, RESULT = "called", "worked", "result_right"
"""Values of a sample: a tool was run; the last run had no error; its result equals the gold."""


@METRICS.register("tool_use")
def tool_use(of: Any, code_over: str = "all") -> Metric:
    """The metric `of` over answers (`follow_acc`), and what tools had to do with them.

    With R right without a tool, F right with one, W wrong with one, C those of W whose last run had no error, S those
    of C whose result equals the gold, out of N: `follow_acc` (R+F)/N, `reasoning_acc` (R+F+S)/N, `action_pct` (W+F)/N,
    `code_acc` (C+F)/N, or (C+F)/(W+F) with `code_over: tool`.
    """
    calls = parse_calls(of)
    if len(calls) != 1 or code_over not in ("all", "tool"):
        raise ConfigError("tool_use: `of` names one metric, `code_over` is all or tool", "of: {numeric_accuracy: {}}")
    inner = make_metric(calls[0])

    def judge(cases: Sequence[Case], tools: Tools) -> list[Values]:
        last = [_last_run(case) for case in cases]
        results = [replace(case, answer=run["text"] if run else "") for case, run in zip(cases, last, strict=True)]
        answers, soft = inner.judge(cases, tools), inner.judge(results, tools)
        return [
            {**answer, CALLED: run is not None, WORKED: bool(run and run["ok"]), RESULT: bool(run) and one[VALUE] >= 1}
            for answer, run, one in zip(answers, last, soft, strict=True)
        ]

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        if not judged:
            return {}
        right = [j for j in judged if j.values[VALUE] >= 1]
        used = [j for j in judged if j.values[CALLED]]
        wrong = [j for j in used if j.values[VALUE] < 1]
        worked = [j for j in wrong if j.values[WORKED]]
        soft = sum(bool(j.values[RESULT]) for j in worked)
        share = 100.0 / len(judged)
        results = {"follow_acc": share * len(right), "reasoning_acc": share * (len(right) + soft)}
        whole = len(used) if code_over == "tool" else len(judged)
        code = len(worked) + len(used) - len(wrong)
        results |= {"code_acc": 100.0 * code / whole} if whole else {}
        return {**results, "action_pct": share * len(used)}

    def counts(judged: Sequence[Judged]) -> dict[str, int]:
        used = sum(bool(j.values[CALLED]) for j in judged)
        return {"code_acc": used} if code_over == "tool" and used else {}

    return replace(inner, name="follow_acc", judge=judge, combine=combine, counts=counts)


def _last_run(case: Case) -> Mapping[str, Any] | None:
    """The last tool that was run in the conversation."""
    runs = [turn for turn in case.transcript if turn["role"] == "tool"]
    return runs[-1] if runs else None
