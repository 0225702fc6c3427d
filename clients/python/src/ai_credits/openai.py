"""Gates a client of OpenAI: chat completions, responses and embeddings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from openai import AsyncOpenAI, OpenAI
from openai import AsyncStream as OpenAIAsyncStream
from openai import Stream as OpenAIStream

from . import gated
from .errors import NotGated
from .estimate import input_tokens
from .gated import DEFAULT_MAX_TOKENS, CreditsOptions, GatedRequest, Provider
from .meter import ChatCompletionMeter, EmbeddingMeter, ResponseMeter
from .usage import chat_completion_units, embedding_units, response_units
from .workspace import AsyncWorkspace, Workspace

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["CreditsOptions", "chat_completion_units", "embedding_units", "response_units", "with_credits"]

Blocking = TypeVar("Blocking", bound=OpenAI)
Asynchronous = TypeVar("Asynchronous", bound=AsyncOpenAI)

FREE = re.compile(
    r"/(files|uploads(/.*)?|moderations|conversations(/.*)?|responses/(input_tokens|[^/]+/cancel)|chat/completions/[^/]+)"
)
"""The POSTs that no model answers, or for which OpenAI charges nothing."""
NO_WEBSOCKETS = "not-gated-by-ai-credits://use-the-client-that-was-given-to-with_credits"
"""The address of WebSockets. Its scheme makes each connection fail, with this text in the error."""


@overload
def with_credits(client: Blocking, workspace: Workspace, **options: Unpack[CreditsOptions]) -> Blocking: ...


@overload
def with_credits(
    client: Asynchronous, workspace: AsyncWorkspace, **options: Unpack[CreditsOptions]
) -> Asynchronous: ...


def with_credits(client: Any, workspace: Any, **options: Unpack[CreditsOptions]) -> Any:
    """Returns a copy of a client whose chat completions, responses and embeddings are paid with credits.

    Other calls of a model raise `NotGated`. The given client is not changed. A copy is cheap: make one for each
    request of a user.
    """
    gate = gated.async_gated_client if isinstance(client, AsyncOpenAI) else gated.gated_client
    copied = gate(client, workspace, options, PROVIDER)
    copied.websocket_base_url = NO_WEBSOCKETS
    return copied


class _Stream(gated.Stream, OpenAIStream[Any]):
    pass


class _AsyncStream(gated.AsyncStream, OpenAIAsyncStream[Any]):
    pass


def _gate(path: str, body: Mapping[str, Any], options: CreditsOptions) -> GatedRequest | None:
    if path == "/chat/completions":
        return _chat_completion(body, options)
    if path == "/responses":
        return _response(body, options)
    if path == "/embeddings":
        units = _estimate(body, options) or {"input_tokens": input_tokens(body.get("input"))}
        return GatedRequest(body.get("model", ""), units, EmbeddingMeter(units))
    if FREE.fullmatch(path):
        return None
    raise NotGated(f"POST {path} of OpenAI is not gated; make it with the client that was given to with_credits")


def _chat_completion(body: Mapping[str, Any], options: CreditsOptions) -> GatedRequest:
    schemas = (body.get("tools"), body.get("functions"), body.get("response_format"))
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or _default(options)
    units = _estimate(body, options) or {
        "input_tokens": input_tokens(body.get("messages"), schemas),
        "output_tokens": limit * (body.get("n") or 1),
    }
    stream_options = body.get("stream_options") or {}
    changes = {"stream_options": {**stream_options, "include_usage": True}} if body.get("stream") else {}
    meter = ChatCompletionMeter(units, hides_usage=not stream_options.get("include_usage"))
    return GatedRequest(body.get("model", ""), units, meter, changes)


def _response(body: Mapping[str, Any], options: CreditsOptions) -> GatedRequest:
    if body.get("background"):
        raise NotGated("a response of OpenAI in the background is not gated, because its usage comes later")
    if "model" not in body:
        raise NotGated("a response of OpenAI without a model is not gated, because it has no price")
    texts = (body.get("input"), body.get("instructions"), (body.get("prompt") or {}).get("variables"))
    units = _estimate(body, options) or {
        "input_tokens": input_tokens(texts, (body.get("tools"), body.get("text"))),
        "output_tokens": body.get("max_output_tokens") or _default(options),
    }
    return GatedRequest(body["model"], units, ResponseMeter(units))


def _estimate(body: Mapping[str, Any], options: CreditsOptions) -> Mapping[str, int] | None:
    estimate = options.get("estimate")
    return estimate(body) if estimate else None


def _default(options: CreditsOptions) -> int:
    return options.get("default_max_tokens", DEFAULT_MAX_TOKENS)


PROVIDER = Provider(_gate, _Stream, _AsyncStream)
