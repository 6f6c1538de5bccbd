"""The HTML report in a browser: what a reader does, hostile texts, many samples, no request that leaves the folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit.core.records import NamedCall, Reply, Sample, Verdict
from evalkit.report.html.build import write_pages
from evalkit.report.html.data import CHUNK, Column, SampleFiles, read_part
from evalkit.report.samples import Judged, Part, Prompt
from evalkit.results.scored import open_scored
from evalkit.results.store import RunStore
from evalkit.scoring.extract.trace import Step, Trace
from tests import helpers
from tests.report import fabricate
from tests.report.html import runs
from tests.report.html.browser import Browser

READY = "document.body.dataset.ready === 'yes' && document.querySelector('#sample .title')"
ROWS = "document.querySelectorAll('#rows .row').length"
COUNT = "document.getElementById('count').textContent"
ID = "document.querySelector('#sample h2').innerText"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.size(1440, 900)
        yield opened


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages that a real run of two models left."""
    return runs.embedded(tmp_path_factory.mktemp("embedded")) / "html"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.hostile(tmp_path_factory.mktemp("hostile")) / "html"


def check_quiet(browser: Browser, folder: Path) -> None:
    """No script failed, nothing was refused, nothing outside the folder was asked for."""
    inside = folder.resolve().as_uri()
    foreign = [url for url in browser.requests if not url.startswith((inside, "about:", "data:,"))]
    assert not foreign and not browser.faults, (foreign, browser.faults)
    browser.requests.clear()


def opened(browser: Browser, folder: Path, benchmark: str, fragment: str = "") -> None:
    browser.open(folder / f"samples-{benchmark}.html", fragment, READY)


def test_overview_has_the_numbers_of_the_table(browser: Browser, two_models: Path) -> None:
    browser.open(two_models / "index.html")
    shown = browser.text("main")
    results = json.loads((two_models.parent / "results.json").read_text("utf-8"))
    for score in results["scores"]:
        if score["level"] == "headline":
            assert f"{score['value']:.2f}" in shown
            if score["interval"]:
                assert f"±{(score['interval'][1] - score['interval'][0]) / 2:.1f}" in shown
    assert "ref 83.0" in shown and "limited: the first 30 rows" in shown
    assert "embedded_chat against" in shown and "model fingerprint" in shown
    folded = "document.querySelectorAll('tr[data-below]:not([hidden])').length"
    assert browser.evaluate(folded) == 0
    browser.evaluate("document.querySelector('button.fold').click()")
    assert browser.evaluate(folded) == 2
    check_quiet(browser, two_models)


@pytest.mark.parametrize("page", ["index", "benchmark-demo_choice_ppl", "run-*"])
@pytest.mark.parametrize("width", [390, 1440])
def test_pages_fit_their_width(browser: Browser, two_models: Path, page: str, width: int) -> None:
    browser.size(width, 900)
    browser.open(next(two_models.glob(f"{page}.html")))
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    unnamed = (
        "[...document.querySelectorAll('button, a, input, select, svg[role=img]')].filter((e) => "
        "!(e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label'))).length"
    )
    assert browser.evaluate(unnamed) == 0
    browser.size(1440, 900)
    check_quiet(browser, two_models)


def test_search_filter_and_keys(browser: Browser, two_models: Path) -> None:
    opened(browser, two_models, "demo_arithmetic_gen")
    assert browser.evaluate(COUNT) == "60 samples" and browser.evaluate(ROWS) == 60
    verdicts = RunStore(two_models.parent).verdicts("embedded_base", "demo_arithmetic_gen")
    wrong = [v.sample_id for v in verdicts if v.values["value"] < 1]
    browser.press("w")
    assert browser.evaluate("[...document.querySelectorAll('#rows .id')].map((e) => e.textContent)") == wrong
    browser.press("j")
    browser.wait(f"{ID} === '{wrong[0]}'")
    browser.press("ArrowDown")
    browser.wait(f"{ID} === '{wrong[1]}'")
    browser.press("k")
    browser.wait(f"{ID} === '{wrong[0]}'")
    assert browser.evaluate("document.querySelector('[aria-selected=true] .id').textContent") == wrong[0]
    browser.press("w")
    browser.press("/")
    browser.write("marbles")
    browser.wait(f"{COUNT}.includes(' of 60')")
    assert browser.evaluate("[...document.querySelectorAll('#rows .row')].every((e) => /marbles/i.test(e.innerText))")
    check_quiet(browser, two_models)


def test_search_in_outputs(browser: Browser, two_models: Path) -> None:
    opened(browser, two_models, "demo_arithmetic_gen")
    browser.press("/")
    browser.write("the answer is")
    browser.wait("!document.getElementById('deep').hidden")
    before = browser.evaluate("document.querySelectorAll('#rows .row').length")
    browser.evaluate("document.getElementById('deep').click()")
    browser.wait("document.getElementById('deep').hidden")
    base = RunStore(two_models.parent).verdicts("embedded_base", "demo_arithmetic_gen", "en")
    assert before == 0 and browser.evaluate(ROWS) >= sum("The answer is" in v.detail["text"] for v in base) > 0


def test_two_models_side_by_side(browser: Browser, two_models: Path) -> None:
    store = RunStore(two_models.parent)
    of = {
        m: {v.sample_id: v for v in store.verdicts(m, "demo_arithmetic_gen")}
        for m in ("embedded_base", "embedded_chat")
    }
    base, chat = of["embedded_base"], of["embedded_chat"]
    changed = [i for i in base if base[i].values["value"] != chat[i].values["value"]]
    assert changed, "the two models answer one sample differently"
    opened(browser, two_models, "demo_arithmetic_gen", "#a=embedded_base&b=embedded_chat&show=changed")
    assert browser.evaluate(COUNT).startswith(f"{len(changed)} of 60")
    first = changed[0]
    browser.wait(f"{ID} === '{first}'")
    shown = browser.text("#sample")
    assert base[first].detail["text"].strip() in shown and chat[first].detail["text"].strip() in shown
    marks = browser.evaluate("[...document.querySelectorAll('#sample mark')].map((e) => e.textContent)")
    assert marks == [base[first].answer, chat[first].answer]
    assert "last_number" in shown and str(base[first].gold) in shown
    browser.press("d")
    browser.wait("document.querySelector('#sample del') && document.querySelector('#sample ins')")
    plain = browser.evaluate(
        "(() => { const shown = document.querySelector('#sample .side1 .content').cloneNode(true);"
        " shown.querySelectorAll('del').forEach((e) => e.remove()); return shown.textContent })()"
    )
    assert plain == chat[first].detail["text"]
    check_quiet(browser, two_models)


def test_a_link_leads_back(browser: Browser, two_models: Path) -> None:
    opened(browser, two_models, "demo_choice_ppl")
    browser.press("j")
    browser.wait("location.hash.includes('id=')")
    fragment, shown = browser.evaluate("location.hash"), browser.text("#sample h2")
    opened(browser, two_models, "demo_arithmetic_gen")
    opened(browser, two_models, "demo_choice_ppl", fragment)
    assert browser.text("#sample h2") == shown
    sample = json.loads(json.dumps(shown))
    store = RunStore(two_models.parent)
    answer = next(v.answer for v in store.verdicts("embedded_base", "demo_choice_ppl") if v.sample_id == sample)
    assert browser.text("#sample .chosen th").startswith(answer)
    assert browser.evaluate("document.querySelectorAll('#sample .side0 .options tbody tr').length") == 4


def test_white_space_theme_and_print(browser: Browser, two_models: Path) -> None:
    opened(browser, two_models, "demo_arithmetic_gen")
    browser.press("s")
    browser.wait("document.querySelector('#sample .space')")
    colour = "getComputedStyle(document.body).backgroundColor"
    seen = set()
    for _ in range(3):
        browser.press("t")
        seen.add(browser.evaluate(f"document.documentElement.dataset.theme + {colour}"))
    assert len(seen) == 3 and browser.evaluate("document.documentElement.dataset.theme || ''") == ""
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.evaluate("getComputedStyle(document.getElementById('list')).display") == "none"
        assert browser.evaluate("getComputedStyle(document.querySelector('#sample .block')).display") != "none"
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
    check_quiet(browser, two_models)


def test_on_a_phone_the_sample_covers_the_list(browser: Browser, two_models: Path) -> None:
    browser.size(390, 844)
    browser.open(two_models / "samples-demo_arithmetic_gen.html", "", "document.body.dataset.ready === 'yes'")
    seen = "document.getElementById('{}').checkVisibility()"
    assert browser.evaluate(seen.format("list")) and not browser.evaluate(seen.format("sample"))
    browser.evaluate("document.querySelector('#rows .row').click()")
    browser.wait("document.getElementById('back')")
    assert not browser.evaluate(seen.format("list")) and browser.evaluate("document.documentElement.scrollWidth") <= 390
    browser.evaluate("document.getElementById('back').click()")
    assert browser.evaluate(seen.format("list"))
    browser.size(1440, 900)


def test_hostile_texts_are_text(browser: Browser, hostile: Path) -> None:
    for page in sorted(hostile.glob("*.html")):
        browser.open(page, "", READY if page.name.startswith("samples") else "document.readyState === 'complete'")
        assert browser.evaluate("window.pwned === undefined"), page
        allowed = {"static/report.js", "static/text.js", "static/samples.js"}
        scripts = browser.evaluate("[...document.scripts].map((s) => s.getAttribute('src'))")
        assert set(scripts) <= allowed, page
        assert browser.evaluate("document.querySelectorAll('iframe, img, object, embed, [onerror]').length") == 0
    check_quiet(browser, hostile)


def test_hostile_samples_are_shown_whole(browser: Browser, hostile: Path) -> None:
    opened(browser, hostile, "hostile_gen")
    for number, text in enumerate(runs.HOSTILE_TEXTS):
        browser.wait(f"{ID} === 'hostile_gen/{number}'")
        output = "document.querySelector('#sample .side0 .content')"
        browser.wait(output)
        shown = browser.evaluate(f"{output}.textContent")
        visible = re.findall(r"[\x21-\x7e]{2,}", text)
        assert all(piece in shown for piece in visible), (text, shown)
        if "\x00" in text:
            assert "U+0000" in shown and "U+2028" in shown
        if "\u202e" in text:
            assert "U+202E" in shown
        browser.press("j")
    browser.wait(f"{ID} === 'hostile_gen/{len(runs.HOSTILE_TEXTS)}'")
    assert "characters are left out here" in browser.text("#sample")
    assert browser.evaluate("document.getElementById('sample').textContent.length") < 200_000
    assert browser.evaluate("window.pwned === undefined")
    check_quiet(browser, hostile)


def test_data_files_are_ascii_without_markup(hostile: Path) -> None:
    files = list((hostile / "data").rglob("*.js"))
    assert files
    for file in files:
        assert re.fullmatch(r'evalkit\.part\("[a-z0-9-]+","[A-Za-z0-9+/=]+"\);\n', file.read_text("ascii"))


def many(count: int) -> Iterator[Judged]:
    """Judged samples without a run; every seventh is wrong."""
    benchmark = fabricate.benchmark("gsm8k")
    for i in range(count):
        name, right = f"part{i % 5}/{i}", i % 7 != 0
        sample = Sample(name, f"part{i % 5}", i, {"question": f"Question number {i}, of {i * 31} words"}, str(i))
        verdict = Verdict(name, sample.subset, str(i), str(i), {"value": right}, detail={"text": f"It is {i}"})
        reply = Reply(f"k{i}", text=f"It is {i}", n_tokens=9, n_out=i % 400)
        found = Trace((Step(NamedCall("last_number"), str(i)),), (6, 6 + len(str(i))))
        yield Judged(benchmark, sample, 0, Prompt((Part("", f"Question number {i}"),)), verdict, {"0": reply}, found)


def test_a_hundred_thousand_samples(browser: Browser, two_models: Path, tmp_path: Path) -> None:
    """Not timed: that every step ends, shows what it must and loads only the chunks that it needs."""
    count = 100_000
    folder = tmp_path / "html"
    write_pages([open_scored(RunStore(two_models.parent))], folder)
    name = "demo_arithmetic_gen"
    files = SampleFiles(folder / "data" / name, name, [Column("m", "run", "m")])
    files.add(0, "asked", many(count))
    files.close()
    opened(browser, folder, name)
    assert browser.evaluate(COUNT) == "100,000 samples" and browser.evaluate(ROWS) == 100
    browser.press("w")
    wrong = len(range(0, count, 7))
    browser.wait(f"{COUNT} === '{wrong:,} of 100,000 samples'")
    browser.press("/")
    browser.write("number 7007,")
    browser.wait(f"{COUNT} === '1 of 100,000 samples'")
    browser.press("Enter")
    browser.wait(f"{ID} === 'part2/7007'")
    browser.wait("document.querySelector('#sample mark')")
    assert browser.text("#sample mark") == "7007"
    loaded = {Path(url).name for url in browser.requests if "/data/" in url}
    assert loaded <= {"index.js", "c0-0.js", "p0-0.js", f"c0-{7007 // CHUNK}.js", f"p0-{7007 // CHUNK}.js"}
    assert not browser.faults


def test_several_runs_in_one_report(browser: Browser, two_models: Path, tmp_path: Path) -> None:
    """Two runs of one name of model: columns are named after run and model."""
    helpers.fake_model(tmp_path / "c", "fake_base")
    for seed in (1, 2):
        done = helpers.run(
            "--config-dir", tmp_path / "c", "--models", "fake_base", "--datasets", helpers.MMLU, "--data-root",
            "samples", "--sample", 3, "--seed", seed, "--debug", "--no-report", "--work-dir", tmp_path / "work",
        )  # fmt: skip
        assert "saved in" in done.stderr and "open " not in done.stderr, done.stderr
    names = sorted(p.name for p in (tmp_path / "work").iterdir())
    assert not list((tmp_path / "work").glob("*/html"))
    out = tmp_path / "pages"
    done = helpers.run("report", *names, "--work-dir", tmp_path / "work", "--out", out)
    assert done.returncode == 0 and str(out / "index.html") in done.stdout, done.stderr
    browser.open(out / "index.html")
    shown = browser.text("main")
    assert all(f"fake_base · {name}" in shown for name in names)
    assert "rows taken (--limit, --sample)" in shown
    opened(browser, out, "mmlu_ppl_ac766d")
    index = read_part(out / "data" / "mmlu_ppl_ac766d", "index")
    assert len(index["columns"]) == 2 and len(index["sample"]) > 12
    check_quiet(browser, out)


def test_report_of_a_run_without_scores_is_refused(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path / "c", "fake_base")
    helpers.run(
        "--config-dir", tmp_path / "c", "--models", "fake_base", "--datasets", "mmlu_ppl_ac766d:anatomy", "--data-root",
        "samples", "--debug", "--mode", "infer", "--work-dir", tmp_path / "work",
    )  # fmt: skip
    done = helpers.run("report", helpers.run_folder(tmp_path / "work").name, "--work-dir", tmp_path / "work")
    assert done.returncode == 1 and "run.py score" in done.stderr
