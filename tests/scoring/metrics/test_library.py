"""Metrics of the `evaluate` library, with scripts written here: no network is used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import NamedCall
from evalkit.scoring.metrics import Tools, make_metric
from tests.scoring.metrics.cases import case, score

SCRIPT = """
import datasets
import evaluate


class Shares(evaluate.Metric):
    def _info(self):
        kind = datasets.Value("{kind}")
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="",
            features=datasets.Features({{"predictions": kind, "references": kind}}),
        )

    def _compute(self, predictions, references, weight=1.0):
        pairs = list(zip(predictions, references))
        {body}
"""
BOTH = 'return {"same": weight * sum(p == r for p, r in pairs) / len(pairs), "n": len(pairs), "note": "x"}'


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the library's caches out of the user's folders; it imports scripts from one folder a process."""
    import evaluate

    folder = str(tmp_path_factory.mktemp("evaluate"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_MODULES_CACHE", "HF_METRICS_CACHE", "HF_EVALUATE_CACHE"):
            patch.setattr(evaluate.config, name, folder)
        patch.syspath_prepend(folder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "evaluate_modules"]:
            patch.delitem(sys.modules, name)  # imported from the user's folder by an earlier test
        yield


@pytest.fixture
def script(tmp_path: Path, caches: None, request: pytest.FixtureRequest) -> str:
    """A metric script with a name of its own."""
    kind, body = getattr(request, "param", ("string", BOTH))
    file = tmp_path / f"{tmp_path.name}_shares.py"
    file.write_text(SCRIPT.format(kind=kind, body=body), encoding="utf-8")
    return str(file)


def test_results_in_percent_under_their_names(script: str) -> None:
    metric = make_metric(NamedCall(f"evaluate:{script}", {"name": "same", "gold": ["strip"]}))
    assert metric.name == "same"
    assert score(metric, ["a", "b"], ["a ", "c"]) == {"same": 50.0, "n": 200.0}


def test_compute_and_scale(script: str) -> None:
    metric = make_metric(NamedCall(f"evaluate:{script}", {"name": "same", "scale": 1, "compute": {"weight": 3.0}}))
    assert score(metric, ["a"], ["a"])["same"] == 3.0


@pytest.mark.parametrize("script", [("int32", 'return {"only": sum(p + r for p, r in pairs)}')], indirect=True)
def test_a_single_result_takes_the_metrics_name_and_values_are_converted(script: str) -> None:
    metric = make_metric(NamedCall(f"evaluate:{script}", {"convert": "int", "scale": 1}))
    assert score(metric, ["3"], ["4"]) == {Path(script).stem: 7.0}
    with pytest.raises(DataError, match="answer is no int"):
        score(metric, ["three"], ["4"])


def test_unknown_result_lists_the_known(script: str) -> None:
    with pytest.raises(ConfigError, match="same, n"):
        score(make_metric(NamedCall(f"evaluate:{script}")), ["a"], ["a"])


@pytest.mark.parametrize("script", [("string", 'raise KeyError("broken")')], indirect=True)
def test_a_failing_script_is_a_data_error(script: str) -> None:
    with pytest.raises(DataError, match="failed: KeyError"):
        score(make_metric(NamedCall(f"evaluate:{script}")), ["a"], ["a"])


def test_a_missing_script_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be loaded"):
        score(make_metric(NamedCall(f"evaluate:{tmp_path / 'missing.py'}")), ["a"], ["a"])


def test_samples_have_no_value_of_their_own() -> None:
    metric = make_metric(NamedCall("evaluate:accuracy"))
    assert metric.judge([case("a", "b")], Tools()) == [{"answer": "a", "gold": "b"}]
    assert (metric.name, metric.combine([])) == ("accuracy", {})
