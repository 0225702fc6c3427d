"""Sends one call: builds its request, retries it until the deadline, and reads its response."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import quote, urlencode, urlsplit

import httpx

from .errors import FieldError, InsufficientCredits, Refused, Unavailable
from .folds import Folds
from .retry import RETRIED, pause
from .steps import ApiKey, Attempt, Outage, Pause, Response, Steps
from .version import __version__

if TYPE_CHECKING:
    from typing_extensions import Unpack

HEADERS = {"Accept": "application/json", "User-Agent": f"ai-credits-python/{__version__}"}
SHORTEST_TIMEOUT = 0.001


class CallOptions(TypedDict, total=False):
    """The options of each call."""

    idempotency_key: str | None
    """The key under which the call happens once. Default: a UUID that is made for the call."""
    deadline_seconds: float
    """How long the call is tried. Default: the client's deadline."""
    on_response: Callable[[Response], object]
    """Receives the final response, such as to see whether it is `replayed`."""


@dataclass(frozen=True)
class Settings:
    """The settings of a client."""

    base_url: str
    deadline_seconds: float
    attempt_timeout_seconds: float
    first_pause_seconds: float
    folds: Folds = field(default_factory=Folds)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
            raise ValueError(f"base_url is not an http or https address without a query: {self.base_url!r}")
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))


class _Passing(Exception):
    """A failed attempt that a retry may repeat."""

    def __init__(self, error: Exception, retry_after: str | None = None) -> None:
        super().__init__(error, retry_after)
        self.error = error
        self.retry_after = retry_after


def path_of(*segments: str) -> str:
    """Returns the path of a resource, with each segment escaped."""
    # HTTP clients resolve dots, so an id of dots would address another resource.
    escaped = [quote(it, safe="").replace(".", "%2E") if it in (".", "..") else quote(it, safe="") for it in segments]
    return "/v1/" + "/".join(escaped)


def exchange(
    settings: Settings,
    method: str,
    path: str,
    body: object = None,
    *,
    query: Mapping[str, object] | None = None,
    **options: Unpack[CallOptions],
) -> Steps[Any]:
    """Sends a call and returns the JSON of its response. Retries it until the deadline."""
    key = options.get("idempotency_key") or (str(uuid.uuid4()) if method == "POST" else None)
    ends = time.monotonic() + options.get("deadline_seconds", settings.deadline_seconds)
    url, headers, content = settings.base_url + _target(path, query), _headers(key, body), _content(body)
    attempts = 0
    while True:
        api_key = yield ApiKey()
        authorized = {**headers, "Authorization": f"Bearer {api_key}"}
        timeout = max(SHORTEST_TIMEOUT, min(settings.attempt_timeout_seconds, ends - time.monotonic()))
        attempts += 1
        try:
            response = yield from _attempt(Attempt(method, url, authorized, content, timeout))
        except _Passing as passing:
            seconds = pause(attempts, settings.first_pause_seconds, passing.retry_after)
            if time.monotonic() + seconds >= ends:
                unavailable = Unavailable(attempts, key)
                yield from _report(Outage(method, path, body, key, unavailable))
                raise unavailable from passing.error
        else:
            if on_response := options.get("on_response"):
                on_response(response)
            return _result(response)
        yield Pause(seconds)


def _report(outage: Outage) -> Steps[None]:
    """Reports the outage of a POST of a workspace, and attaches what the hook raises."""
    if outage.method == "POST" and outage.path.startswith("/v1/workspaces/"):
        try:
            yield outage
        except Exception as error:
            outage.error.hook_error = error


def _attempt(attempt: Attempt) -> Steps[Response]:
    """Makes one attempt. Raises `_Passing` if a retry may succeed."""
    try:
        response: Response = yield attempt
    except httpx.LocalProtocolError:
        # The request itself is invalid, such as a key with a line break.
        raise
    except httpx.RequestError as error:
        raise _Passing(error) from error
    if response.status in RETRIED:
        raise _Passing(_refusal(response), response.headers.get("retry-after"))
    if response.is_success:
        try:
            json.loads(response.content)
        except ValueError as error:
            raise _Passing(error) from error
    return response


def _target(path: str, query: Mapping[str, object] | None) -> str:
    if not path.startswith("/"):
        raise ValueError(f"the path has no leading slash: {path!r}")
    given = {name: value for name, value in (query or {}).items() if value is not None}
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}
    return f"{path}?{urlencode(texts)}" if texts else path


def _headers(key: str | None, body: object) -> dict[str, str]:
    with_body = {} if body is None else {"Content-Type": "application/json"}
    return {**HEADERS, **with_body, **({} if key is None else {"Idempotency-Key": key})}


def _content(body: object) -> bytes | None:
    return None if body is None else json.dumps(body).encode()


def _result(response: Response) -> Any:
    if response.is_success:
        return json.loads(response.content)
    raise _refusal(response)


def _refusal(response: Response) -> InsufficientCredits | Refused:
    """Returns the error of a response without success."""
    try:
        problem = json.loads(response.content)
    except ValueError:
        problem = None
    problem = problem if isinstance(problem, dict) else {}
    if response.status == 402 and problem.get("code") == "insufficient_credits":
        try:
            required, available, shortfall = (Decimal(problem[it]) for it in ("required", "available", "shortfall"))
            url, prompt, top_up = problem["top_up_url"], problem["prompt"], problem.get("top_up")
            return InsufficientCredits(required, available, shortfall, url, prompt, top_up)
        except (KeyError, TypeError, InvalidOperation):
            pass  # A response of another shape is refused as it is.
    code, detail = problem.get("code"), problem.get("detail")
    if not isinstance(code, str) and isinstance(message := problem.get("message"), str):
        # API Gateway refuses with a message alone.
        code, detail = message.lower().replace(" ", "_"), message
    if not isinstance(code, str):
        code, detail = f"http_{response.status}", f"the response has the status {response.status}"
    return Refused(response.status, code, str(detail or code), _field_errors(problem.get("errors")))


def _field_errors(errors: object) -> list[FieldError]:
    listed = errors if isinstance(errors, list) else []
    return [FieldError(str(it.get("field")), str(it.get("message"))) for it in listed if isinstance(it, dict)]
