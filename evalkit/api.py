"""The Python interface: benchmarks without a model, and whole evaluations."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.configs.benchmark import select
from evalkit.configs.catalog import open_catalog
from evalkit.configs.merge import check_targets, parse_override
from evalkit.configs.resolve import resolve_datasets
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.reasoning import split_reasoning
from evalkit.core.records import Benchmark, Kind, Sample
from evalkit.data.files import DataRoot
from evalkit.data.sources import open_root
from evalkit.plan.check import load_benchmark_config
from evalkit.plan.options import RunOptions, default_data_root
from evalkit.plan.plan import Planned
from evalkit.plan.task import Cut, Task
from evalkit.prompts.builders import TextTokenizer
from evalkit.scoring.context import fill_calls
from evalkit.scoring.extract import extract
from evalkit.scoring.metrics import Case, make_metric
from evalkit.scoring.score import NEEDS_CODE, UNSAFE, Options, judge

if TYPE_CHECKING:
    import pandas

Prompt = str | list[dict[str, str]] | dict[str, str] | dict[str, dict[str, str]]


def load_benchmark(
    name: str,
    data_root: str | Path | None = None,
    *,
    kind: Kind = "base",
    tokenizer: str | Path | None = None,
    config_dirs: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
) -> BenchmarkHandle:
    """One benchmark by its config's name, or by its family (then the default for `kind`).

    `data_root` defaults to EVALKIT_DATA; `samples` is the project's own sample data. `tokenizer`
    (a folder or file) counts the lengths of benchmarks that are built by length.
    Raises ConfigError for unknown names and broken configs.
    """
    catalog = open_catalog(config_dirs)
    found = resolve_datasets([name], kind, catalog)
    if len(found) != 1:
        raise ConfigError(f"{name!r} names {len(found)} benchmarks", "give one name")
    parsed = [parse_override(text) for text in overrides]
    if any(for_model for for_model, _ in parsed):
        raise ConfigError("no model is run here, so nothing of a model can be set", "leave `model.` keys out")
    laid_on = [override for _, override in parsed]
    check_targets(laid_on, [found[0].name], "benchmark")
    benchmark = load_benchmark_config(found[0].file, catalog, laid_on)
    if found[0].subsets:
        benchmark = select(benchmark, found[0].subsets)
    root = open_root(data_root if data_root is not None else default_data_root())
    root = DataRoot(root.folder, Path(benchmark.source).parent)
    return BenchmarkHandle(Task(benchmark, root, lambda: _tokenizer(tokenizer, root)))


def _tokenizer(named: str | Path | None, root: DataRoot) -> TextTokenizer:
    """The tokenizer named, else one kept with the data (`tokenizers/internlm2` in or beside the root)."""
    from evalkit.engines.tokenizer import load_tokenizer

    if named is not None:
        return load_tokenizer(str(named))
    folder = root.folder
    for place in (folder, folder.parent) if folder else ():
        if (place / "tokenizers" / "internlm2").is_dir():
            return load_tokenizer(str(place / "tokenizers" / "internlm2"))
    raise DataError(
        "lengths are counted in tokens and no model is loaded", "name a tokenizer: a folder or tokenizer.model"
    )


class BenchmarkHandle:
    """A benchmark as a library user sees it: rows, prompts, extraction, scores."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._by_gold: dict[str, Sample] = {}

    @property
    def benchmark(self) -> Benchmark:
        """The resolved config."""
        return self.task.benchmark

    @property
    def name(self) -> str:
        """The config's name."""
        return self.task.benchmark.name

    @property
    def subsets(self) -> list[str]:
        """Names of the scored subsets."""
        return self.task.subsets

    def samples(self, subset: str | None = None, limit: int | None = None) -> list[Sample]:
        """Scored samples of one subset or of all; `limit` takes the first rows of every subset.

        Raises DataError when the rows cannot be found.
        """
        chosen = [subset] if subset is not None else self.task.subsets
        cut = Cut(limit=limit)
        return [sample for name in chosen for sample in cut.apply(self.task.samples(name), name)]

    def render(self, sample: Sample, kind: Kind = "base") -> Prompt:
        """The exact prompt of a sample.

        ppl: {label: text}; ll: {label: {context, continuation}}; gen: a text for a base model, a
        list of {role, content} for a chat model.
        """
        rendered = self.task.render(sample, kind)
        if rendered.ppl is not None:
            return dict(rendered.ppl)
        if rendered.ll is not None:
            return {k: {"context": c, "continuation": t} for k, (c, t) in rendered.ll.items()}
        if rendered.turns is not None:
            return [{"role": turn.role, "content": turn.text} for turn in rendered.turns]
        return rendered.text or ""

    def extract(self, text: str, **context: Any) -> Any:
        """The answer that the benchmark's rule reads out of an output.

        `context` holds what the rule needs besides the text, named as its steps name it
        (`options`, `kind`, `type`, `num_gold`, …). A reasoning trace with one of the usual marks is removed first.
        """
        benchmark = self.benchmark.part(context)
        known = {"options": benchmark.labels, "row": {}, "gold": None, **context}
        answer = split_reasoning(text, None, benchmark.gen.stop).answer
        return extract(answer, fill_calls(benchmark.extract, known), known)

    def score(
        self,
        predictions: Sequence[Any],
        references: Sequence[Any],
        *,
        allow_code: bool = False,
        unsafe_code: bool = False,
        extracted: bool = False,
        **context: Any,
    ) -> dict[str, Any]:
        """Results in percent over outputs and raw gold values, in one order.

        For gen benchmarks predictions are raw outputs (`extracted=True`: already extracted answers);
        for ppl and ll they are labels. A list in `context` that is as long as the predictions gives a
        value to each. Benchmarks that execute programs need `allow_code=True`, and where no sandbox works
        `unsafe_code=True` besides, which runs them unconfined. HumanEval, whose metric needs more of the
        row, takes the gold that names it (`HumanEval/0`) and adds `results`, a line for each program.
        """
        if len(predictions) != len(references):
            raise ConfigError(
                f"{len(predictions)} predictions, {len(references)} references", "give one of each a sample"
            )
        metric = make_metric(self.benchmark.part(context).metric)
        options = Options(allow_code, unsafe_code=unsafe_code)
        if metric.runs_code and not allow_code:
            raise ConfigError(NEEDS_CODE, "score(…, allow_code=True)")
        if metric.runs_code and options.unconfined():
            warnings.warn(UNSAFE, stacklevel=2)
        cases = [
            self._case(i, prediction, gold, _item(context, i, len(predictions)), extracted, metric.needs_row)
            for i, (prediction, gold) in enumerate(zip(predictions, references, strict=True))
        ]
        judged, results = judge(metric, cases, options)
        per_sample = [j.values["result"] for j in judged if "result" in j.values]
        return {**results, "results": per_sample} if per_sample else dict(results)

    def _case(
        self, i: int, prediction: Any, gold: Any, context: Mapping[str, Any], extracted: bool, needs_row: bool
    ) -> Case:
        row = self._row_of(gold) if needs_row else context.get("row", {})
        known = {"gold": gold, "row": row, **context}
        benchmark = self.benchmark.part(context)
        keep = extracted or benchmark.mode != "gen"
        answer = prediction if keep else self.extract(prediction, **known)
        return Case(f"sample/{i}", 0, answer, gold, row, {"options": benchmark.labels, **known})

    def _row_of(self, gold: Any) -> Mapping[str, Any]:
        """The row that a gold value names, for metrics that need more of it than the gold."""
        if not self._by_gold:
            self._by_gold = {str(s.gold): s for s in self.samples()}
        if str(gold) not in self._by_gold:
            raise DataError(
                f"{self.name}: no row has the gold {gold!r}", "references are raw gold values, such as HumanEval/0"
            )
        return self._by_gold[str(gold)].row


def _item(context: Mapping[str, Any], i: int, count: int) -> dict[str, Any]:
    """The context of one sample: lists of full length are taken apart."""
    return {k: v[i] if isinstance(v, (list, tuple)) and len(v) == count else v for k, v in context.items()}


def evaluate(
    models: str | Iterable[str] = (),
    datasets: str | Iterable[str] = (),
    *,
    hf_path: str | Iterable[str] = (),
    work_dir: str | Path = "outputs",
    data_root: str | Path | None = None,
    allow_code: bool = False,
    unsafe_code: bool = False,
    max_num_workers: int | None = None,
    new: bool = False,
    debug: bool = False,
    summarizer: str | None = None,
    reference_column: str = "",
    pages: bool = True,
    **options: Any,
) -> pandas.DataFrame:
    """Evaluate models on datasets; the same plan run before is continued.

    Other `options` are those of `RunOptions` (limit, sample, seed, kind, tokenizer, overrides,
    config_dirs). Returns one row a table line: dataset, version, metric, mode, level, a column a
    model (percent), and the columns n, n_expected and flag a model, prefixed by its name.
    `attrs["run"]` is the run's folder, `attrs["complete"]` whether no number is missing, `attrs["table"]`
    the table as the command line prints it (with `summarizer`: its rows and reference values). `pages`: write
    the HTML report too; `attrs["pages"]` is its first page.
    What is done otherwise than asked for, and models that cannot be used, are warnings.
    """
    import pandas

    from evalkit.execution.debug import DebugRunner
    from evalkit.execution.local import LocalRunner
    from evalkit.execution.runner import Limits
    from evalkit.session import Finished, Listener, ReportOptions, RunSettings, run

    root = str(data_root) if data_root is not None else default_data_root()
    run_options = RunOptions(
        models=_names(models), datasets=_names(datasets), hf_paths=_names(hf_path), data_root=root, **options
    )
    settings = RunSettings(
        command=("evalkit.evaluate",),
        work_dir=Path(work_dir),
        new=new,
        runner=DebugRunner() if debug else LocalRunner(Limits(max_num_workers)),
        scoring=Options(allow_code, max_num_workers or 0, unsafe_code),
        report=ReportOptions(summarizer, reference_column, run_options.config_dirs, pages),
    )
    finished = run(run_options, settings, Listener(planned=_warn))
    assert isinstance(finished, Finished)
    rows = []
    for line in finished.table.lines:
        row: dict[str, Any] = {k: getattr(line, k) for k in ("dataset", "version", "metric", "mode", "level")}
        for model, score in zip(finished.table.models, line.scores, strict=True):
            row[model] = score.value if score else None
            row |= {f"{model}:{k}": getattr(score, k) if score else None for k in ("n", "n_expected", "flag")}
        rows.append(row)
    frame = pandas.DataFrame(rows)
    frame.attrs.update(
        run=str(finished.store.folder),
        complete=finished.complete,
        notes=list(finished.table.notes),
        table=finished.text,
        pages=str(finished.pages) if finished.pages else None,
    )
    return frame


def _warn(planned: Planned) -> None:
    """Tell a caller of Python what the command line prints beside the result."""
    for warning in planned.warnings:
        warnings.warn(warning, stacklevel=4)
    for model, error in planned.broken.items():
        warnings.warn(f"{model} is not run: {error.message}", stacklevel=4)


def _names(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
