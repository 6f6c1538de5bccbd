"""What a response means: an answer, another try, a request that the server will not take, or the end of the run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from evalkit.core.errors import ModelError

TOO_LONG = re.compile(
    r"context.{0,3}(length|window|size)|maximum context|too (long|large)|n_ctx|max_model_len"
    r"|exceeds? the .{0,30}(limit|maximum)",
    re.IGNORECASE,
)
NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_credits")
AGAIN = (408, 409, 425, 429)
SAID_LENGTH = 300


class Again(Exception):
    """A fault that may pass: the request is sent again."""

    def __init__(self, why: str, after: float | None = None, waiting: bool = False, silent: bool = False) -> None:
        """`after`: seconds that the server asks to wait; `waiting`: a rate limit, which is no failure; `silent`: the
        connection stands and nothing comes."""
        super().__init__(why)
        self.why, self.after, self.waiting, self.silent = why, after, waiting, silent


class Rejected(Exception):
    """This one request gets no answer."""

    def __init__(self, why: str, too_long: bool = False) -> None:
        super().__init__(why)
        self.why, self.too_long = why, too_long


def read_body(status: int, text: str, headers: Mapping[str, str], key_env: str) -> dict[str, Any]:
    """The JSON object of a good response; Again, Rejected or ModelError for every other one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or nested without end
        value = None
    said = _said(value, text)
    code = _code(value)
    if status < 300 and isinstance(value, dict) and code is None:
        return value
    if status < 300 and code is None:
        raise Again("the response is no whole JSON object")
    status = int(code) if status < 300 and str(code).isdigit() else status
    if status == 402 or code in NO_MONEY:
        raise ModelError(
            f"the endpoint says that the account is used up: {said}", "top it up; the same command goes on"
        )
    if status in (401, 403):
        whose = f"the key in ${key_env}" if key_env else "a request without a key (options.api_key_env)"
        raise ModelError(f"the endpoint refuses {whose}: {status} {said}", "check the key and what it may use")
    if status in AGAIN or status >= 500 or status < 300:
        raise Again(f"{status} {said}", retry_after(headers), waiting=status == 429)
    if status == 404 or 300 <= status < 400:
        raise NotThere(f"{status} {said}")
    long = bool(TOO_LONG.search(f"{said} {code}")) or status == 413
    raise Rejected(f"the prompt is too long for the endpoint: {said}" if long else f"refused: {status} {said}", long)


class NotThere(Exception):
    """The path or the model is unknown; after a success, a server that is coming up again."""


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds of a Retry-After header, which may also be a date; None without one."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=timezone.utc)
    return max(0.0, (until - (now or datetime.now(timezone.utc))).total_seconds())


def _code(value: Any) -> Any:
    """The code of an error object; None where the value holds no error."""
    error = value.get("error") if isinstance(value, dict) else None
    if not error:
        return None
    return (error.get("code") or error.get("type") or "error") if isinstance(error, dict) else "error"


def _said(value: Any, text: str) -> str:
    """The server's own words, on one line."""
    if isinstance(value, dict):
        error = value.get("error")
        found = (
            (error.get("message") if isinstance(error, dict) else error) or value.get("detail") or value.get("message")
        )
        text = found if isinstance(found, str) else (json.dumps(found) if found else text)
    return " ".join(text.split())[:SAID_LENGTH]


def read_events(text: str) -> list[dict[str, Any]]:
    """The whole JSON objects of a stream of server-sent events, up to where it broke off."""
    events: list[dict[str, Any]] = []
    for line in text.splitlines():
        found = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        try:
            event = json.loads(found) if found and found != "[DONE]" else None
        except (ValueError, RecursionError):
            break
        if isinstance(event, dict):
            events.append(event)
    return events
