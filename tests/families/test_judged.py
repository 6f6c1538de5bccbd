"""MT-Bench and AlignBench whole: the embedded chat model answers, a scripted judge grades; categories in the table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests import helpers
from tests.agents.scripted import Messages, Scripted, write_model

MTBENCH = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")


def grade_of(text: str) -> int:
    """A grade that anybody can compute from the judge's prompt."""
    return sum(map(ord, text)) % 10 + 1


def values(folder: Path) -> dict[str, float]:
    """Row -> grade."""
    scores = json.loads((folder / "scores/scores.json").read_text("utf-8"))["scores"]
    return {score["row"]: score["value"] for score in scores if score["metric"] == "grade"}


def run(tmp_path: Path, shared: Path, benchmark: str, url: str, *more: object) -> Path:
    write_model(tmp_path / "configs", "strict", url)
    done = helpers.run(
        "--models", "embedded_chat", "--datasets", benchmark, "--judge", "strict", "--config-dir", tmp_path / "configs",
        "--data-root", shared / "data", "--work-dir", tmp_path / "work", "--set", f"{benchmark}:gen.max_out_len=8",
        *more, timeout=1100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return helpers.run_folder(tmp_path / "work")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("limit", [pytest.param(1, id="a few"), pytest.param(0, marks=pytest.mark.slow, id="whole")])
def test_mtbench(tmp_path: Path, shared: Path, limit: int) -> None:
    def judge(messages: Messages) -> str:
        return f"Rating: [[{grade_of(messages[1]['content'])}]]"

    with Scripted(judge) as server:
        folder = run(tmp_path, shared, "mtbench_gen", server.url, *(("--limit", limit) if limit else ()))
        asked = [json.loads(key) for key in server.asked]
    count = 8 * (limit or 10)
    assert len(asked) == count and all(m[0]["role"] == "system" for m in asked)
    with_references = [m for m in asked if "Reference answer:" in m[1]["content"]]
    assert len(with_references) == count * 3 // 8
    assert all("focus on the assistant's answer" in m[0]["content"] for m in asked)
    grades = [grade_of(m[1]["content"]) for m in asked]
    found = values(folder)
    assert found["mtbench"] == pytest.approx(sum(grades) / count)
    assert {row.removeprefix("mtbench-") for row in found} == {"mtbench", *MTBENCH}
    files = [path.read_text("utf-8") for path in (folder / "replies/embedded_chat").rglob("*.jsonl")]
    labels = [json.loads(line).get("label", "") for text in files for line in text.splitlines()]
    assert sum(label.startswith("turn") for label in labels) == 2 * count


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("limit", [pytest.param(2, id="a few"), pytest.param(0, marks=pytest.mark.slow, id="whole")])
def test_alignbench(tmp_path: Path, shared: Path, limit: int) -> None:
    def judge(messages: Messages) -> str:
        return f"好。\n{{'事实正确性': 3, '综合得分': {grade_of(messages[0]['content'])}}}"

    with Scripted(judge) as server:
        folder = run(tmp_path, shared, "alignbench_gen", server.url, *(("--limit", limit) if limit else ()))
        asked = [json.loads(key)[0]["content"] for key in server.asked]
    assert len(asked) == (8 * limit or 683)
    assert all(re.search(r"\n1\. 事实正确性\n2\. 满足用户需求\n3\. ", text) for text in asked)
    found = values(folder)
    categories = {row.partition("-")[2]: value for row, value in found.items()}
    reasoning = (categories["数学计算"] + categories["逻辑推理"]) / 2
    language = sum(categories[c] for c in ("基本任务", "中文理解", "综合问答", "文本写作", "角色扮演", "专业能力")) / 6
    assert categories["中文推理"] == pytest.approx(reasoning) and categories["中文语言"] == pytest.approx(language)
    assert found["alignbench"] == pytest.approx((reasoning + language) / 2)
