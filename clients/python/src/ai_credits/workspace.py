"""The calls of one workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

from . import schema
from .call import AsyncCall, Beginning, Call, CallOrder, place
from .pages import AsyncPages, Pages
from .send import CallOptions, Settings, exchange, path_of
from .steps import Asynchronous, Blocking, Steps, operation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from typing_extensions import Unpack

    from .client import AICredits, AsyncAICredits

__all__ = ["AsyncCall", "AsyncWorkspace", "Call", "Workspace"]

T = TypeVar("T")
GroupBy = Literal["workflow", "feature", "operation", "consumer", "user", "day"]


class _Operations:
    """The calls that a workspace has, blocking or not."""

    def __init__(self, settings: Settings, workspace_id: str) -> None:
        self._settings = settings
        self.workspace_id = workspace_id

    def _path(self, *segments: str) -> str:
        return path_of("workspaces", self.workspace_id, *segments)

    def _get(self, *segments: str, query: Mapping[str, object] | None = None, options: CallOptions) -> Steps[Any]:
        return exchange(self._settings, "GET", self._path(*segments), query=query, **options)

    def _post(self, *segments: str, order: object, options: CallOptions) -> Steps[Any]:
        return exchange(self._settings, "POST", self._path(*segments), order, **options)

    @operation
    def create_debit(self, order: schema.DebitOrder, **options: Unpack[CallOptions]) -> Steps[schema.Debit]:
        """Draws the credits of an AI call. Make the call only after this has returned."""
        return self._post("debits", order=order, options=options)

    @operation
    def create_debit_batch(self, order: schema.BatchOrder, **options: Unpack[CallOptions]) -> Steps[schema.Batch]:
        """Draws the credits of up to 500 AI calls together."""
        return self._post("debits", "batch", order=order, options=options)

    @operation
    def refund_debit(
        self, debit_id: str, order: schema.DebitRefundOrder, **options: Unpack[CallOptions]
    ) -> Steps[schema.DebitRefund]:
        """Returns the credits of an AI call that failed."""
        return self._post("debits", debit_id, "refund", order=order, options=options)

    @operation
    def create_hold(self, order: schema.HoldOrder, **options: Unpack[CallOptions]) -> Steps[schema.Hold]:
        """Sets credits aside."""
        return self._post("holds", order=order, options=options)

    @operation
    def create_holds(self, order: schema.HoldsOrder, **options: Unpack[CallOptions]) -> Steps[schema.Holds]:
        """Sets credits aside in 2 to 50 holds of the same amount: in all or in none."""
        return self._post("holds", "batch", order=order, options=options)

    @operation
    def get_hold(self, hold_id: str, **options: Unpack[CallOptions]) -> Steps[schema.Hold]:
        """Returns a hold."""
        return self._get("holds", hold_id, options=options)

    @operation
    def create_capture(
        self, hold_id: str, order: schema.CaptureOrder, **options: Unpack[CallOptions]
    ) -> Steps[schema.Capture]:
        """Pays an AI call from a hold."""
        return self._post("holds", hold_id, "captures", order=order, options=options)

    @operation
    def settle_hold(
        self, hold_id: str, order: schema.SettleOrder, **options: Unpack[CallOptions]
    ) -> Steps[schema.Hold]:
        """Ends a hold: posts its captures and a last one, and releases the rest."""
        return self._post("holds", hold_id, "settle", order=order, options=options)

    @operation
    def settle_holds(self, order: schema.SettleHoldsOrder, **options: Unpack[CallOptions]) -> Steps[schema.Holds]:
        """Ends up to 50 holds in one ledger entry."""
        return self._post("holds", "batch", "settle", order=order, options=options)

    @operation
    def create_quote(self, order: schema.DebitOrder, **options: Unpack[CallOptions]) -> Steps[schema.Quote]:
        """Returns the price of an AI call, and whether the balance covers it."""
        return self._post("quotes", order=order, options=options)

    @operation
    def get_balance(self, **options: Unpack[CallOptions]) -> Steps[schema.Balance]:
        """Returns the balance."""
        return self._get("balance", options=options)

    @operation
    def get_usage(
        self,
        *,
        month: str | None = None,
        group_by: GroupBy | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Steps[schema.Usage]:
        """Returns the use of a month by group."""
        query = {"month": month, "group_by": group_by, "limit": limit, "cursor": cursor}
        return self._get("usage", query=query, options=options)

    @operation
    def get_usage_history(self, *, months: int | None = None, **options: Unpack[CallOptions]) -> Steps[schema.History]:
        """Returns the use of the last months."""
        return self._get("usage", "history", query={"months": months}, options=options)

    @operation
    def create_top_up(self, order: schema.TopUpOrder, **options: Unpack[CallOptions]) -> Steps[schema.TopUp]:
        """Starts the purchase of a pack of credits."""
        return self._post("top-ups", order=order, options=options)

    @operation
    def get_top_up(self, top_up_id: str, **options: Unpack[CallOptions]) -> Steps[schema.TopUpStatus]:
        """Returns a purchase of a pack."""
        return self._get("top-ups", top_up_id, options=options)

    @operation
    def create_run(self, order: schema.RunOrder, **options: Unpack[CallOptions]) -> Steps[schema.StartedRun]:
        """Starts a run of a workflow."""
        return self._post("runs", order=order, options=options)

    @operation
    def complete_run(self, run_id: str, **options: Unpack[CallOptions]) -> Steps[schema.Run]:
        """Ends a run of a workflow."""
        return self._post("runs", run_id, "complete", order={}, options=options)

    @operation
    def get_run(self, run_id: str, **options: Unpack[CallOptions]) -> Steps[schema.Run]:
        """Returns a run of a workflow."""
        return self._get("runs", run_id, options=options)


class Workspace(_Operations, Blocking):
    """A handle of a workspace. Get one with `AICredits.workspace`."""

    def __init__(self, client: AICredits, workspace_id: str) -> None:
        super().__init__(client._settings, workspace_id)
        self._client = client

    def _run(self, steps: Steps[T]) -> T:
        return self._client._run(steps)

    def begin(self, order: CallOrder, **options: Unpack[CallOptions]) -> Call:
        """Holds an upper bound of an AI call. Finish or cancel the `Call`, or use it as a context manager."""
        placed = self._run(place(self._settings, self.workspace_id, order, **options))
        return Call(placed, self._client)

    def list_ledger_entries(
        self, *, kind: str | None = None, limit: int | None = None
    ) -> Pages[schema.LedgerEntry, schema.Ledger]:
        """Lists the ledger, the newest entry first. `limit` is the size of a page."""
        return Pages(self._client, self._path("ledger"), "entries", {"kind": kind, "limit": limit})

    def list_runs(self, *, status: str | None = None) -> Pages[schema.Run, schema.Runs]:
        """Lists the runs of workflows, the newest first."""
        return Pages(self._client, self._path("runs"), "runs", {"status": status})


class AsyncWorkspace(_Operations, Asynchronous):
    """A handle of a workspace. Get one with `AsyncAICredits.workspace`."""

    def __init__(self, client: AsyncAICredits, workspace_id: str) -> None:
        super().__init__(client._settings, workspace_id)
        self._client = client

    async def _run(self, steps: Steps[T]) -> T:
        return await self._client._run(steps)

    def begin(self, order: CallOrder, **options: Unpack[CallOptions]) -> Beginning:
        """Holds an upper bound of an AI call. Await it for the `AsyncCall`, or enter it with `async with`."""
        return Beginning(self._client, place(self._settings, self.workspace_id, order, **options))

    def list_ledger_entries(
        self, *, kind: str | None = None, limit: int | None = None
    ) -> AsyncPages[schema.LedgerEntry, schema.Ledger]:
        """Lists the ledger, the newest entry first. `limit` is the size of a page."""
        return AsyncPages(self._client, self._path("ledger"), "entries", {"kind": kind, "limit": limit})

    def list_runs(self, *, status: str | None = None) -> AsyncPages[schema.Run, schema.Runs]:
        """Lists the runs of workflows, the newest first."""
        return AsyncPages(self._client, self._path("runs"), "runs", {"status": status})
