"""Majority vote over draws."""

from __future__ import annotations

from typing import Any

import pytest

from evalkit.core.errors import ConfigError
from evalkit.core.records import NamedCall
from evalkit.scoring.metrics import Tools, make_metric
from tests.scoring.metrics.cases import case, results

OF = {"numeric_accuracy": {}}


def metric(k: Any) -> Any:
    return make_metric(NamedCall("majority", {"of": OF, "k": k}))


def test_majority_and_mean() -> None:
    """Sample 0: 3 of 5 right; sample 1: the wrong 7 is given most often; golds are 4 and 9."""
    draws = {0: ["4", "5", "4", "1", "4"], 1: ["9", "7", "7", "9", "7"]}
    golds = {0: "4", 1: "9"}
    cases = [case(a, golds[n], n, repeat=r) for n, own in draws.items() for r, a in enumerate(own)]
    found = results(metric([1, 3, 5, 6]), cases, Tools())
    assert found == {"accuracy": 50.0, "maj@1": 100.0, "maj@3": 50.0, "maj@5": 50.0}


def test_ties_go_to_the_first_and_empty_answers_do_not_vote() -> None:
    tie = [case(a, "2", 0, repeat=r) for r, a in enumerate(["1", "2", "2", "1"])]
    assert results(metric(4), tie, Tools())["maj@4"] == 0.0
    empty = [case(a, "2", 0, repeat=r) for r, a in enumerate(["", "NULL", "2", ""])]
    assert results(metric(4), empty, Tools())["maj@4"] == 100.0
    nothing = [case("", "2", 0, repeat=r) for r in range(4)]
    assert results(metric(4), nothing, Tools())["maj@4"] == 0.0


def test_draws_that_a_result_needs() -> None:
    assert metric([4, 16]).draws == {"maj@4": 4, "maj@16": 16}


@pytest.mark.parametrize(
    "args", [{"of": OF, "k": 0}, {"of": OF, "k": "x"}, {"of": ["accuracy", "accuracy"]}, {"of": "nope"}]
)
def test_wrong_arguments(args: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make_metric(NamedCall("majority", args))
