"""The numbers of each token of a text, against a direct float64 computation of one row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evalkit.core.records import Reply, Request
from evalkit.engines.hf.score import statistics


def direct(path: Path, text: str) -> tuple[list[float], list[float]]:
    """(log-probabilities, deviations) of the tokens 2..N, by the definitions: no padding, no pieces."""
    ids = AutoTokenizer.from_pretrained(path)(text).input_ids
    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        logits = model(torch.tensor([ids])).logits[0].double()
    logs, deviations = [], []
    for i in range(1, len(ids)):
        p = logits[i - 1].softmax(-1)
        mu = sum(float(x) * float(x.log()) for x in p)
        sigma = sum(float(x) * (float(x.log()) - mu) ** 2 for x in p) ** 0.5
        logs.append(float(p[ids[i]].log()))
        deviations.append((logs[-1] - mu) / sigma)
    return logs, deviations


@pytest.mark.parametrize("family", ["llama", "neox"])
@pytest.mark.parametrize("pieces", [False, True])
def test_equal_direct(
    family: str, pieces: bool, families: dict[str, Path], engine_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pieces:
        monkeypatch.setattr(statistics, "CHUNK_NUMBERS", 3000)
    engine = engine_for(families[family])
    texts = ["A short text.", "Another one, which is longer than the first, and odd: 7 * 6 = 42", "A short text."]
    asked = [Request(str(i), "", "ppl", text=text, token_statistics=True) for i, text in enumerate(texts)]
    plain = [Request(f"plain{i}", "", "ppl", text=text) for i, text in enumerate(texts)]
    found: dict[str, Reply] = {reply.key: reply for reply in engine.run([*asked, *plain])}
    assert len(found) == 6
    for i, text in enumerate(texts):
        reply, (logs, deviations) = found[str(i)], direct(families[family], text)
        assert reply.token_logs == pytest.approx(logs, rel=1e-3, abs=1e-3)
        assert reply.token_deviations == pytest.approx(deviations, rel=1e-2, abs=1e-2)
        assert reply.nll == pytest.approx(-sum(logs) / (len(logs) + 1), rel=1e-4)
        assert reply.nll == pytest.approx(found[f"plain{i}"].nll, rel=1e-4)
        assert reply.n_tokens == len(logs) + 1
        assert found[f"plain{i}"].token_logs is None
    assert found["0"].token_logs == found["2"].token_logs


def test_distributions_without_spread_or_with_impossible_tokens_are_finite() -> None:
    logits = torch.full((1, 3, 4), -torch.inf)
    logits[0, 0, 1] = 0.0
    logits[0, 1, :2] = 0.0
    logs, deviations = statistics.token_statistics(logits, torch.tensor([[0, 1, 1]]))
    assert logs.tolist() == [[0.0, pytest.approx(-0.693147, rel=1e-5)]]
    assert deviations.tolist() == [[0.0, pytest.approx(0.0, abs=1e-3)]]


def test_a_text_that_cannot_be_scored_has_an_error(families: dict[str, Path], engine_for: Any) -> None:
    (reply,) = engine_for(families["no_bos"]).run([Request("k", "", "ppl", text="", token_statistics=True)])
    assert "at least 2 are needed" in reply.error and reply.token_logs is None
