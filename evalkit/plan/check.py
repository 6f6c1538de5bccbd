"""Checks of a benchmark that need no data: names, templates, shots, labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from evalkit.configs.benchmark import PARTS, read_benchmark
from evalkit.configs.catalog import ConfigCatalog
from evalkit.configs.merge import Override
from evalkit.configs.yamlfile import Document, KeyPath, load_yaml
from evalkit.core import template
from evalkit.core.calls import check_steps, make_contrast, make_metric, make_solver
from evalkit.core.errors import ConfigError
from evalkit.core.records import Benchmark, ShotSpec
from evalkit.core.registry import did_you_mean
from evalkit.prompts import quirks
from evalkit.prompts.builders import BUILDERS
from evalkit.prompts.rendering import uses_shots
from evalkit.prompts.rows import sources_of, template_sources

AVERAGES = ("mean", "pooled", "weighted", "groups", "none")


def load_benchmark_config(file: Path, catalog: ConfigCatalog, overrides: Sequence[Override] = ()) -> Benchmark:
    """Read, merge, build and check one dataset config; ConfigError, with file and line, at the first fault."""
    benchmark, document = read_benchmark(file, catalog, overrides)
    check_benchmark(benchmark, document)
    return benchmark


def check_benchmark(benchmark: Benchmark, document: Document, inside: KeyPath = ()) -> None:
    """ConfigError, with file and line, at the first thing that cannot work; `inside` is the path of a part's keys."""
    for value, part in benchmark.parts.items():
        check_benchmark(part, document, ("parts", benchmark.part_key, value))
    checks = (
        (("quirks",), _quirks),
        (("solver",), _solver),
        (("labels",), _labels),
        (("gen",), _draws),
        (("shots",), _shots),
        (("extract",), _steps),
        (("metric",), _metric),
        (("average",), _average),
        (("contrast",), _contrast),
        (("data",), _data),
    )
    for path, check in checks:
        _placed(document, _nearest(document, inside, path), partial(check, benchmark))
    _placed(document, ("parts",), partial(_parts, benchmark))
    if benchmark.fields:
        check_templates(benchmark, tuple(benchmark.fields), document)


def _placed(document: Document, path: KeyPath, check: Callable[[], None]) -> None:
    """Run a check; put file and line before its error."""
    try:
        check()
    except ConfigError as error:
        raise ConfigError(f"{document.place(path)}: {error.message}", error.hint) from error


def _nearest(document: Document, inside: KeyPath, path: KeyPath) -> KeyPath:
    """The path of a part's key where the part gives it; else that of the whole config's."""
    return (*inside, *path) if (*inside, *path) in document.places or path not in document.places else path


def check_templates(benchmark: Benchmark, columns: tuple[str, ...], document: Document | None = None) -> None:
    """Undefined names in templates; `columns` are the row's, when `fields` does not give them."""
    document = document or _document_of(benchmark)
    columns = tuple(c for c in columns if not c.startswith("_"))
    taken = sorted(set(columns) & template.RESERVED)
    if taken:
        raise ConfigError(
            f"{document.place(('fields',))}: the column {taken[0]!r} has a reserved name",
            f"rename it in `fields`; reserved: {', '.join(sorted(template.RESERVED))}",
        )
    variables = {name for member in benchmark.members for name in member.variables}
    known = {*columns, *variables, *template.RESERVED}
    for path, source in templates(benchmark):
        what = ".".join(path)
        _placed(document, path, partial(template.check_names, source, known, what))
        if quirks.SEQUENTIAL in benchmark.quirks:
            _placed(document, path, partial(template.check_bare, source, columns, what))


def _document_of(benchmark: Benchmark) -> Document:
    """The config's own file again, for the line of an error that only the rows brought to light."""
    file = Path(benchmark.source or benchmark.name)
    return load_yaml(file) if file.is_file() else Document(file, {})


def templates(benchmark: Benchmark) -> Iterator[tuple[KeyPath, str]]:
    """Every row template of a benchmark and where it stands."""
    yield from template_sources(benchmark)
    shots = benchmark.shots
    if shots is not None and shots.fields is None and not shots.file:
        yield from sources_of(("shots", "template"), shots.template)


def _quirks(benchmark: Benchmark) -> None:
    for name in sorted(benchmark.quirks):
        if name not in quirks.QUIRKS:
            raise ConfigError(f"unknown quirk {name!r}", did_you_mean(name, quirks.QUIRKS))


def _parts(benchmark: Benchmark) -> None:
    """Parts that no subset has, splits that cannot be named, and rows that would average unlike numbers."""
    key = benchmark.part_key
    values = {str(m.variables[key]) for m in benchmark.members if key in m.variables}
    splits = [b.data.split for b in (benchmark, *benchmark.parts.values())]
    if any(split != splits[0] and not isinstance(split, str) for split in splits):
        raise ConfigError("a part cannot have several splits of its own", "give every part one split")
    for value in benchmark.parts:
        if value not in values:
            raise ConfigError(f"no subset has {key}: {value}", did_you_mean(value, values) or PARTS)
    names = {make_metric(b.metric).name for b in (benchmark, *benchmark.parts.values())}
    if len(names) > 1:
        raise ConfigError(f"the parts' metrics give {', '.join(sorted(names))}", "give them one `name`")


def _draws(benchmark: Benchmark) -> None:
    gen = benchmark.gen
    if gen.num_samples < 1:
        raise ConfigError(f"gen.num_samples is {gen.num_samples}", "at least 1")
    if gen.num_samples > 1 and gen.temperature <= 0:
        raise ConfigError(
            f"{gen.num_samples} draws at temperature 0 would all be the same", "gen.temperature: 0.8, or --temperature"
        )


def _labels(benchmark: Benchmark) -> None:
    if benchmark.mode == "gen":
        return
    if benchmark.row_labels:
        return
    if len(benchmark.labels) < 2 and not (benchmark.labels and make_metric(benchmark.metric).uses_scores):
        raise ConfigError(f"mode {benchmark.mode} needs at least two labels", "labels: [A, B, C, D]")
    if len(set(benchmark.labels)) < len(benchmark.labels):
        raise ConfigError("a label stands twice", "labels must differ")
    if benchmark.mode == "ll" and not benchmark.continuation:
        raise ConfigError("mode ll needs `continuation`", 'continuation: "{{ option }}"')


def _shots(benchmark: Benchmark) -> None:
    shots = benchmark.shots
    if shots is None:
        if uses_shots(benchmark.prompt):
            raise ConfigError("the prompt uses shots, none are defined", "define `shots` or take them out of `prompt`")
        return
    sources = [key for key in ("split", "file", "turns", "text") if getattr(shots, key)]
    if len(sources) != 1:
        raise ConfigError(f"shots need exactly one source, not {sources or 'none'}", "split, file, turns or text")
    if not uses_shots(benchmark.prompt):
        raise ConfigError(
            "shots are defined, the prompt does not use them", "put {{ shots }} or `- shots` into `prompt`"
        )
    _shot_shape(benchmark, shots)


def _shot_shape(benchmark: Benchmark, shots: ShotSpec) -> None:
    if (shots.split or shots.file) and not shots.template:
        raise ConfigError("shots from rows need a template", "shots.template")
    if shots.turns and isinstance(benchmark.prompt, str):
        raise ConfigError("turn exemplars need a prompt of turns", "write `prompt` as a list of turns with `- shots`")
    text_prompt = isinstance(benchmark.prompt, str)
    if (shots.split or shots.file) and text_prompt != isinstance(shots.template, str):
        raise ConfigError("the exemplars and the prompt must both be text, or both be turns", "shots.template")


def _steps(benchmark: Benchmark) -> None:
    if benchmark.extract and benchmark.mode != "gen":
        raise ConfigError(f"mode {benchmark.mode} has no text to extract from", "remove `extract`")
    check_steps(benchmark.extract)


def _metric(benchmark: Benchmark) -> None:
    metric = make_metric(benchmark.metric)
    if metric.uses_lengths and benchmark.mode != "ll":
        raise ConfigError(f"the metric {benchmark.metric.name} needs mode ll, not {benchmark.mode}", "mode: ll")
    if metric.uses_tokens and not benchmark.token_statistics:
        raise ConfigError(f"{benchmark.metric.name} looks at the tokens of a text", "token_statistics: true")
    if benchmark.token_statistics and (benchmark.mode != "ppl" or len(benchmark.labels) != 1):
        raise ConfigError("only a single text has statistics of its tokens", "mode: ppl, labels: [text]")


def _contrast(benchmark: Benchmark) -> None:
    if benchmark.contrast is None:
        return
    names = [member.name for member in benchmark.members]
    for subset in make_contrast(benchmark.contrast).subsets:
        if subset not in names:
            raise ConfigError(f"no subset is called {subset!r}", did_you_mean(subset, names))


def _solver(benchmark: Benchmark) -> None:
    if benchmark.solver is None:
        return
    if benchmark.mode != "gen":
        raise ConfigError(f"mode {benchmark.mode} has no conversation", "remove `solver`, or set `mode: gen`")
    make_solver(benchmark.solver)


def _average(benchmark: Benchmark) -> None:
    if benchmark.average.name not in AVERAGES:
        raise ConfigError(f"unknown average {benchmark.average.name!r}", did_you_mean(benchmark.average.name, AVERAGES))
    if benchmark.average.name == "groups":
        known = [group.name for group in benchmark.groups]
        named = [str(name) for names in benchmark.average.args.values() for name in names]
        bad = [name for name in named if name not in known]
        if bad or not named:
            raise ConfigError(f"no group is called {bad[0]!r}" if bad else "no group is named", ", ".join(known))


def _data(benchmark: Benchmark) -> None:
    data = benchmark.data
    if not (data.path or data.file or data.package or data.build):
        raise ConfigError("data needs `path` (a hub id) or `file`", "see docs/configs.md")
    if data.build is not None:
        BUILDERS.get(data.build.name)
