"""A model behind HTTP that says what a script tells it, and remembers everything that it was asked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.engines.servers import Stub

Messages = list[dict[str, str]]
HELLO = "Hello"
"""What a run asks first, to see who answers."""


class Scripted(Stub):
    """Answers chat requests by a function of their messages; a tuple is (text, {token: log-probability})."""

    def __init__(self, script: Callable[[Messages], Any], **more: Any) -> None:
        self.script = script
        super().__init__(**more)

    def value(self, body: dict[str, Any]) -> dict[str, Any]:
        """A good response."""
        made = self.script(body["messages"]) if body["messages"][-1]["content"] != HELLO else HELLO
        text, tops = made if isinstance(made, tuple) else (made, {})
        choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}}
        if body.get("logprobs"):
            listed = [{"token": token, "logprob": value} for token, value in tops.items()]
            choice["logprobs"] = {"content": [{"token": text, "logprob": 0.0, "top_logprobs": listed}]}
        usage = {"prompt_tokens": sum(len(m["content"].split()) for m in body["messages"]), "completion_tokens": 5}
        return {"id": "x", "model": self.model, "usage": usage, "choices": [{**choice, "finish_reason": "stop"}]}

    @property
    def asked(self) -> Counter[str]:
        """How often each conversation was answered, without the greetings."""
        return Counter({k: n for k, n in self.delivered.items() if json.loads(k)[-1]["content"] != HELLO})


def write_model(folder: Path, name: str, url: str, **options: object) -> None:
    """A config of a chat model at this address."""
    lines = ["path: stub", "kind: chat", "engine: openai_api", "options:", f"  base_url: {url}", "  retry_seconds: 20"]
    lines += [f"  {key}: {json.dumps(value)}" for key, value in options.items()]
    (folder / "model_configs").mkdir(parents=True, exist_ok=True)
    (folder / "model_configs" / f"{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_benchmark(folder: Path, name: str, text: str) -> None:
    """A dataset config."""
    (folder / "dataset_configs").mkdir(parents=True, exist_ok=True)
    (folder / "dataset_configs" / f"{name}.yaml").write_text(text, encoding="utf-8")


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
