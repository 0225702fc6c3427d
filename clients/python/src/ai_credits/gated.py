"""Gates the clients of OpenAI and Anthropic, which are built alike.

Each request of their clients goes through the method `request`, with the SDK's retries inside. A gated copy of a client
has another `request`: it places a hold, calls the given one, and settles with the usage of the response.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, cast
from urllib.parse import urlsplit

from .call import AsyncCall, Call, CallOrder, Overrun
from .errors import NotGated, attach
from .meter import Ending, Meter
from .schema import ConsumerAsked
from .usage import plain

if TYPE_CHECKING:
    from .workspace import AsyncWorkspace, Workspace

RAW_RESPONSE_HEADER = "X-Stainless-Raw-Response"
DEFAULT_MAX_TOKENS = 4_096
CALL_FIELDS = frozenset({"operation", "consumer", "metadata", "ttl_seconds", "overrun"})


class _CreditsOptions(TypedDict):
    operation: str
    consumer: ConsumerAsked


class CreditsOptions(_CreditsOptions, total=False):
    """How the calls of a model are priced, and for whom."""

    model: str | Callable[[str], str | None]
    """The model of the rate card, or a function that returns it for the provider's name, which is the default."""
    metadata: Mapping[str, str]
    ttl_seconds: int
    """How long a hold stays open if it is not settled. Default: 900."""
    overrun: Overrun
    """What happens if a call costs more than is held. Default: `take_available`, which is never refused."""
    default_max_tokens: int
    """The output that is held for a request without a limit. Default: 4,096."""
    estimate: Callable[[Mapping[str, Any]], Mapping[str, int]]
    """Returns an upper bound of what a request uses. Default: an estimate by the size of its texts, and its limit."""


@dataclass(frozen=True)
class GatedRequest:
    """A request for a model."""

    model: str
    units: Mapping[str, int]
    """An upper bound of what it uses."""
    meter: Meter
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What is sent in place of the fields of the body."""


Gate = Callable[[str, Mapping[str, Any], CreditsOptions], GatedRequest | None]
"""Returns what a POST uses. None if it is free. Raises `NotGated` if it can't be gated."""


@dataclass(frozen=True)
class Provider:
    """The parts of an SDK's wrapper."""

    gate: Gate
    stream: type[Stream]
    async_stream: type[AsyncStream]


def call_order(model: str, units: Mapping[str, int], options: CreditsOptions) -> CallOrder:
    """Returns the order of a call of a model."""
    given = options.get("model", model)
    priced = given(model) if callable(given) else given
    order = {name: value for name, value in options.items() if name in CALL_FIELDS}
    return cast("CallOrder", {**order, "units": units, **({"model": priced} if priced else {})})


def gated_client(client: Any, workspace: Workspace, options: CreditsOptions, provider: Provider) -> Any:
    """Returns a gated copy of a client that blocks."""
    gated, request = _copied(client, lambda changed: gated_client(changed, workspace, options, provider))

    def gated_request(cast_to: Any, given: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        asked = _asked(cast_to, given, stream, options, provider.gate)
        if asked is None:
            return request(cast_to, given, stream=stream, stream_cls=stream_cls)
        settlement = Settlement(workspace.begin(call_order(asked.model, asked.units, options)), asked.meter)
        try:
            answer = request(cast_to, _prepared(given, asked), stream=stream, stream_cls=stream_cls)
            if stream:
                return provider.stream(answer, settlement)
            if _raw(given):
                with suppress(Exception):  # The caller's own `parse` raises it again.
                    answer.parse()
        except BaseException as error:
            settlement.settle(ending_of(error), error)
            raise
        settlement.settle("complete")
        return answer

    gated.request = gated_request
    return gated


def async_gated_client(client: Any, workspace: AsyncWorkspace, options: CreditsOptions, provider: Provider) -> Any:
    """Returns a gated copy of an asynchronous client."""
    gated, request = _copied(client, lambda changed: async_gated_client(changed, workspace, options, provider))

    async def gated_request(cast_to: Any, given: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        asked = _asked(cast_to, given, stream, options, provider.gate)
        if asked is None:
            return await request(cast_to, given, stream=stream, stream_cls=stream_cls)
        call = await workspace.begin(call_order(asked.model, asked.units, options))
        settlement = AsyncSettlement(call, asked.meter)
        try:
            answer = await request(cast_to, _prepared(given, asked), stream=stream, stream_cls=stream_cls)
            if stream:
                return provider.async_stream(answer, settlement)
            if _raw(given):
                with suppress(Exception):  # The caller's own `parse` raises it again.
                    parsed = answer.parse()
                    await parsed if inspect.isawaitable(parsed) else None
        except BaseException as error:
            await settlement.settle(ending_of(error), error)
            raise
        await settlement.settle("complete")
        return answer

    gated.request = gated_request
    return gated


def _copied(client: Any, gate: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Returns a copy of a client, whose own copies are gated too, and its `request`."""
    copied = client.copy()
    copy_of_copy = copied.copy
    copied.copy = copied.with_options = lambda **changed: gate(copy_of_copy(**changed))
    return copied, copied.request


def _asked(cast_to: Any, given: Any, stream: bool, options: CreditsOptions, gate: Gate) -> GatedRequest | None:
    if given.method.lower() != "post":
        return None
    body = given.json_data if isinstance(given.json_data, Mapping) else {}
    asked = gate(urlsplit(given.url).path, {**body, **(given.extra_json or {})}, options)
    if asked and _raw(given) and (stream or _raw(given) == "stream"):
        raise NotGated("a raw response that is streamed is not gated; use stream=True without with_raw_response")
    if asked and not hasattr(cast_to, "to_dict"):
        raise NotGated(f"a response of the type {cast_to!r} is not gated, because its usage can't be read")
    return asked


def _raw(given: Any) -> str | None:
    """Returns `true` for a raw response, and `stream` for one whose body is read later."""
    headers = given.headers if isinstance(given.headers, Mapping) else {}
    raw: str | None = headers.get(RAW_RESPONSE_HEADER)
    return raw


def _prepared(given: Any, asked: GatedRequest) -> Any:
    """Returns the options of a request whose response is read by the meter before anything else can fail."""
    prepared = copy.copy(given)
    if asked.changes:
        prepared.extra_json = {**(given.extra_json or {}), **asked.changes}
    parse = given.post_parser

    def read(parsed: Any) -> Any:
        asked.meter.response(plain(parsed))
        return parse(parsed) if callable(parse) else parsed

    prepared.post_parser = read
    return prepared


def ending_of(error: BaseException) -> Ending:
    """Returns how a response ended. An abort is no `Exception`: a closed generator, a cancelled task, an interrupt."""
    return "failed" if isinstance(error, Exception) else "stopped"


class Settlement:
    """Settles a call once, with what its response used."""

    def __init__(self, call: Call, meter: Meter) -> None:
        self.call = call
        self.meter = meter
        self.reading = False
        """Whether the next event of the stream is awaited. Then the reader settles, which sees how the stream ends."""
        self._done = False

    def settle(self, ending: Ending, error: BaseException | None = None) -> None:
        if self._done:
            return
        self._done = True
        used = self.meter.used(ending)
        try:
            self.call.cancel() if used is None else self.call.finish(used.units, estimated=used.estimated)
        except Exception as later:
            if error is None:
                raise
            attach(error, later)


class AsyncSettlement:
    """Settles a call once, with what its response used."""

    def __init__(self, call: AsyncCall, meter: Meter) -> None:
        self.call = call
        self.meter = meter
        self.reading = False
        self._done = False

    async def settle(self, ending: Ending, error: BaseException | None = None) -> None:
        if self._done:
            return
        self._done = True
        used = self.meter.used(ending)
        try:
            await (self.call.cancel() if used is None else self.call.finish(used.units, estimated=used.estimated))
        except Exception as later:
            if error is None:
                raise
            attach(error, later)


class Stream:
    """Makes a stream of an SDK settle its call: at its end, at an error, or when the consumer stops."""

    def __init__(self, given: Any, settlement: Settlement) -> None:
        self.__dict__.update(vars(given))
        self._iterator = _metered(given._iterator, settlement)
        close = given.response.close

        def close_and_settle() -> None:
            close()
            if not settlement.reading:
                settlement.settle("stopped")

        # The SDK's helpers close the response, not the stream.
        given.response.close = close_and_settle

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from super().__iter__()  # type: ignore[misc]
        finally:
            self.close()  # type: ignore[attr-defined]


class AsyncStream:
    """Makes a stream of an SDK settle its call: at its end, at an error, or when the consumer stops."""

    def __init__(self, given: Any, settlement: AsyncSettlement) -> None:
        self.__dict__.update(vars(given))
        self._iterator = _async_metered(given._iterator, settlement)
        close = given.response.aclose

        async def close_and_settle() -> None:
            await close()
            if not settlement.reading:
                await settlement.settle("stopped")

        # The SDK's helpers close the response, not the stream.
        given.response.aclose = close_and_settle

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for event in super().__aiter__():  # type: ignore[misc]
                yield event
        finally:
            await self.close()  # type: ignore[attr-defined]


# These are functions, not methods: a generator that refers to its stream would keep a dropped stream from being closed.


def _metered(events: Iterator[Any], settlement: Settlement) -> Iterator[Any]:
    try:
        settlement.reading = True
        for event in events:
            settlement.reading = False
            fate = settlement.meter.event(plain(event))
            if fate == "last":
                settlement.settle("complete")
            if fate != "hide":
                yield event
            settlement.reading = True
    except BaseException as error:
        settlement.settle(ending_of(error), error)
        raise
    settlement.settle("complete")


async def _async_metered(events: AsyncIterator[Any], settlement: AsyncSettlement) -> AsyncIterator[Any]:
    try:
        settlement.reading = True
        async for event in events:
            settlement.reading = False
            fate = settlement.meter.event(plain(event))
            if fate == "last":
                await settlement.settle("complete")
            if fate != "hide":
                yield event
            settlement.reading = True
    except BaseException as error:
        await settlement.settle(ending_of(error), error)
        raise
    await settlement.settle("complete")
