"""Checks of the client that the cases of `clients/conformance` don't have."""

import asyncio
import pickle
import socket
import time
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal

import httpx
import pytest

from ai_credits import (
    AICredits,
    AsyncWorkspace,
    FieldError,
    InsufficientCredits,
    Outage,
    Refused,
    Unavailable,
)
from fakes import ORDER, SETTLED, asynchronous, blocking, body_of, holds

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("base_url", ["credits.example", "ftp://credits.example", "https://a.example?b=c", ""])
def test_a_base_url_that_is_none_is_refused(base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        AICredits(base_url, "key")


def test_a_path_without_a_slash_is_refused() -> None:
    with pytest.raises(ValueError, match="slash"):
        blocking(lambda _: httpx.Response(200, json={})).request("GET", "v1/catalog")


def test_an_id_of_dots_stays_an_id() -> None:
    sent: list[httpx.Request] = []
    blocking(holds(sent)).workspace("..").get_hold(".")
    assert sent[0].url.raw_path == b"/v1/workspaces/%2E%2E/holds/%2E"


def test_an_invalid_key_is_an_error_at_once() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        AICredits(f"http://127.0.0.1:{server.getsockname()[1]}", "key") as credits,
        pytest.raises(httpx.LocalProtocolError),
    ):
        credits.workspace("acme").begin(ORDER, idempotency_key="line\nbreak")


def test_an_endless_response_ends_with_its_attempt() -> None:
    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b" "

    credits = blocking(lambda _: httpx.Response(200, stream=Endless()), deadline_seconds=0.05)
    started = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        credits.get_catalog()
    assert isinstance(raised.value.__cause__, httpx.ReadTimeout)
    assert time.monotonic() - started >= 0.05


async def test_an_endless_response_ends_with_its_asynchronous_attempt() -> None:
    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0)
                yield b" "

    credits = asynchronous(lambda _: httpx.Response(200, stream=Endless()), deadline_seconds=0.05)
    with pytest.raises(Unavailable) as raised:
        await credits.get_catalog()
    assert isinstance(raised.value.__cause__, httpx.ReadTimeout)


async def test_key_and_hook_may_be_asynchronous_functions() -> None:
    outages: list[Outage] = []

    async def key() -> str:
        return "of the moment"

    async def record(outage: Outage) -> None:
        await asyncio.sleep(0)
        outages.append(outage)

    def handle(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer of the moment"
        return httpx.Response(503, headers={"Retry-After": "60"}, json={"code": "contended"})

    credits = asynchronous(handle, api_key=key, on_outage=record)
    with pytest.raises(Unavailable) as raised:
        await credits.workspace("acme").begin(ORDER)
    assert [outage.error for outage in outages] == [raised.value]
    assert outages[0].order["units"] == ORDER["units"]


def test_what_the_hook_raises_is_attached() -> None:
    failure = RuntimeError("no disk")

    def fail(outage: Outage) -> None:
        raise failure

    credits = blocking(lambda _: httpx.Response(503, headers={"Retry-After": "60"}), on_outage=fail)
    with pytest.raises(Unavailable, match="no disk") as raised:
        credits.workspace("acme").begin(ORDER)
    assert raised.value.hook_error is failure
    assert isinstance(raised.value.__cause__, Refused)


def test_a_failing_key_is_an_error_at_once() -> None:
    def fail() -> str:
        raise RuntimeError("no key")

    with AICredits("http://127.0.0.1:9", fail) as credits, pytest.raises(RuntimeError, match="no key"):
        credits.get_catalog()


async def test_a_given_http_client_stays_open() -> None:
    credits = asynchronous(lambda _: httpx.Response(200, json={"packs": []}))
    async with credits:
        pass
    assert (await credits.get_catalog())["packs"] == []
    with blocking(lambda _: httpx.Response(200, json={"packs": []})) as credits_too:
        pass
    assert credits_too.get_catalog()["packs"] == []


@pytest.mark.parametrize(
    "error",
    [
        InsufficientCredits(
            Decimal("3.4"), Decimal("1.2"), Decimal("2.2"), "https://a.example", "Add credits.", "started"
        ),
        Refused(422, "invalid_request", "units.pages has no rate", [FieldError("units.pages", "has no rate")]),
        Unavailable(3, "key_1"),
        Unavailable(3, None),
    ],
)
def test_errors_survive_another_process(error: Exception) -> None:
    copied = pickle.loads(pickle.dumps(error))
    assert vars(copied) == vars(error)
    assert str(copied) == str(error)


def test_an_estimate_keeps_its_mark_within_the_metadata() -> None:
    for metadata, marked in (
        ({"a": "b"}, {"a": "b", "usage": "estimated"}),
        ({str(number): "" for number in range(10)}, None),
        ({"a": "x" * 498}, None),
    ):
        sent: list[httpx.Request] = []
        call = blocking(holds(sent)).workspace("acme").begin({**ORDER, "metadata": metadata})
        call.finish({"output_tokens": 1}, estimated=True)
        assert body_of(sent[1]).get("metadata") == marked


def test_a_call_whose_tools_have_no_rate_still_costs_its_base() -> None:
    sent: list[httpx.Request] = []

    def settle(request: httpx.Request) -> httpx.Response:
        errors = [{"field": "units.tool_calls", "message": "is a unit without a rate"}]
        unpriced = "tool_calls" in body_of(request)["units"]
        problem = {"code": "invalid_request", "detail": "no rate", "errors": errors}
        return httpx.Response(422, json=problem) if unpriced else httpx.Response(200, json=SETTLED)

    call = blocking(holds(sent, settle)).workspace("acme").begin(ORDER)
    assert call.finish({"tool_calls": 2}) == SETTLED
    assert [body_of(request)["units"] for request in sent[1:]] == [{"tool_calls": 2}, {"input_tokens": 0}]


def test_a_finish_that_failed_can_be_repeated() -> None:
    answers = iter([httpx.Response(409, json={"code": "hold_closed"}), httpx.Response(200, json=SETTLED)])
    call = blocking(holds([], lambda _: next(answers))).workspace("acme").begin(ORDER)
    with pytest.raises(Refused):
        call.finish({"output_tokens": 1})
    assert call.finish({"output_tokens": 1}) == SETTLED


def test_a_failed_settlement_is_attached_to_the_scopes_error() -> None:
    service = holds([], lambda _: httpx.Response(409, json={"code": "hold_closed"}))
    failure = KeyError("of the scope")

    def use() -> None:
        with blocking(service).workspace("acme").begin(ORDER) as call:
            call.use({"output_tokens": 1})
            raise failure

    with pytest.raises(KeyError, match="of the scope"):
        use()
    assert isinstance(failure.__context__, Refused)


async def test_a_finish_goes_on_after_a_cancellation() -> None:
    sent: list[httpx.Request] = []
    service, settling, may_settle = holds(sent), asyncio.Event(), asyncio.Event()

    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/settle"):
            settling.set()
            await may_settle.wait()
        return service(request)

    async with asynchronous(handle) as credits:
        call = await credits.workspace("acme").begin(ORDER)
        task = asyncio.ensure_future(call.finish({"output_tokens": 1}))
        await settling.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_settle.set()
        await credits.settled()
        assert await call.finish({"output_tokens": 2}) == SETTLED
    assert [body_of(request)["units"] for request in sent] == [ORDER["units"], {"output_tokens": 1}]


async def test_a_failed_settlement_after_a_cancellation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    settling, may_settle = asyncio.Event(), asyncio.Event()
    service = holds([], lambda _: httpx.Response(409, json={"code": "hold_closed"}))

    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/settle"):
            settling.set()
            await may_settle.wait()
        return service(request)

    async with asynchronous(handle) as credits:
        task = asyncio.ensure_future((await credits.workspace("acme").begin(ORDER)).cancel())
        await settling.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_settle.set()
    assert "hold_closed" in caplog.text


async def test_two_tasks_settle_once() -> None:
    sent: list[httpx.Request] = []
    async with asynchronous(holds(sent)) as credits:
        call = await credits.workspace("acme").begin(ORDER)
        settled = await asyncio.gather(call.finish({"output_tokens": 1}), call.cancel())
        assert [hold["status"] for hold in settled] == ["settled", "settled"]
    assert [body_of(request).get("units") for request in sent] == [ORDER["units"], {"output_tokens": 1}]


async def test_a_cancelled_begin_releases_its_hold() -> None:
    sent: list[httpx.Request] = []
    service, placing, may_place = holds(sent), asyncio.Event(), asyncio.Event()

    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/holds"):
            placing.set()
            await may_place.wait()
        return service(request)

    async def begin(workspace: AsyncWorkspace) -> None:
        async with workspace.begin(ORDER):
            raise AssertionError("the scope was entered")

    async with asynchronous(handle) as credits:
        task = asyncio.create_task(begin(credits.workspace("acme")))
        await placing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_place.set()
    assert [request.url.path.rpartition("/")[2] for request in sent] == ["holds", "settle"]
    assert body_of(sent[1]) == {}


async def test_a_cancelled_scope_settles_what_was_used() -> None:
    sent: list[httpx.Request] = []
    entered = asyncio.Event()

    async def use(workspace: AsyncWorkspace) -> None:
        async with workspace.begin(ORDER) as call:
            call.use({"output_tokens": 3}, estimated=True)
            entered.set()
            await asyncio.Event().wait()

    async with asynchronous(holds(sent)) as credits:
        task = asyncio.create_task(use(credits.workspace("acme")))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    settlement = {"units": {"output_tokens": 3}, "overrun": "take_available", "metadata": {"usage": "estimated"}}
    assert body_of(sent[1]) == settlement
