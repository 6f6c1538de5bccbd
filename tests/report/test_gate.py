"""The gate: bands, verdicts, tables that are updated, and runs held against the published numbers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

import evalkit
from evalkit.configs.catalog import ConfigCatalog, open_catalog
from evalkit.core.errors import ConfigError
from evalkit.core.records import Counts, Issue, Score
from evalkit.report.gate import Band, Check, as_junit, check_run, choose_rows, columns_for
from evalkit.report.reference import Entry, Reference, as_csv, find_reference, read_table, same_row, updated
from tests import helpers
from tests.report import fabricate
from tests.report.fabricate import score

PUBLISHED = [
    ("internlm2_base", "internlm2-7b-turbomind", "hf_internlm2_7b"),
    ("internlm2_base", "internlm2-20b-turbomind", "internlm2_20b"),
    ("internlm2_chat", "internlm2-chat-7b-hf", "hf_internlm2_chat_7b"),
    ("internlm2_chat", "internlm2-chat-1.8b-sft-hf", "hf_internlm2_chat_1.8b_sft"),
]


def checks(entry: Entry, *scores: Score, band: Band = Band(), limited: str = "") -> list[Check]:  # noqa: B008
    return check_run(scores, {"m": "m"}, [entry], band, {s.benchmark: limited for s in scores if limited})


def only(entry: Entry, *scores: Score, band: Band = Band(), limited: str = "") -> Check:  # noqa: B008
    (check,) = checks(entry, *scores, band=band, limited=limited)
    return check


def entry(value: str = "50.0", **more: object) -> Entry:
    return replace(Entry("a", {"m": value}), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("table", "column", "model"), PUBLISHED)
def test_the_published_numbers_pass(tmp_path: Path, table: str, column: str, model: str) -> None:
    store = fabricate.published_run(tmp_path, table, column, model)
    done = helpers.run("regress", store.folder, "--reference", table)
    assert done.returncode == 0, done.stderr
    rows = len((fabricate.REFERENCES / f"{table}.csv").read_text().splitlines()) - 1
    assert f"{rows} checks: {rows} pass" in done.stdout


@pytest.mark.parametrize("row", ["mmlu", "GPQA_diamond", "humaneval"])
@pytest.mark.parametrize(("table", "column", "model"), PUBLISHED[::2])
def test_three_points_off_fail_and_are_named(tmp_path: Path, table: str, column: str, model: str, row: str) -> None:
    store = fabricate.published_run(tmp_path, table, column, model, {row: -3.0})
    junit = tmp_path / "reports" / "junit.xml"
    done = helpers.run("regress", store.folder, "--reference", table, "--junit", junit)
    assert done.returncode == 1
    assert f"1 of {17 if table == 'internlm2_base' else 18} checks failed: {row} ({model}: off)" in done.stderr
    (line,) = [x for x in done.stdout.splitlines() if " off" in x and not x[0].isdigit()]
    assert line.split()[0] == row and "-3.00" in line
    (failed,) = ElementTree.parse(junit).findall(".//testcase[failure]")
    assert (failed.get("name"), failed.get("classname")) == (row, model)


def test_a_row_that_was_not_run_fails(tmp_path: Path) -> None:
    scores = fabricate.published("internlm2_base", "internlm2-7b-turbomind", "hf_internlm2_7b")
    store = fabricate.run(tmp_path, [fabricate.benchmark("gsm8k")], [s for s in scores if s.row == "gsm8k"])
    done = helpers.run("regress", store.folder, "--reference", "internlm2_base", "--json")
    found = {c["row"]: c["verdict"] for c in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1 and found.pop("gsm8k") == "pass" and set(found.values()) == {"missing"}
    chosen = helpers.run("regress", store.folder, "--reference", "internlm2_base", "--rows", "gsm8*")
    assert chosen.returncode == 0, chosen.stderr
    unknown = helpers.run("regress", store.folder, "--reference", "internlm2_base", "--rows", "gsm8")
    assert unknown.returncode == 2 and "gsm8k" in unknown.stderr


def test_bands() -> None:
    """The command's, else the line's, else a point; a standard error is Agresti and Coull's."""
    for own, band, value, verdict in (
        ({}, Band(), 51.0, "pass"),
        ({}, Band(), 51.01, "off"),
        ({}, Band(), 48.99, "off"),
        ({}, Band(0.0), 50.0, "pass"),
        ({}, Band(0.0), 50.001, "off"),
        ({"tolerance": 3.0}, Band(), 53.0, "pass"),
        ({"tolerance": 3.0}, Band(2.0), 53.0, "off"),
        ({"z": 1.0, "n": 100}, Band(), 54.9, "pass"),
        ({"z": 1.0, "n": 100}, Band(), 55.0, "off"),
        ({"tolerance": 5.0, "z": 1.0}, Band(), 55.0, "pass"),
        ({}, Band(1.0, 2.0), 59.0, "pass"),
    ):
        assert only(entry(**own), score("a", value), band=band).verdict == verdict, (own, band, value)
    width = only(entry("0.0"), score("a", 0.0), band=Band(z=2.0)).band
    assert width is not None and 2 < width < 5, "a share of 0 has an error too"
    with pytest.raises(ConfigError, match="no percentage"):
        only(entry("250"), score("a", 250.0), band=Band(z=2.0))
    assert only(entry("250"), score("a", float("nan"))).verdict == "off"


def test_draws_of_a_sample_do_not_narrow_the_band() -> None:
    """8 draws of 200 samples at a share of 0.2: 2 x sqrt(0.2 x 0.8 / 200) = 5.66 points, not 2.00."""
    drawn = score("a", 20.0, n=1600, n_expected=1600, n_samples=200)
    width = only(entry("20.0"), drawn, band=Band(z=2.0)).band
    assert width == pytest.approx(5.66, rel=0.02)
    partly = score("a", 20.0, n=800, n_expected=1600, n_samples=100)
    assert only(entry("20.0"), partly, band=Band(z=2.0)).band == width


SUBSETS = (Issue("subsets_left_out", "2 of 57 subsets"),)
TRUNCATED = (Issue("left_truncated", "3 prompts left-truncated"),)


@pytest.mark.parametrize(
    ("own", "more", "limited", "verdict", "why"),
    [
        ({}, {"n": 99}, "", "partial", "99 of 100 samples answered"),
        ({"n": 100}, {"n": 99}, "", "partial", "99 of 100"),
        ({"n": 1319}, {}, "", "partial", "over 100 samples, the table's over 1319"),
        ({}, {}, "limited run", "partial", "limited run"),
        ({"n": 100}, {}, "limited run", "pass", ""),
        ({}, {"issues": SUBSETS, "counts": Counts(left_out=55)}, "", "partial", "2 of 57 subsets"),
        ({"n": 100}, {"issues": SUBSETS, "counts": Counts(left_out=55)}, "", "pass", "2 of 57 subsets"),
        ({}, {"issues": TRUNCATED}, "", "pass", "3 prompts left-truncated"),
        ({}, {"value": None, "issues": (Issue("failed", "the worker died"),)}, "", "failed", "the worker died"),
        ({"version": "abc123"}, {}, "", "pass", ""),
        ({"version": "000000"}, {}, "", "changed", "version abc123, the table's 000000"),
    ],
)
def test_what_cannot_be_compared_does_not_pass(
    own: dict[str, object], more: dict[str, object], limited: str, verdict: str, why: str
) -> None:
    check = only(entry(**own), replace(score("a", 50.0), **more), limited=limited)  # type: ignore[arg-type]
    assert check.verdict == verdict and why in check.why and check.ok == (verdict == "pass")
    if check.why:
        assert check.why in as_junit([check], "x")


def test_limited_runs_and_sample_data_are_known_from_the_manifest(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path / "c", "internlm2_7b")
    args = ("--config-dir", tmp_path / "c", "--models", "internlm2_7b", "--data-root", "samples")
    for more, why in (((), "sample data"), (("--limit", 2), "limited run")):
        work = tmp_path / f"work{len(more)}"
        assert helpers.run(*args, "--datasets", "gsm8k", *more, "--work-dir", work).returncode == 0
        gate = ("regress", helpers.run_folder(work), "--reference", "internlm2_base", "--rows", "gsm8k")
        done = helpers.run(*gate, "--tolerance", 100)
        assert done.returncode == 1 and f"partial: {why}" in done.stdout


def test_cells_without_a_number_are_said() -> None:
    table = [entry("68.2*"), Entry("b", {"m": "-"}), Entry("c", {"m": "1"}), Entry("d", {"x": "1"})]
    found = check_run([score("a", 1.0), score("c", 1.0)], {"m": "m"}, table, Band())
    assert [(c.row, c.verdict, c.ok) for c in found] == [
        ("a", "no value", True), ("b", "no value", True), ("c", "pass", True),
    ]  # fmt: skip
    assert as_junit(found, "x").count("<skipped") == 2
    with pytest.raises(ConfigError, match="no number for m"):
        check_run([score("a", 1.0)], {"m": "m"}, table[:2], Band())


def test_primary_metric_and_versions() -> None:
    """A line with a version speaks of that version's score; without one of every version."""
    two = [
        score("a", 50.0), score("a", 10.0, metric="other"), score("a", 80.0, version="def456", mode="ppl"),
    ]  # fmt: skip
    assert [c.got for c in checks(entry(), *two)] == [50.0, 80.0]
    assert only(entry("80", version="def456"), *two).got == 80.0
    names = [
        case.get("name") for case in ElementTree.fromstring(as_junit(checks(entry(), *two), "x\x00")).iter("testcase")
    ]
    assert names == ["a [abc123]", "a [def456]"]


def test_rows_and_columns_by_name() -> None:
    assert same_row("GSM-8K (4-shot)", "gsm8k") and same_row("MBPP(Sanitized)", "mbpp")
    assert not same_row("GPQA (0-shot)", "GPQA_diamond") and not same_row("MMLU", "CMMLU")
    table = read_table(fabricate.REFERENCES / "internlm2_base.csv")
    assert columns_for(["hf_internlm2_7b"], table, "", "x") == {"hf_internlm2_7b": "internlm2-7b-turbomind"}
    assert columns_for(["mine"], table, "internlm2-7b", "x") == {"mine": "internlm2-7b-turbomind"}
    with pytest.raises(ConfigError, match="no column for mine"):
        columns_for(["hf_internlm2_7b", "mine"], table, "", "x")
    assert len(choose_rows(table, ["mmlu", "*qa"])) == 2


def test_tables_by_name_and_by_path(tmp_path: Path) -> None:
    assert find_reference("internlm2_base", ConfigCatalog()) == fabricate.REFERENCES / "internlm2_base.csv"
    assert find_reference("internlm2_base.csv", ConfigCatalog()) == fabricate.REFERENCES / "internlm2_base.csv"
    (tmp_path / "summarizers" / "reference").mkdir(parents=True)
    own = tmp_path / "summarizers" / "reference" / "own.csv"
    own.write_text("row,m\na,1\n")
    assert find_reference("own", open_catalog([tmp_path])) == own and find_reference(str(own), ConfigCatalog()) == own
    with pytest.raises(ConfigError, match="no reference table 'internlm_base'") as error:
        find_reference("internlm_base", ConfigCatalog())
    assert "internlm2_base" in error.value.hint
    own.write_text("row,n,m\na,many,1\n")
    with pytest.raises(ConfigError, match=r"own.csv:2: n is 'many'"):
        read_table(own)
    own.write_text("")
    with pytest.raises(ConfigError, match="no reference table"):
        read_table(own)


def test_every_table_of_ours_can_be_read() -> None:
    for file in sorted(fabricate.REFERENCES.glob("*.csv")):
        table = read_table(file)
        assert table.columns and table.entries, file


def test_update_keeps_what_is_not_of_the_run() -> None:
    old = Reference(
        ("m", "x"),
        (
            Entry("a", {"m": "1", "x": "2"}, "old", 10, tolerance=2.0),
            Entry("b", {"m": "3"}, "old", 10, z=3.0),
            Entry("c", {"m": "4"}),
        ),
    )
    made = updated(old, {"m": [score("a", 5.0), score("b", 6.25)], "new": [score("b", 7.0)]}, {})
    assert as_csv(made).splitlines() == [
        "row,version,n,tolerance,z,m,x,new",
        "a,old,10,2,,,2,",
        "a,abc123,100,2,,5.0,,",
        "b,abc123,100,,3,6.25,,7.0",
        "c,,,,,4,,",
    ]
    again = updated(made, {"x": [score("a", 8.0)]}, {"tolerance": 0.5, "z": None})
    assert as_csv(again).splitlines()[1:3] == ["a,abc123,100,0.5,,5.0,8.0,", "b,abc123,100,,3,6.25,,7.0"]


def test_a_table_of_ours_serves_as_reference_of_a_summarizer(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path, "m")
    args = ("--config-dir", tmp_path, "--models", "m", "--datasets", "gsm8k", "--data-root", "samples")
    work = tmp_path / "work"
    assert helpers.run(*args, "--work-dir", work).returncode == 0
    shelf = tmp_path / "summarizers"
    shelf.mkdir()
    made = helpers.run("regress", helpers.run_folder(work), "--reference", shelf / "own.csv", "--update")
    assert made.returncode == 0, made.stderr
    (shelf / "own.yaml").write_text("rows: [gsm8k]\nreference: own.csv\n")
    done = helpers.run("score", helpers.run_folder(work), "--summarizer", "own", "--config-dir", tmp_path)
    assert done.stdout.splitlines()[1].split() == ["dataset", "version", "metric", "mode", "m", "ref:m", "diff"]
    assert "+0.00" in done.stdout


def test_no_reference_is_made_of_an_incomplete_run(tmp_path: Path) -> None:
    benchmark = fabricate.benchmark("gsm8k")
    store = fabricate.run(tmp_path, [benchmark], [score(benchmark, 50.0, n=99)])
    done = helpers.run("regress", store.folder, "--reference", tmp_path / "r.csv", "--update")
    assert done.returncode == 1 and "incomplete" in done.stderr and not (tmp_path / "r.csv").exists()


def test_scores_older_than_the_run_are_refused(tmp_path: Path) -> None:
    benchmark = fabricate.benchmark("gsm8k")
    store = fabricate.run(tmp_path, [benchmark], [score(benchmark, 50.0)])
    store.set_status("incomplete")  # as when a run is extended
    done = helpers.run("regress", store.folder, "--reference", "internlm2_base")
    assert done.returncode == 1 and "run.py score" in done.stderr


GSM8K = "gsm8k_gen_17d0dc"
SABOTAGES = {
    "prompt": (f"{GSM8K}:shots.join=x", "gsm8k"),
    "prompt of options": ("mmlu_ppl_ac766d:shots.join=x", "mmlu"),
    "extraction": (f"{GSM8K}:extract=[last_number]", "gsm8k"),
}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, Path]:
    """(run, table made from it) of the tiny model."""
    folder = tmp_path_factory.mktemp("gate")
    table = folder / "reference.csv"
    run = tiny_run(folder, tiny_model)
    done = helpers.run("regress", run, "--reference", table, "--update", "--tolerance", 0.5)
    assert done.returncode == 0 and table.read_text().startswith("row,version,n,tolerance,tiny\nmmlu,"), done.stderr
    return run, table


def tiny_run(folder: Path, model: Path, *overrides: str) -> Path:
    """A run of a tiny model on sample rows; its folder."""
    frame = evalkit.evaluate(
        hf_path=str(model),
        datasets=[helpers.MMLU, GSM8K],
        data_root="samples",
        work_dir=folder / "work",
        new=True,
        debug=True,
        overrides=("model.dtype=float32", f"{GSM8K}:gen.max_out_len=8", *overrides),
    )
    assert frame.attrs["complete"]
    return Path(frame.attrs["run"])


def test_a_run_passes_against_itself_at_any_batch_size(
    tmp_path: Path, gate: tuple[Path, Path], tiny_model: Path
) -> None:
    run, table = gate
    other = tiny_run(tmp_path, tiny_model, "model.batch_tokens=900")
    for one in (run, other):
        done = helpers.run("regress", one, "--reference", table)
        assert done.returncode == 0 and "2 checks: 2 pass" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("what", SABOTAGES)
def test_a_changed_prompt_or_extraction_fails(
    tmp_path: Path, gate: tuple[Path, Path], tiny_model: Path, what: str
) -> None:
    override, row = SABOTAGES[what]
    done = helpers.run("regress", tiny_run(tmp_path, tiny_model, override), "--reference", gate[1])
    assert done.returncode == 1 and f"1 of 2 checks failed: {row} (tiny: changed)" in done.stderr


def test_changed_weights_fail(tmp_path: Path, gate: tuple[Path, Path], tiny_model: Path) -> None:
    """Other weights altogether, and one matrix of one layer with its sign turned."""
    from safetensors.torch import load_file, save_file

    from evalkit.engines.hf.tiny import make_tiny

    turned = Path(shutil.copytree(tiny_model, tmp_path / "turned" / "tiny"))
    weights = load_file(turned / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] *= -1
    save_file(weights, turned / "model.safetensors", metadata={"format": "pt"})
    for other in (make_tiny(tmp_path / "seed" / "tiny", seed=2), turned):
        done = helpers.run("regress", tiny_run(tmp_path, other), "--reference", gate[1])
        assert done.returncode == 1 and "1 of 2 checks failed: mmlu (tiny: off)" in done.stderr, done.stdout


def test_subsets_tell_what_an_equal_headline_hides(tmp_path: Path, gate: tuple[Path, Path]) -> None:
    """Seed 1 happens to have as many answers right as seed 0, but others."""
    from evalkit.engines.hf.tiny import make_tiny

    run = tiny_run(tmp_path, make_tiny(tmp_path / "tiny", seed=1))
    table = tmp_path / "all.csv"
    assert helpers.run("regress", gate[0], "--reference", table, "--update", "--all-rows").returncode == 0
    done = helpers.run("regress", run, "--reference", table, "--json")
    verdicts = {c["row"]: c["verdict"] for c in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1 and verdicts["mmlu"] == "pass" and verdicts["mmlu-astronomy"] == "off"


def test_a_changed_prompt_is_seen_in_the_score_alone(tmp_path: Path, gate: tuple[Path, Path], tiny_model: Path) -> None:
    table = tmp_path / "bare.csv"
    lines = [line.split(",") for line in gate[1].read_text().splitlines()]
    table.write_text("".join(f"{row},{n},{value}\n" for row, _, n, _, value in lines))
    assert helpers.run("regress", gate[0], "--reference", table).returncode == 0
    done = helpers.run(
        "regress", tiny_run(tmp_path, tiny_model, SABOTAGES["prompt of options"][0]), "--reference", table
    )
    assert done.returncode == 1 and "mmlu (tiny: off)" in done.stderr, done.stdout
