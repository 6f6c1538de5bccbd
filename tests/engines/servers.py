"""Servers on this machine: a stub with faults on demand, `transformers serve`, llama-cpp-python's."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PIECE = re.compile(r"\s?\w+|\s?[^\w\s]|\s+")
START_SECONDS = 120.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_until_up(url: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Until the address answers anything at all."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{url} does not come up")


@contextlib.contextmanager
def process_at(command: Sequence[object], port: int, log: Path, path: str = "/v1/models") -> Iterator[str]:
    """A server's process; yields its base URL, ends it and all its children."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("ab") as handle:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=handle, stderr=handle, env=environment, start_new_session=True
        )
    try:
        wait_until_up(f"http://127.0.0.1:{port}{path}", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def transformers_serve(model: Path, port: int, log: Path) -> contextlib.AbstractContextManager[str]:
    """`transformers serve MODEL`."""
    tool = Path(sys.executable).with_name("transformers")
    command = [tool, "serve", model, "--host", "127.0.0.1", "--port", port, "--device", "cpu", "--dtype", "float32"]
    return process_at(command, port, log, "/health")


def llama_python() -> str:
    """A Python that has llama-cpp-python's server: `EVALKIT_LLAMA_PYTHON`, or this one; empty without any.

    It is built from source where its index has no wheel, so it is no requirement of the tests.
    """
    named = os.environ.get("EVALKIT_LLAMA_PYTHON", "")
    return named or (sys.executable if find_spec("llama_cpp") else "")


def llama_server(gguf: Path, port: int, log: Path, *more: object) -> contextlib.AbstractContextManager[str]:
    """llama-cpp-python's server, with logits of all prompt tokens and a cache in float32."""
    command = [llama_python(), "-m", "llama_cpp.server", "--model", gguf, "--host", "127.0.0.1", "--port", port]
    exact = ["--logits_all", "true", "--n_ctx", 4096, "--type_k", 0, "--type_v", 0, "--verbose", "false"]
    return process_at([*command, *exact, *more], port, log)


def write_gguf(checkpoint: Path, target: Path, bos: bool = True) -> Path:
    """A tiny Llama of `make_tiny` as a float32 GGUF file."""
    import gguf
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    config = model.config
    writer = gguf.GGUFWriter(str(target), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(0)
    inner = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))
    special = {t["id"] for t in inner["added_tokens"]}
    merges = inner["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([tokenizer.convert_ids_to_tokens(i) for i in range(config.vocab_size)])
    writer.add_token_types([3 if i in special else 1 for i in range(config.vocab_size)])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(bos)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "model.layers": "blk",
    }  # fmt: skip
    for name, value in model.state_dict().items():
        data = value.float().numpy()
        count = heads.get(name.split(".")[-2])
        if count:  # llama.cpp turns pairs of neighbours, transformers halves
            data = data.reshape(count, 2, -1, data.shape[1]).swapaxes(1, 2).reshape(data.shape)
        for old, new in names.items():
            name = name.replace(old, new)
        writer.add_tensor(name, np.ascontiguousarray(data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def share(*parts: object) -> float:
    """A number in [0, 1) that belongs to some values."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:12], 16) / 16**12


def logprob(front: str, piece: str) -> float:
    return -1.0 - 4.0 * share(front, piece)


def best(front: str) -> float:
    return -0.2 - 0.6 * share(front)


Fault = Callable[[int, dict[str, Any]], "str | None"]


class Stub:
    """An endpoint that answers from digests, counts what it delivers, and fails as it is told.

    `fault(number of the request, its body)` names what goes wrong; `twist` changes a good response.
    """

    def __init__(self, fault: Fault | None = None, port: int = 0, delay: float = 0.0) -> None:
        self.fault = fault or (lambda number, body: None)
        self.twist: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]] = lambda value, body: value
        self.delay = delay
        self.model = "stub-2026"
        self.key = ""
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.delivered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.busy = self.most_busy = 0
        self.closed = False
        self.sent = 0
        """Bytes of bodies without end."""
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        """Like a process that is killed: connections that are open answer nothing more."""
        self.closed = True
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _handler(stub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                self.say(200, {"object": "list", "data": [{"id": "stub", "owned_by": "tests", "created": time.time()}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with stub._lock:
                    number = len(stub.bodies)
                    stub.bodies.append(body)
                    stub.times.append(time.monotonic())
                    stub.busy += 1
                    stub.most_busy = max(stub.most_busy, stub.busy)
                try:
                    self.answer(number, body)
                finally:
                    with stub._lock:
                        stub.busy -= 1

            def answer(self, number: int, body: dict[str, Any]) -> None:
                given = self.headers.get("Authorization", "").removeprefix("Bearer ") or self.headers.get("api-key", "")
                if stub.key and given != stub.key:
                    return self.say(401, {"error": {"message": f"Incorrect API key provided: {given}", "code": "x"}})
                fault = stub.fault(number, body)
                if fault:
                    with stub._lock:
                        stub.faults[fault] += 1
                    return self.fail(fault, body, given)
                time.sleep(stub.delay)
                if stub.closed:
                    return self.fail("drop", body, given)
                value = stub.twist(stub.value(body), body)
                with stub._lock:
                    stub.delivered[prompt_of(body)] += 1
                return self.say(200, value)

            def say(self, status: int, value: object, **headers: str) -> None:
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for name, text in headers.items():
                    self.send_header(name.replace("_", "-"), text)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def fail(self, fault: str, body: dict[str, Any], given: str) -> None:
                if fault == "cut":  # half of a good response, then the end
                    data = json.dumps(stub.value(body)).encode()
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data[: len(data) // 2])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                elif fault == "drop":
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                elif fault == "slow":
                    time.sleep(1.5)
                    self.say(200, stub.value(body))
                elif fault in ("endless", "endless 500", "stalls"):  # until the other side hangs up
                    self.send_response(500 if fault.endswith("500") else 200)
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    self.close_connection = True
                    piece = b'{"choices": "' + b" " * (1 << 20)
                    with contextlib.suppress(OSError):
                        while not stub.closed:
                            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                            stub.sent += len(piece)
                            while fault == "stalls" and not stub.closed:
                                time.sleep(0.05)
                elif fault == "silent":
                    self.close_connection = True
                    while not stub.closed:
                        time.sleep(0.05)
                elif fault == "deep":
                    self.say(200, b'{"choices": ' + b"[" * 100_000)
                elif fault == "broken":
                    self.say(200, b'{"choices": [{"text": "half')
                elif fault.startswith("429"):
                    self.say(429, {"error": {"message": f"slow down {given}"}}, **retry_header(fault))
                elif fault == "quota":
                    self.say(429, {"error": {"message": "no money", "code": "insufficient_quota"}})
                elif fault == "long":
                    said = "This model's maximum context length is 4097 tokens"
                    self.say(400, {"error": {"message": said, "code": "context_length_exceeded"}})
                elif fault.isdigit():
                    self.say(int(fault), {"error": {"message": f"told to fail; your key is {given}"}})
                else:
                    self.say(200, special(fault, stub.value(body), body))

        return Handler

    def value(self, body: dict[str, Any]) -> dict[str, Any]:
        """A good response."""
        prompt = prompt_of(body)
        pieces = PIECE.findall(prompt)
        text = output_of(prompt)
        usage = {"prompt_tokens": len(pieces), "completion_tokens": len(text.split())}
        common = {"id": "x", "model": self.model, "usage": usage}
        if "messages" in body:
            message = {"role": "assistant", "content": text}
            return {**common, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": "stop"}
        if body.get("echo"):
            choice |= {"text": prompt + " x", "logprobs": echoed(pieces)}
            usage["completion_tokens"] = 1
        return {**common, "choices": [choice]}


def prompt_of(body: dict[str, Any]) -> str:
    return str(body["prompt"]) if "prompt" in body else json.dumps(body["messages"], ensure_ascii=False)


def output_of(prompt: str) -> str:
    """What the stub writes: enough for letters and numbers to be found."""
    return f"The answer is {'ABCD'[int(4 * share(prompt, 'letter'))]}. {int(900 * share(prompt, 'number'))}"


def echoed(pieces: Sequence[str]) -> dict[str, Any]:
    """Log-probabilities that behave: they depend on what stands in front, and on nothing else."""
    fronts = ["".join(pieces[:i]) for i in range(len(pieces))]
    values = [None] + [logprob(f, p) for f, p in zip(fronts[1:], pieces[1:], strict=True)]
    tops = [None] + [{"best": best(f), p: logprob(f, p)} for f, p in zip(fronts[1:], pieces[1:], strict=True)]
    offsets = [len(f) for f in fronts]
    return {
        "tokens": [*pieces, " x"], "token_logprobs": [*values, -0.7], "top_logprobs": [*tops, {" x": -0.7}],
        "text_offset": [*offsets, len("".join(pieces))],
    }  # fmt: skip


def retry_header(fault: str) -> dict[str, str]:
    """`429`, `429:SECONDS` or `429@SECONDS`, the last as a date."""
    from email.utils import formatdate

    if ":" in fault:
        return {"Retry_After": fault.partition(":")[2]}
    return (
        {"Retry_After": formatdate(time.time() + float(fault.partition("@")[2]), usegmt=True)} if "@" in fault else {}
    )


def special(fault: str, value: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Responses with status 200 that are no plain answers."""
    choice = value["choices"][0]
    if fault == "empty":
        return {**value, "choices": []}
    if fault == "filter":
        return {**value, "choices": [{**choice, "finish_reason": "content_filter"}]}
    if fault == "refusal":
        message = {"role": "assistant", "content": None, "refusal": "I cannot help with that"}
        return {**value, "choices": [{**choice, "message": message}]}
    if fault == "hidden":
        message = {"role": "assistant", "content": ""}
        return {**value, "choices": [{**choice, "message": message, "finish_reason": "length"}]}
    if fault == "none":
        return {**value, "choices": [{"index": 0, "text": None, "finish_reason": "stop"}]}
    if fault == "error":
        return {"error": {"message": "upstream is busy", "code": 502}}
    raise ValueError(fault)
