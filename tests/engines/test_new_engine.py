"""An engine of another package is one `EngineEntry`: plan, dry run, workers, manifest and tables need no more."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests import helpers

PACKAGE = '''
"""An engine that knows the answers by heart: the letter that its config names."""

from __future__ import annotations

from evalkit.core.errors import ModelError
from evalkit.core.records import Reply
from evalkit.engines.catalog import EngineEntry, Pricing, reply_facts


class Parrot:
    def __init__(self, spec):
        self.letter = spec.options.get("letter", "A")
        self.path = spec.path

    def run(self, requests):
        for request in requests:
            if request.mode == "gen":
                yield Reply(request.key, text=f"The answer is {self.letter}. #### 7", n_tokens=3, n_out=2, finish="eos")
            else:
                yield Reply(request.key, nll=0.5 if request.label == self.letter else 1.5, n_tokens=3)

    def describe(self):
        return {"engine": "parrot", "device": "cage", "path": self.path}

    def close(self):
        pass


def preflight(spec):
    if spec.path == "flown":
        raise ModelError("the parrot has flown", "call it back")


ENTRY = EngineEntry(
    "parrot",
    Parrot,
    performance_options=("volume",),
    reply_options=("letter", "silent"),
    identity=lambda spec: {**reply_facts(spec), "feathers": spec.path},
    preflight=preflight,
    scores_prompts=lambda spec: not spec.options.get("silent"),
    gen_instead=True,
    uses_device=False,
    rough_tokens=str.split,
    tokens_written_per_score=2,
    pricing=lambda spec: Pricing(1e6, 2e6),
)
'''
METADATA = "Metadata-Version: 2.1\nName: made-up-parrot\nVersion: 1.0\n"
MMLU, GSM8K = "mmlu_ppl_ac766d", "gsm8k_gen_17d0dc"


@pytest.fixture
def parrots(tmp_path: Path) -> Path:
    """A folder with the installed package and configs of models that use it."""
    site = tmp_path / "site"
    info = site / "made_up_parrot-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "made_up_parrot.py").write_text(PACKAGE)
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text("[evalkit.engines]\nparrot = made_up_parrot:ENTRY\n")
    models = tmp_path / "configs" / "model_configs"
    models.mkdir(parents=True)
    for name, kind, path, options in (
        ("base_b", "base", "green", "{letter: B, volume: 1}"),
        ("base_b_loud", "base", "green", "{letter: B, volume: 11}"),
        ("base_c", "base", "green", "{letter: C}"),
        ("chat_silent", "chat", "green", "{silent: true}"),
        ("flown", "base", "flown", "{}"),
        ("odd", "base", "green", "{colour: red}"),
    ):
        (models / f"{name}.yaml").write_text(f"path: {path}\nkind: {kind}\nengine: parrot\noptions: {options}\n")
    return tmp_path


def evalkit(folder: Path, *args: object, code: int = 0) -> str:
    """The standard output of a command that knows the package; of a refusal the error."""
    path = os.pathsep.join(filter(None, (str(folder / "site"), os.environ.get("PYTHONPATH", ""))))
    done = helpers.run(*args, "--config-dir", folder / "configs", PYTHONPATH=path)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def run(folder: Path, *args: object, **more: Any) -> str:
    common = ("--data-root", "samples", "--limit", 5, "--work-dir", folder / "work")
    return evalkit(folder, *args, *common, **more)


def test_a_run_from_plan_to_table(parrots: Path) -> None:
    models, datasets = ("base_b", "base_b_loud", "base_c"), (f"{MMLU}:anatomy", GSM8K)
    asked = ("--models", *models, "--datasets", *datasets)
    forecast = json.loads(run(parrots, *asked, "--dry-run", "--json"))
    by_pair = {(row["model"], row["dataset"]): row for row in forecast}
    assert len(by_pair) == 6 and not (parrots / "work").exists()
    scored = by_pair["base_b", MMLU]
    assert (scored["samples"], scored["requests"], scored["written"]) == (5, 20, 40)  # 2 tokens a score, as declared
    assert scored["price"] == pytest.approx(scored["tokens"] + 2 * scored["written"])

    result = json.loads(run(parrots, *asked, "--max-num-workers", 2, "--json"))
    assert result["complete"] and {(s["model"], s["benchmark"]) for s in result["scores"]} == set(by_pair)
    folder = Path(result["run"])
    manifest = json.loads((folder / "manifest.json").read_text())
    entries = [manifest["models"][name] for name in models]
    assert entries[0]["fingerprint"] == entries[1]["fingerprint"] != entries[2]["fingerprint"]
    assert entries[0]["identity"]["feathers"] == "green" and entries[1]["performance"]["volume"] == 11
    assert manifest["engines"]["base_c"]["device"] == "cage"
    with (folder / "report" / "summary.csv").open() as handle:
        table = {row["dataset"]: row for row in csv.DictReader(handle)}
    golds = [json.loads(line)["gold"] for line in verdict_lines(folder, "base_b")]
    assert len(golds) == 5
    assert float(table["mmlu"]["base_b"]) == float(table["mmlu"]["base_b_loud"]) == 100 * golds.count("B") / 5
    assert float(table["mmlu"]["base_c"]) == 100 * golds.count("C") / 5
    before = helpers.final_files(folder)
    evalkit(parrots, "score", folder)
    assert helpers.final_files(folder) == before


def verdict_lines(folder: Path, model: str) -> list[str]:
    """The verdicts on a model's answers to the benchmark that is scored by perplexity."""
    return [x for f in sorted((folder / "scores" / model / MMLU).glob("*.jsonl")) for x in f.read_text().splitlines()]


def test_what_the_entry_declares_decides_what_is_planned(parrots: Path) -> None:
    def refusal(model: str, dataset: str = f"{MMLU}:anatomy") -> str:
        return run(parrots, "--models", model, "--datasets", dataset, "--dry-run", code=2)

    assert "the parrot has flown" in refusal("flown") and "call it back" in refusal("flown")
    assert "unknown option 'colour' of the parrot engine (model odd)" in refusal("odd")
    asked = ("--models", "chat_silent", "base_b", "--datasets", f"{MMLU}:anatomy", "--dry-run", "--json")
    forecast = json.loads(run(parrots, *asked))
    assert {row["model"]: row["mode"] for row in forecast} == {"chat_silent": "gen", "base_b": "ppl"}


def test_an_engine_that_is_not_installed_is_named(parrots: Path) -> None:
    done = helpers.run(
        "--models", "base_b", "--datasets", "gsm8k", "--data-root", "samples", "--config-dir", parrots / "configs",
        "--work-dir", parrots / "work", "--dry-run",
    )  # fmt: skip
    assert done.returncode == 2 and "unknown engine 'parrot'" in done.stderr
