"""Checks the handlers of LangChain beyond what all wrappers have in common."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, FakeListLLM
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from ai_credits import InsufficientCredits
from ai_credits.langchain import WrongHandler
from bench import Bench
from providers import MODEL, LangChainAnthropic, LangChainOpenAI, plan, requests

pytestmark = pytest.mark.anyio

Benches = Callable[..., Bench]
USED = {"input_tokens": 10, "output_tokens": 20}
langchain = pytest.mark.parametrize("bench", [LangChainOpenAI, LangChainAnthropic], indirect=True)
one = pytest.mark.parametrize("bench", [LangChainOpenAI], indirect=True)


class Partial(BaseChatModel):
    """A model that reports its input first, and fails before it has reported its output."""

    model: str = MODEL

    @property
    def _llm_type(self) -> str:
        return "partial"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        usage: Any = {"input_tokens": 77, "output_tokens": 0, "total_tokens": 77}
        yield ChatGenerationChunk(message=AIMessageChunk(content="four", usage_metadata=usage))
        raise RuntimeError("no more")


async def invoke(it: Bench, model: Any, text: Any) -> Any:
    config = it.provider.config  # type: ignore[attr-defined]
    return await model.ainvoke(text, config) if it.provider.is_async else model.invoke(text, config)


@langchain
async def test_each_call_of_a_batch_is_settled(bench: Benches) -> None:
    it = bench()
    texts = [plan(output=2), plan(output=3), plan(output=4)]
    config = it.provider.config  # type: ignore[attr-defined]
    model = it.provider.sdk
    assert len(await model.abatch(texts, config) if it.provider.is_async else model.batch(texts, config)) == 3
    counts = [{"input_tokens": 10, "output_tokens": count} for count in (2, 3, 4)]
    assert it.charged() == sum(map(it.price, counts))
    await it.check_released()


@one
async def test_an_answer_of_the_cache_costs_nothing(bench: Benches) -> None:
    it = bench()
    it.provider.sdk.cache = InMemoryCache()
    text = plan(id=it.call)
    first = await invoke(it, it.provider.sdk, text)
    second = await invoke(it, it.provider.sdk, text)
    assert first.text == second.text
    it.check(USED)
    assert len(await requests(it.call)) == 1


@one
async def test_a_completion_model_is_gated(bench: Benches) -> None:
    it = bench(model=MODEL)
    assert await invoke(it, FakeListLLM(responses=["12345"]), "123456") == "12345"
    it.check({"input_tokens": 2, "output_tokens": 2}, estimated=True)


@one
async def test_a_completion_model_is_not_called_without_credits(bench: Benches) -> None:
    it = bench("0.1", model=MODEL)
    model = FakeListLLM(responses=["12345"])
    with pytest.raises(InsufficientCredits):
        await invoke(it, model, "123456")
    assert model.i == 0


@one
@pytest.mark.parametrize("is_async", ["blocking"], indirect=True)
async def test_the_reported_input_of_a_failed_stream_counts(bench: Benches) -> None:
    it = bench()
    with pytest.raises(RuntimeError, match="no more"):
        list(Partial().stream("hello", it.provider.config))  # type: ignore[attr-defined]
    it.check({"input_tokens": 77, "output_tokens": 1}, estimated=True)


@langchain
@pytest.mark.parametrize("is_async", ["blocking"], indirect=True)
async def test_the_blocking_handler_gates_asynchronous_calls(bench: Benches) -> None:
    it = bench()
    await it.provider.sdk.ainvoke(plan(), it.provider.config)  # type: ignore[attr-defined]
    it.check(USED)


@langchain
@pytest.mark.parametrize("is_async", ["async"], indirect=True)
async def test_the_asynchronous_handler_stops_a_call_that_blocks(bench: Benches) -> None:
    it = bench()
    with pytest.raises(WrongHandler, match="CreditsHandler"):
        it.provider.sdk.invoke(plan(id=it.call), it.provider.config)  # type: ignore[attr-defined]
    assert await requests(it.call) == [], "the model was not called"
    it.check(None)
