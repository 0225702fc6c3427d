"""Makes 1,000 calls with each client over a wire that loses a tenth of the requests and a tenth of the responses."""

import asyncio
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

from ai_credits import AICredits, AsyncAICredits, Workspace
from stack import CONSUMER, TOKEN, available, workspace_with

LOSSY = os.environ["AI_CREDITS_LOSSY"]
CALLS = 1_000
OPTIONS: dict[str, Any] = {"deadline_seconds": 300, "first_pause_seconds": 0.01}


def order(number: int) -> Any:
    metadata = {"call": str(number)}
    return {"operation": "text.generate", "units": units(number), "consumer": CONSUMER, "metadata": metadata}


def units(number: int) -> dict[str, int]:
    return {"input_tokens": number, "output_tokens": 10}


def check(workspace: Workspace, granted: str) -> None:
    """Checks that each call is in the ledger once, at its price, and that the balance has paid that and no more."""
    base, per_input, per_output = Decimal("0.5"), Decimal("0.0005"), Decimal("0.0015")
    prices = {str(number): base + number * per_input + 10 * per_output for number in range(CALLS)}
    charged: Counter[str] = Counter()
    for entry in workspace.list_ledger_entries(limit=100):
        if entry["kind"] == "debit":
            call = entry["metadata"]["call"]
        elif entry["kind"] == "hold_settled":
            call = entry["line_metadata"][0]["metadata"]["call"]
        else:
            continue
        charged[call] += 1
        assert -Decimal(entry["credits"]) == prices[call], entry
    assert charged == Counter(dict.fromkeys(prices, 1))
    assert available(workspace) == Decimal(granted) - sum(prices.values())
    assert workspace.get_balance()["held"] == "0"


def test_the_blocking_client_charges_each_call_once() -> None:
    workspace = workspace_with("10000")
    with AICredits(LOSSY, TOKEN, **OPTIONS) as credits:
        lossy = credits.workspace(workspace.workspace_id)

        def call(number: int) -> None:
            if number % 2:
                lossy.create_debit(order(number))
            else:
                with lossy.begin(order(number) | {"units": {"output_tokens": 2_000}}) as held:
                    held.use(units(number))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(call, range(CALLS)))
    check(workspace, "10000")


def test_the_asynchronous_client_charges_each_call_once() -> None:
    workspace = workspace_with("10000")

    async def call_all() -> None:
        numbers = iter(range(CALLS))
        async with AsyncAICredits(LOSSY, TOKEN, **OPTIONS) as credits:
            lossy = credits.workspace(workspace.workspace_id)

            async def work() -> None:
                for number in numbers:
                    if number % 2:
                        await lossy.create_debit(order(number))
                    else:
                        async with lossy.begin(order(number) | {"units": {"output_tokens": 2_000}}) as held:
                            held.use(units(number))

            await asyncio.gather(*(work() for _ in range(8)))

    asyncio.run(call_all())
    check(workspace, "10000")
