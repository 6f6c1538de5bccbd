"""What docs/ci.md and the workflow file name exists."""

from __future__ import annotations

import re
import shlex

import click
from ruamel.yaml import YAML

from evalkit.cli.main import cli
from tests import helpers

WORKFLOW = helpers.ROOT / "docs" / "examples" / "evaluation.yml"


def options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def test_the_workflow_runs_both_commands() -> None:
    steps = YAML(typ="safe").load(WORKFLOW)["jobs"]["evaluate"]["steps"]
    lines = [shlex.split(step["run"]) for step in steps if step.get("run", "").startswith("evalkit")]
    assert [line[1] for line in lines if line[1] in cli.commands] == ["regress", "compare"]
    for line in lines:
        known = options(cli.commands.get(line[1], cli))
        assert {word for word in line if word.startswith("--")} <= known, line


def test_the_page_names_options_and_verdicts_that_exist() -> None:
    from evalkit.report import gate

    page = (helpers.ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    known = options(cli) | options(cli.commands["regress"]) | options(cli.commands["compare"])
    assert set(re.findall(r"--[a-z][a-z-]+", page)) <= known
    named = set(re.findall(r"^\| `([a-z ]+)` \|", page, re.M))
    constants = {gate.PASS, gate.OFF, gate.MISSING, gate.FAILED, gate.PARTIAL, gate.CHANGED, gate.NO_VALUE}
    assert constants <= named
