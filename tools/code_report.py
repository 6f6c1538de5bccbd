"""Figures of the code that want a look now and then: rooms, imports between them, long files and functions, `Any`.

    python tools/code_report.py [--root DIR]

A report, not a limit: cohesion decides where a file ends. `tests/test_rooms.py` checks what must hold.
"""

from __future__ import annotations

import argparse
import ast
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

FILE_LINES, FUNCTION_LINES = 300, 50
"""From here on a file or a function wants a second look."""


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file, for every module of the package."""
    found = {}
    for file in sorted((root / "evalkit").rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def room(module: str) -> str:
    """The part of a dotted name right below the package."""
    return module.split(".")[1] if "." in module else module


def arrows(files: dict[str, Path]) -> set[tuple[str, str]]:
    """(room, room that it imports), each pair once."""
    return {
        (room(name), room(other))
        for name, file in files.items()
        for other in imports(ast.parse(file.read_text(encoding="utf-8")), files)
        if room(name) != room(other)
    }


def imports(tree: ast.AST, files: dict[str, Path]) -> Iterator[str]:
    """The package's modules that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("evalkit"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in files else node.module


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def percentile(values: Sequence[int], share: float) -> int:
    """The value below which `share` of the sorted values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    files = modules(parser.parse_args().root)
    lines = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in files.items()}
    lengths = {f"{name}.{inner}": length for name, file in files.items() for inner, length in functions(file)}
    any_count = sum(
        isinstance(node, ast.Name) and node.id == "Any"
        for file in files.values()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    )
    print(f"{len({room(name) for name in files})} rooms, {len(arrows(files))} arrows between them")
    for what, counts in (("file", list(lines.values())), ("function", list(lengths.values()))):
        print(
            f"{len(counts)} {what}s: median {statistics.median(counts):.0f} lines, p95 {percentile(counts, 0.95)}, "
            f"longest {max(counts)}"
        )
    print(f"{sum(lines.values())} lines in all; Any is named {any_count} times")
    for what, found, least in (("file", lines, FILE_LINES), ("function", lengths, FUNCTION_LINES)):
        for name, count in sorted(found.items(), key=lambda item: -item[1]):
            if count > least:
                print(f"  {what} of {count} lines: {name}")


if __name__ == "__main__":
    main()
