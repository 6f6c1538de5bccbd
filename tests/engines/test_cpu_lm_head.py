"""The head for few tokens gives the usual logits, and leaves nothing behind."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PhiConfig, PhiForCausalLM

from evalkit.engines.hf.generate.cpu_lm_head import MOST_ROWS, quick_head
from tests.engines.models import OLD, SIZES


@pytest.mark.parametrize("rows", [1, 5, MOST_ROWS, MOST_ROWS + 1])
@pytest.mark.parametrize("bias", [True, False])
def test_logits_are_the_usual_ones(rows: int, bias: bool) -> None:
    # Phi's head has a bias, GPT-2's is tied and has none
    made = (
        PhiForCausalLM(PhiConfig(**SIZES))
        if bias
        else GPT2LMHeadModel(GPT2Config(**OLD, n_embd=64, n_layer=1, n_head=4))
    )
    head, hidden = made.get_output_embeddings(), torch.randn(rows, 1, 64)
    assert (head.bias is not None) == bias
    with torch.inference_mode():
        usual = head(hidden)
        with quick_head(made):
            quick = head(hidden)
            assert "forward" in vars(head)
    assert quick.shape == usual.shape and torch.allclose(quick, usual, atol=1e-5)
    assert "forward" not in vars(head)


def test_it_is_gone_after_an_error() -> None:
    made = PhiForCausalLM(PhiConfig(**SIZES))
    with pytest.raises(RuntimeError), quick_head(made):
        made.get_output_embeddings()(torch.randn(2, 3))
    assert "forward" not in vars(made.get_output_embeddings())


def test_other_heads_are_left_alone() -> None:
    class Own(torch.nn.Linear):
        pass

    made = PhiForCausalLM(PhiConfig(**SIZES))
    made.set_output_embeddings(Own(64, 300))
    with quick_head(made):
        assert "forward" not in vars(made.get_output_embeddings())
