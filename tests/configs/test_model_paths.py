"""Checkpoints that lie inside an installed package."""

from __future__ import annotations

from pathlib import Path

import pytest

import evalkit
from evalkit.configs.catalog import open_catalog
from evalkit.configs.merge import Override
from evalkit.configs.model import load_model_config, model_from_path, place_of

PACKAGE = Path(evalkit.__file__).parent


def test_a_folder_of_a_package_is_found_wherever_it_is_installed() -> None:
    assert Path(place_of("evalkit:embedded/data")) == PACKAGE / "builtin/embedded/data"
    catalog = open_catalog()
    (file,) = catalog.files("model_configs")["embedded_chat"]
    spec = load_model_config(file, catalog)
    assert Path(spec.path) == PACKAGE / "builtin/embedded/chat" and spec.kind == "chat"
    assert spec.resolved["path"] == "evalkit:embedded/chat", "the manifest names no place of this machine"


@pytest.mark.parametrize(
    "path", ["org/model", "./model", "/a/b:c", "C:\\models", "evalkit:no/such", "no_such:embedded"]
)
def test_other_paths_stay_as_they_are(path: str) -> None:
    assert place_of(path) == path


def test_an_override_for_another_model_leaves_a_path_alone() -> None:
    overrides = [Override(("dtype",), "float16", "other"), Override(("gpus",), 2, "mine")]
    spec = model_from_path("/models/mine", "base", overrides, {})
    assert (spec.dtype, spec.gpus) == ("auto", 2)


@pytest.mark.parametrize("path", [".", "./", "..", "../", "../here", "deep/..", "deep/../../here/."])
def test_a_path_of_dots_is_named_after_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (tmp_path / "here" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    name = model_from_path(path, "base", [], {}).name
    assert name == (tmp_path.name if path in ("..", "../") else "here")
    assert model_from_path("ck", "base", [], {"peft_path": path}).name == f"ck+{name}"
