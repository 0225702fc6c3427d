"""Checks how a stream settles where the fake provider has no such fault."""

import json
from typing import Any

import anthropic
import httpx
import httpx2
import pytest

from ai_credits import Refused
from ai_credits.anthropic import with_credits
from fakes import CONSUMER, asynchronous, blocking, body_of, holds

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


USAGE = {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 1}
START = {"type": "message_start", "message": {"id": "m", "type": "message", "usage": USAGE}}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
STOP = {"type": "message_stop"}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


class Streamed:
    """A stream of events through a gated client, and what the service was sent."""

    def __init__(self, is_async: bool, events: list[Any], settle: httpx.Response | None = None) -> None:
        self.is_async = is_async
        self.sent: list[httpx.Request] = []
        content = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        headers = {"Content-Type": "text/event-stream"}
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=content))
        service = holds(self.sent, (lambda _: settle) if settle else None)
        options: Any = {"operation": "chat", "consumer": CONSUMER}
        if is_async:
            model = anthropic.AsyncAnthropic(api_key="key", http_client=httpx2.AsyncClient(transport=transport))
            self.client: Any = with_credits(model, asynchronous(service).workspace("acme"), **options)
        else:
            client = anthropic.Anthropic(api_key="key", http_client=httpx2.Client(transport=transport))
            self.client = with_credits(client, blocking(service).workspace("acme"), **options)

    async def read(self, stop_after: int | None = None) -> None:
        request: Any = {"model": "m", "messages": [], "max_tokens": 5, "stream": True}
        if self.is_async:
            number = 0
            async with await self.client.messages.create(**request) as stream:
                async for _ in stream:
                    number += 1
                    if number == stop_after:
                        break
        else:
            with self.client.messages.create(**request) as stream:
                for number, _ in enumerate(stream, 1):
                    if number == stop_after:
                        break

    @property
    def settlements(self) -> list[Any]:
        return [body_of(request).get("units") for request in self.sent[1:]]


kinds = pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "async"])


@kinds
async def test_an_error_after_the_start_costs_nothing(is_async: bool) -> None:
    it = Streamed(is_async, [START, OVERLOADED])
    with pytest.raises(anthropic.APIStatusError):
        await it.read()
    assert it.settlements == [None]


@kinds
async def test_stopping_after_the_start_costs_the_input(is_async: bool) -> None:
    it = Streamed(is_async, [START, DELTA, STOP])
    await it.read(stop_after=1)
    assert it.settlements == [{"input_tokens": 9, "cached_input_tokens": 4}]


@kinds
async def test_stopping_at_the_last_event_costs_the_price(is_async: bool) -> None:
    it = Streamed(is_async, [START, DELTA, STOP])
    await it.read(stop_after=3)
    assert it.settlements == [{"input_tokens": 9, "cached_input_tokens": 4, "output_tokens": 5}]


@kinds
async def test_a_failed_settlement_is_raised_once(is_async: bool) -> None:
    it = Streamed(is_async, [START, DELTA, STOP], httpx.Response(409, json={"code": "hold_closed"}))
    with pytest.raises(Refused, match="hold_closed"):
        await it.read()
    assert len(it.settlements) == 1


@kinds
async def test_a_failed_settlement_does_not_hide_the_models_error(is_async: bool) -> None:
    it = Streamed(is_async, [START, OVERLOADED], httpx.Response(409, json={"code": "hold_closed"}))
    with pytest.raises(anthropic.APIStatusError) as raised:
        await it.read()
    assert len(it.settlements) == 1
    errors: list[BaseException | None] = [raised.value]
    while errors[-1] is not None:
        errors.append(errors[-1].__context__)
    assert isinstance(errors[-2], Refused)
