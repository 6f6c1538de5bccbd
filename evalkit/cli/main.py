"""The root command and the run it stands for."""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
import traceback
from typing import Any, NoReturn

import click

from evalkit.cli import gates, listing, looking, showing, status, tools
from evalkit.cli.options import ManyGroup, data_options, model_options, summary_options
from evalkit.cli.reporting import report
from evalkit.cli.streams import Documents, close_streams, note, open_streams, unwritable
from evalkit.core.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EvalkitError, RunFailed, StoreError
from evalkit.core.version import __version__

EPILOG = (
    "See `run.py list datasets`, `run.py list models` and `run.py show NAME` for what there is, docs/ for the rest."
)


@click.group(cls=ManyGroup, invoke_without_command=True, epilog=EPILOG, context_settings={"max_content_width": 110})
@click.version_option(__version__, prog_name="evalkit")
@click.option(
    "--models", multiple=True, metavar="NAME…", help="Choose models: names or globs of configs, recorded:PATH."
)
@click.option(
    "--datasets",
    multiple=True,
    metavar="NAME…",
    help="Choose benchmarks: names, globs, families; NAME:SUBSET,… for a part.",
)
@click.option("--recorded-field", default="", metavar="NAME", help="Read the texts of recorded:PATH from this field.")
@click.option(
    "--hf-path", "hf_paths", multiple=True, metavar="DIR_OR_ID…", help="Evaluate checkpoints that have no config."
)
@model_options
@data_options
@click.option("--work-dir", default="outputs", show_default=True, metavar="DIR", help="Write runs below DIR.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Take the first N rows of every subset.")
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Take N random rows of every subset (see --seed).")
@click.option("--seed", default=0, show_default=True, metavar="N", help="Seed --sample and sampled generation.")
@click.option(
    "--num-samples", type=click.IntRange(1), metavar="N", help="Generate N outputs for each sample (pass@k, maj@k)."
)
@click.option("--temperature", type=click.FloatRange(0), metavar="T", help="Sample at temperature T; 0 is greedy.")
@click.option(
    "--mode",
    type=click.Choice(["all", "infer", "score"]),
    default="all",
    show_default=True,
    help="Ask the models, score the replies, or both.",
)
@click.option("--new", is_flag=True, help="Start a new run instead of continuing an unfinished one.")
@click.option(
    "--reuse", metavar="[RUN]", is_flag=False, flag_value="", help="Continue or extend RUN; without RUN, the newest."
)
@click.option(
    "--max-num-workers", type=click.IntRange(1), metavar="N", help="Start at most N workers; default: one per GPU."
)
@click.option(
    "--stall-timeout",
    type=click.FloatRange(1),
    default=1800.0,
    show_default=True,
    metavar="SECONDS",
    help="Restart a worker that has given no answer for SECONDS.",
)
@click.option(
    "--runner",
    type=click.Choice(["local", "ray", "slurm"]),
    default="local",
    show_default=True,
    help="Run workers on this machine, a Ray cluster or a Slurm partition.",
)
@click.option("--partition", default="", metavar="NAME", help="Use this Slurm partition.")
@click.option("--qos", default="", metavar="NAME", help="Use this Slurm quality of service.")
@click.option(
    "--time-limit", type=click.IntRange(1), default=1440, metavar="MINUTES", help="Limit each Slurm worker to MINUTES."
)
@click.option(
    "--ray-address", default="", metavar="HOST:PORT", help="Connect to this Ray cluster; default: start a local one."
)
@click.option("--debug", is_flag=True, help="Run in one process, with logs and tracebacks on the terminal.")
@click.option("--dry-run", is_flag=True, help="Show what would be run; load no model.")
@click.option("--calibrate", is_flag=True, help="With --dry-run: time a few samples and estimate the total.")
@click.option("--allow-code", is_flag=True, help="Execute generated programs (HumanEval and the like).")
@click.option("--unsafe-code", is_flag=True, help="With --allow-code: execute them even where no sandbox works.")
@summary_options
@click.option("--no-report", is_flag=True, help="Write no HTML report.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def cli(ctx: click.Context, **options: Any) -> None:
    """Evaluate language models on benchmarks.

    \b
    run.py --models hf_internlm2_7b --datasets mmlu_ppl_ac766d gsm8k_gen_17d0dc
    run.py --hf-path ./checkpoint --datasets mmlu gsm8k humaneval --allow-code
    """
    if ctx.invoked_subcommand is None:
        if not (options["models"] or options["hf_paths"] or options["datasets"]):
            click.echo(ctx.get_help())
            return
        from evalkit.cli.running import run_command

        ctx.exit(run_command(options))


for group in (listing.COMMANDS, showing.COMMANDS, looking.COMMANDS, status.COMMANDS, gates.COMMANDS, tools.COMMANDS):
    for command in group:
        cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _interrupt)
    open_streams()
    arguments = sys.argv[1:]
    with Documents("--json" in arguments) as documents:
        try:
            code, error = _run(arguments, documents)
            documents.close(code, error)
        except BrokenPipeError:
            code = EXIT_FAILED
        except StoreError as full:  # of standard output
            code = report(full)
    close_streams()
    sys.exit(code)


def _run(arguments: list[str], documents: Documents) -> tuple[int, EvalkitError | None]:
    """The exit code, and the error that the command ended in; it is printed on standard error."""
    error: EvalkitError | None = None
    try:
        code = cli.main(arguments, standalone_mode=False, obj=documents)
        return (code if isinstance(code, int) else EXIT_OK), None
    except EvalkitError as refused:
        error = refused
    except (KeyboardInterrupt, click.Abort):
        note("\ninterrupted: what was answered is kept, the same command continues")
        return EXIT_INTERRUPTED, EvalkitError("interrupted", "the same command continues")
    except click.ClickException as wrong:
        note_click_error(wrong)
        return wrong.exit_code, EvalkitError(wrong.format_message(), "see --help")
    except BrokenPipeError:
        return EXIT_FAILED, None
    except OSError as system:
        error = system_error(system)
    except Exception as unexpected:  # the last resort: one line instead of a traceback
        if "--debug" in arguments:
            note("".join(traceback.format_exception(unexpected)))
        error = RunFailed(f"unexpected {type(unexpected).__name__}: {unexpected}", "run with --debug for the traceback")
    return report(error), error


def note_click_error(error: click.ClickException) -> None:
    """Click's own words, on a standard error that may take nothing."""
    with contextlib.suppress(OSError):
        error.show()


SYSTEM_HINTS = {
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ELOOP: "look for symbolic links that lead in a circle",
    errno.EACCES: "the file's owner and mode refuse it to this user",
    errno.EPERM: "the system refuses it to this user",
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "the disk quota is used up: free some space there",
    errno.EMFILE: "allow more open files: ulimit -n",
    errno.ENOTDIR: "a part of the path is a file",
}
"""What to do about errors of the system."""


def system_error(error: OSError) -> EvalkitError:
    """An error of the system as the user sees it; one without a file is standard output's."""
    if error.filename is None and error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF):
        return unwritable(error)
    where = f"{error.filename}: " if error.filename else ""
    hint = SYSTEM_HINTS.get(error.errno or 0, "run with --debug for the traceback")
    return RunFailed(f"{where}{error.strerror or error}", hint)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
