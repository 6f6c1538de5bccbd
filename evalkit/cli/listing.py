"""`list`: what exists. Reads YAML only, so that it answers at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from evalkit.cli.streams import emit
from evalkit.configs.benchmark import count_cells
from evalkit.core.errors import EvalkitError
from evalkit.core.registry import did_you_mean

REGISTERED = ("steps", "metrics")
WHAT = ("datasets", "models", "runs", "summarizers", *REGISTERED)


@click.command("list")
@click.argument("what", type=click.Choice(WHAT), required=False)
@click.argument("pattern", default="*")
@click.option("--config-dir", "config_dirs", multiple=True, metavar="DIR", help="Your own configs.")
@click.option("--work-dir", default="outputs", show_default=True, metavar="DIR", help="The parent of runs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list.")
def list_(what: str | None, pattern: str, config_dirs: tuple[str, ...], work_dir: str, as_json: bool) -> None:
    """List datasets, models, runs, summarizers, extraction steps or metrics."""
    from evalkit.configs.catalog import open_catalog

    catalog = open_catalog(config_dirs)
    makers: Mapping[str, Any] = {
        "datasets": lambda: dataset_rows(catalog, pattern),
        "models": lambda: model_rows(catalog, pattern),
        "runs": lambda: run_rows(Path(work_dir), pattern),
        "summarizers": lambda: [{"name": n} for n in _matching(catalog.files("summarizers"), pattern)],
        "steps": lambda: registered_rows("steps", pattern),
        "metrics": lambda: registered_rows("metrics", pattern),
    }
    chosen = [what] if what else ["datasets", "models", "runs"]
    tables = {name: makers[name]() for name in chosen}
    if as_json:
        emit(tables[what] if what else tables)
        return
    for name, rows in tables.items():
        if not what:
            click.secho(f"{name} ({len(rows)})", bold=True)
        text = _sentences(rows) if name in REGISTERED else _aligned(rows)
        click.echo(text if rows else f"no {name} match {pattern!r}{_near(name, pattern)}")


def registered_rows(kind: str, pattern: str) -> list[dict[str, Any]]:
    """Extraction steps or metrics, from the registry."""
    from fnmatch import fnmatchcase

    from evalkit.scoring.reference import rows_of

    return [row for row in rows_of(kind) if fnmatchcase(row["name"], pattern)]


def _sentences(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each name with what it does, and below it how it is written or what it gives."""
    width = max((len(row["name"]) for row in rows), default=0)
    return "\n".join(f"{r['name'].ljust(width)}  {r['about']}\n{' ' * width}  e.g. {r['example']}" for r in rows)


def _near(kind: str, pattern: str) -> str:
    """Names like one that no step or metric has."""
    hint = did_you_mean(pattern, [row["name"] for row in registered_rows(kind, "*")]) if kind in REGISTERED else ""
    return f": {hint}" if hint else ""


def dataset_rows(catalog: Any, pattern: str) -> list[dict[str, Any]]:
    """Facts of every dataset config; a broken one shows its error."""
    from evalkit.configs.merge import load_merged

    rows = []
    for name, files in _matching(catalog.files("dataset_configs"), pattern).items():
        try:
            data = load_merged(files[0], catalog, "dataset_configs").data
            rows.append(_dataset_row(name, data))
        except EvalkitError as error:
            rows.append({"name": name, "mode": "broken", "about": error.message})
    return rows


def _dataset_row(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "mode": data.get("mode", "?"),
        "subsets": _count_subsets(data),
        "shots": _shots(data.get("shots")),
        "metric": _call_name(data.get("metric", "?")),
        "about": data.get("description", ""),
    }


def _count_subsets(data: Mapping[str, Any]) -> int:
    cells = count_cells(data)
    if cells is not None:
        return cells
    subsets = data.get("subsets")
    if not subsets:
        return 1
    lists = subsets.values() if isinstance(subsets, dict) else [subsets]
    return len({m if isinstance(m, str) else next(iter(m)) for members in lists for m in members})


def _shots(shots: Mapping[str, Any] | None) -> str:
    if not shots:
        return "0"
    return str(shots.get("count") or len(shots.get("rows", ())) or "all")


def _call_name(call: Any) -> str:
    return call if isinstance(call, str) else next(iter(call))


def model_rows(catalog: Any, pattern: str) -> list[dict[str, Any]]:
    """Facts of every model config."""
    from evalkit.configs.merge import load_merged

    rows = []
    for name, files in _matching(catalog.files("model_configs"), pattern).items():
        try:
            data = load_merged(files[0], catalog, "model_configs").data
        except EvalkitError as error:
            rows.append({"name": name, "kind": "broken", "path": error.message})
            continue
        rows.append(
            {
                "name": name,
                "kind": data.get("kind", "?"),
                "engine": data.get("engine", "hf"),
                "size": data.get("size", ""),
                "context": data.get("max_seq_len", data.get("context", "")),
                "verified": "yes" if data.get("verified") else "no",
                "remote code": "needed" if data.get("needs_remote_code") else "",
                "path": data.get("path", ""),
                "licence": data.get("licence", ""),
            }
        )
    return rows


def run_rows(parent: Path, pattern: str) -> list[dict[str, Any]]:
    """Facts of every run, oldest first."""
    from fnmatch import fnmatchcase

    from evalkit.results.store import list_runs

    rows = []
    for store in list_runs(parent):
        if not fnmatchcase(store.name, pattern):
            continue
        try:
            manifest = store.manifest()
        except EvalkitError as error:
            rows.append({"run": store.name, "status": "unreadable", "models": error.message})
            continue
        cut = {k: v for k, v in manifest.get("cut", {}).items() if v is not None and k != "seed"}
        rows.append(
            {
                "run": store.name,
                "status": manifest.get("status", "?"),
                "models": ", ".join(manifest.get("models", {})),
                "datasets": ", ".join(manifest.get("benchmarks", {})),
                "cut": " ".join(f"{k} {v}" for k, v in cut.items()),
            }
        )
    return rows


def _matching(files: Mapping[str, Any], pattern: str) -> dict[str, Any]:
    from evalkit.configs.catalog import expand

    glob = pattern if any(c in pattern for c in "*?[") else f"{pattern}*"
    return {name: files[name] for name in expand(glob, files)}


def _aligned(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns padded to their widest cell; cheaper than a table library at start-up."""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[str(row.get(h, "")) for h in heads] for row in rows]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(heads))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in [heads, *cells]]
    return "\n".join([click.style(lines[0], bold=True), *lines[1:]])


COMMANDS = [list_]
