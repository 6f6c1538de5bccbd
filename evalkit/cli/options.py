"""Options that take several values separated by spaces, as the published commands write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

MANY = ("--models", "--datasets", "--hf-path", "--config-dir", "--set", "--rows")
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
    """The root command: spreads many-valued options in front of click's own parsing."""

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
            "--data-root", metavar="DIR", envvar="EVALKIT_DATA", help="Local data; `samples`: our own samples."
        ),
        click.option(
            "--config-dir", "config_dirs", multiple=True, metavar="DIR", help="Your own configs; they win by name."
        ),
        click.option("--tokenizer", metavar="PATH", help="Counts the lengths of long-context prompts."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a config key."),
    ):
        command = option(command)
    return command


def model_options(command: F) -> F:
    """Options of the models, for configs and bare checkpoints alike; what is not given is the config's."""
    for option in reversed(MODEL_OPTIONS):
        command = option(command)
    return command


MODEL_OPTIONS = (
    click.option("--kind", type=click.Choice(["base", "chat"]), help="Default: a chat template makes a chat model."),
    click.option("--engine", type=click.Choice(["hf", "vllm", "lmdeploy"]), help="What runs the checkpoint."),
    click.option("--dtype", type=click.Choice(["auto", "float32", "float16", "bfloat16"]), help="Of the weights."),
    click.option("--quantization", metavar="NAME", help="8bit or 4bit (bitsandbytes); vllm: its own names."),
    click.option("--attn-implementation", metavar="NAME", help="eager, sdpa, flash_attention_2, …"),
    click.option("--peft-path", metavar="DIR_OR_ID", help="A PEFT adapter on the model."),
    click.option("--gpus-per-model", "--hf-num-gpus", "gpus", type=click.IntRange(1), help="Devices of one copy."),
    click.option("--trust-remote-code", is_flag=True, help="Let a checkpoint run the code that it brings."),
    click.option("--system-prompt", metavar="TEXT", help="First message to a chat model."),
    click.option("--reasoning", is_flag=True, help="Cut <think>…</think> off before extraction, and count it."),
    click.option("--engine-path", type=click.Choice(["auto", "tree", "plain"]), help="Scoring: share prefixes or not."),
    click.option("--max-seq-len", type=click.IntRange(2), help="Most tokens of prompt and output."),
    click.option("--max-out-len", type=click.IntRange(1), help="Output limit where the benchmark sets none."),
)


def summary_options(command: F) -> F:
    """Options of every command that prints a score table."""
    for option in (
        click.option("--reference-column", default="", metavar="NAME", help="The published column to compare with."),
        click.option("--summarizer", metavar="NAME", help="Rows and reference numbers of the table."),
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
