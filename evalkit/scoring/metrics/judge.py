"""Answers that a model judges: grades, right or wrong, or which of two is better."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.core import stats
from evalkit.core.calls import parse_calls
from evalkit.core.errors import ConfigError
from evalkit.core.records import Reply, Sample, Turn
from evalkit.core.registry import METRICS
from evalkit.scoring.judges.alpaca import Preference, is_switched, results
from evalkit.scoring.judges.base import Jury, Question
from evalkit.scoring.judges.verdicts import FORMS, Form, form_of, harmless, marks_of
from evalkit.scoring.metrics.base import UNREAD, VALUE, Case, Judged, Judging, Metric, Tools, Values, make_metric

BY, VERDICTS = "judged_by", "verdicts"
"""Values of a sample: `rule` or `judges`; judge -> its verdict in each order, null where it could not be read."""
ANSWER, OTHER, ANSWERS = "answer", "other", "answers"
"""What judge prompts call the judged text, the one it is compared with, and all answers of a conversation."""
JUDGED_SLOTS = frozenset({ANSWER, OTHER, ANSWERS})
NO_JURY = "a model has to judge, and none is named"


@METRICS.register("llm_judge")
def llm_judge(
    prompt: Mapping[str, str],
    verdict: Any = "rating",
    judge: str | Sequence[str] = (),
    scale: Sequence[float] = (1, 10),
    other: str = "",
    swap: bool = True,
    rule: Any = None,
    max_out_len: int = 1024,
    name: str = "",
) -> Metric:
    """What judges make of the answers.

    `prompt`: the templates `system` and `user`, over the row, the subset's variables, `answer`, `answers` (all of a
    conversation) and `other`. `verdict`: how it is read (`rating`, `dimensions`: grades within `scale`; `correctness`;
    `choice`, `arena`, `first_letter`: which of two answers is better; or `{pattern: …}` for grades). `judge`: model
    configs; default: the command's. `other`: an expression for the text that the answer is compared with, in both
    orders unless `swap` is false. `rule`: a metric that goes first; judges see only what it does not take for right.

    Results: the mean grade (`grade`), `accuracy` or `win_rate`, each judge's own, `unparsable` (percent of judgements
    that could not be read when asked twice; they are left out), `kappa` between several judges, `consistency` of both
    orders.
    """
    form = form_of(verdict)
    judges = (judge,) if isinstance(judge, str) else tuple(judge)
    if set(prompt) - {"system", "user"} or "user" not in prompt:
        raise ConfigError("llm_judge: the prompt has `user` and may have `system`", "prompt: {system: …, user: …}")
    if form.pairs != bool(other):
        need = "needs" if form.pairs else "has no place for"
        raise ConfigError(f"llm_judge: the verdict {verdict!r} {need} `other`", "other: EXPRESSION, for two answers")
    calls = parse_calls(rule) if rule else ()
    inner = make_metric(calls[0]) if calls else None
    if inner is not None and form.pairs:
        raise ConfigError("llm_judge: a rule tells right from wrong, not which of two is better", "leave `rule` out")
    if verdict == "correctness":
        scale = (0, 1)
    default = "win_rate" if form.pairs else "accuracy" if verdict == "correctness" or inner else "grade"
    bench = _Bench(prompt, form, judges, (float(scale[0]), float(scale[1])), other, swap, inner, max_out_len)
    percent = default != "grade"
    title = name or default
    return Metric(
        title,
        bench.judge,
        lambda judged: _combine(judged, title, bench.scale, percent, bench.orders > 1),
        runs_code=bool(inner and inner.runs_code),
        needs_row=True,
        check_gold=bench.fault,
        uses_gold=bool(inner and inner.uses_gold),
        judging=Judging(judges, bench.orders, max_out_len, bench.text),
    )


@METRICS.register("alpaca_eval")
def alpaca_eval(
    prompt: Mapping[str, str],
    other: str = "output",
    instruction: str = "instruction",
    judge: str | Sequence[str] = (),
    max_out_len: int = 1,
) -> Metric:
    """AlpacaEval 2.0's weighted win rate against the reference's outputs, which the expression `other` gives.

    The judge answers m or M, and the probabilities of both letters are what counts, where it gives them. Which output
    comes first is drawn by the text of the expression `instruction`, as in the leaderboard's runs. An answer that is
    the reference's output is a draw and is not judged. Results: `win_rate`, `discrete_win_rate`, `avg_length`
    (characters), `unparsable`.
    """
    judges = (judge,) if isinstance(judge, str) else tuple(judge)

    def value_of(expression: str, case: Case) -> str:
        return str(_evaluated(expression, {**case.context, **case.row}, "alpaca_eval"))

    def orders(case: Case) -> Sequence[int]:
        return (0,) if is_switched(value_of(instruction, case)) else (1,)

    bench = _Bench(prompt, FORMS["first_letter"], judges, (0.0, 1.0), other, False, None, max_out_len, orders)

    def judge_all(cases: Sequence[Case], tools: Tools) -> list[Values]:
        others = [value_of(other, case) for case in cases]
        equal = [text == str(case.answer) for text, case in zip(others, cases, strict=True)]
        asked = bench.judge([case for case, same in zip(cases, equal, strict=True) if not same], tools)
        found = iter(asked)
        values: list[Values] = [{VALUE: 0.5, BY: "equal"} if same else next(found) for same in equal]
        return [
            {**v, LENGTHS: [len(text), len(str(case.answer))]}
            for v, text, case in zip(values, others, cases, strict=True)
        ]

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        lengths = [j.values[LENGTHS] for j in judged]
        pairs = [Preference(j.values[VALUE], *j.values[LENGTHS]) for j in judged if VALUE in j.values]
        found = results(pairs, [own for _, own in lengths], controlled=False)
        kept = {name: found[name] for name in SHOWN if name in found}
        verdicts = [v for j in judged for row in j.values.get(VERDICTS, {}).values() for v in row]
        unread = {"unparsable": 100.0 * sum(v is None for v in verdicts) / len(verdicts)} if verdicts and kept else {}
        return {**kept, **unread}

    judging = Judging(judges, 1, max_out_len, bench.text)
    metric = Metric("win_rate", judge_all, combine, needs_row=True, check_gold=bench.fault, uses_gold=False)
    return replace(metric, judging=judging)


LENGTHS = "lengths"
"""Value of a sample: characters of the reference's output and of the model's."""
SHOWN = ("win_rate", "discrete_win_rate", "avg_length")


@dataclass(frozen=True)
class _Bench:
    """Puts answers before judges."""

    prompt: Mapping[str, str]
    form: Form
    judges: tuple[str, ...]
    scale: tuple[float, float]
    other: str
    swap: bool
    rule: Metric | None
    max_out_len: int
    orders_of_one: Callable[[Case], Sequence[int]] | None = None
    """Where each pair is judged in one order only: which, 1 for the other text first."""

    def orders_of(self, case: Case) -> Sequence[int]:
        """The orders of a case: 0, the answer comes first; 1, the text that it is compared with."""
        return self.orders_of_one(case) if self.orders_of_one else range(self.orders)

    @property
    def orders(self) -> int:
        """In how many orders two answers are shown."""
        return 2 if self.form.pairs and self.swap else 1

    def judge(self, cases: Sequence[Case], tools: Tools) -> list[Values]:
        """Values of each case; ConfigError where nobody can judge."""
        settled = self.rule.judge(cases, tools) if self.rule else [{} for _ in cases]
        values: list[Values] = [{**v, BY: "rule"} if v.get(VALUE, 0) >= 1 else {} for v in settled]
        open_ = [place for place, found in enumerate(values) if not found]
        if open_:
            if tools.jury is None:
                raise ConfigError(NO_JURY, "--judge MODEL")
            shown, jury = [cases[place] for place in open_], tools.jury
            verdicts = {name: self._asked(name, shown, jury) for name in jury.named(self.judges)}
            for number, place in enumerate(open_):
                values[place] = self._values({name: found[number] for name, found in verdicts.items()})
        return values

    def _asked(self, name: str, cases: Sequence[Case], jury: Jury) -> list[list[float | None]]:
        """One judge's verdict on each case in each order; None where it could not be read, even when asked again."""
        questions = [q for case in cases for q in self._questions(case)]
        replies = jury.ask(name, questions)
        read = [self._read(reply) for reply in replies]
        unread = [i for i, verdict in enumerate(read) if verdict is None]
        again = [self._reminder(questions[i], replies[i]) for i in unread]
        for i, reply in zip(unread, jury.ask(name, again) if again else (), strict=True):
            read[i] = self._read(reply)
        rows = [read[i : i + self.orders] for i in range(0, len(read), self.orders)]
        both = [zip(row, self.orders_of(case), strict=True) for row, case in zip(rows, cases, strict=True)]
        return [[v if v is None or not order else 1.0 - v for v, order in row] for row in both]

    def _read(self, reply: Reply) -> float | None:
        """The verdict of a reply; a grade outside of the scale is none."""
        found = self.form.read(reply)
        if found is None or self.form.pairs:
            return None if found is None else float(found)
        return float(found) if self.scale[0] <= float(found) <= self.scale[1] else None

    def _questions(self, case: Case) -> Iterator[Question]:
        """What is asked about a case: once, or for two answers in both orders."""
        scope = self._scope(case)
        for order in self.orders_of(case):
            shown = {**scope, ANSWER: scope[OTHER], OTHER: scope[ANSWER]} if order else scope
            mark = f"judgement {case.repeat}" + (f".{order}" if self.form.pairs else "")
            tops = self.form.top_logprobs
            yield Question(case.sample_id, self._turns(shown), self.max_out_len, top_logprobs=tops, mark=mark)

    def _reminder(self, question: Question, reply: Reply) -> Question:
        """The second question to a judge whose reply holds no verdict."""
        turns = (*question.turns, Turn("assistant", reply.text or "(nothing)"), Turn("user", self.form.reminder))
        return replace(question, turns=turns, mark=f"{question.mark} again")

    def _turns(self, scope: Mapping[str, Any]) -> tuple[Turn, ...]:
        parts = [(role, self.prompt[role]) for role in ("system", "user") if self.prompt.get(role)]
        return tuple(Turn(role, _rendered(text, scope, f"judge prompt: {role}")) for role, text in parts)

    def _scope(self, case: Case) -> dict[str, Any]:
        """The names of the templates, with judged texts that cannot leave their place."""
        known = {**{k: v for k, v in case.context.items() if k not in ("row", "gold")}, **case.row, "gold": case.gold}
        answers = [str(turn["text"]) for turn in case.transcript if turn["role"] == "assistant"]
        answer = "" if case.answer is None else str(case.answer)
        compared = _evaluated(self.other, known, "llm_judge: other") if self.other else ""
        if not isinstance(compared, str):
            raise ConfigError(f"llm_judge: `other` gives {compared!r}, which is no text", "an expression over the row")
        marks = marks_of(self.prompt["user"], JUDGED_SLOTS)
        safe = [harmless(text, marks, self.form.pattern) for text in (answer, compared, *(answers or [answer]))]
        return {**known, ANSWER: safe[0], OTHER: safe[1], ANSWERS: safe[2:]}

    def fault(self, case: Case) -> str:
        """Why a row cannot be judged."""
        if self.rule is not None and (fault := self.rule.check_gold(case)):
            return fault
        # a conversation has as many answers as its judge prompt speaks of
        self._turns({**self._scope(case), ANSWERS: [""] * 99})
        return ""

    def text(self, sample: Sample, answer: str) -> str:
        """The first question about a sample, for counting its tokens."""
        case = Case(sample.id, 0, answer, sample.gold, sample.row, {**sample.variables, "subset": sample.subset})
        scope = self._scope(case)
        return "\n".join(turn.text for turn in self._turns({**scope, ANSWERS: [answer] * 99}))

    def _values(self, verdicts: Mapping[str, Sequence[float | None]]) -> Values:
        """The mean of the judges' verdicts, each judge's over both orders."""
        low, high = (0.0, 1.0) if self.form.pairs else self.scale
        own = {name: _mean(found) for name, found in verdicts.items()}
        whole = _mean(list(own.values()))
        kept = {BY: "judges", VERDICTS: {name: list(found) for name, found in verdicts.items()}}
        return {**kept, UNREAD: True} if whole is None else {VALUE: (whole - low) / (high - low), **kept}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return stats.mean(known) if known else None


def _combine(
    judged: Sequence[Judged], name: str, scale: tuple[float, float], percent: bool, both_orders: bool
) -> dict[str, float]:
    """The results over a subset (see `llm_judge`)."""
    low, high = (0.0, 100.0) if percent else scale
    values = [low + (high - low) * float(j.values[VALUE]) for j in judged if VALUE in j.values]
    if not values:
        return {}
    results = {name: stats.mean(values)}
    asked = [j.values[VERDICTS] for j in judged if VERDICTS in j.values]
    verdicts = [v for one in asked for row in one.values() for v in row]
    if verdicts:
        results["unparsable"] = 100.0 * sum(v is None for v in verdicts) / len(verdicts)
    names = list(asked[0]) if asked else []
    if len(names) > 1:
        factor = 100.0 if percent else 1.0
        for one in names:
            own = [mean for row in asked if (mean := _mean(row[one])) is not None]
            results |= {f"{name}:{one}": factor * stats.mean(own)} if own else {}
        results |= _agreement(names, asked)
    pairs = [row for one in asked for row in one.values() if both_orders and None not in row]
    return {**results, "consistency": 100.0 * sum(a == b for a, b in pairs) / len(pairs)} if pairs else results


def _agreement(names: Sequence[str], asked: Sequence[Mapping[str, Sequence[float | None]]]) -> dict[str, float]:
    """The mean of Cohen's kappa over all pairs of judges; none where no pair has one."""
    found = []
    for one, two in itertools.combinations(names, 2):
        both = [(tuple(row[one]), tuple(row[two])) for row in asked if None not in row[one] and None not in row[two]]
        kappa = cohens_kappa(both)
        found += [] if kappa is None else [kappa]
    return {"kappa": stats.mean(found)} if found else {}


def cohens_kappa(pairs: Sequence[tuple[Any, Any]]) -> float | None:
    """Agreement of two raters beyond chance (Cohen, 1960); None where chance alone would make them agree always."""
    if not pairs:
        return None
    ones, twos = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    observed = sum(a == b for a, b in pairs) / len(pairs)
    expected = sum(count * twos[value] for value, count in ones.items()) / len(pairs) ** 2
    return (observed - expected) / (1.0 - expected) if expected < 1.0 else None


def _evaluated(expression: str, scope: Mapping[str, Any], what: str) -> Any:
    from evalkit.core import template  # brings jinja, which other metrics do without

    return template.evaluate(expression, scope, what)


def _rendered(source: str, scope: Mapping[str, Any], what: str) -> str:
    from evalkit.core import template  # as above

    return template.render(source, scope, what)
