"""The frozen records that configs are read into: the one place where a config's keys are declared.

A field is a key of the YAML file unless its metadata say `derived`. Its type is what the value must be, its default
what holds without the key (a field without one is a key that must be given), and the text under it is its line in
docs/configs.md: `configs/schema.py` makes the check from these fields, `tools/config_keys.py` the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from evalkit.core.reasoning import Reasoning

Mode = Literal["ppl", "ll", "gen"]
Kind = Literal["base", "chat"]
Golds = Literal["checked", "as_published"]
Template = str | tuple["TurnTemplate", ...]
MemberEntry = str | Mapping[str, Mapping[str, Any]]
Subsets = tuple[MemberEntry, ...] | Mapping[str, tuple[MemberEntry, ...]]

MODES: tuple[Mode, ...] = ("ppl", "ll", "gen")
DERIVED: Mapping[str, Any] = {"derived": True}
"""Metadata of a field that is no key of the file."""
UNHASHED: Mapping[str, Any] = {"unhashed": True}
"""Metadata of a key that is left out of the benchmark's hash: it decides neither a prompt nor how one row is judged."""


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
    """hub id `<org>/<name>`; also the folder looked up in the data root"""
    config: str = ""
    """hub config; may be a template, such as `"{{ subset }}"`"""
    file: str = ""
    """a csv, tsv, jsonl, json or parquet file below `path`, or beside the config; may be a template"""
    key: str = ""
    """where in a JSON object the rows are"""
    split: str | Mapping[str, str] = "test"
    """the split that is scored, or {row: split}: each split is run and averaged on its own, under
    that row name. One whose rows have no gold answer is loaded and shown, but not scored"""
    slice: tuple[int | None, int | None] | None = None
    """`[first, end]`: the rows that are scored, where one file holds several splits"""
    package: str = ""
    """`module:file` of an installed package that brings the rows"""
    build: NamedCall | None = None
    """a registered builder that makes the rows from those read: `needle` hides a sentence in them (`needle`,
    `question`, `keyword`, or lists of these, one for each repeat); `joined` adds `columns` (name: expression) of the
    row of another `file` that has the same `key` (reference answers).
    One that needs no rows stands alone, without `path` or `file`"""
    extra_files: tuple[str, ...] = ()
    """other files of the data set that the builder reads where they are; `fetch` brings them"""
    lengths: tuple[int, ...] = ()
    """an axis of a grid: one subset for each length in tokens"""
    depths: tuple[float, ...] = ()
    """an axis of a grid: one subset for each depth in percent. With a `grid` that has no `depth`, all depths are
    together in each subset"""
    revision: str = ""
    """hub revision; default: main, or the parquet conversion of a script-only dataset"""
    optional: str = ""
    """why the rows may be absent; subsets without them are then left out, and the report says so"""
    newlines: Literal["kept", "text_mode"] = field(default="kept", metadata=UNHASHED)
    r"""`kept` or `text_mode`: `\r\n` and `\r` in the rows become `\n`, as in a csv that the published reader
    opened in text mode. Like the rows it is in the data fingerprint, not in the hash"""

    @property
    def is_made(self) -> bool:
        """Whether a builder makes the rows out of nothing that is read."""
        return self.build is not None and not (self.path or self.file or self.package)


@dataclass(frozen=True)
class FetchSpec:
    """Where `fetch` gets an exemplar file."""

    url: str = ""
    """its address; may be a template"""
    convert: str = "none"
    """the converter from the publication's form to that of the file"""


@dataclass(frozen=True)
class ShotSpec:
    """The few-shot exemplars: exactly one of `split`, `file`, `turns`, `text`."""

    split: str = ""
    """rows of a split; `data` and `fields` are those of the benchmark"""
    rows: tuple[int, ...] | None = None
    """with `split` or `file`: which rows, in this order (default: all)"""
    file: str = ""
    """rows of a file in the data root"""
    turns: str = ""
    """a file of messages, `{"role": …, "content": …}` a line, used as they are"""
    text: str = ""
    """a text file, used as it is"""
    skip_lines: int = 0
    """with `text`: how many of its first lines are left out"""
    sha256: str = ""
    """digest of the exemplar file that the published prompt uses; another file is an error. Where each subset has a
    file of its own: a template over the variables of the subsets"""
    count: int | None = None
    """number of exemplars; another number is an error"""
    fields: Mapping[str, str] | None = None
    """the pool's own fields, where they differ"""
    gold: str = ""
    """the pool's own gold, where it differs"""
    template: Template = ""
    """with `split` or `file`: the exemplar, text or turns as the prompt is. `{{ option }}` is its own gold"""
    join: str = ""
    """what stands between text exemplars"""
    end: str = ""
    """what stands after the last text exemplar"""
    fetch: FetchSpec | None = field(default=None, metadata=UNHASHED)
    """`{url, convert}`: where `fetch` gets the file; the url may be a template"""


@dataclass(frozen=True)
class GenSpec:
    """Generation settings of a benchmark; what is absent is the model config's."""

    max_out_len: int | None = None
    """most new tokens; without it the model's limit holds"""
    stop: tuple[str, ...] = ()
    """texts that end the output and are cut off"""
    temperature: float = 0.0
    """0 is greedy"""
    top_p: float = 1.0
    """the smallest set of likeliest tokens with this probability is drawn from; 1: all"""
    top_k: int = 0
    """this many of the likeliest tokens are drawn from; 0: all"""
    num_samples: int = 1
    """outputs of each sample, see [below](#several-outputs-of-a-sample)"""


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
class GridSpec:
    """Subsets as all combinations of values."""

    name: str
    """template of a subset's name"""
    axes: Mapping[str, tuple[Any, ...]]
    """variable -> its values"""


@dataclass(frozen=True)
class Defaults:
    """What the bare name of a family means."""

    base: str = ""
    """the config for base models"""
    chat: str = ""
    """the config for chat models"""


@dataclass(frozen=True, kw_only=True)
class SubsetSpec:
    """How the rows of a subset are read, asked and judged: the keys that `parts` may change for some subsets."""

    mode: Mode
    """`ppl`, `ll` or `gen`; see below"""
    data: DataSpec
    """where the rows are; see below"""
    fields: Mapping[str, str] = field(default_factory=dict)
    """the columns that templates see, in order: name → expression over the row, `idx` and the fields above. A leading
    `_` makes a temporary. Without `fields`: the raw columns"""
    where: str = ""
    """an expression; rows for which it is false are left out"""
    gold: str = ""
    """the column, or an expression, of the right answer. A gold that the metric cannot use is an error before
    inference; a row whose gold is null or blank is not scored, and the score says how many there are"""
    prompt: Template
    """one template, or a list of turns `system`, `user`, `assistant`, with `- shots` where turn exemplars go. A last
    `assistant` turn is kept for base models and dropped for chat models; for these, neighbouring turns of one role
    become one message, joined by a newline"""
    labels: tuple[str, ...] = ()
    """ppl and ll: the options. The prompt is rendered once for each, as `{{ option }}`"""
    row_labels: str = ""
    """instead of `labels`: an expression that gives each row its own, such as `choices.label` for 3 to 5 options"""
    continuation: str = ""
    """ll: what is scored; the rendered prompt must end with it"""
    gen: GenSpec = GenSpec()
    """gen: settings of generation, see below"""
    solver: NamedCall | None = None
    """gen: leads a conversation of several turns with the model, see [Conversations](#conversations)"""
    extract: tuple[NamedCall, ...] = ()
    """gen: named steps from the output to the answer, in order: `name`, `{name: argument}` or `{name: {key: value}}`"""
    metric: NamedCall
    """a name, or a name with arguments. `evaluate:<name or path>` is any metric of the `evaluate` library"""
    quirks: frozenset[str] = frozenset()
    """behaviours that a published protocol needs bit for bit. Configs of your own want none"""


@dataclass(frozen=True, kw_only=True)
class Benchmark(SubsetSpec):
    """A resolved dataset config."""

    name: str = field(metadata=DERIVED)
    hash: str = field(metadata=DERIVED)
    """Digest of everything that decides prompts and scores."""
    shots: ShotSpec | None = None
    """the exemplars, see below; absent: zero-shot"""
    subsets: Subsets | None = None
    """a list of members, or group → members. Groups may overlap, each member runs once and each group gives an average
    row. A member with variables for templates: `law: {zh: 法学}`"""
    grid: GridSpec | None = None
    """instead of `subsets`: `axes` (name → values) and a `name` template; one subset for each combination"""
    members: tuple[Member, ...] = field(metadata=DERIVED)
    """The subsets that are run, in order."""
    groups: tuple[Group, ...] = field(metadata=DERIVED)
    average: NamedCall = NamedCall("mean")
    """`mean` of the subsets, `pooled` (every item counts the same), `{weighted: VARIABLE}`,
    `{groups: [GROUP, …]}` (the mean of these groups' means), or `none`: every subset is
    then a row of its own, `<row>-<subset>`"""
    parts: Mapping[str, Benchmark] = field(
        default_factory=dict, hash=False, compare=False, metadata={"parts_of": SubsetSpec}
    )
    """for subsets that differ: `{VARIABLE: {VALUE: {…}}}`, where VARIABLE is one of the subsets' variables. What stands
    under a value (the keys `mode` to `quirks` of this table) is laid on the config for the subsets that have it; the
    metrics' results must have one name. A row over several modes has the mode `mixed`"""
    # In the record: value of that variable -> the benchmark as it is for subsets with this value.
    part_key: str = field(default="", metadata=DERIVED)
    """The variable of the subsets that `parts` goes by; empty: all subsets are alike."""
    contrast: NamedCall | None = None
    """a comparison between the subsets' texts: `loss_gaps` (train, test, reference), `paired_loss`, or `membership`
    (AUC of Min-K% and Min-K%++); rows of their own with a p-value"""
    token_statistics: bool = False
    """ppl: replies have the log-probability of every token of a row's one text, and its deviation from what the model
    expected there; for the metric `min_k`. The engine `hf` alone gives them"""
    golds: Golds = field(default="checked", metadata=UNHASHED)
    """`checked`, or `as_published` for a data set that was published with golds no metric should accept: its rows are
    all judged, the plan says which. Not in the hash: how they are counted shows in a score's n"""
    family: str = field(default="", metadata=UNHASHED)
    """the family's name; without it the file name up to the first `_`"""
    row: str = field(default="", metadata=UNHASHED)
    """the name of the headline row in tables; without it the family"""
    defaults: Defaults | None = field(default=None, metadata=UNHASHED)
    """in a family's base file `_<family>.yaml`: the config that the bare family name means, as
    `{base: NAME, chat: NAME}`"""
    description: str = field(default="", metadata=UNHASHED)
    """for `list` and `show`"""
    notes: str = field(default="", metadata=UNHASHED)
    """what is inexact or needs saying; printed by `show` and under tables"""
    resolved: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False, metadata=DERIVED)
    """The merged config, as written to the manifest."""
    source: str = field(default="", metadata=DERIVED)
    """The file it was read from."""

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

    name: str = field(metadata=DERIVED)
    path: str
    """directory or hub id, or `module:folder` inside an installed package"""
    kind: Kind
    """`base` or `chat`. It decides how prompts are built and which config a bare family name means"""
    engine: str = "hf"
    """what runs it: `hf` (transformers), `vllm`, `lmdeploy`, `openai_api`"""
    dtype: str = "auto"
    """precision; `auto`: the checkpoint's"""
    device: str = "auto"
    """where it is computed; `auto`: a GPU where there is one"""
    gpus: int = 1
    """devices that one copy of the model takes"""
    max_seq_len: int | None = None
    """most tokens of prompt and output together; default: the checkpoint's own limit. Longer prompts are
    left-truncated"""
    max_new_tokens: int = 1024
    """output limit where the benchmark sets none"""
    batch_tokens: int | None = None
    """most padded tokens of one forward pass; default: by device"""
    end_strings: tuple[str, ...] = ()
    """chat: outputs end here, besides at the tokenizer's end tokens"""
    system_prompt: str = ""
    """chat: the first message"""
    chat_template: str = ""
    """chat: a jinja template in place of the checkpoint's, or where it has none"""
    reasoning: Reasoning | None = None
    """`{open, close, budget}`: how a reasoning model marks its reasoning trace, see
    [model_configs.md](model_configs.md#reasoning-models)"""
    needs_remote_code: bool = False
    """the checkpoint loads only by code of its own: refused without `trust_remote_code`"""
    trust_remote_code: bool = False
    """as in transformers: code of the checkpoint may be run"""
    revision: str = ""
    """revision of a hub checkpoint"""
    peft_path: str = ""
    """an adapter, a directory or hub id"""
    attn_implementation: str = ""
    """as in transformers"""
    options: Mapping[str, Any] = field(default_factory=dict)
    """settings of the engine: [model_configs.md](model_configs.md) has them"""
    notes: str = ""
    """for `list`"""
    verified: str = ""
    """for `list`: what was run with this config, and how"""
    size: str = ""
    """for `list`: the number of parameters"""
    context: int | None = None
    """for `list`: the longest context"""
    licence: str = ""
    """for `list`: the licence of the weights"""
    source: str = field(default="", metadata=DERIVED)
    resolved: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False, metadata=DERIVED)


@dataclass(frozen=True)
class RowBinding:
    """Which of our rows a row of a published table is."""

    row: str = ""
    """our row; default: the same name"""
    metric: str = ""
    """one of its metrics; default: the primary one"""
    config: str | Mapping[str, str] = ""
    """what the published number was most likely made with: one config, or `{base: …, chat: …}`"""
    inferred: str = ""
    """what of this is inferred"""


@dataclass(frozen=True)
class SummarizerFile:
    """The file of a summarizer."""

    title: str = ""
    """above the table"""
    rows: tuple[str | Mapping[str, str | RowBinding], ...] = ()
    """names of rows, in order; one that was not run is `-`. `{row: other}`: `other` stands in, marked, where `row`
    cannot be scored. A mapping binds a published row, see below"""
    reference: str = ""
    """a csv beside the file: row name, then a column a model; `version`, `n`, `tolerance` and `z` are no models'
    ([ci.md](ci.md#reference-tables))"""
    columns: Literal["own", "all"] = "own"
    """the columns of the reference that are shown: those of the run's models, or every one"""
    decimals: int = 2
    """digits of text and markdown; the csv is unrounded"""
    notes: str = ""
    """under the table"""
