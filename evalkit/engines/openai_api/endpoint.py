"""Who answers at an endpoint."""

from __future__ import annotations

from typing import Any

from evalkit.core.errors import ModelError
from evalkit.core.records import GenSettings, ModelSpec, Request, Turn
from evalkit.engines.openai_api.client import Client
from evalkit.engines.openai_api.faults import Again, NotThere, Rejected
from evalkit.engines.openai_api.local import load_local
from evalkit.engines.openai_api.loop import LoopThread
from evalkit.engines.openai_api.messages import gen_body, path_of
from evalkit.engines.openai_api.options import Options, options_of
from evalkit.engines.openai_api.probe import probe
from evalkit.engines.openai_api.secret import read_secret

HELLO = "Hello"
LISTED = ("id", "root", "owned_by")
"""What a server's list says of a model and does not change from call to call."""
FIRST_PATIENCE = 5.0
"""Seconds that an endpoint may be away before a run: whoever mistypes an address shall not wait."""


def endpoint_identity(spec: ModelSpec) -> dict[str, Any]:
    """What the resume key holds: the address, and the model as it calls itself. ModelError when it is away."""
    options = options_of(spec)
    facts = _run(_alone(spec, options, scoring=False))
    reported = facts["reported_model"] if options.pin_model else ""
    return {"base_url": options.base_url.rstrip("/"), "path": spec.path, "model": reported, "listed": facts["listed"]}


def check_scoring(spec: ModelSpec) -> None:
    """ModelError, with the reason, when the endpoint gives no log-probabilities of prompts."""
    _run(_alone(spec, options_of(spec), scoring=True))


async def who(client: Client, spec: ModelSpec, options: Options) -> dict[str, Any]:
    """The model as it is listed and as it calls itself in a reply of one token; ModelError when it cannot be asked."""
    gen = GenSettings(max_out_len=1)
    turns = (Turn("user", HELLO),) if spec.kind == "chat" else ()
    request = Request("", "", "gen", "" if turns else HELLO, turns, gen=gen)
    try:
        answer = await client.post(path_of(request), gen_body(request, spec, options), (8, 1))
    except Rejected as error:
        hint = "options.omit and options.max_tokens_field change what is sent; see docs/api_models.md"
        raise ModelError(f"{spec.name}: {options.base_url} takes no request: {error.why}", hint) from None
    client.pinned = answer.value.get("model") if options.pin_model else None
    return {"reported_model": answer.value.get("model") or "", "listed": await _listed(client, spec)}


async def _listed(client: Client, spec: ModelSpec) -> dict[str, Any]:
    """The model's entry in the endpoint's list; empty where there is no list, or it is not in it."""
    try:
        answer = await client.get("/models")
    except (Again, NotThere, Rejected, ModelError):
        return {}
    entries = answer.value.get("data")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("id") == spec.path:
            return {name: entry[name] for name in LISTED if entry.get(name)}
    return {}


async def _alone(spec: ModelSpec, options: Options, scoring: bool) -> dict[str, Any]:
    """One conversation before a run."""
    client = Client(options, read_secret(options, spec.name), FIRST_PATIENCE)
    try:
        if scoring:
            await probe(client, spec, options, load_local(options))
            return {}
        return await who(client, spec, options)
    finally:
        await client.close()


def _run(work: Any) -> Any:
    """The result of a coroutine, also where a loop is running already (in a notebook)."""
    loop = LoopThread()
    try:
        return loop.call(work)
    finally:
        loop.close()
