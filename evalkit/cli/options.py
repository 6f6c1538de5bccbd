"""Options that take several values separated by spaces, as the published commands write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

MANY = ("--models", "--datasets", "--hf-path", "--config-dir", "--set", "--rows")
SECTIONS = {
    "Models": (
        "models", "hf_paths", "recorded_field", "kind", "engine", "dtype", "quantization", "attn_implementation",
        "peft_path", "gpus", "trust_remote_code", "system_prompt", "reasoning", "engine_path", "max_seq_len",
    ),
    "Benchmarks": ("datasets", "data_root", "config_dirs", "overrides", "tokenizer", "limit", "sample", "seed"),
    "Run": ("work_dir", "mode", "new", "reuse", "dry_run", "calibrate", "debug", "allow_code", "unsafe_code"),
    "Generation": ("num_samples", "temperature", "max_out_len"),
    "Workers": (
        "max_num_workers", "stall_timeout", "runner", "partition", "qos", "time_limit", "ray_address",
    ),
    "Output": ("summarizer", "reference_column", "as_json"),
}  # fmt: skip
"""Heading of the help -> parameters of the root command."""
F = TypeVar("F", bound=Callable[..., Any])


def spread(args: Sequence[str]) -> list[str]:
    """`--models a b` as `--models a --models b`, for the options that take many values."""
    result: list[str] = []
    current = ""
    for arg in args:
        if arg in MANY:
            current, fresh = arg, True
            continue
        if arg.startswith("-") or not current:
            current = ""
            result.append(arg)
            continue
        result += [current, arg]
        fresh = False
    return result if not current or not fresh else [*result, current]


class ManyGroup(click.Group):
    """The root command: spreads many-valued options before click parses them, and shows options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click: options under the headings of `SECTIONS`, what is in none of them under the last."""
        records = {param.name: param.get_help_record(ctx) for param in self.get_params(ctx)}
        placed = {name for names in SECTIONS.values() for name in names}
        rest = tuple(name for name in records if name and name not in placed)
        for title, names in {**SECTIONS, "Other": rest}.items():
            with formatter.section(title):
                formatter.write_dl([record for name in names if (record := records.get(name))])
        self.format_commands(ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        head, tail = self._split(args)
        return super().parse_args(ctx, spread(head) + tail)

    def _split(self, args: list[str]) -> tuple[list[str], list[str]]:
        """Options of the run, and the subcommand with its own: only a first word is a subcommand."""
        if args and args[0] in self.commands:
            return [], [args[0], *spread(args[1:])]
        return args, []


def data_options(command: F) -> F:
    """Options of every command that reads rows."""
    for option in (
        click.option(
            "--data-root",
            metavar="DIR",
            envvar="EVALKIT_DATA",
            help="Read data from DIR; `samples` for the small rows that come with evalkit.",
        ),
        click.option(
            "--config-dir", "config_dirs", multiple=True, metavar="DIR", help="Look for configs in DIR first."
        ),
        click.option(
            "--tokenizer", metavar="PATH", help="Count the lengths of long-context prompts with this tokenizer."
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Override a key of a config; CONFIG:KEY=VALUE for one config.",
        ),
    ):
        command = option(command)
    return command


def model_options(command: F) -> F:
    """Options of the models, for configs and bare checkpoints alike; what is not given is the config's."""
    for option in reversed(MODEL_OPTIONS):
        command = option(command)
    return command


MODEL_OPTIONS = (
    click.option(
        "--kind",
        type=click.Choice(["base", "chat"]),
        help="Treat the models as base or chat models; default: chat if there is a chat template.",
    ),
    click.option("--engine", type=click.Choice(["hf", "vllm", "lmdeploy"]), help="Run checkpoints with this engine."),
    click.option(
        "--dtype", type=click.Choice(["auto", "float32", "float16", "bfloat16"]), help="Load the weights in this type."
    ),
    click.option(
        "--quantization",
        metavar="NAME",
        help="Quantize the weights: 8bit or 4bit (bitsandbytes); with vllm, its own names.",
    ),
    click.option(
        "--attn-implementation", metavar="NAME", help="Choose the attention: eager, sdpa, flash_attention_2, …"
    ),
    click.option("--peft-path", metavar="DIR_OR_ID", help="Add a PEFT adapter to the model."),
    click.option(
        "--gpus-per-model",
        "--hf-num-gpus",
        "gpus",
        type=click.IntRange(1),
        metavar="N",
        help="Spread one copy of the model over N devices.",
    ),
    click.option("--trust-remote-code", is_flag=True, help="Allow a checkpoint to run code of its own."),
    click.option("--system-prompt", metavar="TEXT", help="Send TEXT to chat models as the first message."),
    click.option("--reasoning", is_flag=True, help="A reasoning model: room for its trace, no stop strings inside it."),
    click.option(
        "--engine-path",
        type=click.Choice(["auto", "tree", "plain"]),
        help="Share prefixes in scoring (tree) or not (plain).",
    ),
    click.option(
        "--max-seq-len", type=click.IntRange(2), metavar="N", help="Limit prompt and output together to N tokens."
    ),
    click.option(
        "--max-out-len",
        type=click.IntRange(1),
        metavar="N",
        help="Limit outputs to N tokens where the benchmark sets no limit.",
    ),
)


def summary_options(command: F) -> F:
    """Options of every command that prints a score table."""
    for option in (
        click.option("--reference-column", default="", metavar="NAME", help="Compare with this published column."),
        click.option("--summarizer", metavar="NAME", help="Choose the rows and reference numbers of the table."),
    ):
        command = option(command)
    return command


def check_summarizer(name: str | None, column: str, config_dirs: Sequence[str]) -> None:
    """ConfigError for a summarizer or column that does not exist, before anything is run."""
    from evalkit.configs.catalog import open_catalog
    from evalkit.core.errors import ConfigError
    from evalkit.report.summary import load_summarizer

    if name:
        load_summarizer(name, open_catalog(config_dirs), column)
    elif column:
        raise ConfigError("--reference-column needs a table of published numbers", "--summarizer NAME")
