"""The model configs that are shipped: each loads, says what it must, and is found by its published name."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest

from evalkit.configs.catalog import ConfigCatalog, open_catalog
from evalkit.configs.model import load_model_config, model_from
from evalkit.core.digest import plain
from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec, Turn
from evalkit.engines.catalog import ENGINES, check_options, check_trust
from evalkit.report.summary import column_of
from tests import helpers

LIBRARY = ConfigCatalog()
FILES = {name: files for name, files in LIBRARY.files("model_configs").items()}
RETIRED = {"Claude 2", "Claude 2.1", "Gemini Pro", "GPT-4 0314"}
"""Columns of models that their providers do not serve any more."""
OTHER_NAMES = {
    "GPT-4 Turbo": "gpt_4_turbo",
    "GPT-4 0613": "gpt_4_0613",
    "Mistral Medium": "mistral_medium",
    "XwinLM 70b V0.1": "hf_xwin_lm_70b_v0_1",
    "InternLM2 Chat 20B": "hf_internlm2_chat_20b",
    "Mixtral 8x7B v0.1": "hf_mixtral_8x7b_instruct_v0_1",
}
"""Columns of the table that names models with spaces."""
REMOTE = {
    "hf_baichuan2_7b_chat", "hf_baichuan2_13b_chat", "hf_qwen_7b_chat", "hf_qwen_14b_chat", "hf_chatglm3_6b",
}  # fmt: skip


OWN = ("tiny", "embedded")
"""Beginnings of the names of models that this project makes."""


def load(name: str) -> ModelSpec:
    return load_model_config(FILES[name][0], LIBRARY)


@pytest.mark.parametrize("name", FILES)
def test_config_loads_and_says_what_it_must(name: str) -> None:
    spec = load(name)
    assert len(FILES[name]) == 1 and spec.path and spec.kind in ("base", "chat")
    assert spec.engine in ENGINES
    check_options(spec)
    assert spec.resolved.get("licence"), "a licence note"
    if spec.engine != "openai_api":
        assert spec.resolved.get("size")
    if not name.startswith(OWN):
        assert int(spec.resolved["context"]) >= 2048
        assert not spec.verified, "nothing but our own models was run here; say so in `verified` when one was"
    assert spec.kind == "chat" or not (spec.end_strings or spec.reasoning)
    assert spec.needs_remote_code == (name in REMOTE or spec.engine == "lmdeploy")
    assert not spec.trust_remote_code
    assert model_from(name, plain(spec.resolved), spec.source) == spec, "as a worker reads it from the manifest"


def test_every_config_has_a_place_and_a_name() -> None:
    assert len(FILES) > 90
    paths = [(s.engine, s.path) for s in map(load, FILES)]
    assert len(set(paths)) == len(paths), "two names of one model"
    for name in FILES:
        engine = load(name).engine
        assert name.startswith("hf_") == (engine == "hf" and not name.startswith(OWN))
        assert name.endswith("_turbomind") == (engine == "lmdeploy")


def test_every_published_model_has_a_config(shared: Path) -> None:
    missing = []
    for file in sorted((shared / "reference").glob("*.csv")):
        with file.open(encoding="utf-8-sig") as handle:
            head, *rows = list(csv.reader(handle))
        names = [row[0] for row in rows] if head[0] == "Model Name" else head[1:]
        for column in set(names) - RETIRED:
            found = [n for n in FILES if OTHER_NAMES.get(column) == n or column_of(n, [column])]
            missing += [] if found else [f"{file.name}: {column}"]
    assert not missing


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("hf_internlm2_chat_1_8b_sft", "internlm2-chat-1.8b-sft-hf"),
        ("internlm2_1_8b_turbomind", "internlm2-1.8b-turbomind"),
        ("hf_internlm2_5_7b_chat", "InternLM2.5-7B-Chat"),
        ("hf_mistral_7b_instruct_v0_2", "Mistral-7B-Instruct-v0.2"),
        ("gpt_4", "GPT-4"),
    ],
)
def test_a_config_is_compared_with_its_own_column(name: str, column: str) -> None:
    assert name in FILES and column_of(name, ["other", column]) == column
    assert not column_of("hf_internlm2_7b", ["internlm2-chat-7b-hf"])


@pytest.mark.parametrize("name", sorted(REMOTE))
def test_remote_code_needs_leave(name: str) -> None:
    with pytest.raises(ModelError, match="code that comes with the checkpoint") as caught:
        check_trust(load(name))
    assert "--trust-remote-code" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hf_qwen_7b_chat",
         "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
         "<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\n2+2<|im_end|>\n<|im_start|>assistant\n"),
        ("hf_baichuan2_7b_chat", "<reserved_106>Hi<reserved_107>Yes?<reserved_106>2+2<reserved_107>"),
        ("hf_xwin_lm_70b_v0_1",
         "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
         "detailed, and polite answers to the user's questions. USER: Hi ASSISTANT: Yes?</s>USER: 2+2 ASSISTANT:"),
    ],
)  # fmt: skip
def test_templates_of_configs_render(tiny_model: Path, name: str, text: str) -> None:
    from transformers import AutoTokenizer

    from evalkit.engines.hf.tokens import render_chat

    turns = [Turn("user", "Hi"), Turn("assistant", "Yes?"), Turn("user", "2+2")]
    assert render_chat(AutoTokenizer.from_pretrained(tiny_model), turns, load(name)) == text


def test_list_models_says_what_matters_at_once() -> None:
    begun = time.monotonic()
    done = helpers.run("list", "models", "--json")
    assert time.monotonic() - begun < 100, "a hang, not a slow machine"
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(rows) == set(FILES)
    assert rows["hf_internlm2_chat_7b"] == {
        "name": "hf_internlm2_chat_7b", "kind": "chat", "engine": "hf", "size": "7.7B", "context": 32768,
        "verified": "no", "remote code": "", "path": "internlm/internlm2-chat-7b",
        "licence": "Apache-2.0 code; weights open to research, to commerce on application",
    }  # fmt: skip
    assert rows["tiny_base"]["verified"] == "yes" and rows["hf_qwen_7b_chat"]["remote code"] == "needed"
    head = helpers.run("list", "models", "*turbomind").stdout.splitlines()[0].split()
    assert head[:6] == ["name", "kind", "engine", "size", "context", "verified"]


def test_a_users_own_config_wins(tmp_path: Path) -> None:
    (tmp_path / "model_configs").mkdir()
    mine = tmp_path / "model_configs" / "hf_internlm2_7b.yaml"
    mine.write_text("base: _internlm2.yaml\npath: /mine\nkind: base\n")
    catalog = open_catalog([tmp_path])
    (file,) = catalog.files("model_configs")["hf_internlm2_7b"]
    assert file == mine and load_model_config(file, catalog).path == "/mine"
