"""Folds units that the rate card does not price into those that it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from .errors import Refused
from .steps import Steps

T = TypeVar("T")

PARENTS: Mapping[str, str | None] = {
    "reasoning_tokens": "output_tokens",
    "audio_output_tokens": "output_tokens",
    "cached_input_tokens": "input_tokens",
    "cache_write_tokens": "input_tokens",
    "audio_input_tokens": "input_tokens",
    "tool_calls": None,
}
"""The unit that counts a class which has no rate of its own. None: nothing counts it."""


class Folds:
    """The units without a rate that a client has met, by operation and model.

    Without folding, a product whose rate card prices input and output alone would give all other answers away.
    """

    def __init__(self) -> None:
        self._unpriced: dict[tuple[str, str | None], frozenset[str]] = {}

    def send(
        self, operation: str, model: str | None, units: Mapping[str, int], order: Callable[[dict[str, int]], Steps[T]]
    ) -> Steps[T]:
        """Sends an order with units. Folds those that the service refuses, and sends it again."""
        while True:
            unpriced = self._unpriced.get((operation, model), frozenset())
            folded = _fold(units, unpriced)
            try:
                return (yield from order(folded))
            except Refused as refusal:
                # A refusal writes nothing, so the same key can be used again.
                if not (more := _foldable(folded, refusal)):
                    raise
                self._unpriced[operation, model] = unpriced | more


def _foldable(units: Mapping[str, int], refusal: Refused) -> frozenset[str]:
    """Returns the refused units that can be folded."""
    if refusal.status != 422:
        return frozenset()
    named = {error.field.partition("units.")[2] for error in refusal.errors if error.field.startswith("units.")}
    return frozenset(unit for unit in named & PARENTS.keys() if units.get(unit, -1) >= 0)


def _fold(units: Mapping[str, int], unpriced: frozenset[str]) -> dict[str, int]:
    """Returns the counts other than zero in the classes that are priced, or one count of zero."""
    folded: dict[str, int] = {}
    for unit, count in units.items():
        if priced := PARENTS[unit] if unit in unpriced else unit:
            folded[priced] = folded.get(priced, 0) + count
    return {unit: count for unit, count in folded.items() if count} or dict(list(folded.items())[:1])
