"""Writes tiny random checkpoints: for tests, demonstrations and timing of the harness itself."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evalkit.engines.hf.load.chat_templates import CHATML

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
IM_START, IM_END = "<|im_start|>", "<|im_end|>"
WORDS = """
the of and to in is that it was for on are as with his they at be this from have or by one had
not but what all were when we there can an your which their said if do will each about how up out
them then she many some so these would other into has more her two like him see time could no make
than first been its who now people my made over did down only way find use may water long little
very after words called just where most know question answer choose correct option following let
step total number therefore because number return def print range import self None True False
"""
CHINESE = "的一是不了人我在有他这中大来上个国到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可以"


def make_tiny(
    directory: Path,
    seed: int = 0,
    chat: bool = False,
    corpus: Iterable[str] | None = None,
    *,
    vocab_size: int = 2048,
    hidden_size: int = 64,
    layers: int = 2,
    max_positions: int = 8192,
    initializer_range: float = 0.3,
) -> Path:
    """Write a random Llama with its own byte-level BPE tokenizer to `directory`; returns it.

    The tokenizer is trained on `corpus` (default: a small generated one), knows every byte, and
    puts BOS in front. `chat` adds a ChatML template and its end token. Equal arguments give equal
    bytes in the weight file. A large `initializer_range` keeps the predictions far from uniform.
    """
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    texts = list(corpus) if corpus is not None else generated_corpus(seed)
    tokenizer = train_tokenizer(texts, vocab_size, chat, max_positions)
    end_ids = [tokenizer.eos_token_id]
    if chat:
        end_ids.append(tokenizer.convert_tokens_to_ids(IM_END))
    ids = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_positions,
        initializer_range=initializer_range,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        **ids,
    )
    model = LlamaForCausalLM(config)
    fill_random(model, seed, initializer_range)
    generation: Any = GenerationConfig  # untyped in transformers
    model.generation_config = generation(eos_token_id=end_ids, **ids)
    disable_progress_bar()  # one shard of a megabyte
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def fill_random(model: Any, seed: int, scale: float) -> None:
    """Refill a model's matrices with N(0, scale²) from a generator of their own.

    Vectors (norms and biases) stay as they are. The result depends on the seed and the shapes
    alone, not on the library's initialisation nor on the global random state.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def generated_corpus(seed: int = 0, lines: int = 600) -> list[str]:
    """Lines of words, invented words, numbers, code-like and Chinese text; equal for equal seeds."""
    rng, words = random.Random(seed), WORDS.split()
    parts = [c + v for c in "bcdfghjklmnprstvw" for v in ("a", "e", "i", "o", "u", "an", "er", "or")]
    invented = ["".join(rng.choices(parts, k=rng.randint(2, 4))) for _ in range(800)]
    out = []
    for _ in range(lines):
        line = rng.choices(words, k=8) + rng.choices(invented, k=4)
        rng.shuffle(line)
        tail = rng.choice([".", "?", ":\n", f" = {rng.randint(0, 999)}", f"({rng.choice(invented)}):\n    "])
        chinese = "".join(rng.choices(CHINESE, k=6)) if rng.random() < 0.2 else ""
        out.append(" ".join(line).capitalize() + tail + chinese)
    return out


def train_tokenizer(texts: Iterable[str], vocab_size: int, chat: bool, max_length: int) -> Any:
    """A byte-level BPE tokenizer (transformers' fast class) of at most `vocab_size` tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = [PAD, BOS, EOS] + ([IM_START, IM_END] if chat else [])
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, inner.token_to_id(BOS))]
    )
    fast: Any = PreTrainedTokenizerFast  # untyped in transformers
    tokenizer = fast(
        tokenizer_object=inner,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[IM_START, IM_END] if chat else [],
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
    )
    if chat:
        tokenizer.chat_template = CHATML
    return tokenizer
