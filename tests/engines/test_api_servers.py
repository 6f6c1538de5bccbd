"""Real servers on loopback: `transformers serve`, and llama-cpp-python's with true log-probabilities of prompts."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from evalkit.core.records import GenSettings, ModelSpec, Request
from evalkit.engines.catalog import create_engine
from evalkit.engines.hf.tiny import make_tiny
from tests import helpers
from tests.engines.servers import free_port, llama_python, llama_server, transformers_serve, write_gguf
from tests.engines.test_api import ask, run, write_model

SERVING = ("fastapi", "uvicorn", "openai")
NO_LLAMA = "llama-cpp-python is not installed (name a Python that has it in EVALKIT_LLAMA_PYTHON)"
TEXTS = ("Question: is it?\nAnswer: yes", "The number 123 中国 and more. Hé", " lead", "a b")
PAIRS = (("The answer is", " one of them"), ("", "first of all"), ("你好中", "国 yes"))


@pytest.fixture(scope="module", params=["base", "chat"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """(kind, base URL, checkpoint) of a tiny model behind `transformers serve`."""
    missing = [name for name in SERVING if find_spec(name) is None]
    if missing:
        pytest.skip(f"`transformers serve` needs {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("served")
    make_tiny(folder / "tiny", chat=request.param == "chat")
    port = free_port()
    with transformers_serve(folder / "tiny", port, folder / "server.log") as url:
        yield request.param, url, folder / "tiny"


def test_transformers_serve_to_a_table(served: tuple[str, str, Path], tmp_path: Path) -> None:
    kind, url, checkpoint = served
    write_model(tmp_path / "configs", url, kind, str(checkpoint), timeout=60, concurrency=2, pin_model=False)
    data = ("--datasets", "gsm8k", "--limit", "3", "--set", "gen.max_out_len=8")
    done = run(tmp_path, *data, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (helpers.run_folder(tmp_path / "work") / "report/summary.csv").read_text("utf-8")
    assert [r["dataset"] for r in csv.DictReader(table.splitlines())] == ["gsm8k"]


def test_transformers_serve_gives_no_scores(served: tuple[str, str, Path], tmp_path: Path) -> None:
    kind, url, checkpoint = served
    options = {"timeout": 60, "pin_model": False, "prompt_logprobs": "echo"}
    write_model(tmp_path / "configs", url, kind, str(checkpoint), **options)
    done = run(tmp_path, "--datasets", "mmlu_ppl_ac766d:anatomy")
    assert done.returncode == 2
    assert "no usable log-probabilities of prompts" in done.stderr and "ignores `logprobs`" in done.stderr
    assert "gen configs" in done.stderr


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(base URL, checkpoint) of a tiny Llama behind llama-cpp-python's server."""
    if not llama_python():
        pytest.skip(NO_LLAMA)
    if find_spec("gguf") is None:
        pytest.skip("the gguf package, which writes llama.cpp's files, is not installed")
    folder = tmp_path_factory.mktemp("llama")
    make_tiny(folder / "tiny")
    write_gguf(folder / "tiny", folder / "tiny.gguf")
    port = free_port()
    with llama_server(folder / "tiny.gguf", port, folder / "server.log") as url:
        yield url, folder / "tiny"


def test_llama_cpp_scores_as_the_hf_engine(llama: tuple[str, Path]) -> None:
    url, checkpoint = llama
    gen = GenSettings(16, ("the",))
    requests = [Request(f"p{n}", "s", "ppl", text=text) for n, text in enumerate(TEXTS)]
    requests += [Request(f"l{n}", "s", "ll", text=a, continuation=b) for n, (a, b) in enumerate(PAIRS)]
    requests += [Request(f"g{n}", "s", "gen", text=text, gen=gen) for n, text in enumerate(TEXTS[:2])]
    hf = ModelSpec("m", str(checkpoint), "base", dtype="float32")
    wanted = ask(hf, requests)
    # The server's own default punishes repetition, which greedy decoding must not have.
    options = {"base_url": url, "tokenizer": str(checkpoint), "extra_body": {"repeat_penalty": 1.0}}
    found = ask(replace(hf, path="tiny", engine="openai_api", options=options, dtype="auto"), requests)
    for key, reply in wanted.items():
        if reply.nll is None:
            whole = (reply.text or "").partition("\ufffd")[0]  # of a broken character each makes what it likes
            assert len(whole) > 40 and (found[key].text or "").startswith(whole)
        else:
            assert found[key].nll == pytest.approx(reply.nll, rel=1e-3, abs=1e-3)
            assert found[key].n_tokens == reply.n_tokens


def test_llama_cpp_without_the_tokenizer_refuses_what_it_cannot_know(llama: tuple[str, Path]) -> None:
    """The server hides the value of the token behind the BOS."""
    url, _ = llama
    engine = create_engine(ModelSpec("m", "tiny", "base", engine="openai_api", options={"base_url": url}))
    try:
        replies = list(engine.run([Request("p", "s", "ppl", text=TEXTS[0])]))
    finally:
        engine.close()
    assert replies[0].nll is None and "options.tokenizer is needed" in (replies[0].error or "")
