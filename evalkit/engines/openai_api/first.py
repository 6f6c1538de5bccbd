"""The log-probability of a text's first token behind a hidden BOS, for llama-cpp-python's server.

That server adds a BOS, counts it, leaves it out of the response, and empties the value of the token behind it. Asked
to continue the empty prompt it starts at the BOS; a bias on one token makes it write that one, and the reported
log-probability is the model's own, without the bias. Only streams report it in this place.
"""

from __future__ import annotations

from typing import Any

from evalkit.core.records import ModelSpec
from evalkit.engines.openai_api.client import Client
from evalkit.engines.openai_api.faults import Rejected
from evalkit.engines.openai_api.messages import COMPLETIONS, finished
from evalkit.engines.openai_api.options import Options
from evalkit.engines.openai_api.prompts import check_logprob

FORCE = 1000.0
"""Added to the token's logit; far beyond any difference of logits."""


async def first_loss(client: Client, spec: ModelSpec, options: Options, token: int) -> float:
    """Minus log P(token | BOS), in nats; Rejected when the server does not tell."""
    body: dict[str, Any] = {
        "model": spec.path, "prompt": "", options.max_tokens_field: 1, "temperature": 0, "stream": True, "logprobs": 1,
        "logit_bias": {str(token): FORCE},
    }  # fmt: skip
    answer = await client.post(COMPLETIONS, finished(body, options), (1, 1))
    for event in answer.value["events"]:
        choices = event.get("choices") or [{}]
        found = choices[0].get("logprobs")
        if isinstance(found, dict) and found.get("token_logprobs"):
            value = found["token_logprobs"][0]
            check_logprob(value)
            return -float(value)
    raise Rejected("the server hides the first token's log-probability, and does not tell it apart either")
