"""`new`: a config for a file of one's own rows, with its first prompt shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.registry import did_you_mean

GOLDS = ("gold", "answer", "label", "target", "answerKey", "answer_key", "correct", "solution", "答案")
TEXTS = ("question", "prompt", "input", "query", "problem", "text", "instruction", "问题", "题目")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@click.command("new")
@click.argument("name")
@click.option(
    "--from",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read this csv or JSONL file.",
)
@click.option(
    "--kind",
    type=click.Choice(["gen", "ppl", "ll"]),
    default="gen",
    show_default=True,
    help="Score by generation, perplexity or log-likelihood.",
)
@click.option("--gold", default="", metavar="COLUMN", help="Take right answers from this column.")
@click.option(
    "--options",
    default="",
    metavar="COLUMNS",
    help="Take options from these columns (separated by commas), or from one that holds lists.",
)
@click.option("--config-dir", default="configs", show_default=True, metavar="DIR", help="Write below DIR.")
def new(name: str, file: Path, kind: str, gold: str, options: str, config_dir: str) -> None:
    """Write a config for a csv or JSONL file, and show its first prompt."""
    from evalkit.api import load_benchmark
    from evalkit.data.files import read_file

    if not file.is_file():
        raise DataError(f"no file {file}", "give the path of a csv or JSONL file")
    rows = read_file(file)
    if not rows:
        raise DataError(f"{file} has no rows", "a csv needs a header and at least one row")
    target = Path(config_dir) / "dataset_configs" / f"{name}_{kind}.yaml"
    if target.exists():
        raise ConfigError(f"{target} is there already", "take another name, or remove it")
    text, said = config_text(name, dict(rows[0]), file.resolve(), kind, gold, options)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    for line in said:
        click.echo(line)
    click.echo(f"{target}:\n{text}")
    try:
        handle = load_benchmark(target.stem, config_dirs=[config_dir])
        handle.task.check()
    except (ConfigError, DataError) as error:
        raise type(error)(f"{target} is written; {error.message}", f"change it there: {error.hint}") from error
    click.echo(f"the first prompt:\n{handle.render(handle.samples(limit=1)[0])}\n")
    click.echo(f"run.py --config-dir {config_dir} --datasets {target.stem} --models …")


def config_text(
    name: str, row: dict[str, Any], file: Path, kind: str, gold: str = "", options: str = ""
) -> tuple[str, list[str]]:
    """(the config for a file whose first row is `row`, what was guessed); ConfigError where no guess is sensible."""
    import json

    said: list[str] = []
    gold = _column("gold", gold, GOLDS, row, said)
    named = [part.strip() for part in options.split(",") if part.strip()] or _guessed_options(row, said)
    for column in named:
        if column not in row:
            raise ConfigError(f"the file has no column {column!r}", did_you_mean(column, row))
    asked = _column("text", "", TEXTS, {k: v for k, v in row.items() if k not in (gold, *named)}, said)
    lines = [f"description: {json.dumps(f'rows of {file.name}', ensure_ascii=False)}", f"mode: {kind}"]
    lines += [f"data: {{file: {json.dumps(str(file), ensure_ascii=False)}}}"]
    columns = {"asked": f"row[{asked!r}]"}
    if named:
        listed = f"row[{named[0]!r}]" if len(named) == 1 else "[" + ", ".join(f"row[{c!r}]" for c in named) + "]"
        columns["choices"] = listed
        columns["letters"] = f"{LETTERS!r}[:choices | length] | list"
        columns["right"] = f"{LETTERS!r}[choices.index(row[{gold!r}])] if row[{gold!r}] in choices else row[{gold!r}]"
    else:
        columns["right"] = f"row[{gold!r}]"
    lines += [
        "fields:",
        *(f"  {column}: {json.dumps(source, ensure_ascii=False)}" for column, source in columns.items()),
    ]
    lines += ["gold: right"]
    listing = "{% for c in choices %}{{ letters[loop.index0] }}. {{ c }}\\n{% endfor %}" if named else ""
    prompt = "{{ asked }}\\n" + listing + "Answer:"
    if kind == "gen":
        lines += [f'prompt:\n- user: "{prompt}"']
        lines += ["extract: [{choice: {texts: choices}}]"] if named else []
        is_number = str(row[gold]).replace(",", "").replace(".", "", 1).lstrip("-").isdigit()
        lines += ["extract: [number]", "metric: numeric_accuracy"] if is_number and not named else []
        lines += [] if is_number and not named else ["metric: accuracy" if named else "metric: squad"]
    else:
        if not named:
            raise ConfigError(f"mode {kind} needs options", "--options COLUMN,COLUMN,… or a column with a list")
        lines += ["row_labels: letters", f'prompt: "{prompt} {{{{ option }}}}"', "metric: accuracy"]
        lines += ['continuation: " {{ option }}"'] if kind == "ll" else []
    return "\n".join(lines) + "\n", said


def _column(what: str, given: str, usual: tuple[str, ...], row: dict[str, Any], said: list[str]) -> str:
    """The column named, else the first with a usual name."""
    if given:
        if given not in row:
            raise ConfigError(f"the file has no column {given!r}", did_you_mean(given, row))
        return given
    found = next((c for u in usual for c in row if c.lower() == u.lower()), "")
    if not found and what == "text":
        found = max(row, key=lambda c: len(str(row[c])), default="")
    if not found:
        raise ConfigError("no column is called as right answers usually are", f"--gold, one of: {', '.join(row)}")
    said.append(f"guessed: {what} is the column {found!r}")
    return found


def _guessed_options(row: dict[str, Any], said: list[str]) -> list[str]:
    """Columns A, B, … or one that holds a list."""
    lettered = [letter for letter in LETTERS if letter in row]
    lists = [c for c in ("choices", "options") if isinstance(row.get(c), list)]
    found = lettered if len(lettered) > 1 else lists[:1]
    if found:
        said.append(f"guessed: the options are {', '.join(found)}")
    return found


COMMANDS = [new]
