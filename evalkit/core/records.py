"""The frozen records that pass between the floors of evalkit.

A record is never changed; a new one replaces it (`dataclasses.replace`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from evalkit.core.reasoning import Reasoning

Mode = Literal["ppl", "ll", "gen"]
Kind = Literal["base", "chat"]
Row = Mapping[str, Any]
Template = str | tuple["TurnTemplate", ...]

MODES: tuple[Mode, ...] = ("ppl", "ll", "gen")
MIXED = "mixed"
"""Mode of a row whose subsets have several."""


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    text: str


@dataclass(frozen=True)
class TurnTemplate:
    """A turn before its fields are filled; role `shots` marks where turn exemplars go."""

    role: str
    source: str


@dataclass(frozen=True)
class NamedCall:
    """A registered function chosen by a config: its name and its arguments."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSpec:
    """Where rows come from: a hub dataset, or files under the data root."""

    path: str = ""
    """Hub id `<org>/<name>`; also the folder looked up in the data root."""
    config: str = ""
    """Hub config; a template over the member's variables."""
    file: str = ""
    """A csv, tsv, jsonl, json or parquet file below `path`, instead of a hub config; a template."""
    key: str = ""
    """Where the rows are inside a JSON object."""
    split: str | Mapping[str, str] = "test"
    """The split that is scored, or {row prefix: split}."""
    slice: tuple[int | None, int | None] | None = None
    """Rows of the file that are scored, where one file holds several splits."""
    package: str = ""
    """`module:file` of an installed Python package that ships the rows."""
    build: NamedCall | None = None
    """A registered builder that makes the rows out of the loaded ones (needle prompts)."""
    revision: str = ""
    """Hub revision; default: main, or the parquet conversion of a script-only dataset."""
    extra_files: tuple[str, ...] = ()
    """Other files of the data set that `build` reads where they are; `fetch` brings them."""
    optional: str = ""
    """Why the rows may be absent; subsets without them are then left out, and the report says so."""
    newlines: Literal["kept", "text_mode"] = "kept"
    """`text_mode`: `\\r\\n` and `\\r` in the rows become `\\n`, as in a csv that the published reader opened in text
    mode. Like the rows themselves it is covered by the data fingerprint, not by the hash of the config."""

    @property
    def is_made(self) -> bool:
        """Whether a builder makes the rows out of nothing that is read."""
        return self.build is not None and not (self.path or self.file or self.package)


@dataclass(frozen=True)
class ShotSpec:
    """The few-shot exemplars: exactly one of `split`, `file`, `turns`, `text`."""

    split: str = ""
    rows: tuple[int, ...] | None = None
    file: str = ""
    turns: str = ""
    text: str = ""
    skip_lines: int = 0
    sha256: str = ""
    """Digest of the exemplar file that the published prompt uses."""
    count: int | None = None
    """Number of exemplars (shown by `list`, checked when they are loaded)."""
    fields: Mapping[str, str] | None = None
    gold: str = ""
    template: Template = ""
    join: str = ""
    end: str = ""


@dataclass(frozen=True)
class GenSpec:
    """Generation settings of a benchmark; what is absent is the model config's."""

    max_out_len: int | None = None
    """Most new tokens."""
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    num_samples: int = 1


@dataclass(frozen=True)
class Member:
    """One subset of a benchmark, with the variables its templates may use."""

    name: str
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A named set of subsets that is averaged."""

    name: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class Benchmark:
    """A resolved dataset config."""

    name: str
    hash: str
    """Digest of everything that decides prompts and scores (configs/hash.py)."""
    mode: Mode
    data: DataSpec
    fields: Mapping[str, str]
    gold: str
    where: str
    members: tuple[Member, ...]
    groups: tuple[Group, ...]
    average: NamedCall
    prompt: Template
    shots: ShotSpec | None
    labels: tuple[str, ...]
    continuation: str
    gen: GenSpec
    extract: tuple[NamedCall, ...]
    metric: NamedCall
    quirks: frozenset[str]
    family: str
    row: str
    """Name of the headline row in tables (`mmlu`)."""
    notes: str = ""
    """What is inexact or needs saying; printed by `show` and under tables."""
    resolved: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)
    """The merged config, as written to the manifest."""
    source: str = ""
    """The file it was read from."""
    part_key: str = ""
    """The variable of the subsets that `parts` goes by; empty: all subsets are alike."""
    parts: Mapping[str, Benchmark] = field(default_factory=dict, hash=False, compare=False)
    """Value of that variable -> the benchmark as it is for subsets with this value."""
    contrast: NamedCall | None = None
    """A registered comparison between the subsets (contamination)."""

    def part(self, variables: Mapping[str, Any]) -> Benchmark:
        """The benchmark as it is for a subset with these variables: mode, data, prompt, extraction and metric."""
        return self.parts.get(str(variables.get(self.part_key)), self) if self.part_key else self

    @property
    def variants(self) -> tuple[Benchmark, ...]:
        """What its subsets are like: itself where all are alike, else one for each part that some subset has."""
        return tuple({id(v): v for v in (self.part(member.variables) for member in self.members)}.values())

    @property
    def modes(self) -> frozenset[Mode]:
        """The modes of its subsets."""
        return frozenset(variant.mode for variant in self.variants)

    def with_draws(self, draws: int) -> Benchmark:
        """The benchmark, in all its parts, with so many draws of each sample; 0: unchanged."""
        if not draws:
            return self
        parts = {value: part.with_draws(draws) for value, part in self.parts.items()}
        return replace(self, gen=replace(self.gen, num_samples=draws), parts=parts)


@dataclass(frozen=True)
class ModelSpec:
    """A resolved model config."""

    name: str
    path: str
    kind: Kind
    engine: str = "hf"
    dtype: str = "auto"
    device: str = "auto"
    gpus: int = 1
    """Devices that one copy of the model takes."""
    max_seq_len: int | None = None
    """Most tokens of prompt and output together; default: the checkpoint's own limit."""
    max_new_tokens: int = 1024
    """Output limit where the benchmark sets none."""
    batch_tokens: int | None = None
    """Most padded tokens of one forward pass; default: by device."""
    end_strings: tuple[str, ...] = ()
    """Chat outputs are cut at these, besides the tokenizer's own end tokens."""
    system_prompt: str = ""
    chat_template: str = ""
    """A jinja template in place of the checkpoint's, or where it has none."""
    reasoning: Reasoning | None = None
    needs_remote_code: bool = False
    """The checkpoint loads only by code of its own; refused without `trust_remote_code`."""
    trust_remote_code: bool = False
    revision: str = ""
    peft_path: str = ""
    attn_implementation: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Engine-specific options."""
    notes: str = ""
    verified: str = ""
    """What was checked with this config, and how."""
    source: str = ""
    resolved: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)


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
    "left_truncated", "ended_in_reasoning", "unjudged", "no_gold", "stands_in", "earlier",
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
    """Two-sided, of a difference of 0; comparisons of subsets alone have one."""

    @property
    def flag(self) -> str:
        """The issues as one text; empty when there are none."""
        return "; ".join(issue.text for issue in self.issues)
