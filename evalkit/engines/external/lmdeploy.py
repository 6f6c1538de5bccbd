"""The LMDeploy engine (extra `lmdeploy`), by TurboMind, written against lmdeploy 0.18's `pipeline`;
only a double of it was run here.

LMDeploy refuses prompt losses while it caches prefixes, so the cache is on for chat models, whose
benchmarks generate, and off for base models; `prefix_caching` overrides that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec
from evalkit.engines.external.engine import (
    ExternalEngine,
    GenerationRequest,
    Ids,
    caches_prefixes,
    import_package,
    loading,
    refuse_cached,
)

PASSED_ON = ("cache_max_entry_count", "max_batch_size", "model_format", "quant_policy")
"""Options that are fields of `TurbomindEngineConfig` as they are."""
DTYPES = ("auto", "float16", "bfloat16")
OWN = 1
"""LMDeploy generates one token where it scores a prompt."""


def make_engine(spec: ModelSpec) -> ExternalEngine:
    """The loaded engine; ModelError when lmdeploy cannot be imported or cannot load the model."""
    lmdeploy = import_package("lmdeploy")
    from evalkit.engines.hf.load.tokenizer_bundle import load_tokenizer_bundle

    if spec.peft_path:
        raise ModelError("TurboMind takes no adapters", "merge the adapter into the weights, or --engine vllm or hf")
    if spec.dtype not in DTYPES:
        raise ModelError(f"TurboMind does not compute in {spec.dtype}", f"--dtype {', '.join(DTYPES)}; or --engine hf")
    bundle = load_tokenizer_bundle(spec)
    return ExternalEngine(spec, LMDeployBackend(spec, lmdeploy, spec.max_seq_len or bundle.max_seq_len), bundle)


class LMDeployBackend:
    """A model in TurboMind."""

    def __init__(self, spec: ModelSpec, lmdeploy: Any, limit: int) -> None:
        self._lmdeploy = lmdeploy
        self._spec = spec
        self._limit = limit
        config = lmdeploy.TurbomindEngineConfig(
            dtype=spec.dtype,
            tp=spec.gpus,
            session_len=limit + OWN,
            revision=spec.revision or None,
            enable_prefix_caching=caches_prefixes(spec),
            **{name: spec.options[name] for name in PASSED_ON if name in spec.options},
        )
        with loading("lmdeploy", spec, "cache_max_entry_count"):
            self._pipe = lmdeploy.pipeline(spec.path, backend_config=config, trust_remote_code=spec.trust_remote_code)

    @property
    def limit(self) -> int:
        """Most tokens of prompt and output together."""
        return self._limit

    def continuation_nll(self, texts: Sequence[tuple[Ids, int]]) -> list[float | None]:
        """See `GenerationBackend`. LMDeploy gives the mean over all tokens of a text but the first; a part of a text
        is the difference between the text and what stands before it."""
        refuse_cached(self._spec, "lmdeploy")
        fronts = [ids[: len(ids) - scored] for ids, scored in texts]
        asked = [ids for ids in dict.fromkeys([*(ids for ids, _ in texts), *fronts]) if len(ids) > 1]
        means = self._pipe.get_ppl([list(ids) for ids in asked])
        totals: dict[Ids, float | None] = {
            ids: None if mean is None else float(mean) * (len(ids) - 1) for ids, mean in zip(asked, means, strict=True)
        }
        found = []
        for (ids, _), front in zip(texts, fronts, strict=True):
            whole, part = totals[ids], totals[front] if len(front) > 1 else 0.0
            found.append(None if whole is None or part is None else whole - part)
        return found

    def generate(self, requests: Sequence[GenerationRequest]) -> list[list[int] | str]:
        """See `GenerationBackend`. Stop strings act afterwards: LMDeploy's own end at single tokens, and drop those."""
        loop = self._pipe.internal_thread.loop
        return list(asyncio.run_coroutine_threadsafe(self._write_all(requests), loop).result())

    async def _write_all(self, requests: Sequence[GenerationRequest]) -> list[list[int] | str]:
        room = asyncio.Semaphore(self._pipe.backend_config.max_batch_size)

        async def one(request: GenerationRequest) -> list[int] | str:
            async with room:
                return await self._write(request)

        return await asyncio.gather(*map(one, requests))

    async def _write(self, request: GenerationRequest) -> list[int] | str:
        from lmdeploy.serve.core.exceptions import RequestError

        engine, tokens, finish = self._pipe.async_engine, list[int](), ""
        try:
            prepared = await engine.preprocess(
                messages=None,
                session_id=self._pipe.session_mgr.get(),
                gen_config=self._config(request),
                input_ids=list(request.ids),
            )
            async for out in engine.generate(prepared, stream_response=False):
                tokens += out.token_ids or []
                finish = out.finish_reason or finish
        except RequestError as error:  # it concerns this one only
            return f"lmdeploy: {error.code.value}: {error.message}"
        if finish == "stop" and request.end_ids:
            tokens.append(request.end_ids[0])  # left out by lmdeploy; that it was there tells an end from a limit
        return tokens if finish in ("stop", "length") else f"lmdeploy ended with {finish or 'nothing'}"

    def _config(self, request: GenerationRequest) -> Any:
        gen = request.gen
        drawn = {"temperature": gen.temperature, "top_p": gen.top_p, "top_k": gen.top_k, "random_seed": request.seed}
        return self._lmdeploy.GenerationConfig(
            max_new_tokens=gen.max_out_len,
            do_sample=gen.temperature > 0,
            stop_token_ids=list(request.end_ids),
            skip_special_tokens=not request.keep_special,
            spaces_between_special_tokens=False,
            **(drawn if gen.temperature > 0 else {}),
        )

    def facts(self) -> Mapping[str, Any]:
        """For the manifest."""
        return {
            "lmdeploy": self._lmdeploy.__version__,
            "dtype": self._spec.dtype,
            "device": "cuda",
            "tensor_parallel_size": self._spec.gpus,
            "prefix_caching": caches_prefixes(self._spec),
        }

    def close(self) -> None:
        """Give the device back."""
        self._pipe.close()
