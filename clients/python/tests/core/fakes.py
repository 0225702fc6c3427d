"""A service that exists in the process of the test."""

import json
from collections.abc import Callable
from typing import Any

import httpx

from ai_credits import AICredits, AsyncAICredits, CallOrder

CONSUMER: Any = {"kind": "action", "feature": "assistant", "user_id": "ada"}
ORDER: CallOrder = {
    "operation": "chat",
    "units": {"input_tokens": 5, "output_tokens": 7},
    "consumer": CONSUMER,
}
HOLD = {"hold_id": "hold_1", "status": "open"}
SETTLED = {"hold_id": "hold_1", "status": "settled"}
Handler = Callable[[httpx.Request], httpx.Response]


def blocking(handler: Handler, **options: Any) -> AICredits:
    http = httpx.Client(transport=httpx.MockTransport(handler))
    return AICredits("https://credits.example", "key", http_client=http, **options)


def asynchronous(handler: Any, **options: Any) -> AsyncAICredits:
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    return AsyncAICredits("https://credits.example", options.pop("api_key", "key"), http_client=http, **options)


def holds(sent: list[httpx.Request], settled: Handler | None = None) -> Handler:
    """Returns a service that places and settles holds."""

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if request.url.path.endswith("/holds"):
            return httpx.Response(201, json=HOLD)
        return settled(request) if settled else httpx.Response(200, json=SETTLED)

    return handle


def body_of(request: httpx.Request) -> Any:
    return json.loads(request.content)
