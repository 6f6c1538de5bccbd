"""The vLLM engine (extra `vllm`), written against vllm 0.33's `LLM`; it has not been run here, only a double of it.

vLLM may return stale values for cached tokens where it is asked for prompt log-probabilities, so the cache of
prefixes is on for chat models, whose benchmarks generate, and off for base models; `prefix_caching` overrides
that, and log-probabilities are refused while it is on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.core.records import ModelSpec
from evalkit.engines.checkpoint import local_dir
from evalkit.engines.external.engine import (
    ExternalEngine,
    GenerationRequest,
    Ids,
    caches_prefixes,
    import_package,
    loading,
    refuse_cached,
)

PASSED_ON = ("gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "enforce_eager", "quantization")
"""Options that are arguments of `LLM` as they are."""
OWN = 1
"""vLLM generates one token where it scores a prompt: a text may have one less than its limit."""


def make_engine(spec: ModelSpec) -> ExternalEngine:
    """The loaded engine; ModelError when vllm cannot be imported or cannot load the model."""
    vllm = import_package("vllm")
    from evalkit.engines.hf.load.tokenizer_bundle import load_tokenizer_bundle

    bundle = load_tokenizer_bundle(spec)
    return ExternalEngine(spec, VLLMBackend(spec, vllm, bundle.max_seq_len), bundle)


class VLLMBackend:
    """A model in vLLM."""

    def __init__(self, spec: ModelSpec, vllm: Any, stated: int) -> None:
        """`stated` is the checkpoint's own limit, which vLLM does not let pass."""
        self._vllm = vllm
        self._spec = spec
        with loading("vllm", spec, "gpu_memory_utilization"):
            self._llm = vllm.LLM(**arguments(spec, stated))
            self._lora = _lora(spec)

    @property
    def limit(self) -> int:
        """One less than vLLM's own: it generates a token also where it scores."""
        most = int(self._llm.llm_engine.model_config.max_model_len) - OWN
        return min(most, self._spec.max_seq_len or most)

    def continuation_nll(self, texts: Sequence[tuple[Ids, int]]) -> list[float | None]:
        """See `GenerationBackend`; float64 sums of vLLM's float32 log-probabilities."""
        refuse_cached(self._spec, "vllm")
        params = self._vllm.SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=1, detokenize=False)
        outputs = self._generate([ids for ids, _ in texts], [params] * len(texts))
        return [_sum(out, ids, scored) for out, (ids, scored) in zip(outputs, texts, strict=True)]

    def generate(self, requests: Sequence[GenerationRequest]) -> list[list[int] | str]:
        """See `GenerationBackend`."""
        outputs = self._generate([request.ids for request in requests], [self._params(request) for request in requests])
        return [_written(out) for out in outputs]

    def _params(self, request: GenerationRequest) -> Any:
        gen = request.gen
        return self._vllm.SamplingParams(
            max_tokens=gen.max_out_len,
            temperature=gen.temperature,
            top_p=gen.top_p,
            top_k=gen.top_k,
            seed=request.seed if gen.temperature > 0 else None,
            stop=list(request.stops),
            stop_token_ids=list(request.end_ids),
            skip_special_tokens=not request.keep_special,
            spaces_between_special_tokens=False,
        )

    def _generate(self, prompts: Sequence[Ids], params: Sequence[Any]) -> Sequence[Any]:
        tokens = [{"prompt_token_ids": list(ids)} for ids in prompts]
        outputs: Sequence[Any] = self._llm.generate(tokens, list(params), use_tqdm=False, lora_request=self._lora)
        return outputs

    def facts(self) -> Mapping[str, Any]:
        """For the manifest."""
        config = self._llm.llm_engine.model_config
        return {
            "vllm": self._vllm.__version__,
            "dtype": str(getattr(config, "dtype", "")).removeprefix("torch."),
            "device": "cuda",
            "tensor_parallel_size": self._spec.gpus,
            "prefix_caching": caches_prefixes(self._spec),
            "adapter": self._spec.peft_path,
        }

    def close(self) -> None:
        """vLLM ends its processes with the object."""
        self._llm = None


def arguments(spec: ModelSpec, stated: int) -> dict[str, Any]:
    """Keyword arguments of `vllm.LLM`."""
    values: dict[str, Any] = {
        "model": spec.path,
        "revision": spec.revision or None,
        "dtype": spec.dtype,
        "trust_remote_code": spec.trust_remote_code,
        "tensor_parallel_size": spec.gpus,
        "enable_prefix_caching": caches_prefixes(spec),
        "seed": 0,
        **{name: spec.options[name] for name in PASSED_ON if name in spec.options},
    }
    if spec.max_seq_len:
        values["max_model_len"] = min(spec.max_seq_len + OWN, max(stated, spec.max_seq_len))
    if spec.peft_path:
        values |= {"enable_lora": True, "max_lora_rank": _rank(spec)}
    return values


def _rank(spec: ModelSpec) -> int:
    """Rank of the adapter; vLLM reserves room for it."""
    folder = local_dir(spec.peft_path) or Path(spec.peft_path)
    return int(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("r", 16))


def _lora(spec: ModelSpec) -> Any:
    if not spec.peft_path:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, str(local_dir(spec.peft_path) or spec.peft_path))


def _sum(output: Any, ids: Ids, scored: int) -> float | None:
    """Summed losses of the last tokens of a prompt; None where one is missing, or the prompt is another one."""
    rows = output.prompt_logprobs
    if rows is None or len(rows) != len(ids) or tuple(output.prompt_token_ids) != ids:
        return None
    total = 0.0
    for at in range(len(ids) - scored, len(ids)):
        entry = (rows[at] or {}).get(ids[at])
        if entry is None:
            return None
        total -= float(entry.logprob)
    return total


def _written(output: Any) -> list[int] | str:
    if not output.outputs:
        return "vllm returned no output"
    return list(output.outputs[0].token_ids)
