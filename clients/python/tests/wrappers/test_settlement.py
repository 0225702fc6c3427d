"""Checks each wrapper: nothing stays held, and what was used is charged, at its exact price."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import anthropic
import openai
import pytest

from ai_credits import InsufficientCredits, Refused, Unavailable
from bench import Bench
from providers import Chat, LangChain, LangChainOpenAI, Messages, Responses, awaited, plan, read, requests

pytestmark = pytest.mark.anyio

Benches = Callable[..., Bench]
MODEL_ERRORS = (openai.APIError, anthropic.APIError)
USED = {"input_tokens": 10, "output_tokens": 20}


async def ask(bench: Bench, streams: bool, text: str, **changes: Any) -> None:
    """Asks the model, and reads the whole answer."""
    if streams:
        await read(await bench.provider.stream(text, **changes), bench.provider)
    else:
        await bench.provider.plain(text, **changes)


streams = pytest.mark.parametrize("streams", [False, True], ids=["plain", "stream"])


@streams
async def test_an_answer_costs_its_price(bench: Benches, streams: bool) -> None:
    it = bench()
    await ask(it, streams, plan(id=it.call))
    it.check(USED)
    (request,) = await requests(it.call)
    assert request["stream"] == streams
    assert not request["closed"]


@streams
async def test_each_token_counts_in_one_class(bench: Benches, streams: bool) -> None:
    it = bench()
    input_classes = {"input_tokens": 7, "cached_input_tokens": 5, "cache_write_tokens": 3}
    counts = {"input": 7, "cached": 5, "cache_write": 3, "output": 11, "reasoning": 13}
    units = {**input_classes, "output_tokens": 11, "reasoning_tokens": 13}
    if isinstance(it.provider, Chat) and not isinstance(it.provider, Responses):
        counts |= {"audio_input": 2, "audio_output": 17}
        units |= {"audio_input_tokens": 2, "audio_output_tokens": 17}
    await ask(it, streams, plan(**counts))
    it.check(units)


@streams
async def test_calls_of_functions_are_charged_as_tokens(bench: Benches, streams: bool) -> None:
    it = bench()
    await ask(it, streams, plan(functions=2), function=True)
    it.check(USED)


@streams
@pytest.mark.filterwarnings("ignore:Received unexpected tool content block")
async def test_calls_of_the_providers_tools_are_charged(bench: Benches, streams: bool) -> None:
    it = bench()
    tools = it.provider.server_tools
    await ask(it, streams, plan(server_tools=tools))
    it.check({**USED, "tool_calls": sum(tools.values())})


async def test_leaving_the_loop_settles_what_was_streamed(bench: Benches) -> None:
    it = bench()
    text = plan(id=it.call, stall_after=3)
    stream = await it.provider.stream(text)
    streamed = await read(stream, it.provider, stop_after=3)
    del stream
    await it.check_estimate(text, streamed)
    assert [request["closed"] for request in await requests(it.call)] == [True]


async def test_closing_a_stream_settles_what_was_streamed(bench: Benches) -> None:
    it = bench()
    text = plan(id=it.call, stall_after=3)
    stream = await it.provider.stream(text)
    streamed = ""
    while len(streamed.split()) < 3:
        streamed += it.provider.text_of(await awaited(anext(stream) if it.provider.is_async else next(stream)))
    await close(it, stream)
    await it.check_estimate(text, streamed)
    assert [request["closed"] for request in await requests(it.call)] == [True]


async def close(it: Bench, stream: Any) -> None:
    if isinstance(it.provider, LangChain):
        await awaited(stream.aclose() if it.provider.is_async else stream.close())
    else:
        await awaited(stream.close())


async def test_a_broken_stream_settles_what_was_streamed(bench: Benches) -> None:
    it = bench()
    text = plan(break_after=4)
    with pytest.raises(Exception):  # noqa: B017, PT011 (each SDK has its own)
        await ask(it, True, text)
    await it.check_estimate(text, "word1 word2 word3 word4 ")


async def test_an_error_midway_settles_what_was_streamed(bench: Benches) -> None:
    it = bench()
    text = plan(error_after=2)
    # The stream of responses gives the error as an event.
    with nullcontext() if isinstance(it.provider, Responses) else pytest.raises(MODEL_ERRORS):
        await ask(it, True, text)
    await it.check_estimate(text, "word1 word2 ")


@streams
@pytest.mark.parametrize("status", [400, 429, 500])
async def test_an_error_of_the_model_costs_nothing(bench: Benches, streams: bool, status: int) -> None:
    it = bench()
    with pytest.raises(MODEL_ERRORS) as raised:
        await ask(it, streams, plan(id=it.call, fail={"status": status}))
    assert raised.value.status_code == status  # type: ignore[attr-defined]
    it.check(None)
    assert len(await requests(it.call)) == (1 if status == 400 else 3)


@streams
async def test_a_broken_connection_costs_nothing(bench: Benches, streams: bool) -> None:
    it = bench()
    with pytest.raises(Exception):  # noqa: B017, PT011 (each SDK has its own)
        await ask(it, streams, plan(break_after=0))
    it.check(None)


@streams
@pytest.mark.parametrize("status", [429, 500])
async def test_a_retry_of_the_sdk_is_charged_once(bench: Benches, streams: bool, status: int) -> None:
    it = bench()
    await ask(it, streams, plan(id=it.call, fail={"status": status, "times": 2}))
    it.check(USED)
    assert [request["attempt"] for request in await requests(it.call)] == [1, 2, 3]
    assert len(list(it.workspace.list_ledger_entries())) == 2, "the grant and one settlement"


@streams
async def test_an_exhausted_balance_stops_the_call(bench: Benches, streams: bool) -> None:
    it = bench("0.5")
    with pytest.raises(InsufficientCredits) as raised:
        await ask(it, streams, plan(id=it.call))
    assert raised.value.required > raised.value.available
    it.check(None)
    assert await requests(it.call) == [], "the model was not called"


@streams
async def test_an_outage_stops_the_call(bench: Benches, streams: bool) -> None:
    it = bench(credits_address="http://127.0.0.1:9", deadline_seconds=0.2)
    with pytest.raises(Unavailable):
        await ask(it, streams, plan(id=it.call))
    assert await requests(it.call) == [], "the model was not called"


@streams
async def test_an_unknown_model_stops_the_call(bench: Benches, streams: bool) -> None:
    it = bench(model="unknown")
    with pytest.raises(Refused, match="model"):
        await ask(it, streams, plan(id=it.call))
    assert await requests(it.call) == [], "the model was not called"


@streams
async def test_an_underestimate_takes_what_the_balance_has(bench: Benches, streams: bool) -> None:
    it = bench(estimate=lambda _: {"input_tokens": 1})
    await ask(it, streams, plan(input=5000, output=30))
    it.check({"input_tokens": 5000, "output_tokens": 30})


@streams
async def test_units_without_a_rate_are_charged_as_their_parents(bench: Benches, streams: bool) -> None:
    it = bench(operation="two-rates")
    await ask(it, streams, plan(cached=40, cache_write=2, reasoning=9))
    it.check({"input_tokens": 52, "output_tokens": 29}, operation="two-rates")


async def test_a_stream_without_usage_is_estimated(bench: Benches) -> None:
    await ask_without_usage(bench(), True)


@pytest.mark.parametrize("bench", [Chat, Responses, LangChainOpenAI], indirect=True)
async def test_an_answer_without_usage_is_estimated(bench: Benches) -> None:
    await ask_without_usage(bench(), False)


async def ask_without_usage(it: Bench, streams: bool) -> None:
    text = plan(usage=False, output=3)
    await ask(it, streams, text)
    await it.check_estimate(text, "word1 word2 word3 ")


only_async = pytest.mark.parametrize("is_async", ["async"], indirect=True)


@only_async
async def test_a_cancelled_task_settles_what_was_streamed(bench: Benches) -> None:
    it = bench()
    text = plan(id=it.call, stall_after=3)
    streamed: list[str] = []
    waiting = asyncio.Event()

    async def consume() -> None:
        async for event in await it.provider.stream(text):
            streamed.append(it.provider.text_of(event))
            if "word3 " in streamed:
                waiting.set()

    task = asyncio.create_task(consume())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await it.check_estimate(text, "".join(streamed))
    assert [request["closed"] for request in await requests(it.call)] == [True]


@only_async
@pytest.mark.parametrize("bench", [Chat, Responses, Messages, LangChainOpenAI], indirect=True)
async def test_a_cancelled_task_without_an_answer_costs_nothing(bench: Benches) -> None:
    it = bench()
    task = asyncio.create_task(it.provider.plain(plan(id=it.call, stall_after=0)))
    await it.provider.asked.wait()
    assert it.workspace.get_balance()["held"] != "0"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await it.check_released()
    it.check(None)
