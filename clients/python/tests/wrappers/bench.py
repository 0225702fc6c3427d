"""A workspace with credits, and a model behind a wrapper that draws them."""

import math
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel

from providers import MODEL, Provider
from stack import CONSUMER, available, workspace_with

GRANTED = "1000"
RATES = {
    "input_tokens": "3",
    "cached_input_tokens": "0.5",
    "cache_write_tokens": "4",
    "audio_input_tokens": "7",
    "output_tokens": "11",
    "reasoning_tokens": "13",
    "audio_output_tokens": "17",
    "tool_calls": "1900",
}
"""Credits per 1,000. No two mixtures of a test cost the same."""


TWO = ("input_tokens", "output_tokens")


class Bench:
    """A workspace with credits, and a model behind a wrapper that draws them."""

    def __init__(self, provider: type[Provider], is_async: bool, credits: str, **options: Any) -> None:
        rates = [{"unit": unit, "credits": rate, "per": 1000} for unit, rate in RATES.items()]
        operations = [
            {"operation": "chat", "base": "0.1", "rates": rates},
            {"operation": "two-rates", "base": "0", "rates": [rate for rate in rates if rate["unit"] in TWO]},
        ]
        pricing = {"operations": operations, "models": [{"model": MODEL, "multiplier": "2"}]}
        self.workspace = workspace_with(credits, pricing)
        self.granted = Decimal(credits)
        self.provider = provider(is_async, self.workspace.workspace_id, **options)
        self.call = str(uuid.uuid4())

    def price(self, units: Mapping[str, int], operation: str = "chat") -> Decimal:
        order: Any = {"operation": operation, "model": MODEL, "units": units, "consumer": CONSUMER}
        return Decimal(self.workspace.create_quote(order)["credits"])

    def check(self, units: Mapping[str, int] | None, *, operation: str = "chat", estimated: bool = False) -> None:
        """Checks that nothing is held, and that these units were charged and nothing else. None: nothing was."""
        assert self.workspace.get_balance()["held"] == "0"
        assert self.charged() == (0 if units is None else self.price(units, operation))
        entries = list(self.workspace.list_ledger_entries(kind="hold_settled"))
        assert len(entries) == (0 if units is None else 1)
        for entry in entries:
            assert entry["kind"] == "hold_settled"
            metadata = [line["metadata"] for line in entry.get("line_metadata", [])]
            assert metadata == ([{"usage": "estimated"}] if estimated else [])

    def charged(self) -> Decimal:
        return self.granted - available(self.workspace)

    async def check_released(self) -> None:
        """Waits for a settlement that goes on behind the caller."""
        with anyio.fail_after(60):
            while self.workspace.get_balance()["held"] != "0":
                await anyio.lowlevel.checkpoint()

    async def check_estimate(self, text: str, streamed: str) -> None:
        """Checks that what was streamed is charged by an estimate, and the input as it was reported, or as held."""
        await self.check_released()
        read_tokens = 10 if self.provider.reads_input_first else self.provider.estimate(text)
        output_tokens = math.ceil(len(streamed.encode()) / 4)
        self.check({"input_tokens": read_tokens, "output_tokens": output_tokens}, estimated=True)
