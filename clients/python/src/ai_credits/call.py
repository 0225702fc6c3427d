"""An AI call: holds an upper bound before the model is called, and settles what it used."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

from .errors import AICreditsError, attach
from .schema import ConsumerAsked, Hold
from .send import CallOptions, Settings, exchange, path_of
from .steps import Asynchronous, Blocking, Steps, operation

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .client import AICredits, AsyncAICredits

T = TypeVar("T")
LOGGER = logging.getLogger("ai_credits")
TTL_SECONDS = 900
MAX_METADATA_PAIRS = 10
MAX_METADATA_BYTES = 512

Overrun = Literal["refuse", "extend", "take_available"]


class _CallOrder(TypedDict):
    operation: str
    units: Mapping[str, int]
    """An upper bound of what the call uses."""
    consumer: ConsumerAsked


class CallOrder(_CallOrder, total=False):
    """An AI call that is about to be made."""

    model: str | None
    metadata: Mapping[str, str] | None
    ttl_seconds: int
    """How long the hold stays open if it is not settled. Default: 900."""
    overrun: Overrun
    """What happens if the call costs more than is held. Default: `take_available`, which is never refused."""


@dataclass(frozen=True)
class Placed:
    """A hold, with the data of its settlement."""

    settings: Settings
    workspace: str
    order: CallOrder
    key: str
    hold: Hold

    def settle(self, body: Mapping[str, object]) -> Steps[Hold]:
        path = path_of("workspaces", self.workspace, "holds", self.hold["hold_id"], "settle")
        return exchange(self.settings, "POST", path, body, idempotency_key=f"{self.key}/settle")


@dataclass(frozen=True)
class Used:
    """The usage of a call."""

    units: Mapping[str, int]
    model: str | None = None
    """The model that prices the call. None: the hold's."""
    estimated: bool = False


def place(settings: Settings, workspace: str, order: CallOrder, **options: Unpack[CallOptions]) -> Steps[Placed]:
    """Places the hold of a call."""
    key = options["idempotency_key"] = options.get("idempotency_key") or str(uuid.uuid4())
    path = path_of("workspaces", workspace, "holds")
    body: dict[str, Any] = {"ttl_seconds": TTL_SECONDS, **order}
    body.pop("overrun", None)

    def send(units: dict[str, int]) -> Steps[Hold]:
        return exchange(settings, "POST", path, {**body, "units": units}, **options)

    hold = yield from settings.folds.send(order["operation"], order.get("model"), order["units"], send)
    return Placed(settings, workspace, order, key, hold)


class _Call:
    """The parts that `Call` and `AsyncCall` share."""

    def __init__(self, placed: Placed) -> None:
        self._placed = placed
        self._used: Used | None = None
        self._settled: Hold | None = None

    @property
    def hold(self) -> Hold:
        """Returns the hold as it was placed."""
        return self._placed.hold

    def use(self, units: Mapping[str, int], *, model: str | None = None, estimated: bool = False) -> None:
        """Records what the call has used so far, in place of what was recorded before.

        The end of the scope settles it.
        """
        self._used = Used(units, model, estimated)

    @operation
    def finish(self, units: Mapping[str, int], *, model: str | None = None, estimated: bool = False) -> Steps[Hold]:
        """Settles the hold with what the call used. A second `finish` or `cancel` returns the first result.

        `model` prices the call in place of the hold's model. `estimated` marks the ledger entry's metadata.
        """
        return self._finish(Used(units, model, estimated))

    @operation
    def cancel(self) -> Steps[Hold]:
        """Settles the hold with nothing, so nothing is charged."""
        return self._cancel()

    def _finish(self, used: Used) -> Steps[Hold]:
        if self._settled is not None:
            return self._settled
        placed, order = self._placed, self._placed.order
        model = used.model or order.get("model")
        extra: dict[str, object] = {"overrun": order.get("overrun", "take_available")}
        if model is not None:
            extra["model"] = model
        if used.estimated and (metadata := _marked(order.get("metadata") or {})):
            extra["metadata"] = metadata

        def send(units: dict[str, int]) -> Steps[Hold]:
            return placed.settle({"units": units, **extra})

        # A call that used nothing still costs the operation's base, so one count is sent, even if it is zero.
        units = {**used.units, **{unit: 0 for unit in list(order["units"])[:1] if unit not in used.units}}
        self._settled = yield from placed.settings.folds.send(order["operation"], model, units, send)
        return self._settled

    def _cancel(self) -> Steps[Hold]:
        if self._settled is None:
            self._settled = yield from self._placed.settle({})
        return self._settled

    def _end(self) -> Steps[Hold]:
        """Settles what was recorded, or nothing."""
        return self._cancel() if self._used is None else self._finish(self._used)


def _marked(metadata: Mapping[str, str]) -> dict[str, str] | None:
    """Returns the metadata with the mark of an estimate. None if it is too long, which the service would refuse."""
    marked = {**metadata, "usage": "estimated"}
    size = sum(len(text.encode()) for pair in marked.items() for text in pair)
    return marked if len(marked) <= MAX_METADATA_PAIRS and size <= MAX_METADATA_BYTES else None


def _log_failure(settling: asyncio.Task[Any]) -> None:
    """Logs the failure of a settlement whose caller was cancelled. Its hold expires."""
    if not settling.cancelled() and (error := settling.exception()):
        LOGGER.warning("a hold was not settled after a cancellation: %r", error)


class Call(_Call, Blocking):
    """An AI call whose credits are held. As a context manager, it settles what `use` recorded at every exit."""

    def __init__(self, placed: Placed, client: AICredits) -> None:
        super().__init__(placed)
        self._client = client

    def _run(self, steps: Steps[T]) -> T:
        return self._client._run(steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._run(self._end())
        except Exception as later:
            if error is None:
                raise
            attach(error, later)


class AsyncCall(_Call, Asynchronous):
    """An AI call whose credits are held. As a context manager, it settles what `use` recorded at every exit."""

    def __init__(self, placed: Placed, client: AsyncAICredits) -> None:
        super().__init__(placed)
        self._client = client
        self._settling: asyncio.Task[Any] | None = None

    async def _run(self, steps: Steps[T]) -> T:
        """Settles in a task of its own, which a cancellation of the caller does not reach."""
        if self._settling is None or (self._settling.done() and self._settled is None):
            self._settling = self._client._background(self._client._run(steps))
        else:
            steps.close()
        try:
            result: T = await asyncio.shield(self._settling)
        except asyncio.CancelledError:
            self._settling.add_done_callback(_log_failure)
            raise
        return result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self._run(self._end())
        except Exception as later:
            if error is None:
                raise
            attach(error, later)


class Beginning:
    """A call that is about to begin: `await` it for the `AsyncCall`, or enter it with `async with`."""

    def __init__(self, client: AsyncAICredits, steps: Steps[Placed]) -> None:
        self._client = client
        self._steps = steps
        self._call: AsyncCall | None = None

    def __await__(self) -> Generator[Any, None, AsyncCall]:
        return self._begin().__await__()

    async def __aenter__(self) -> AsyncCall:
        self._call = await self._begin()
        return self._call

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._call is not None:
            await self._call.__aexit__(kind, error, trace)

    async def _begin(self) -> AsyncCall:
        placing = self._client._background(self._client._run(self._steps))
        try:
            return AsyncCall(await asyncio.shield(placing), self._client)
        except asyncio.CancelledError:
            # The hold may have been placed, and no caller will settle it.
            self._client._background(self._release(placing))
            raise

    async def _release(self, placing: asyncio.Task[Placed]) -> None:
        # A refused hold needs no release, and one without a final response expires by itself.
        with suppress(AICreditsError):
            await AsyncCall(await placing, self._client).cancel()
