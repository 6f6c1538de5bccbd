"""What steps and metrics there are, from the registry: on the command line and in the docs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.core.registry import METRICS, STEPS
from evalkit.scoring.reference import as_page, example_of, rows_of
from tests import helpers

PAGE = Path(__file__).resolve().parents[2] / "docs" / "steps_and_metrics.md"


def test_the_page_is_what_the_registry_says() -> None:
    text = "python -m evalkit.scoring.reference > docs/steps_and_metrics.md makes it anew"
    assert PAGE.read_text(encoding="utf-8") == as_page(), text


@pytest.mark.parametrize(("kind", "registry"), [("steps", STEPS), ("metrics", METRICS)])
def test_every_one_has_a_line_and_an_example(kind: str, registry: object) -> None:
    rows = rows_of(kind)
    assert [row["name"].partition(":")[0] for row in rows] == list(registry)  # type: ignore[call-overload]
    assert all(len(row["about"]) > 10 and row["example"] for row in rows)


def test_a_new_one_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def shout(text: str, context: object, times: int = 1) -> str:
        """In capitals.

        Example: `a` gives A.
        """
        return text.upper()

    monkeypatch.setitem(STEPS._items, "shout", shout)
    (row,) = [row for row in rows_of("steps") if row["name"] == "shout"]
    assert row == {"name": "shout", "about": "In capitals.", "arguments": "times=1", "example": "`a` gives A."}
    assert example_of(len) == ""


def test_listed_with_near_matches() -> None:
    done = helpers.run("list", "steps", "number")
    assert done.returncode == 0 and done.stdout.startswith("number  The number that a reply gives")
    assert "e.g. `So she pays $1,234.50 in total.` gives 1234.50." in done.stdout
    assert "did you mean accuracy" in helpers.run("list", "metrics", "acurracy").stdout
    names = [row["name"] for row in json.loads(helpers.run("list", "metrics", "--json").stdout)]
    assert {"accuracy", "math_verify", "evaluate:NAME"} <= set(names)
