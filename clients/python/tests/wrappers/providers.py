"""Calls the same models through each wrapper, blocking and asynchronous, in one way."""

import asyncio
import inspect
import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import httpx
import httpx2
import langchain_anthropic
import langchain_openai
import openai

import ai_credits.anthropic
import ai_credits.openai
from ai_credits import AICredits, AsyncAICredits
from ai_credits.langchain import AsyncCreditsHandler, CreditsHandler
from stack import ADDRESS, CONSUMER, TOKEN

MODELS = os.environ["AI_CREDITS_MODELS"]
MODEL = "test-model"
MAX_TOKENS = 200
TOOL = {"type": "object", "properties": {"call": {"type": "integer"}}}


class Provider:
    """A model behind a wrapper. `is_async` chooses between the two clients of the SDK and of AI Credits."""

    reads_input_first = False
    """Whether a stream begins with the usage of the input."""
    server_tools: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, is_async: bool, workspace: str, **options: Any) -> None:
        self.is_async = is_async
        address = options.pop("credits_address", ADDRESS)
        kind = AsyncAICredits if is_async else AICredits
        self.credits: Any = kind(address, TOKEN, deadline_seconds=options.pop("deadline_seconds", 30))
        options = {"operation": "chat", "consumer": CONSUMER, **options}
        self.asked = asyncio.Event()
        """Whether the asynchronous SDK has sent a request to the model."""
        self.http: Any = httpx2.AsyncClient(event_hooks={"request": [self.note]}) if is_async else httpx2.Client()
        self.sdk: Any = self.make(self.credits.workspace(workspace), options)

    async def note(self, request: object) -> None:
        self.asked.set()

    def make(self, workspace: Any, options: dict[str, Any]) -> Any:
        """Returns the gated client."""
        raise NotImplementedError

    async def plain(self, text: str, **changes: Any) -> Any:
        return await awaited(self.call(text, changes))

    async def stream(self, text: str, **changes: Any) -> Any:
        return await awaited(self.call(text, {"stream": True, **changes}))

    def call(self, text: str, changes: dict[str, Any]) -> Any:
        raise NotImplementedError

    def text_of(self, event: Any) -> str:
        """Returns the text of an event of a stream."""
        raise NotImplementedError

    def estimate(self, text: str) -> int:
        """Returns the tokens that the wrapper estimates for a request with this text."""
        return -(-len(text.encode()) // 3)

    async def close(self) -> None:
        await awaited(self.http.aclose() if self.is_async else self.http.close())
        await awaited(self.credits.aclose() if self.is_async else self.credits.close())


class Chat(Provider):
    def make(self, workspace: Any, options: dict[str, Any]) -> Any:
        kind: Any = openai.AsyncOpenAI if self.is_async else openai.OpenAI
        client = kind(api_key="key", base_url=f"{MODELS}/v1", http_client=self.http)
        return ai_credits.openai.with_credits(client, workspace, **options)

    def call(self, text: str, changes: dict[str, Any]) -> Any:
        if changes.pop("function", False):
            changes["tools"] = [{"type": "function", "function": {"name": "look_up", "parameters": TOOL}}]
        messages = [{"role": "user", "content": text}]
        request = {"model": MODEL, "messages": messages, "max_completion_tokens": MAX_TOKENS, **changes}
        return self.sdk.chat.completions.create(**request)

    def text_of(self, event: Any) -> str:
        return event.choices[0].delta.content or "" if event.choices else ""

    def estimate(self, text: str) -> int:
        return super().estimate(f"user{text}")


class Responses(Chat):
    server_tools = {"web_search": 2, "file_search": 1, "code_interpreter": 1}  # noqa: RUF012

    def call(self, text: str, changes: dict[str, Any]) -> Any:
        if changes.pop("function", False):
            changes["tools"] = [{"type": "function", "name": "look_up", "parameters": TOOL, "strict": False}]
        request = {"model": MODEL, "input": text, "max_output_tokens": MAX_TOKENS, **changes}
        return self.sdk.responses.create(**request)

    def text_of(self, event: Any) -> str:
        return event.delta if event.type == "response.output_text.delta" else ""

    def estimate(self, text: str) -> int:
        return Provider.estimate(self, text)


class Messages(Provider):
    reads_input_first = True
    server_tools = {"web_search": 2, "web_fetch": 1}  # noqa: RUF012

    def make(self, workspace: Any, options: dict[str, Any]) -> Any:
        kind: Any = anthropic.AsyncAnthropic if self.is_async else anthropic.Anthropic
        client = kind(api_key="key", base_url=MODELS, http_client=self.http)
        return ai_credits.anthropic.with_credits(client, workspace, **options)

    def call(self, text: str, changes: dict[str, Any]) -> Any:
        if changes.pop("function", False):
            changes["tools"] = [{"name": "look_up", "input_schema": TOOL}]
        messages = [{"role": "user", "content": text}]
        return self.sdk.messages.create(**{"model": MODEL, "messages": messages, "max_tokens": MAX_TOKENS, **changes})

    def text_of(self, event: Any) -> str:
        return event.delta.text if event.type == "content_block_delta" and event.delta.type == "text_delta" else ""


class LangChain(Provider):
    """A chat model of LangChain with the handler."""

    def make(self, workspace: Any, options: dict[str, Any]) -> Any:
        handler = AsyncCreditsHandler if self.is_async else CreditsHandler
        self.config = {"callbacks": [handler(workspace, **options)]}
        return self.model()

    def model(self) -> Any:
        raise NotImplementedError

    def call(self, text: str, changes: dict[str, Any]) -> Any:
        model = self.sdk
        if changes.pop("function", False):
            model = model.bind_tools([{"name": "look_up", "description": "Looks up.", "parameters": TOOL}])
        if changes.pop("stream", False):
            return model.astream(text, self.config) if self.is_async else model.stream(text, self.config)
        return model.ainvoke(text, self.config) if self.is_async else model.invoke(text, self.config)

    def text_of(self, event: Any) -> str:
        text: str = event.text
        return text


class LangChainOpenAI(LangChain):
    def model(self) -> Any:
        kind: Any = langchain_openai.ChatOpenAI
        return kind(
            model=MODEL,
            api_key="key",
            base_url=f"{MODELS}/v1",
            **{"http_async_client" if self.is_async else "http_client": self.http},
            max_completion_tokens=MAX_TOKENS,
            stream_usage=True,
        )


class LangChainAnthropic(LangChain):
    server_tools = {"web_search": 2, "web_fetch": 1}  # noqa: RUF012

    def model(self) -> Any:
        kind: Any = langchain_anthropic.ChatAnthropic
        return kind(model=MODEL, api_key="key", base_url=MODELS, max_tokens=MAX_TOKENS)


PROVIDERS = [Chat, Responses, Messages, LangChainOpenAI, LangChainAnthropic]


async def awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def read(stream: AsyncIterator[Any] | Iterator[Any], provider: Provider, stop_after: int | None = None) -> str:
    """Reads a stream to its end, or leaves the loop after a number of texts. Returns the text that was read."""
    texts = []
    if isinstance(stream, AsyncIterator):
        async for event in stream:
            texts += [text] if (text := provider.text_of(event)) else []
            if len(texts) == stop_after:
                break
    else:
        for event in stream:
            texts += [text] if (text := provider.text_of(event)) else []
            if len(texts) == stop_after:
                break
    return "".join(texts)


async def requests(call: str) -> list[dict[str, Any]]:
    """Returns the requests of a call that the model has received. Waits until they have ended."""
    async with httpx.AsyncClient(timeout=60) as http:
        listed = await http.get(f"{MODELS}/_requests", params={"id": call})
    found: list[dict[str, Any]] = listed.json()["requests"]
    return found


def plan(**fields: Any) -> str:
    return json.dumps(fields)
