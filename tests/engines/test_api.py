"""Models behind HTTP: storms of faults, restarts, probes, budgets, keys; whole runs against servers on loopback."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.errors import ConfigError, ModelError
from evalkit.core.records import GenSettings, ModelSpec, Reply, Request, Turn
from evalkit.engines.catalog import create_engine
from evalkit.engines.openai_api.secret import Secret
from tests import helpers
from tests.engines.servers import Stub, best, free_port, logprob, output_of

KEY = "sk-test-3f9a1c7be2d84a55b0e6"
GEN = ("gsm8k_gen_1d7fe4", "mmlu_gen_4d595a:anatomy,astronomy")
STORM = ("429:0", "500", "cut", "broken", "drop", "503", "429@0", "error")


def spec(url: str, kind: Any = "base", **options: Any) -> ModelSpec:
    return ModelSpec("m", "stub", kind, engine="openai_api", options={"base_url": url, "retry_seconds": 20, **options})


def write_model(folder: Path, url: str, kind: str = "chat", path: str = "stub", **options: object) -> Path:
    """A config dir with the model `api`."""
    lines = [f"path: {path}", f"kind: {kind}", "engine: openai_api", "options:", f"  base_url: {url}"]
    lines += [f"  {key}: {json.dumps(value)}" for key, value in options.items()]
    (folder / "model_configs").mkdir(parents=True, exist_ok=True)
    (folder / "model_configs/api.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def run(tmp_path: Path, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
    fixed = ("--config-dir", tmp_path / "configs", "--models", "api", "--data-root", "samples")
    work = () if "--work-dir" in args else ("--work-dir", tmp_path / "work")
    return helpers.run(*fixed, *work, *args, **env)


def ask(model: ModelSpec, requests: list[Request]) -> dict[str, Reply]:
    engine = create_engine(model)
    try:
        replies = list(engine.run(requests))
    finally:
        engine.close()
    assert sorted(r.key for r in replies) == sorted(r.key for r in requests), "one reply each"
    return {r.key: r for r in replies}


def gen_requests(count: int) -> list[Request]:
    gen = GenSettings(max_out_len=8, stop=("\n",))
    return [Request(f"k{n}", f"s/{n}", "gen", "", (Turn("user", f"question {n}"),), gen=gen) for n in range(count)]


def answers(folder: Path) -> dict[str, str]:
    """key -> text of all replies of a run."""
    lines = [line for f in (folder / "replies").rglob("*.jsonl") for line in f.read_text("utf-8").splitlines()]
    found = [json.loads(line) for line in lines]
    assert len({f["key"] for f in found}) == len(found), "no reply stands twice"
    return {f["key"]: f.get("text") for f in found}


def test_a_run_through_storms_equals_a_calm_one(tmp_path: Path) -> None:
    """Every third request fails in turn by 429, 500, a cut, broken JSON, a dropped connection…; nothing is lost."""

    def fault(number: int, body: dict[str, Any]) -> str | None:
        return STORM[number // 3 % len(STORM)] if number > 3 and number % 3 == 0 else None

    found = {}
    for name, failing in (("calm", None), ("storm", fault)):
        with Stub(failing) as stub:
            write_model(tmp_path / "configs", stub.url, concurrency=6, retry_seconds=60)
            done = run(tmp_path, "--datasets", *GEN, "--work-dir", tmp_path / name)
            assert done.returncode == 0, done.stdout + done.stderr
            folder = helpers.run_folder(tmp_path / name)
            found[name] = (sorted(map(str, answers(folder).values())), (folder / "report/summary.csv").read_text())
            assert len(stub.faults) == (0 if name == "calm" else len(STORM))
            hello = stub.delivered.pop(next(p for p in stub.delivered if "Hello" in p))
            assert hello >= 1 and set(stub.delivered.values()) == {1}, "no sample was answered twice"
    assert found["storm"] == found["calm"]
    assert len(found["calm"][0]) > 10


def test_a_server_that_restarts_in_mid_run(tmp_path: Path) -> None:
    port = free_port()
    write_model(tmp_path / "configs", f"http://127.0.0.1:{port}/v1", concurrency=2, retry_seconds=60)
    first = Stub(port=port, delay=0.1)
    process = helpers.start(
        "--config-dir", tmp_path / "configs", "--models", "api", "--data-root", "samples", "--datasets", *GEN,
        "--work-dir", tmp_path / "work",
    )  # fmt: skip
    while sum(first.delivered.values()) < 6:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    first.close()
    time.sleep(1.5)
    with Stub(port=port) as second:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        assert sum(second.delivered.values()) > 0
    assert all(answers(helpers.run_folder(tmp_path / "work")).values())


def test_an_endpoint_that_stays_away_ends_the_run_and_the_next_goes_on(tmp_path: Path) -> None:
    port = free_port()
    write_model(tmp_path / "configs", f"http://127.0.0.1:{port}/v1", concurrency=1, retry_seconds=2)
    stub = Stub(port=port, delay=0.05)
    threading.Thread(target=lambda: (_until(lambda: sum(stub.delivered.values()) >= 5), stub.close())).start()
    broken = run(tmp_path, "--datasets", *GEN)
    assert broken.returncode == 1
    assert "no answer from" in broken.stdout + broken.stderr and "same command" in broken.stdout + broken.stderr
    kept = answers(helpers.run_folder(tmp_path / "work"))
    assert kept
    with Stub(port=port) as again:
        done = run(tmp_path, "--datasets", *GEN)
        assert done.returncode == 0, done.stdout + done.stderr
        whole = answers(helpers.run_folder(tmp_path / "work"))
        assert set(kept) < set(whole)
        assert sum(again.delivered.values()) <= len(whole) - len(kept) + 3, "nothing is asked again but who answers"


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true() and time.monotonic() < end:
        time.sleep(0.01)


def test_no_file_and_no_output_holds_the_key(tmp_path: Path) -> None:
    """Also where the server repeats the key in its errors."""
    told = {5: "500", 7: "429:0", 9: "400"}
    with Stub(lambda number, body: told.get(number)) as stub:
        stub.key = KEY
        write_model(tmp_path / "configs", stub.url, api_key_env="EVALKIT_TEST_KEY")
        good = run(tmp_path, "--datasets", GEN[0], EVALKIT_TEST_KEY=KEY)
        wrong = run(tmp_path, "--datasets", GEN[0], "--new", EVALKIT_TEST_KEY=KEY[:-1] + "X")
        none = run(tmp_path, "--datasets", GEN[0], "--new")
        assert {"500", "429:0", "400"} == set(stub.faults)
    assert good.returncode == 1, "one request was refused, and is said"
    assert "told to fail; your key is [key]" in "".join(p.read_text() for p in tmp_path.rglob("*.jsonl"))
    assert wrong.returncode != 0 and "refuses the key in $EVALKIT_TEST_KEY" in wrong.stdout + wrong.stderr
    assert none.returncode != 0 and "$EVALKIT_TEST_KEY is not set" in none.stdout + none.stderr
    for done in (good, wrong, none):
        assert KEY[:-1] not in done.stdout + done.stderr
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) > 8
    assert not [p for p in files if KEY[:-1].encode() in p.read_bytes()]


def test_multiple_choice_over_a_chat_api_is_generated(tmp_path: Path) -> None:
    with Stub() as stub:
        write_model(tmp_path / "configs", stub.url)
        done = run(tmp_path, "--datasets", "mmlu_ppl_ac766d:anatomy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "api: mmlu_gen_4d595a in place of mmlu_ppl_ac766d" in done.stdout + done.stderr
    assert "mmlu" in done.stdout and " gen " in done.stdout


def true_loss(text: str, start: int) -> float:
    """The stub's own log-probabilities, added up from a token on."""
    from tests.engines.servers import PIECE

    pieces = PIECE.findall(text)
    fronts = ["".join(pieces[:i]) for i in range(len(pieces))]
    return -sum(logprob(f, p) for f, p in list(zip(fronts, pieces, strict=True))[start:])


def test_scores_are_the_servers_log_probabilities() -> None:
    from tests.engines.servers import PIECE

    texts = ["Question: is it so? Answer: yes", "One two three four five six"]
    context, continuation = "The sky is", " very blue today"
    requests = [Request(t, "s", "ppl", text=t) for t in texts]
    requests += [Request("ll", "s", "ll", text=context, continuation=continuation)]
    with Stub(lambda number, body: "500" if number % 4 == 2 else None) as stub:
        found = ask(spec(stub.url), requests)
    for text in texts:
        count = len(PIECE.findall(text))
        assert found[text].nll == pytest.approx(true_loss(text, 1) / count, abs=1e-9), "no BOS: nothing for the first"
    start = len(PIECE.findall(context))
    assert found["ll"].nll == pytest.approx(true_loss(context + continuation, start), abs=1e-9)


def constant(value: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    return _changed(value, lambda probs: {**probs, "token_logprobs": [None, *[-1.0] * (len(probs["tokens"]) - 1)]})


def shifted(value: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Each value stands at the token before its own."""
    moved = ("token_logprobs", "top_logprobs")
    return _changed(value, lambda p: {**p, **{k: [*p[k][1:], p[k][-1]] for k in moved}})


def ignored(value: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    return _changed(value, lambda probs: None)


def positive(value: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    return _changed(value, lambda p: {**p, "token_logprobs": [v and -v for v in p["token_logprobs"]]})


def no_echo(value: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    choices = value["choices"]
    return {**value, "choices": [{**choices[0], "text": " x"}]} if body.get("echo") else value


def cut(value: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Keeps the last 40 tokens of a prompt, without a word."""
    probs = value["choices"][0].get("logprobs")
    if not probs or len(probs["tokens"]) < 60:
        return value
    kept = {name: list(entry)[-40:] for name, entry in probs.items()}
    usage = {**value["usage"], "prompt_tokens": 39}
    return {
        **value,
        "usage": usage,
        "choices": [{**value["choices"][0], "logprobs": kept, "text": "".join(kept["tokens"])}],
    }


def by_sampling(value: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Log-probabilities of the distribution after temperature."""
    heat = float(body.get("temperature") or 1.0)
    return _changed(value, lambda p: {**p, "token_logprobs": [v and v / heat for v in p["token_logprobs"]]})


def behind(value: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Each value is that of the distribution behind the token: as llama-cpp-python's server gives them without BOS."""

    def change(probs: dict[str, Any]) -> dict[str, Any]:
        tokens = probs["tokens"]
        ends = ["".join(tokens[: i + 1]) for i in range(len(tokens))]
        values = [logprob(end, token) for end, token in zip(ends, tokens, strict=True)]
        tops = [{"best": best(end), token: v} for end, token, v in zip(ends, tokens, values, strict=True)]
        return {**probs, "token_logprobs": values, "top_logprobs": tops}

    return _changed(value, change)


class Stale:
    """A cache of prefixes in blocks of 64 tokens; what it has is answered with other values than the model's."""

    def __init__(self) -> None:
        self.kept: set[str] = set()

    def __call__(self, value: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        return _changed(value, self.change)

    def change(self, probs: dict[str, Any]) -> dict[str, Any]:
        tokens, values = probs["tokens"], list(probs["token_logprobs"])
        for stop in range(64, len(tokens), 64):
            front = "".join(tokens[:stop])
            if front in self.kept:
                values[stop - 64 : stop] = [None if v is None else v - 0.5 for v in values[stop - 64 : stop]]
            self.kept.add(front)
        return {**probs, "token_logprobs": values}


def _changed(value: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    choice = value["choices"][0]
    if not choice.get("logprobs"):
        return value
    return {**value, "choices": [{**choice, "logprobs": change(choice["logprobs"])}]}


REFUSED: Mapping[Callable[..., dict[str, Any]], str] = {
    constant: "log-probab", shifted: "", ignored: "ignores `logprobs`", positive: "", no_echo: "ignores `echo`",
    cut: "", by_sampling: "sampling parameters", behind: "the values belong to other tokens",
}  # fmt: skip


@pytest.mark.parametrize("twist", REFUSED, ids=lambda t: t.__name__)
def test_the_probe_refuses_what_would_score_chance(twist: Callable[..., dict[str, Any]]) -> None:
    with Stub() as stub:
        stub.twist = twist
        engine = create_engine(spec(stub.url))
        try:
            with pytest.raises(ModelError, match="no usable log-probabilities of prompts") as caught:
                list(engine.run([Request("k", "s", "ppl", text="One two three four")]))
            assert REFUSED[twist] in caught.value.message and "gen configs" in (caught.value.hint or "")
            (reply,) = engine.run([Request("g", "s", "gen", "One two", gen=GenSettings(max_out_len=4))])
            assert reply.text == output_of("One two"), "generation works all the same"
        finally:
            engine.close()


def test_the_probe_refuses_what_a_cache_of_prefixes_changes() -> None:
    with Stub() as stub:
        stub.twist = Stale()
        for _ in range(2):  # what the first probe left in the cache does not help the second
            engine = create_engine(spec(stub.url))
            try:
                with pytest.raises(ModelError, match="changes with what was asked before"):
                    list(engine.run([Request("k", "s", "ppl", text="One two three four")]))
            finally:
                engine.close()
        longest = max(stub.bodies, key=lambda body: len(body.get("prompt", "")))
        assert len(longest["prompt"]) > 1000


def test_a_run_refused_by_the_probe_prints_no_score(tmp_path: Path) -> None:
    with Stub() as stub:
        stub.twist = ignored
        write_model(tmp_path / "configs", stub.url, kind="base")
        refused = run(tmp_path, "--datasets", "mmlu_ppl_ac766d:anatomy", "gsm8k_gen_17d0dc")
        asked = sum(stub.delivered.values())
        generated = run(tmp_path, "--datasets", "gsm8k_gen_17d0dc")
    assert refused.returncode == 2 and asked < 10, "before anything is asked of the samples"
    assert "ignores `logprobs`" in refused.stderr and "gen configs" in refused.stderr
    assert "mmlu" not in refused.stdout and "gsm8k" not in refused.stdout
    assert generated.returncode == 0, generated.stderr


def test_the_budget_is_kept_and_said(tmp_path: Path) -> None:
    with Stub() as stub:
        write_model(tmp_path / "configs", stub.url, budget_tokens=3000, price_in=1.0, price_out=2.0)
        done = run(tmp_path, "--datasets", GEN[0])
        spent = sum(len(p.split()) for p in stub.delivered)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "the budget may end the run before it is done" in said and "the budget of 3,000 tokens is reached" in said
    assert 0 < spent <= 3000
    kept = [r for r in answers(helpers.run_folder(tmp_path / "work")).values() if r]
    write_model(tmp_path / "configs", stub.url, budget_tokens=0)
    with Stub(port=stub.port) as more:
        done = run(tmp_path, "--datasets", GEN[0])
        assert done.returncode == 0, done.stdout + done.stderr
        assert sum(more.delivered.values()) <= len(answers_of(tmp_path)) - len(kept) + 2
    forecast = run(tmp_path, "--datasets", GEN[0], "--dry-run")
    assert forecast.returncode != 0, "the endpoint is gone, and is asked who it is"


def answers_of(tmp_path: Path) -> list[str]:
    """Texts of all good replies."""
    files = (helpers.run_folder(tmp_path / "work") / "replies").rglob("*.jsonl")
    found = [json.loads(line) for f in files for line in f.read_text("utf-8").splitlines()]
    return [f["text"] for f in found if f.get("text") is not None]


def test_retry_after_is_honoured() -> None:
    with Stub(lambda number, body: "429:1" if number == 3 else None) as stub:
        ask(spec(stub.url, "chat", concurrency=1), gen_requests(6))
        gaps = [b - a for a, b in zip(stub.times, stub.times[1:], strict=False)]
    assert max(gaps) >= 1.0 and gaps.index(max(gaps)) == 3


def test_an_answer_without_end_is_cut_off_and_the_others_go_on() -> None:
    with Stub(lambda number, body: "endless" if "question 2" in str(body) else None) as stub:
        found = ask(spec(stub.url, "chat", concurrency=4), gen_requests(8))
        assert stub.sent <= 80 << 20, "no more than the limit was read, and what lay in buffers"
    assert [r.error for r in found.values() if r.error] == ["the answer does not end: more than 64 MiB"]


def test_an_error_without_end_is_an_error_like_others() -> None:
    with Stub(lambda number, body: "endless 500" if number == 1 else None) as stub:
        found = ask(spec(stub.url, "chat", concurrency=2), gen_requests(4))
        assert stub.sent <= 16 << 20 and not any(r.error for r in found.values())


@pytest.mark.parametrize("fault", ["silent", "stalls"])
def test_an_answer_that_stops_coming_is_asked_again_and_the_others_go_on(fault: str) -> None:
    """The time of a whole try is an hour here: only the idle time-out can end it."""
    hangs = {1, 2}
    with Stub(lambda number, body: fault if number in hangs else None) as stub:
        found = ask(
            spec(stub.url, "chat", concurrency=4, timeout=3600, idle_timeout=1, retry_seconds=600), gen_requests(12)
        )
        assert not any(r.error for r in found.values()) and stub.faults[fault] == 2


@pytest.mark.parametrize("fault", ["silent", "stalls"])
def test_an_answer_that_never_comes_is_its_samples_error(fault: str) -> None:
    with Stub(lambda number, body: fault if "question 3" in str(body) else None) as stub:
        model = spec(stub.url, "chat", concurrency=4, timeout=3600, idle_timeout=1.5, retry_seconds=600)
        found = ask(model, gen_requests(6))
        assert [key for key, r in found.items() if r.error] == ["k3"] and "nothing came" in str(found["k3"].error)
        assert stub.faults[fault] == 2


def test_a_slow_endpoint_is_not_taken_for_a_silent_one() -> None:
    """Every answer takes longer than the idle time-out, and than 20 times the first, of a single token."""
    with Stub() as stub:
        engine = create_engine(spec(stub.url, "chat", concurrency=2, idle_timeout=0.1))
        asked, stub.delay = len(stub.bodies), 3.0
        try:
            found = list(engine.run(gen_requests(4)))
        finally:
            engine.close()
        assert len(stub.bodies) == asked + 4 and not any(r.error for r in found)


def test_an_answer_nested_without_end_is_no_answer() -> None:
    with Stub(lambda number, body: "deep" if number == 1 else None) as stub:
        found = ask(spec(stub.url, "chat", concurrency=1), gen_requests(3))
        assert not any(r.error for r in found.values()) and len(stub.bodies) == 1 + 3 + 1


def key_forms() -> list[str]:
    spelled = [" ".join(KEY), "-".join(KEY[i : i + 4] for i in range(0, len(KEY), 4))]
    parts = [KEY[:14], KEY[6:20], KEY[-9:], KEY[:12] + "****" + KEY[-8:], KEY[::-1]]
    texts = [KEY, f"Bearer {KEY}", f"x{KEY}", f"{{'key': '{KEY}'}}"]
    return [*spelled, *parts, KEY.encode().hex(), *(base64.b64encode(t.encode()).decode() for t in texts)]


@pytest.mark.parametrize("form", key_forms())
def test_no_form_of_the_key_is_repeated(form: str) -> None:
    """Whole, in parts, spelled apart, encoded: at most 7 characters in a row are left of it."""
    secret = Secret(KEY)
    shown = secret.hide(f"Incorrect key: {form}.")
    assert "[key]" in shown and shown.startswith("Incorrect key: ")
    left = re.findall(r"[A-Za-z0-9+/]+", shown)
    decoded = [base64.b64decode(word[k : len(word) - (len(word) - k) % 4]) for word in left for k in range(4)]
    assert not any(KEY[i : i + 8].encode() in text for i in range(len(KEY) - 7) for text in [shown.encode(), *decoded])
    assert secret.hide("no key is in this") == "no key is in this"


def test_a_reply_keeps_what_is_no_long_part_of_the_key() -> None:
    secret = Secret(KEY)
    assert secret.hide_long(f"the prefix {KEY[:8]} is usual") == f"the prefix {KEY[:8]} is usual"
    assert secret.hide_long(f"{KEY[2:22]}!") == "[key]!"
    assert secret.hide_long("x" * 100) == "x" * 100 and Secret("EMPTY").hide_long("an EMPTY list") == "an EMPTY list"


def test_rate_and_concurrency_are_limits() -> None:
    with Stub(delay=0.05) as stub:
        ask(spec(stub.url, "chat", concurrency=3), gen_requests(24))
        assert stub.most_busy <= 3
    with Stub() as stub:
        engine = create_engine(spec(stub.url, "chat", requests_per_minute=4))
        try:
            replies = engine.run(gen_requests(8))
            began = time.monotonic()
            for _ in range(3):
                next(replies)
            assert time.monotonic() - began < 50, "the first four wait for nothing"
            time.sleep(1.0)
            assert len(stub.bodies) == 4, "the fifth waits for the minute to pass"
            replies.close()  # type: ignore[attr-defined]
        finally:
            engine.close()


def test_what_concerns_one_request_is_its_error() -> None:
    faults = {2: "long", 3: "filter", 4: "refusal", 5: "hidden", 6: "empty"}
    with Stub(lambda number, body: faults.get(number)) as stub:
        found = ask(spec(stub.url, "chat", concurrency=1), gen_requests(8))
    errors = [r.error for r in found.values() if r.error]
    assert len(errors) == 5
    for word in ("too long", "content filter", "refused to answer", "output limit", "no choice"):
        assert any(word in e for e in errors), word


@pytest.mark.parametrize("fault", ["quota", "401", "404"])
def test_what_concerns_all_ends_the_run(fault: str) -> None:
    with Stub(lambda number, body: fault) as stub, pytest.raises(ModelError):
        ask(spec(stub.url, "chat"), gen_requests(2))


def test_another_model_behind_the_address_ends_the_run() -> None:
    with Stub() as stub:
        engine = create_engine(spec(stub.url, "chat"))
        try:
            stub.model = "stub-2027"
            with pytest.raises(ModelError, match="'stub-2027' now"):
                list(engine.run(gen_requests(2)))
        finally:
            engine.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"api_key": KEY}, "options.api_key is not taken"), ({"query": {"api_key": KEY}}, "query"),
        ({"base_url": f"http://me:{KEY}@127.0.0.1/v1"}, "more than"), ({"base_url": "ftp://x"}, "no http"),
        ({"concurency": 3}, "unknown option"),
        ({"budget": 3.0}, "prices"), ({"tries": 0}, "above 0"), ({"timeout": "long"}, "must be"),
    ],
)  # fmt: skip
def test_options_are_checked_and_no_secret_is_repeated(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_engine(spec("http://127.0.0.1:9/v1", **options))
    assert said in str(caught.value) and KEY not in f"{caught.value} {caught.value.hint}"


def test_the_stub_itself_behaves() -> None:
    """Its best value is never below a token's own, as the probe demands."""
    assert all(best(f"x{n}") >= logprob(f"x{n}", "y") for n in range(50))
