"""Writes the tables of keys in docs/configs.md from the records that configs are read into.

    python -m tools.config_keys [--check]

A table stands between `<!-- keys: RECORD -->` and `<!-- end -->`. `--check` writes nothing and exits 1 where the file
is out of date.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from evalkit.configs.schema import is_needed, key_fields
from evalkit.core import config_records
from evalkit.core.config_records import NamedCall

FILE = Path(__file__).resolve().parents[1] / "docs" / "configs.md"
TABLE = re.compile(r"(<!-- keys: (\w+) -->\n).*?(<!-- end -->)", re.S)


def field_texts(record: type) -> dict[str, str]:
    """Field -> the text under it, in the class and in those that it inherits from."""
    texts: dict[str, str] = {}
    for owner in reversed(record.__mro__[:-1]):
        body = ast.parse(inspect.getsource(owner)).body[0]
        assert isinstance(body, ast.ClassDef)
        for node, after in zip(body.body, body.body[1:], strict=False):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and is_text:
                texts[node.target.id] = " ".join(str(after.value.value).split())  # type: ignore[attr-defined]
    return texts


def default_of(field: dataclasses.Field[object]) -> str:
    """What holds without the key, as the table shows it; empty where that is nothing."""
    if is_needed(field):
        return "needed"
    value = field.default
    if isinstance(value, NamedCall):
        return f"`{value.name}`"
    plain = isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != ""
    return f"`{value}`" if plain else ""


def table(record: type) -> str:
    """The table of a record's keys. A key without a text is a KeyError."""
    texts = field_texts(record)
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for field in key_fields(record):
        meaning = texts[field.name].replace("|", r"\|")
        lines.append(f"| `{field.name}` | {default_of(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """The document with its tables made anew."""
    return TABLE.sub(lambda m: m[1] + table(getattr(config_records, m[2])) + m[3], text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the tables are out of date")
    check = parser.parse_args(arguments).check
    old = FILE.read_text(encoding="utf-8")
    new = written(old)
    if new == old:
        return 0
    if check:
        print(f"{FILE} is out of date: run python tools/config_keys.py", file=sys.stderr)
        return 1
    FILE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
