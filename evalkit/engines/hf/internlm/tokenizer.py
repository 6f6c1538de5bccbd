"""InternLM's tokenizer, built from the checkpoint's files alone: fast, and with SentencePiece's own ids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.tokenization_utils_base import generate_merges
from transformers.utils import cached_file

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec
from evalkit.engines.hf.load.chat_templates import CHATML

INTERNLM2_PIECES = 92544
INTERNLM2_NAMES: Mapping[int, str] = MappingProxyType(
    {
        92538: "<|plugin|>",
        92539: "<|interpreter|>",
        92540: "<|action_end|>",
        92541: "<|action_start|>",
        92542: "<|im_end|>",
        92543: "<|im_start|>",
    }
)
"""What the pieces [UNUSED_TOKEN_141] to [UNUSED_TOKEN_146] are called, where the checkpoint does not say."""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
BPE = 2
NUL, UNREACHABLE_NUL = "\0", "<unused NUL>"


def load_internlm_tokenizer(spec: ModelSpec) -> Any:
    """A fast tokenizer from tokenizer.model, else from tokenizer.json; no code of the checkpoint runs.

    Names of special tokens, BOS, EOS and the chat template are the checkpoint's; an InternLM2
    without a template of its own that is run as a chat model gets the published one.
    ModelError when there are no files, or a SentencePiece model of another kind than InternLM's.
    """
    config = _json(spec, "tokenizer_config.json")
    names = _names(config, _json(spec, "added_tokens.json"))
    bos, eos = _content(config.get("bos_token", "<s>")), _content(config.get("eos_token", "</s>"))
    pieces, ready = _file(spec, "tokenizer.model"), _file(spec, "tokenizer.json")
    if pieces is not None:
        inner = build(read_pieces(pieces), names, str(pieces))
        parts = [bos] * bool(config.get("add_bos_token", True)), [eos] * bool(config.get("add_eos_token", False))
        inner.post_processor = processors.TemplateProcessing(
            single=" ".join([*parts[0], "$A", *parts[1]]),
            special_tokens=[(token, inner.token_to_id(token)) for token in dict.fromkeys(parts[0] + parts[1])],
        )
    elif ready is not None:
        inner = Tokenizer.from_file(str(ready))
    else:
        raise ModelError(f"{spec.path} has no tokenizer files", "copy tokenizer.model beside the weights")
    extra = [_content(token) for token in config.get("additional_special_tokens") or ()]
    make: Any = PreTrainedTokenizerFast  # untyped in transformers
    tokenizer = make(
        tokenizer_object=inner,
        bos_token=bos,
        eos_token=eos,
        unk_token=_content(config.get("unk_token", "<unk>")),
        pad_token=_content(config.get("pad_token") or eos),
        additional_special_tokens=[token for token in extra if inner.token_to_id(token) is not None],
        clean_up_tokenization_spaces=False,
        model_max_length=config.get("model_max_length") or int(1e30),
    )
    tokenizer.chat_template = _template(spec, config) or _default_template(spec, inner)
    return tokenizer


def read_pieces(file: Path) -> Any:
    """The protocol buffer of a SentencePiece model; ModelError when it is none, or not of InternLM's kind.

    InternLM's models are BPE with byte fallback that change nothing in a text but spaces into `▁`.
    """
    # here, so that other models load where there is no protobuf
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    messages: Any = sentencepiece_model_pb2  # made at run time
    proto = messages.ModelProto()
    try:
        proto.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise ModelError(f"{file} is not a SentencePiece model", "copy or download the checkpoint again") from error
    trainer, normal = proto.trainer_spec, proto.normalizer_spec
    odd = {
        "not BPE": trainer.model_type != BPE,
        "no byte fallback": not trainer.byte_fallback,
        "a space in front of texts": normal.add_dummy_prefix,
        "spaces taken away": normal.remove_extra_whitespaces,
        "spaces left as they are": not normal.escape_whitespaces,
        "a normalizer": bool(normal.precompiled_charsmap),
    }
    if any(odd.values()):
        raise ModelError(
            f"{file} is of another kind than InternLM's: {', '.join(why for why, found in odd.items() if found)}",
            "put a tokenizer.json beside the weights and take tokenizer.model away",
        )
    return proto


def build(proto: Any, names: Mapping[int, str], path: str) -> Tokenizer:
    """A BPE that gives SentencePiece's ids.

    `names` renames pieces and adds new ones behind the last. Control pieces and the named ones are
    special; SentencePiece itself would split their texts. ModelError where ids would not be kept.
    """
    pieces = [piece.piece for piece in proto.pieces]
    if not names and len(pieces) == INTERNLM2_PIECES:
        names = {i: name for i, name in INTERNLM2_NAMES.items() if pieces[i].startswith("[UNUSED_TOKEN")}
    texts = [names.get(i, piece) for i, piece in enumerate(pieces)]
    # with byte fallback SentencePiece writes NUL as a byte and never uses the piece that it has for it
    vocab = {UNREACHABLE_NUL if text == NUL else text: i for i, text in enumerate(texts)}
    kinds = {text: piece.type for text, piece in zip(texts, proto.pieces, strict=True)}
    special = {i: text for i, text in enumerate(texts) if kinds[text] in (UNKNOWN, CONTROL)} | dict(names)
    unmerged = {text for text, kind in kinds.items() if kind != NORMAL} | set(special.values())
    inner = Tokenizer(
        models.BPE(
            vocab, generate_merges(vocab, skip_tokens=unmerged),
            unk_token=proto.trainer_spec.unk_piece, fuse_unk=True, byte_fallback=True,
        )
    )  # fmt: skip
    inner.normalizer = normalizers.Replace(" ", "▁")
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    inner.add_tokens([AddedToken(t, normalized=False) for t, kind in kinds.items() if kind == USER_DEFINED])
    inner.add_special_tokens([AddedToken(special[i], normalized=False, special=True) for i in sorted(special)])
    lost = [text for i, text in special.items() if inner.token_to_id(text) != i]
    if len(vocab) != len(pieces) or lost:
        raise ModelError(
            f"the added tokens do not fit {path}: {', '.join(lost) or 'two pieces of the same text'}",
            "check added_tokens_decoder in tokenizer_config.json: new ids must follow the last piece",
        )
    return inner


def _names(config: Mapping[str, Any], added: Mapping[str, Any]) -> dict[int, str]:
    """Special tokens by id, as tokenizer_config.json and added_tokens.json give them."""
    stated = {int(i): _content(token) for i, token in (config.get("added_tokens_decoder") or {}).items()}
    return {**{int(i): text for text, i in added.items()}, **stated}


def _content(token: Any) -> str:
    """The text of a token, which may be written as an object."""
    return str(token["content"] if isinstance(token, Mapping) else token)


def _template(spec: ModelSpec, config: Mapping[str, Any]) -> str:
    """The checkpoint's chat template; empty when it has none."""
    file = _file(spec, "chat_template.jinja")
    if file is not None:
        return file.read_text(encoding="utf-8")
    stated = config.get("chat_template") or _json(spec, "chat_template.json").get("chat_template") or ""
    if isinstance(stated, list):
        stated = next((part["template"] for part in stated if part.get("name") == "default"), "")
    return str(stated)


def _default_template(spec: ModelSpec, inner: Tokenizer) -> str | None:
    """InternLM2's, for a chat model whose tokenizer knows its tokens."""
    known = all(inner.token_to_id(name) is not None for name in ("<|im_start|>", "<|im_end|>"))
    return CHATML if spec.kind == "chat" and known else None


def _file(spec: ModelSpec, name: str) -> Path | None:
    """A file of the checkpoint, fetched where it is not local; None when there is none."""
    found = cached_file(spec.path, name, revision=spec.revision or None, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def _json(spec: ModelSpec, name: str) -> dict[str, Any]:
    """A JSON object of the checkpoint; empty when the file is not there."""
    file = _file(spec, name)
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
    return content
