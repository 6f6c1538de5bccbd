"""Outputs of long prompts, one at a time, along the tree of what they have in common.

The prompts are answered in the order of their tokens, so that each begins with what the one before left in the
cache: every token that several prompts share is computed once, and keys and values of one prompt are all that is
ever kept. Prompts run in chunks, and the head reads the last position only, so that memory grows with the length
of one prompt.

Rotary tables that depend on the length of a text (dynamic NTK, LongRoPE) are those of the prompt's whole length in
each of its chunks, whatever was asked before.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from evalkit.core.errors import first_line
from evalkit.core.records import Reply
from evalkit.core.sequences import shared_length, unique_length
from evalkit.engines.hf.generate.plain import NO_MEMORY, Writer, full_length, settings
from evalkit.engines.hf.generate.sampling import draw, row_generator
from evalkit.engines.hf.generate.stop_criteria import RowEnd, StopCriteria
from evalkit.engines.hf.memory import free_memory, is_oom
from evalkit.engines.hf.positions import steady_length
from evalkit.engines.hf.tokens import Encoded
from evalkit.engines.hf.windows import layer_windows

LONG = 1024
"""Prompt tokens from which a prompt may be worth a path."""
MOST_CHUNK = {"cpu": 512}
MOST_CHUNK_GPU = 2048
"""Most prompt tokens of one pass."""
SCORES = {"cpu": 1 << 23}
SCORES_GPU = 1 << 28
"""Most numbers of a mask, [chunk, keys]."""
STEP_WORTH = {"cpu": 8}
STEP_WORTH_GPU = 250
"""Prompt tokens that cost as much as one step of a single row; rows in flight together share their steps."""
EXPECTED_OUT = 64
"""New tokens that a reply is taken to have at most, where its limit is higher."""
PROBE = ([3, 5, 7, 11, 13, 17, 19, 23, 29], [3, 5, 7, 11, 2, 4], [3, 5, 7, 11, 2, 4, 9, 8, 6, 1])
TOLERANCE_FLOAT32, TOLERANCE_HALF = 1e-3, 0.2


class PathLayer(CacheLayerMixin):
    """Keys and values of one layer in a buffer of fixed size, [1, kv_heads, capacity, size]; the first `length`
    places are in use."""

    is_sliding = False

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0
        self.is_initialized = False

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make the buffers, where and as the first states are."""
        self.buffers = tuple(
            states.new_empty((1, states.shape[1], self.capacity, states.shape[3]))
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new states [1, kv_heads, queries, size]; views on all that are in use."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[2]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.length : end] = states
        self.length = end
        keys, values = self.buffers
        return keys[:, :, :end], values[:, :, :end]

    def get_seq_length(self) -> int:
        """Places in use."""
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that a pass sees, and their offset."""
        return self.length + query_length, 0

    def get_max_length(self) -> int:
        """All places."""
        return self.capacity


class Path:
    """Forward passes of one model over one row at a time, which keeps what the next row begins with."""

    def __init__(self, model: Any, capacity: int, chunk: int | None = None) -> None:
        """`capacity`: most tokens of prompt and output; `chunk`: most tokens of a pass, by device if not given."""
        windows, chunked = layer_windows(model.config)
        if chunked is not None or any(window is not None for window in windows):
            raise TypeError("layers with windows keep less than a whole row")
        self._model = model
        self._layers = [PathLayer(capacity) for _ in windows]
        make: Any = Cache
        self._cache = make(layers=self._layers)
        keep = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._options: dict[str, Any] = {"use_cache": True, **({"logits_to_keep": 1} if keep else {})}
        self._steady = steady_length(model.config.get_text_config())
        self._ids: tuple[int, ...] = ()
        self._chunk = chunk
        self.computed = 0
        """Prompt tokens that were run so far."""

    def prefill(self, ids: Sequence[int]) -> torch.Tensor:
        """Logits [1, vocab] behind a prompt; what it shares with the prompt before is not run again."""
        same = self._table(len(ids)) == self._table(len(self._ids))
        shared = min(shared_length(self._ids, ids), len(ids) - 1) if same else 0
        self._crop(shared)
        self._ids = ()  # what is in the cache is no prompt's until all of it is there
        logits = torch.empty(0)
        with rope_length(self._model, len(ids) if self._steady else 0):
            start = shared
            while start < len(ids):
                part = ids[start : start + self._width(start)]
                logits = self._forward(part, start)
                start += len(part)
        self.computed += len(ids) - shared
        self._ids = tuple(ids)
        return logits

    def step(self, token: int) -> torch.Tensor:
        """Logits [1, vocab] behind one more token of the row."""
        with rope_length(self._model, len(self._ids) if self._steady else 0, anew=False):
            return self._forward([token], self._layers[0].length)

    def _table(self, length: int) -> int:
        """What tells the rotary tables of two prompts apart: nothing, or the length from the steady one on."""
        return length if self._steady is not None and length > self._steady - 1 else 0

    def _crop(self, length: int) -> None:
        for layer in self._layers:
            layer.length = min(layer.length, length)

    def _width(self, start: int) -> int:
        """Tokens of the next pass, so that its mask stays small."""
        device = self._model.device.type
        most, scores = MOST_CHUNK.get(device, MOST_CHUNK_GPU), SCORES.get(device, SCORES_GPU)
        return self._chunk or max(32, min(most, scores // (start + most)))

    def _forward(self, ids: Sequence[int], start: int) -> torch.Tensor:
        device = self._model.device
        with torch.inference_mode():
            out = self._model(
                input_ids=torch.tensor([list(ids)], device=device),
                position_ids=torch.arange(start, start + len(ids), device=device)[None],
                past_key_values=self._cache,
                **self._options,
            )
        logits: torch.Tensor = out.logits[:, -1]
        return logits


@contextmanager
def rope_length(model: Any, length: int, anew: bool = True) -> Iterator[None]:
    """Inside, rotary tables are those of a text of at least `length` tokens, whatever part of it a pass has.

    A further position at the text's end goes along with each pass. `anew` first makes tables forget longer texts
    of earlier passes. 0: nothing is done.
    """
    modules = [m for m in model.modules() if hasattr(m, "inv_freq") and hasattr(m, "rope_type")] if length else []
    usual = [module.forward for module in modules]

    def longer(forward: Any) -> Any:
        def run(x: torch.Tensor, position_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            end = position_ids.new_full((position_ids.shape[0], 1), length - 1)
            tables = forward(x, torch.cat([position_ids, end], 1), *args, **kwargs)
            return tuple(table[:, :-1] for table in tables)

        return run

    try:
        for module, forward in zip(modules, usual, strict=True):
            if anew:
                probe = next(model.parameters()).new_zeros(1)
                forward(probe, torch.zeros((1, 1), dtype=torch.long, device=probe.device))
            module.__dict__["forward"] = longer(forward)
        yield
    finally:
        for module in modules:
            module.__dict__.pop("forward", None)


def along_path(
    model: Any, tokenizer: Any, items: Sequence[Encoded], stop_criteria: StopCriteria, path: Path | None = None
) -> Iterator[Reply]:
    """Replies to gen requests in the order of their prompts' tokens."""
    if not items:
        return
    path = path or Path(model, max(map(full_length, items)))
    for chat in (False, True):
        writer = Writer(model, tokenizer, stop_criteria, chat)
        for item in sorted((i for i in items if bool(i.request.turns) == chat), key=lambda i: i.ids):
            reply = _answer(writer, path, item)
            if reply is None:  # the except block, and the tensors in its traceback, are gone by now
                free_memory()
                reply = item.failed(NO_MEMORY)
            yield reply


def _answer(writer: Writer, path: Path, item: Encoded) -> Reply | None:
    """The reply; None when memory ran out."""
    began = time.perf_counter()
    row, generator, ends = RowEnd(writer.plan(item), writer.finders), row_generator(item.request), writer.end_ids()
    try:
        logits = path.prefill(item.ids)
        while True:
            token = int(logits[0].argmax()) if generator is None else draw(logits[0], settings(item), generator)
            if row.add(token) or token in ends:
                return writer.reply(item, row.ids, row.length, time.perf_counter() - began)
            logits = path.step(token)
    except (RuntimeError, MemoryError) as error:
        if not is_oom(error):
            raise
        return None


def pays(items: Sequence[Encoded], shared: int, device: str) -> bool:
    """Whether a path saves more prompt tokens than single steps cost; `shared` are tokens that all begin with,
    which run once in any case."""
    if len(items) < 2 or min(len(item.ids) for item in items) < LONG:
        return False
    ids = [item.ids for item in items]
    saved = sum(map(len, ids)) - shared * (len(ids) - 1) - unique_length(ids)
    steps = sum(min(settings(item).max_out_len, EXPECTED_OUT) for item in items)
    return saved > STEP_WORTH.get(device, STEP_WORTH_GPU) * steps


def path_fits(model: Any) -> tuple[bool, str]:
    """Whether a path gives what whole rows give, tried on a tiny case; and why not."""
    try:
        path = Path(model, 16, chunk=4)
        size, worst = model.get_input_embeddings().num_embeddings, 0.0
        for probe in PROBE:
            ids = [token % size for token in probe]
            found = path.prefill(ids)[0].float()
            with torch.inference_mode():
                whole = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1].float()
            worst = max(worst, float((found.to(whole.device) - whole).abs().max() / whole.std()))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, NotImplementedError) as error:
        return False, f"{type(error).__name__}: {first_line(error)}"
    tolerance = TOLERANCE_FLOAT32 if model.dtype == torch.float32 else TOLERANCE_HALF
    if not worst <= tolerance:  # NaN, too
        return False, f"logits differ from those of whole rows by {worst:.2g} of their spread"
    return True, ""
