"""The errors of calls."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple


class AICreditsError(Exception):
    """The base class of all errors of this package."""


class InsufficientCredits(AICreditsError):
    """The balance or the hold does not cover the call (402). Nothing was drawn."""

    def __init__(
        self,
        required: Decimal,
        available: Decimal,
        shortfall: Decimal,
        top_up_url: str,
        prompt: str,
        top_up: str | None = None,
    ) -> None:
        super().__init__(required, available, shortfall, top_up_url, prompt, top_up)
        self.required = required
        self.available = available
        self.shortfall = shortfall
        self.top_up_url = top_up_url
        """The page on which a person adds credits."""
        self.prompt = prompt
        """A sentence that you can show to a person."""
        self.top_up = top_up
        """What automatic top-up does: `started`, `limit`, or None if it is off."""

    def __str__(self) -> str:
        return f"{self.required} credits are required and {self.available} are available"


class FieldError(NamedTuple):
    """An invalid field of a request."""

    field: str
    """The field's path, such as `units.pages`."""
    message: str


class Refused(AICreditsError):
    """The call was refused. Nothing has changed, and a retry would be refused again."""

    def __init__(self, status: int, code: str, detail: str, errors: list[FieldError] | None = None) -> None:
        super().__init__(status, code, detail, errors)
        self.status = status
        self.code = code
        """The reason for programs, such as `workspace_not_found`."""
        self.detail = detail
        self.errors = errors or []

    def __str__(self) -> str:
        return f"{self.code} ({self.status}): {self.detail}"


class Unavailable(AICreditsError):
    """No attempt had a final response before the deadline. `__cause__` is the error of the last attempt."""

    def __init__(self, attempts: int, idempotency_key: str | None) -> None:
        super().__init__(attempts, idempotency_key)
        self.attempts = attempts
        self.idempotency_key = idempotency_key
        """None for a call without a key, which is safe to repeat."""
        self.hook_error: Exception | None = None
        """What `on_outage` raised."""

    def __str__(self) -> str:
        repeat = "it is safe to repeat"
        if self.idempotency_key is not None:
            repeat = f"it may have been carried out; repeat it with the same key, {self.idempotency_key}"
        hook = f"; on_outage raised {self.hook_error!r}" if self.hook_error else ""
        return f"the call had no final response after {self.attempts} attempts: {repeat}{hook}"


class NotGated(AICreditsError):
    """A wrapped client was asked for a model call that can't be gated. The model was not called."""


def attach(error: BaseException, later: Exception) -> None:
    """Attaches an error of the settlement to the error that already propagates, as the end of its context."""
    # Python has made `error` the context of `later`, whose settlement was tried while `error` was handled.
    _last(later, before=error).__context__ = None
    _last(error, before=later).__context__ = later


def _last(error: BaseException, before: BaseException) -> BaseException:
    """Returns the end of an error's chain of contexts, which `before` is no part of."""
    while error.__context__ is not None and error.__context__ is not before:
        error = error.__context__
    return error
