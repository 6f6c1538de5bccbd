"""Requests to one endpoint: pace, budget, tries."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import httpx2

from evalkit.core.errors import ModelError
from evalkit.engines.openai_api.faults import Again, NotThere, Rejected, read_body, read_events
from evalkit.engines.openai_api.limits import SpendingLimit, Window
from evalkit.engines.openai_api.options import Options
from evalkit.engines.openai_api.secret import Secret

T = TypeVar("T")
CONNECT_SECONDS = 20.0
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
MAX_BODY_BYTES = 64 << 20
"""Of a good response; the log-probabilities of 100,000 tokens take about a third."""
MAX_ERROR_BYTES = 1 << 20
SLOWER_THAN_OTHERS = 20
"""A response that takes so many times longer to begin than the slowest before it has most likely been forgotten."""
SILENT_TRIES = 2
"""Tries of a request that nothing comes back for, while others are answered."""
LOOK_SECONDS = 0.5
"""How often a wait looks at its limit, which the answers to other requests change."""
URL_HINT = "check options.base_url (it usually ends in /v1) and the model's path"


@dataclass(frozen=True)
class Answer:
    """A good response."""

    value: Mapping[str, Any]
    seconds: float
    """Of the try that succeeded."""

    def used(self, guess: tuple[int, int]) -> tuple[int, int]:
        """Prompt and output tokens as the server counts them; where it does not, the guess."""
        usage = self.value.get("usage")
        found = usage if isinstance(usage, dict) else {}
        prompt, output = found.get("prompt_tokens"), found.get("completion_tokens")
        return (prompt if isinstance(prompt, int) else guess[0], output if isinstance(output, int) else guess[1])


async def _in_time(awaitable: Awaitable[T], began: float, limit: Callable[[], float]) -> T:
    """The result of what began then; Again when it takes more seconds than the limit, which may change meanwhile."""
    task = asyncio.ensure_future(awaitable)
    try:
        while not task.done():
            left = limit() - (time.monotonic() - began)
            if left <= 0:
                raise Again(f"nothing came for {time.monotonic() - began:.3g} s", silent=True)
            await asyncio.wait({task}, timeout=min(left, LOOK_SECONDS))
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Client:
    """Speaks to the endpoint from inside one event loop."""

    def __init__(self, options: Options, secret: Secret, patience: float | None = None) -> None:
        """`patience`: seconds that the endpoint may fail or be away; default `retry_seconds`."""
        self._options = options
        self._secret = secret
        self._patience = options.retry_seconds if patience is None else patience
        self.budget = SpendingLimit(options)
        self.retries = 0
        self.pinned: str | None = None
        """The model that every response must be from."""
        self._requests = Window(options.requests_per_minute)
        self._tokens = Window(options.tokens_per_minute)
        self._last_success = -1.0
        self._first_bytes: dict[int, float] = {}
        """Output limit of requests -> seconds until the slowest good response to such began."""
        self._paused_until = 0.0
        self._http = httpx2.AsyncClient(
            headers=secret.headers(),
            params=dict(options.query),
            timeout=httpx2.Timeout(options.timeout, connect=min(CONNECT_SECONDS, options.timeout)),
            limits=httpx2.Limits(max_connections=options.concurrency, max_keepalive_connections=options.concurrency),
            follow_redirects=False,
        )

    @property
    def succeeded(self) -> bool:
        """Whether anything has been answered yet."""
        return self._last_success >= 0

    async def post(self, path: str, body: Mapping[str, Any], guess: tuple[int, int]) -> Answer:
        """The answer to a request that takes about `guess` prompt and output tokens.

        Raises Rejected for this request alone, BudgetReached before sending it, ModelError when no other
        request would fare better.
        """
        await self.budget.reserve(guess)
        used = (0, 0)
        try:
            answer = await self._persist(path, body, guess)
            used = answer.used(guess)
            self._same_model(answer.value)
            return answer
        finally:
            await self.budget.settle(guess, used)

    async def get(self, path: str) -> Answer:
        """The answer to a GET, tried once, without pace or budget; Again as well as the errors of `post`."""
        return Answer(await self._once("GET", path, None), 0.0)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _persist(self, path: str, body: Mapping[str, Any], guess: tuple[int, int]) -> Answer:
        """Try until there is an answer, or no hope."""
        failures, first_failure = 0, 0.0
        while True:
            entry = await self._pace(guess)
            began = time.monotonic()
            try:
                value = await self._once("POST", path, body, guess[1], failures)
            except NotThere as error:
                if not self.succeeded:
                    raise ModelError(f"the endpoint has no such path or model: {error}", URL_HINT) from None
                fault = Again(str(error))
            except Again as error:
                fault = error
            else:
                self._last_success = time.monotonic()
                answer = Answer(value, self._last_success - began)
                self._tokens.correct(entry, sum(answer.used(guess)))
                return answer
            self.retries += 1
            first_failure = first_failure or began
            failures += not fault.waiting
            await asyncio.sleep(self._wait(fault, failures, first_failure))

    async def _pace(self, guess: tuple[int, int]) -> list[float] | None:
        """Wait for the rate limits, and for a pause that the server asked for."""
        await self._requests.take(1)
        entry = await self._tokens.take(sum(guess))
        while (pause := self._paused_until - time.monotonic()) > 0:
            await asyncio.sleep(pause + random.uniform(0, 0.1))
        return entry

    async def _once(
        self, method: str, path: str, body: Mapping[str, Any] | None, output: int = 0, failures: int = 0
    ) -> dict[str, Any]:
        """One try of a request for at most `output` tokens; `failures` of it came before."""
        url = self._options.base_url.rstrip("/") + path
        try:
            async with asyncio.timeout(self._options.timeout):
                status, headers, text = await self._exchange(method, url, body, output, failures)
        except (httpx2.TimeoutException, TimeoutError):
            raise Again(f"no answer within {self._options.timeout:g} s") from None
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            said = self._secret.hide(str(error)) or "no reason given"
            raise Again(f"{type(error).__name__}: {said}") from None  # its request holds the key
        if status < 300 and body is not None and body.get("stream"):
            events = read_events(text)
            if not events:
                raise Again("the stream of the response ended before its first event")
            return {"events": events}
        hide = self._secret.hide if status >= 300 else self._secret.hide_long
        return read_body(status, hide(text), headers, self._options.api_key_env)

    async def _exchange(
        self, method: str, url: str, body: Mapping[str, Any] | None, output: int, failures: int
    ) -> tuple[int, Mapping[str, str], str]:
        """Status, headers and body of a response; Again when it stops coming, Rejected when it does not end."""
        began = time.monotonic()
        first = partial(self._first_byte_limit, output, failures)
        sending = self._http.send(self._http.build_request(method, url, json=body), stream=True)
        response = await _in_time(sending, began, first)
        try:
            good = response.status_code < 300
            content = bytearray()
            chunks = response.aiter_bytes()
            chunk = await _in_time(anext(chunks, b""), began, first)
            if good:
                self._first_bytes[output] = max(self._first_bytes.get(output, 0.0), time.monotonic() - began)
            while chunk:
                content += chunk
                if good and len(content) > MAX_BODY_BYTES:
                    raise Rejected(f"the answer does not end: more than {MAX_BODY_BYTES >> 20} MiB")
                if not good and len(content) > MAX_ERROR_BYTES:
                    break
                chunk = await _in_time(anext(chunks, b""), time.monotonic(), lambda: self._options.idle_timeout)
            return response.status_code, response.headers, content.decode("utf-8", "replace")
        finally:
            await response.aclose()

    def _first_byte_limit(self, output: int, failures: int) -> float:
        """Seconds that the response to a request for so many tokens may take to begin.

        Until one for as many was answered that is `timeout`: nobody knows how long this model computes. Then a
        request that takes much longer than all others is asked again, with twice the time.
        """
        known = [seconds for tokens, seconds in self._first_bytes.items() if tokens >= output]
        if not known:
            return self._options.timeout
        usual = max(self._options.idle_timeout, SLOWER_THAN_OTHERS * max(known))
        return min(self._options.timeout, usual * 2**failures)

    def _wait(self, fault: Again, failures: int, first_failure: float) -> float:
        """Seconds until the next try; Rejected or ModelError when there is to be none."""
        now = time.monotonic()
        others = self._last_success > first_failure
        if fault.silent and failures >= SILENT_TRIES and others:
            raise Rejected(f"{fault.why}, in {failures} tries, while others were answered")
        if failures >= self._options.tries and others:
            raise Rejected(f"no answer in {failures} tries: {fault.why}")
        left = self._patience - (now - (max(first_failure, self._last_success) if fault.waiting else first_failure))
        backoff = random.uniform(0.5, 1.0) * min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(max(failures, 1) - 1, 10))
        wait = backoff if fault.after is None else fault.after + random.uniform(0, 0.1)
        if wait <= left:
            if fault.after is not None:
                self._paused_until = max(self._paused_until, now + fault.after)
            return wait
        if others and not fault.waiting:
            raise Rejected(f"no answer within {self._patience:g} s: {fault.why}")
        if fault.after is not None:
            said = f"the endpoint asks to wait {fault.after:g} s: {fault.why}"
            raise ModelError(said, "run the same command later: it goes on; or set options.retry_seconds higher")
        raise ModelError(
            f"no answer from {self._options.base_url} for {now - first_failure:.0f} s: {fault.why}",
            "see that it is up and run the same command: it goes on; options.retry_seconds: how long it may be away",
        )

    def _same_model(self, value: Mapping[str, Any]) -> None:
        """ModelError when another model answers than at the start."""
        reported = value.get("model", self.pinned)
        if self.pinned is not None and reported != self.pinned:
            raise ModelError(
                f"the endpoint answers as {reported!r} now, as {self.pinned!r} before",
                "the same command starts a run of the new model; options.pin_model: false lets it go on",
            )
