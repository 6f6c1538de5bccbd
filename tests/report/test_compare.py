"""Two runs sample by sample: paired intervals, flips, and what was unlike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.core import stats
from evalkit.core.errors import ConfigError
from evalkit.core.records import Benchmark, Score, Verdict
from evalkit.report.compare import Comparison, as_markdown, compare
from evalkit.results.scored import open_scored
from evalkit.results.store import RunStore
from tests import helpers
from tests.report import fabricate
from tests.report.fabricate import right_or_wrong, score

GSM8K = fabricate.benchmark("gsm8k")
MMLU = fabricate.benchmark("mmlu", subsets=["anatomy", "astronomy"])


def one(folder: Path, values: list[float], benchmark: Benchmark = GSM8K, model: str = "m", **more: object) -> RunStore:
    """A run over one subset."""
    value = 100 * stats.mean(values)
    made = score(benchmark, value, model, n=len(values), n_expected=len(values))
    verdicts = {(model, benchmark.name, benchmark.row): right_or_wrong(benchmark.row, values)}
    return fabricate.run(folder, [benchmark], [made], verdicts, **more)  # type: ignore[arg-type]


def compared(a: RunStore, b: RunStore, *models: str) -> Comparison:
    (found,) = compare(open_scored(a), open_scored(b), models)
    return found


def test_right_or_wrong(tmp_path: Path) -> None:
    """10 samples got worse, 2 better, of 40: McNemar's p-value is 2 x P(X <= 2), X ~ B(12, 1/2)."""
    a = one(tmp_path, [1.0] * 28 + [0.0] * 2 + [0.0] * 10)
    b = one(tmp_path, [1.0] * 18 + [0.0] * 10 + [1.0] * 2 + [0.0] * 10)
    (found,) = compared(a, b).differences
    assert found.diff == pytest.approx(-20.0)
    assert (found.n, found.worse, found.better, found.test) == (40, 10, 2, "McNemar, exact")
    assert found.p == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert found.interval is not None
    low, high = found.interval
    assert low < -20 < high < 0
    assert [f.sample_id for f in found.flips] == [f"gsm8k/{i}" for i in range(18, 30)]
    assert (found.flips[0].a, found.flips[0].b, found.flips[0].answer_a, found.flips[0].answer_b) == (1, 0, "A", "B")


def test_flips_are_listed_up_to_a_limit_and_whole_in_json(tmp_path: Path) -> None:
    a, b = one(tmp_path, [1.0] * 30), one(tmp_path, [0.0] * 25 + [1.0] * 5)
    done = helpers.run("compare", a.folder, b.folder, "--flips", 3)
    assert done.returncode == 0, done.stderr
    assert [x for x in done.stdout.splitlines() if x.startswith("- `gsm8k/")] == [
        f"- `gsm8k/{i}` 1 → 0: `A` → `B` (gold `A`)" for i in range(3)
    ]
    assert "25 flipped" in done.stdout and "and 22 more" in done.stdout
    assert "Unlike" not in done.stdout
    assert "flipped" not in helpers.run("compare", a.folder, b.folder, "--flips", 0).stdout
    (found,) = json.loads(helpers.run("compare", a.folder, b.folder, "--json").stdout)
    (row,) = found["differences"]
    assert len(row["flips"]) == 25 and row["worse"] == 25 and row["p"] == 2 / 2**25


def test_other_values_have_a_normal_interval(tmp_path: Path) -> None:
    first, second = [0.1, 0.5, 0.9, 0.3] * 5, [0.2, 0.5, 1.0, 0.6] * 5
    (found,) = compared(one(tmp_path, first), one(tmp_path, second)).differences
    error = stats.standard_error([100 * (y - x) for x, y in zip(first, second, strict=True)])
    assert error is not None and found.interval == pytest.approx((12.5 - 1.959964 * error, 12.5 + 1.959964 * error))
    assert found.test == "normal" and found.p == pytest.approx(stats.normal_p(12.5 / error)) and found.better == 15


def two_subsets(folder: Path, anatomy: list[float], astronomy: list[float]) -> RunStore:
    parts = {"anatomy": anatomy, "astronomy": astronomy}
    value = stats.mean([100 * stats.mean(v) for v in parts.values()])
    n = sum(map(len, parts.values()))
    verdicts = {("m", MMLU.name, s): right_or_wrong(s, v) for s, v in parts.items()}
    return fabricate.run(folder, [MMLU], [score(MMLU, value, n=n, n_expected=n)], verdicts)


def test_the_interval_of_an_average_is_of_the_average(tmp_path: Path) -> None:
    """Subsets count alike whatever their size; pooled samples would give a difference of -9.1."""
    a = two_subsets(tmp_path, [1.0] * 100, [1.0] * 10)
    b = two_subsets(tmp_path, [1.0] * 95 + [0.0] * 5, [1.0] * 5 + [0.0] * 5)
    (found,) = compared(a, b).differences
    assert found.diff == pytest.approx(-27.5) and (found.worse, found.test) == (10, "permutation")
    assert found.p == pytest.approx(2 / 2**10, rel=0.5)  # all ten flips one way, or all the other
    errors = [stats.standard_error([0.0] * 95 + [-100.0] * 5), stats.standard_error([0.0] * 5 + [-100.0] * 5)]
    error = ((errors[0] or 0) ** 2 + (errors[1] or 0) ** 2) ** 0.5 / 2
    assert found.interval == pytest.approx((-27.5 - 1.959964 * error, -27.5 + 1.959964 * error))
    same = compared(a, a).differences[0]
    assert same.diff == 0 and same.p == 1 and same.interval is not None and same.interval[0] < 0 < same.interval[1]


def test_the_test_of_an_average_is_of_the_average(tmp_path: Path) -> None:
    """B loses 60 of 1,000 in one subset and wins 8 of 20 in the other: the average rises, the pooled samples fall."""
    a = two_subsets(tmp_path, [1.0] * 1000, [1.0] * 5 + [0.0] * 15)
    b = two_subsets(tmp_path, [1.0] * 940 + [0.0] * 60, [1.0] * 13 + [0.0] * 7)
    (found,) = compared(a, b).differences
    assert found.diff == pytest.approx(17.0) and (found.worse, found.better) == (60, 8)
    assert found.p == pytest.approx(2 / 2**8, rel=0.2)  # the small subset decides: all eight flips one way
    pooled = stats.mcnemar_exact(60, 8)
    assert pooled < 1e-9 < 0.005 < (found.p or 0)


def test_only_pairs_count(tmp_path: Path) -> None:
    """Missing answers, and samples that one side alone has, are left out and said."""
    verdicts = right_or_wrong("gsm8k", [1.0, 0.0, 1.0])
    lost = [*verdicts[:2], Verdict("gsm8k/2", "gsm8k", None, "A", {}, missing=True)]
    a = fabricate.run(
        tmp_path, [GSM8K], [score(GSM8K, 200 / 3, n=3, n_expected=3)], {("m", GSM8K.name, "gsm8k"): verdicts}
    )
    b = fabricate.run(tmp_path, [GSM8K], [score(GSM8K, 50.0, n=2, n_expected=3)], {("m", GSM8K.name, "gsm8k"): lost})
    found = compared(a, b)
    assert found.differences[0].n == 2 and "2 of 3" in as_markdown(found, 10)
    longer = compared(a, one(tmp_path, [1.0] * 5))
    assert longer.differences[0].n == 3 and "3 of 3 / 5" in as_markdown(longer, 10)


def test_draws_are_averaged(tmp_path: Path) -> None:
    draws = [Verdict("gsm8k/0", "gsm8k", str(i), "A", {"value": v}) for i, v in enumerate([1.0, 0.0, 0.0, 1.0])]
    a = fabricate.run(tmp_path, [GSM8K], [score(GSM8K, 50.0)], {("m", GSM8K.name, "gsm8k"): draws})
    (flip,) = compared(a, one(tmp_path, [1.0])).differences[0].flips
    assert (flip.a, flip.b, flip.answer_a) == (0.5, 1.0, "0")


def test_metrics_without_values_of_samples_have_no_interval(tmp_path: Path) -> None:
    bare = {("m", GSM8K.name, "gsm8k"): [Verdict("gsm8k/0", "gsm8k", "A", "A", {"answer": "A"})]}
    a, b = (fabricate.run(tmp_path, [GSM8K], [score(GSM8K, v)], bare) for v in (50.0, 51.0))
    (found,) = compared(a, b).differences
    assert (found.diff, found.interval, found.p, found.n) == (1.0, None, None, 0)


def test_rows_that_are_no_mean_of_samples_have_no_interval(tmp_path: Path) -> None:
    """As pass@10 of ten draws each: the samples' values are 0.1, the row says 100."""
    where = {("m", GSM8K.name, "gsm8k"): right_or_wrong("gsm8k", [0.1] * 5)}
    a = fabricate.run(tmp_path, [GSM8K], [score(GSM8K, 100.0, n=5, n_expected=5)], where)
    (found,) = compared(a, one(tmp_path, [0.1, 0.2, 0.1, 0.1, 0.1])).differences
    assert (found.interval, found.p, found.better) == (None, None, 1)


def test_what_is_unlike_is_said(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path, "m")
    helpers.fake_model(tmp_path, "other", path="fake2")

    def run(work: str, *more: object, model: str = "m", data: str = "gsm8k") -> Path:
        args = ("--config-dir", tmp_path, "--models", model, "--datasets", data, "--data-root", "samples")
        done = helpers.run(*args, *more, "--work-dir", tmp_path / work)
        assert done.returncode == 0, done.stderr
        return helpers.run_folder(tmp_path / work)

    first = run("a")
    assert "Unlike" not in helpers.run("compare", first, run("same")).stdout
    said = helpers.run("compare", first, run("b", "--set", "gsm8k_gen_17d0dc:extract=[last_number]")).stdout
    assert "- gsm8k_gen_17d0dc: version " in said
    assert said.split("unlike in: ")[1].splitlines()[0] == "extract" and "data fingerprint" not in said
    said = helpers.run("compare", first, run("c", "--limit", 4, "--seed", 3, model="other")).stdout
    for part in ("model fingerprint", "model settings: path", "--limit, --sample", "seed: 0 / 3", "data fingerprint"):
        assert part in said
    assert "4 of 16 / 4" in said
    said = helpers.run("compare", first, run("d", data="gsm8k_gen_1d7fe4")).stdout
    assert "gsm8k_gen_17d0dc / gsm8k_gen_1d7fe4: version" in said, "one row of two configs is compared"


def test_models_are_matched(tmp_path: Path) -> None:
    scores: list[Score] = [score(GSM8K, 50.0, "x", n=2, n_expected=2), score(GSM8K, 0.0, "y", n=2, n_expected=2)]
    verdicts = {
        ("x", GSM8K.name, "gsm8k"): right_or_wrong("gsm8k", [1.0, 0.0]),
        ("y", GSM8K.name, "gsm8k"): right_or_wrong("gsm8k", [0.0, 0.0]),
    }
    both = fabricate.run(tmp_path, [GSM8K], scores, verdicts)
    alone = one(tmp_path, [1.0, 1.0], model="z")
    assert compared(both, both, "x", "y").differences[0].diff == -50.0
    assert len(compare(open_scored(both), open_scored(both))) == 2
    for models in ((), ("x",), ("z", "x")):
        with pytest.raises(ConfigError, match="model|pair"):
            compare(open_scored(both), open_scored(alone), models)
    assert compared(alone, one(tmp_path, [1.0, 0.0], model="w")).differences[0].diff == -50.0
    with pytest.raises(ConfigError, match="no row in common"):
        compared(alone, two_subsets(tmp_path, [1.0], [1.0]))


def test_rows_of_one_side_are_named(tmp_path: Path) -> None:
    math = fabricate.benchmark("math")
    a = fabricate.run(tmp_path, [GSM8K, math], [score(GSM8K, 1.0), score(math, 2.0)])
    b = fabricate.run(tmp_path, [GSM8K], [score(GSM8K, 1.0)])
    assert compared(a, b).only == (f"{a.name}: math",)
