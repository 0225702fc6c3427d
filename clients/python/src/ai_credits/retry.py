"""Decides which attempts are repeated, and after which pause."""

from __future__ import annotations

import random
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

MAX_PAUSE = 2.0
"""The longest pause in seconds, unless `Retry-After` asks for a longer one."""

RETRIED = frozenset({429, 500, 502, 503, 504})
"""The retried statuses. 500, because API Gateway answers for a crashed function with it."""


def pause(attempts: int, first_pause: float, retry_after: str | None) -> float:
    """Returns the pause after a number of attempts in seconds: full jitter, and at least `Retry-After`."""
    longest = min(MAX_PAUSE, first_pause * 2.0 ** min(attempts - 1, 32))
    return max(random.uniform(0, longest), _seconds(retry_after))


def _seconds(retry_after: str | None) -> float:
    """Reads `Retry-After`: a number of seconds or an HTTP date. Without one that it can read, returns 0."""
    value = (retry_after or "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return 0
    at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
    return max(0, (at - datetime.now(timezone.utc)).total_seconds())
