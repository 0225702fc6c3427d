"""Checks the ways through the SDKs of OpenAI and Anthropic: all of them are gated, or raise `NotGated`."""

import gc
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import openai
import pydantic
import pytest

from ai_credits import NotGated
from bench import Bench
from providers import MAX_TOKENS, MODEL, Chat, Messages, Responses, awaited, plan, requests

pytestmark = pytest.mark.anyio

Benches = Callable[..., Bench]
USED = {"input_tokens": 10, "output_tokens": 20}
chat = pytest.mark.parametrize("bench", [Chat], indirect=True)
responses = pytest.mark.parametrize("bench", [Responses], indirect=True)
messages = pytest.mark.parametrize("bench", [Messages], indirect=True)
sdks = pytest.mark.parametrize("bench", [Chat, Responses, Messages], indirect=True)


class Answer(pydantic.BaseModel):
    name: str


def question(text: str) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}]}


def helper(it: Bench, text: str) -> Any:
    """Returns the stream of the SDK's helper, as a context manager."""
    sdk = it.provider.sdk
    if isinstance(it.provider, Messages):
        return sdk.messages.stream(**question(text), max_tokens=MAX_TOKENS)
    if isinstance(it.provider, Responses):
        return sdk.responses.stream(model=MODEL, input=text, max_output_tokens=MAX_TOKENS)
    return sdk.chat.completions.stream(**question(text), max_completion_tokens=MAX_TOKENS)


async def read_helper(it: Bench, text: str, stop_after: int | None = None) -> str:
    """Reads a stream of a helper to its end, or leaves its context after a number of texts. Returns what was read."""
    kind = {Chat: "content.delta", Responses: "response.output_text.delta", Messages: "text"}[type(it.provider)]
    field = "text" if kind == "text" else "delta"
    texts = []
    if it.provider.is_async:
        async with helper(it, text) as stream:
            async for event in stream:
                texts += [getattr(event, field)] if event.type == kind else []
                if len(texts) == stop_after:
                    break
    else:
        with helper(it, text) as stream:
            for event in stream:
                texts += [getattr(event, field)] if event.type == kind else []
                if len(texts) == stop_after:
                    break
    return "".join(texts)


@sdks
async def test_a_helper_stream_costs_its_price(bench: Benches) -> None:
    it = bench()
    await read_helper(it, plan())
    it.check(USED)


@sdks
async def test_leaving_a_helper_stream_settles_it(bench: Benches) -> None:
    it = bench()
    text = plan(id=it.call, stall_after=3)
    streamed = await read_helper(it, text, stop_after=3)
    await it.check_estimate(text, streamed)
    assert [request["closed"] for request in await requests(it.call)] == [True]


@chat
async def test_the_chunk_with_the_usage_is_hidden_unless_asked_for(bench: Benches) -> None:
    async def usages(**options: Any) -> list[bool]:
        stream = await it.provider.stream(plan(), **options)
        chunks = [chunk async for chunk in stream] if it.provider.is_async else list(stream)
        return [chunk.usage is not None for chunk in chunks]

    it = bench()
    hidden = await usages()
    assert not any(hidden)
    assert await usages(stream_options={"include_usage": True}) == [*hidden, True]
    assert await usages(stream_options={"include_usage": False}) == hidden
    assert await usages(extra_body={"stream_options": {"include_usage": True}}) == [*hidden, True]


@sdks
async def test_a_stream_that_is_dropped_is_settled(bench: Benches) -> None:
    it = bench()
    stream = await it.provider.stream(plan(stall_after=3))
    await awaited(anext(stream) if it.provider.is_async else next(stream))
    del stream
    if it.provider.is_async:
        gc.collect()
    await it.check_released()


@sdks
async def test_a_parsed_answer_costs_its_price(bench: Benches) -> None:
    it = bench()
    sdk, text = it.provider.sdk, plan(text='{"name": "Ada"}')
    parse: Callable[[], Any] = {
        Chat: lambda: sdk.chat.completions.parse(**question(text), response_format=Answer),
        Responses: lambda: sdk.responses.parse(model=MODEL, input=text, text_format=Answer),
        Messages: lambda: sdk.messages.parse(**question(text), max_tokens=MAX_TOKENS, output_format=Answer),
    }[type(it.provider)]
    assert "=Answer(name='Ada')" in repr(await awaited(parse()))
    it.check(USED)


@chat
async def test_an_answer_that_the_sdk_refuses_to_parse_is_charged(bench: Benches) -> None:
    it = bench()
    request = {**question(plan()), "max_completion_tokens": 5, "response_format": Answer}
    with pytest.raises(openai.LengthFinishReasonError):
        await awaited(it.provider.sdk.chat.completions.parse(**request))
    it.check({"input_tokens": 10, "output_tokens": 5})


@sdks
async def test_a_raw_response_costs_its_price(bench: Benches) -> None:
    it = bench()
    sdk, text = it.provider.sdk, plan()
    create: Callable[[], Any] = {
        Chat: lambda: sdk.chat.completions.with_raw_response.create(**question(text)),
        Responses: lambda: sdk.responses.with_raw_response.create(model=MODEL, input=text),
        Messages: lambda: sdk.messages.with_raw_response.create(**question(text), max_tokens=MAX_TOKENS),
    }[type(it.provider)]
    raw = await awaited(create())
    assert raw.status_code == 200
    assert (await awaited(raw.parse())).usage is not None
    it.check(USED)


@sdks
async def test_a_raw_response_that_is_streamed_is_not_gated(bench: Benches) -> None:
    it = bench()
    resource = it.provider.sdk.messages if isinstance(it.provider, Messages) else it.provider.sdk.chat.completions
    request = {**question(plan(id=it.call)), "max_tokens": MAX_TOKENS}
    with pytest.raises(NotGated, match="raw"):
        await awaited(resource.with_raw_response.create(**request, stream=True))
    with pytest.raises(NotGated, match="raw"):
        if it.provider.is_async:
            async with resource.with_streaming_response.create(**request):
                pass
        else:
            with resource.with_streaming_response.create(**request):
                pass
    assert await requests(it.call) == []
    it.check(None)


@sdks
async def test_a_response_of_another_type_is_not_gated(bench: Benches) -> None:
    it = bench()
    path = {Chat: "/chat/completions", Responses: "/responses", Messages: "/v1/messages"}[type(it.provider)]
    body = {**question(plan(id=it.call)), "max_tokens": MAX_TOKENS}
    with pytest.raises(NotGated, match="usage"):
        await awaited(it.provider.sdk.post(path, body=body, cast_to=object))
    assert await requests(it.call) == []
    it.check(None)


@sdks
async def test_copies_of_a_gated_client_are_gated(bench: Benches) -> None:
    it = bench()
    it.provider.sdk = it.provider.sdk.with_options(max_retries=0).copy(timeout=60)
    assert it.provider.sdk.max_retries == 0
    await it.provider.plain(plan())
    it.check(USED)


@sdks
async def test_each_call_is_settled_by_itself(bench: Benches) -> None:
    it = bench()
    await it.provider.plain(plan(output=2))
    await it.provider.plain(plan(output=3))
    charged = it.price({"input_tokens": 10, "output_tokens": 2}) + it.price({"input_tokens": 10, "output_tokens": 3})
    assert it.charged() == charged


@chat
async def test_messages_may_be_an_iterator(bench: Benches) -> None:
    it = bench()
    request = question(plan())
    request["messages"] = iter(request["messages"])
    await awaited(it.provider.sdk.chat.completions.create(**request))
    it.check(USED)


@messages
async def test_messages_of_anthropic_may_be_an_iterator(bench: Benches) -> None:
    it = bench()
    request = question(plan())
    request["messages"] = iter(request["messages"])
    await awaited(it.provider.sdk.messages.create(**request, max_tokens=MAX_TOKENS))
    it.check(USED)


@messages
async def test_messages_of_the_beta_are_gated(bench: Benches) -> None:
    it = bench()
    await awaited(it.provider.sdk.beta.messages.create(**question(plan()), max_tokens=MAX_TOKENS))
    it.check(USED)


@messages
async def test_each_call_of_a_tool_runner_is_gated(bench: Benches) -> None:
    it = bench()

    def look_up(call: int) -> str:
        """Looks up."""
        return str(call)

    async def look_up_async(call: int) -> str:
        """Looks up."""
        return str(call)

    tool = anthropic.beta_async_tool(look_up_async) if it.provider.is_async else anthropic.beta_tool(look_up)
    request = {**question(plan(functions=1)), "max_tokens": MAX_TOKENS, "tools": [tool]}
    await awaited(it.provider.sdk.beta.messages.tool_runner(**request).until_done())
    assert it.charged() == 2 * it.price(USED)


@responses
async def test_responses_of_the_beta_are_gated(bench: Benches) -> None:
    it = bench()
    await awaited(it.provider.sdk.beta.responses.create(model=MODEL, input=plan()))
    it.check(USED)


@chat
async def test_embeddings_cost_their_price(bench: Benches) -> None:
    it = bench()
    made = await awaited(it.provider.sdk.embeddings.create(model=MODEL, input=[plan(input=7), "more"]))
    assert made.data[1].embedding == [0.25, -0.5, 1]
    it.check({"input_tokens": 7})


Call = Callable[[Any], Awaitable[Any]]


@chat
@pytest.mark.parametrize(
    "call",
    [
        lambda sdk: sdk.images.generate(prompt="a cat"),
        lambda sdk: sdk.audio.speech.create(input="cat", model="m", voice="alloy"),
        lambda sdk: sdk.audio.transcriptions.create(file=b"cat", model="m"),
        lambda sdk: sdk.completions.create(prompt="cat", model="m"),
        lambda sdk: sdk.batches.create(completion_window="24h", endpoint="/v1/responses", input_file_id="f"),
        lambda sdk: sdk.responses.compact(model="m", input="cat"),
        lambda sdk: sdk.responses.create(model="m", input="cat", background=True),
        lambda sdk: sdk.responses.create(input="cat", prompt={"id": "p"}),
        lambda sdk: sdk.post("https://api.example/v1/chat/completions", body={}, cast_to=object),
    ],
)
async def test_other_calls_of_openai_are_not_gated(bench: Benches, call: Call) -> None:
    it = bench()
    with pytest.raises(NotGated):
        await awaited(call(it.provider.sdk))
    it.check(None)


@chat
async def test_a_websocket_of_openai_is_not_gated(bench: Benches) -> None:
    it = bench()
    for connect in (it.provider.sdk.responses.connect, lambda: it.provider.sdk.realtime.connect(model="m")):
        with pytest.raises(Exception, match="not-gated-by-ai-credits"):
            if it.provider.is_async:
                async with connect():
                    pass
            else:
                with connect():
                    pass


@messages
@pytest.mark.parametrize(
    "call",
    [
        lambda sdk: sdk.messages.batches.create(requests=[]),
        lambda sdk: sdk.beta.messages.batches.create(requests=[]),
        lambda sdk: sdk.beta.sessions.create(agent="a", environment_id="e"),
    ],
)
async def test_other_calls_of_anthropic_are_not_gated(bench: Benches, call: Call) -> None:
    it = bench()
    with pytest.raises(NotGated):
        await awaited(call(it.provider.sdk))
    it.check(None)


@chat
async def test_calls_that_no_model_answers_pass(bench: Benches) -> None:
    it = bench()
    sdk = it.provider.sdk
    calls: list[Callable[[], Any]] = [
        lambda: sdk.models.retrieve("m"),
        lambda: sdk.responses.input_tokens.count(model="m", input="cat"),
        lambda: sdk.moderations.create(input="cat"),
        lambda: sdk.files.create(file=b"cat", purpose="user_data"),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError):
            await awaited(call())
    it.check(None)


@messages
async def test_counting_tokens_passes(bench: Benches) -> None:
    it = bench()
    with pytest.raises(anthropic.NotFoundError):
        await awaited(it.provider.sdk.messages.count_tokens(**question("cat")))
    it.check(None)
