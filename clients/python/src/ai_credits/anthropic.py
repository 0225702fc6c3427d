"""Gates a client of Anthropic: messages, those of `beta` too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from anthropic import Anthropic, AsyncAnthropic
from anthropic import AsyncStream as AnthropicAsyncStream
from anthropic import Stream as AnthropicStream

from . import gated
from .errors import NotGated
from .estimate import input_tokens
from .gated import DEFAULT_MAX_TOKENS, CreditsOptions, GatedRequest, Provider
from .meter import MessageMeter
from .usage import message_units
from .workspace import AsyncWorkspace, Workspace

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["CreditsOptions", "message_units", "with_credits"]

Blocking = TypeVar("Blocking", bound=Anthropic)
Asynchronous = TypeVar("Asynchronous", bound=AsyncAnthropic)

FREE = re.compile(r"/v1/(messages/count_tokens|messages/batches/[^/]+/cancel|files)")
"""The POSTs that no model answers."""


@overload
def with_credits(client: Blocking, workspace: Workspace, **options: Unpack[CreditsOptions]) -> Blocking: ...


@overload
def with_credits(
    client: Asynchronous, workspace: AsyncWorkspace, **options: Unpack[CreditsOptions]
) -> Asynchronous: ...


def with_credits(client: Any, workspace: Any, **options: Unpack[CreditsOptions]) -> Any:
    """Returns a copy of a client whose messages are paid with credits.

    Other calls of a model raise `NotGated`. The given client is not changed. A copy is cheap: make one for each
    request of a user.
    """
    gate = gated.async_gated_client if isinstance(client, AsyncAnthropic) else gated.gated_client
    return gate(client, workspace, options, PROVIDER)


class _Stream(gated.Stream, AnthropicStream[Any]):
    pass


class _AsyncStream(gated.AsyncStream, AnthropicAsyncStream[Any]):
    pass


def _gate(path: str, body: Mapping[str, Any], options: CreditsOptions) -> GatedRequest | None:
    if FREE.fullmatch(path):
        return None
    if path != "/v1/messages":
        raise NotGated(f"POST {path} of Anthropic is not gated; make it with the client that was given to with_credits")
    estimate = options.get("estimate")
    schemas = (body.get("tools"), body.get("output_config"))
    units = (estimate and estimate(body)) or {
        "input_tokens": input_tokens((body.get("messages"), body.get("system")), schemas),
        "output_tokens": body.get("max_tokens") or options.get("default_max_tokens", DEFAULT_MAX_TOKENS),
    }
    return GatedRequest(body.get("model", ""), units, MessageMeter(units))


PROVIDER = Provider(_gate, _Stream, _AsyncStream)
