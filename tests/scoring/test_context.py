"""Extraction steps that are bound once give what steps that are bound for each text give."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.configs.benchmark import build
from evalkit.configs.yamlfile import parse_yaml
from evalkit.core.errors import ConfigError
from evalkit.core.records import Benchmark, Sample
from evalkit.scoring.context import Extraction, context_of, fill_calls
from evalkit.scoring.extract import extract

TEXTS = ("The answer is B. Next: 7", "", "zh: C", "en: 12 and 13")


def benchmark(steps: str) -> Benchmark:
    text = f'mode: gen\ndata: {{path: x}}\nprompt: "{{{{ q }}}}"\nmetric: accuracy\nextract: {steps}\n'
    return build(parse_yaml(text, Path("x_gen.yaml")))


@pytest.mark.parametrize("steps", ["[]", '[before: ".", last_number]', '[after: "{{ mark }}:", strip]'])
def test_bound_once_or_for_each_sample(steps: str) -> None:
    made = benchmark(steps)
    extraction = Extraction(made)
    for mark in ("zh", "en"):
        sample = Sample(f"{mark}/0", mark, 0, {"q": "?"}, "B", {"mark": mark})
        context = context_of(made, sample)
        filled = fill_calls(made.extract, sample.variables)
        assert [extraction(text, sample, context) for text in TEXTS] == [extract(t, filled, context) for t in TEXTS]


def test_a_wrong_step_is_named_before_any_text() -> None:
    with pytest.raises(ConfigError, match="unknown extraction step 'strp'"):
        Extraction(benchmark("[strp]"))
    with pytest.raises(ConfigError, match="has no argument 'colour'"):
        Extraction(benchmark("[before: {colour: red}]"))
