"""The frozen records that pass between the rooms of evalkit; those of configs are in `config_records.py`.

A record is never changed; a new one replaces it (`dataclasses.replace`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from evalkit.core.config_records import MODES as MODES
from evalkit.core.config_records import Benchmark as Benchmark
from evalkit.core.config_records import DataSpec as DataSpec
from evalkit.core.config_records import GenSpec as GenSpec
from evalkit.core.config_records import Golds as Golds
from evalkit.core.config_records import Group as Group
from evalkit.core.config_records import Kind as Kind
from evalkit.core.config_records import Member as Member
from evalkit.core.config_records import Mode as Mode
from evalkit.core.config_records import ModelSpec as ModelSpec
from evalkit.core.config_records import NamedCall as NamedCall
from evalkit.core.config_records import ShotSpec as ShotSpec
from evalkit.core.config_records import Template as Template
from evalkit.core.config_records import TurnTemplate as TurnTemplate

Row = Mapping[str, Any]

MIXED = "mixed"
"""Mode of a row whose subsets have several."""


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    text: str


@dataclass(frozen=True)
class Sample:
    """One scored row of a benchmark."""

    id: str
    """`<subset>/<index>`, unique within the benchmark."""
    subset: str
    index: int
    """Position in the subset's split (before any row filter)."""
    row: Row
    """Columns as the template sees them, in column order."""
    gold: Any
    """The raw gold field."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    """The row's own options; empty where the benchmark has them."""

    def options(self, benchmark: Benchmark) -> tuple[str, ...]:
        """The row's own labels, else the benchmark's."""
        return self.labels or benchmark.labels


@dataclass(frozen=True)
class Rendered:
    """The prompts of one sample; exactly one of the four is set."""

    ppl: Mapping[str, str] | None = None
    """label -> full text"""
    ll: Mapping[str, tuple[str, str]] | None = None
    """label -> (context, continuation)"""
    text: str | None = None
    """gen, base model"""
    turns: tuple[Turn, ...] | None = None
    """gen, chat model, before the model's chat template"""

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.ppl, self.ll, self.text, self.turns)) != 1:
            raise ValueError("a sample has prompts of exactly one kind")


@dataclass(frozen=True)
class GenSettings:
    """Generation settings of one request, complete."""

    max_out_len: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """One question to an engine."""

    key: str
    """Digest of everything that decides the reply; the resume key."""
    sample_id: str
    mode: Mode
    text: str = ""
    """ppl: the full text; ll: the context; gen: the plain prompt (empty when `turns` is set)."""
    turns: tuple[Turn, ...] = ()
    label: str = ""
    continuation: str = ""
    """ll: what is scored after the context."""
    gen: GenSettings | None = None
    repeat: int = 0
    """Number of the draw, where a sample is generated several times."""
    token_statistics: bool = False
    """ppl: the reply is to have the numbers of each token too."""
    top_logprobs: int = 0
    """How many alternatives to the first token are wanted with their log-probabilities (0: none); judges alone ask."""


@dataclass(frozen=True)
class Reply:
    """What an engine answered to one request."""

    key: str
    text: str | None = None
    """gen: the output, cut at stop and end strings."""
    nll: float | None = None
    """ppl: mean negative log-likelihood as ENGINE defines it, in nats per token.
    ll: minus log P(continuation | context), in nats."""
    n_tokens: int = 0
    """Tokens of the scored text or of the prompt, after truncation."""
    n_scored: int = 0
    """ll: tokens of the continuation; 0 where the engine does not say."""
    n_out: int = 0
    """Generated tokens."""
    finish: str = ""
    """gen: `stop`, `eos` or `length`."""
    truncated: bool = False
    """The text did not fit and was left-truncated."""
    seconds: float = 0.0
    """Wall time of the batch divided by its rows."""
    error: str = ""
    """Why there is no answer; such a reply counts as missing and is asked again."""
    token_logs: Sequence[float] | None = None
    """Log-probability of each token 2..N in nats, where the request asks for them."""
    token_deviations: Sequence[float] | None = None
    """How far each of them is from the mean log-probability of its place, in standard deviations."""
    top: Mapping[str, float] | None = None
    """The likeliest first tokens with their log-probabilities, where they were asked for and the engine gives them."""
    transcript: Sequence[Mapping[str, Any]] | None = None
    """Of a conversation: its turns, `{role, text, …}`, from the model's first to its last; `text` is its answer."""


@dataclass(frozen=True)
class Job:
    """A slice of one subset for one model; the unit that is handed to a worker."""

    id: int
    model: str
    benchmark: str
    subset: str
    start: int
    stop: int
    cost: float
    """Relative cost, for handing out the largest first."""


@dataclass(frozen=True)
class Verdict:
    """The judgement on one draw of a sample."""

    sample_id: str
    subset: str
    answer: Any
    """What was extracted, or the winning label; None when there was no reply."""
    gold: Any
    values: Mapping[str, Any]
    """Per-sample results of the metric (`correct`, ...)."""
    missing: bool = False
    truncated: bool = False
    detail: Mapping[str, Any] = field(default_factory=dict)
    """The raw output, or the labels from the likeliest to the least likely."""


IssueKind = Literal[
    "failed", "constant_scores", "code_not_allowed", "no_sandbox", "unanswered", "too_few_draws", "subsets_left_out",
    "left_truncated", "ended_in_reasoning", "trace_removed", "own_exemplars", "data_changed",
    "damaged_lines", "unjudged", "no_gold", "stands_in", "other_config", "unread_verdicts", "earlier",
]  # fmt: skip
"""Why a number is absent or needs care; `earlier` is text of a run that an older evalkit scored."""


@dataclass(frozen=True)
class Issue:
    """Something that must be known beside a number."""

    kind: IssueKind
    text: str


@dataclass(frozen=True)
class Counts:
    """How many samples of a score need care, and how many subsets the run leaves out."""

    fragile: int = 0
    """Answers whose margin is below the engine's numeric noise."""
    reasoning: int = 0
    """Replies with a reasoning trace, finished or not."""
    unfinished: int = 0
    """Replies that ended during reasoning."""
    left_out: int = 0
    """Subsets of the benchmark that the run leaves out."""
    programs: Mapping[str, int] = field(default_factory=dict)
    """How generated programs ended, by class."""


@dataclass(frozen=True)
class Score:
    """One number of a table."""

    model: str
    benchmark: str
    version: str
    mode: str
    row: str
    """Row name: headline, group or subset."""
    metric: str
    value: float | None
    """None: cannot be given; `issues` say why."""
    n: int
    n_expected: int
    stderr: float | None = None
    issues: tuple[Issue, ...] = ()
    level: Literal["headline", "group", "subset"] = "headline"
    counts: Counts = field(default_factory=Counts)
    n_samples: int = 0
    """Samples with an answered draw: `n` counts draws; 0 in runs scored by older versions."""
    p_value: float | None = None
    """One-sided, of no difference; comparisons of subsets alone have one."""

    @property
    def has_gap(self) -> bool:
        """Whether there is no number, or one over fewer samples than there should be."""
        return self.value is None or self.n < self.n_expected

    @property
    def flag(self) -> str:
        """The issues as one text; empty when there are none."""
        return "; ".join(issue.text for issue in self.issues)
