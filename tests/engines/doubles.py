"""Doubles of vllm and lmdeploy: their Python interface as published, a tiny transformers model behind it.

`signatures.json` holds the names of arguments and fields of the real packages, read from their
published sources; a name that is not there is a TypeError here as it is there. What the packages
compute, how fast and on which device, is not doubled.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

NAMES: dict[str, str] = {
    name: names
    for package in json.loads(Path(__file__).with_name("signatures.json").read_text()).values()
    for name, names in package.items()
}


def strict(what: str, values: dict[str, Any]) -> SimpleNamespace:
    """The values, all of whose names the real thing has."""
    unknown = sorted(set(values) - set(NAMES[what].split()))
    if unknown:
        raise TypeError(f"{what} got an unexpected keyword argument {unknown[0]!r}")
    return SimpleNamespace(**values)


class Tiny:
    """The model behind a double."""

    def __init__(self, path: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.eos = self.model.generation_config.eos_token_id
        self.eos = [self.eos] if isinstance(self.eos, int) else self.eos

    def logprobs(self, ids: Sequence[int]) -> list[float]:
        """Of the tokens but the first."""
        with torch.inference_mode():
            logits = self.model(input_ids=torch.tensor([list(ids)])).logits[0, :-1].float()
        chosen = torch.tensor(list(ids[1:]))[:, None]
        return [float(x) for x in logits.log_softmax(-1).gather(1, chosen)[:, 0]]

    def greedy(self, ids: Sequence[int], most: int, ends: Sequence[int], stop: Callable[[str], bool]) -> list[int]:
        """New tokens, the end token included."""
        out: list[int] = []
        while len(out) < most:
            with torch.inference_mode():
                logits = self.model(input_ids=torch.tensor([[*ids, *out]])).logits[0, -1]
            out.append(int(logits.argmax()))
            if out[-1] in {*ends, *self.eos} or stop(self.tokenizer.decode(out, skip_special_tokens=False)):
                break
        return out


def fake_vllm(
    monkeypatch: Any, logprob: Callable[[float], float | None] = lambda x: x, stale: bool = False
) -> SimpleNamespace:
    """Puts a double of vllm into sys.modules; what was asked of it is in the result.

    `logprob` changes what is said of a token; None leaves the token out. `stale`: in blocks of 64 tokens that
    were asked before, each token has the value of another place.
    """
    seen = SimpleNamespace(loads=[], params=[], prompts=[], kept=set())

    class LLM:
        def __init__(self, model: str, **values: Any) -> None:
            self.arguments = strict("LLM", {"model": model, **values})
            seen.loads.append(self.arguments)
            self.tiny = Tiny(model)
            stated = self.tiny.model.config.max_position_embeddings
            length = values.get("max_model_len") or stated
            if length > stated:
                raise ValueError(f"User-specified max_model_len ({length}) is greater than the derived {stated}")
            self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=length, dtype=torch.float32))

        def generate(self, prompts: Any, sampling_params: Any = None, **values: Any) -> list[Any]:
            strict("LLM.generate", values)
            assert len(prompts) == len(sampling_params)
            seen.prompts += [p["prompt_token_ids"] for p in prompts]
            seen.params += sampling_params
            return [self._one(p["prompt_token_ids"], s) for p, s in zip(prompts, sampling_params, strict=True)]

        def _one(self, ids: list[int], params: Any) -> Any:
            limit = self.llm_engine.model_config.max_model_len
            if len(ids) + params.max_tokens > limit:
                raise ValueError(f"{len(ids)} prompt tokens and {params.max_tokens} more do not fit {limit}")
            rows: list[Any] | None = None
            if getattr(params, "prompt_logprobs", None) is not None:
                values = self.tiny.logprobs(ids)
                for stop in range(64, len(ids), 64) if stale else ():
                    if tuple(ids[:stop]) in seen.kept:
                        values[stop - 64 : stop] = [values[7 * i % 40] for i in range(stop - 64, stop)]
                    seen.kept.add(tuple(ids[:stop]))
                told = [(token, logprob(value)) for token, value in zip(ids[1:], values, strict=True)]
                rows = [None, *({} if v is None else {t: strict("Logprob", {"logprob": v})} for t, v in told)]
            stops = getattr(params, "stop", [])
            tokens = self.tiny.greedy(
                ids,
                params.max_tokens,
                getattr(params, "stop_token_ids", []),
                lambda text: any(s in text for s in stops),
            )
            output = strict("CompletionOutput", {"index": 0, "text": "", "token_ids": tuple(tokens)})
            values = {"prompt_token_ids": ids, "prompt_logprobs": rows, "outputs": [output]}
            return strict("RequestOutput", values)

    module = ModuleType("vllm")
    module.__spec__ = ModuleSpec("vllm", None)
    module.__dict__.update(
        __version__="0.33.0", LLM=LLM, SamplingParams=lambda **values: strict("SamplingParams", values)
    )
    request = ModuleType("vllm.lora.request")
    request.__dict__["LoRARequest"] = lambda name, number, path: strict(
        "LoRARequest", {"lora_name": name, "lora_int_id": number, "lora_path": path}
    )
    for name, part in (("vllm", module), ("vllm.lora", ModuleType("vllm.lora")), ("vllm.lora.request", request)):
        monkeypatch.setitem(sys.modules, name, part)
    return seen


class RequestError(RuntimeError):
    """lmdeploy's error of one request."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = SimpleNamespace(value=code)
        self.message = message


def fake_lmdeploy(monkeypatch: Any, ppl: Callable[[float], float] = lambda x: x) -> SimpleNamespace:
    """Puts a double of lmdeploy into sys.modules; `ppl` changes its mean losses."""
    seen = SimpleNamespace(loads=[], configs=[], scored=[], busy=0, most_busy=0)

    class AsyncEngine:
        def __init__(self, tiny: Tiny, config: Any) -> None:
            self.tiny, self.config = tiny, config

        async def preprocess(self, **values: Any) -> Any:
            strict("AsyncEngine.preprocess", values)
            if (values["messages"] is not None) ^ (values.get("input_ids") is None):
                raise RequestError("invalid_request", "You must specify exactly one of messages or input_ids.")
            if len(values["input_ids"]) >= self.config.session_len:
                raise RequestError("context_length_exceeded", "Input length must be smaller")
            seen.configs.append(values["gen_config"])
            return SimpleNamespace(**values)

        async def generate(self, request: Any, stream_response: bool = True) -> AsyncIterator[Any]:
            config = request.gen_config
            seen.busy += 1
            seen.most_busy = max(seen.most_busy, seen.busy)
            await asyncio.sleep(0.01)
            ends = {*config.stop_token_ids, *self.tiny.eos}
            tokens = self.tiny.greedy(request.input_ids, config.max_new_tokens, list(ends), lambda text: False)
            ended = tokens[-1] in ends
            seen.busy -= 1
            told = tokens[:-1] if ended else tokens
            first = {"response": "", "input_token_len": len(request.input_ids), "generate_token_len": len(told)}
            yield strict("GenOut", {**first, "token_ids": told, "finish_reason": None})
            yield strict("GenOut", {**first, "token_ids": [], "finish_reason": "stop" if ended else "length"})

    class Pipeline:
        def __init__(self, tiny: Tiny, config: Any) -> None:
            self.backend_config = config
            config.max_batch_size = getattr(config, "max_batch_size", None) or 4
            self.async_engine = AsyncEngine(tiny, config)
            self.session_mgr = SimpleNamespace(get=lambda: object())
            self.internal_thread = SimpleNamespace(loop=asyncio.new_event_loop())
            self.thread = threading.Thread(target=self.internal_thread.loop.run_forever, daemon=True)
            self.thread.start()

        def get_ppl(self, input_ids: list[list[int]]) -> list[float]:
            assert all(len(ids) > 1 for ids in input_ids)
            if self.backend_config.enable_prefix_caching:
                raise ValueError("async_get_ppl is not supported when prefix caching is on.")
            seen.scored += input_ids
            losses = [self.async_engine.tiny.logprobs(ids) for ids in input_ids]
            return [ppl(-sum(values) / len(values)) for values in losses]

        def close(self) -> None:
            self.internal_thread.loop.call_soon_threadsafe(self.internal_thread.loop.stop)
            self.thread.join()

    def pipeline(model_path: str, **values: Any) -> Pipeline:
        strict("pipeline", values)
        seen.loads.append(values["backend_config"])
        return Pipeline(Tiny(model_path), values["backend_config"])

    module = ModuleType("lmdeploy")
    module.__spec__ = ModuleSpec("lmdeploy", None)
    module.__dict__.update(
        __version__="0.18.0",
        pipeline=pipeline,
        TurbomindEngineConfig=lambda **values: strict("TurbomindEngineConfig", values),
        GenerationConfig=lambda **values: strict("GenerationConfig", values),
    )
    errors = ModuleType("lmdeploy.serve.core.exceptions")
    errors.__dict__["RequestError"] = RequestError
    parts = {"lmdeploy.serve": ModuleType("lmdeploy.serve"), "lmdeploy.serve.core": ModuleType("lmdeploy.serve.core")}
    for name, part in {"lmdeploy": module, **parts, "lmdeploy.serve.core.exceptions": errors}.items():
        monkeypatch.setitem(sys.modules, name, part)
    return seen
