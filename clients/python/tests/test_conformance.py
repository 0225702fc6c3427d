"""Plays the cases of `clients/conformance` with both clients. `wire.js` runs this file and judges it."""

import asyncio
import inspect
import os
import re
from typing import Any

import httpx
import pytest

from ai_credits import (
    AICredits,
    AsyncAICredits,
    AsyncPages,
    InsufficientCredits,
    Outage,
    Pages,
    Refused,
    Response,
    Unavailable,
)

WIRE = os.environ["AI_CREDITS_WIRE"]
CASES = httpx.get(f"{WIRE}/_cases").json()
OF_CLIENT = ("putWorkspace", "getWorkspace", "getCatalog", "request")
FIELDS: dict[type[Exception], tuple[str, ...]] = {
    InsufficientCredits: ("required", "available", "shortfall", "top_up_url", "prompt", "top_up"),
    Refused: ("status", "code", "detail", "errors"),
    Unavailable: ("attempts", "idempotency_key"),
}


class Thrown(Exception):
    """An error of the driver's own."""


class Driver:
    """Makes the calls of one case. Awaits what is awaitable, so it drives both clients."""

    def __init__(self, kind: type[AICredits | AsyncAICredits], case: dict[str, Any]) -> None:
        self.outages: list[dict[str, Any]] = []
        self.case = case
        options = case["client"]
        keys = iter(options["api_keys"])
        last = options["api_keys"][-1]
        self.hook_raises = options["on_outage"] == "raise"
        self.client: Any = kind(
            case["base_url"],
            last if len(options["api_keys"]) == 1 else lambda: next(keys, last),
            deadline_seconds=options["deadline_ms"] / 1000,
            attempt_timeout_seconds=options["attempt_timeout_ms"] / 1000,
            first_pause_seconds=options["first_pause_ms"] / 1000,
            on_outage=self.record,
        )
        self.call: Any = None

    def record(self, outage: Outage) -> None:
        self.outages.append({**vars(outage), "error": type(outage.error).__name__})
        if self.hook_raises:
            raise Thrown

    async def play(self) -> dict[str, Any]:
        calls = [await self.outcome(dict(call)) for call in self.case["calls"]]
        await awaited(self.client.aclose() if isinstance(self.client, AsyncAICredits) else self.client.close())
        return {"calls": calls, "outages": self.outages}

    async def outcome(self, call: dict[str, Any]) -> dict[str, Any]:
        outcome: dict[str, Any] = {}
        if call["method"] == "gate":
            outcome["entered"] = False
        try:
            outcome["returns"] = await self.make(call.pop("method"), call, outcome)
        except Exception as error:
            outcome |= {"raises": type(error).__name__, "message": str(error)}
            outcome["fields"] = {name: plain(getattr(error, name)) for name in FIELDS.get(type(error), ())}
        return outcome

    async def make(self, method: str, call: dict[str, Any], outcome: dict[str, Any]) -> Any:
        options = {}
        if "idempotency_key" in call:
            options["idempotency_key"] = call.pop("idempotency_key")
        if "deadline_ms" in call:
            options["deadline_seconds"] = call.pop("deadline_ms") / 1000
        if method in ("begin", "finish", "cancel", "gate"):
            return await getattr(self, method)(call, outcome, options)
        if "items" in call:
            return await items(self.client.list(call["path"], call["items"], query=call.get("query")))
        handle = self.client
        arguments = []
        if method in OF_CLIENT:
            arguments += [call.pop(name) for name in ("workspace", "http_method", "path") if name in call]
        else:
            handle = handle.workspace(call.pop("workspace"))
            arguments += [call.pop(name) for name in list(call) if name.endswith("_id")]
        arguments += [call.pop("order")] if "order" in call else []
        query = call if method == "request" else call.pop("query", {})
        is_page = call.pop("page", False)
        function = getattr(handle, re.sub("([A-Z])", r"_\1", method).lower())
        if method.startswith("list"):
            listing = function(*arguments, **query)
            return await (awaited(listing.page()) if is_page else items(listing))

        def on_response(response: Response) -> None:
            outcome["replayed"] = response.replayed

        return await awaited(function(*arguments, **query, **options, on_response=on_response))

    async def begin(self, call: dict[str, Any], outcome: object, options: dict[str, Any]) -> Any:
        self.call = await awaited(self.client.workspace(call["workspace"]).begin(call["order"], **options))
        return self.call.hold

    async def finish(self, call: dict[str, Any], outcome: object, options: object) -> Any:
        return await awaited(self.call.finish(**call))

    async def cancel(self, call: object, outcome: object, options: object) -> Any:
        return await awaited(self.call.cancel())

    async def gate(self, call: dict[str, Any], outcome: dict[str, Any], options: dict[str, Any]) -> str:
        def body(scope: Any) -> str:
            outcome["entered"] = True
            for units in call["use"]:
                scope.use(units)
            if call["then"] == "throw":
                raise Thrown
            return "done"

        scope = self.client.workspace(call["workspace"]).begin(call["order"], **options)
        if isinstance(self.client, AsyncAICredits):
            async with scope as entered:
                return body(entered)
        with scope as entered:
            return body(entered)


async def awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def items(listing: Any) -> list[Any]:
    assert isinstance(listing, Pages | AsyncPages)
    return list(listing) if isinstance(listing, Pages) else [item async for item in listing]


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [error._asdict() for error in value]
    return value if value is None or isinstance(value, int) else str(value)


@pytest.mark.parametrize("kind", [AICredits, AsyncAICredits])
@pytest.mark.parametrize("case", CASES, ids=[case["slug"] for case in CASES])
def test_case(kind: type[AICredits | AsyncAICredits], case: dict[str, Any]) -> None:
    played = asyncio.run(Driver(kind, case).play())
    verdict = httpx.post(case["verdict_url"], json=played).json()
    assert verdict["passed"], "\n".join(verdict["problems"])
