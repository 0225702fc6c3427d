"""Runs the same steps with blocking and with asynchronous I/O.

A call is a generator. It yields what has to be done next: an attempt, a pause, a question for the API key, a report.
The client's runner does it, blocking or not, and sends the result back. So all decisions exist once.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from .errors import Unavailable

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True)
class Attempt:
    """One HTTP request. Its result is a `Response`; it raises an `httpx.RequestError` if no whole response comes."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None
    timeout: float


@dataclass(frozen=True)
class Pause:
    """A wait of some seconds."""

    seconds: float


@dataclass(frozen=True)
class ApiKey:
    """A question for the API key. Its result is a string."""


@dataclass(frozen=True)
class Outage:
    """A POST of a workspace that had no final response, for `on_outage`."""

    method: str
    path: str
    order: Any
    """The body of the request."""
    idempotency_key: str | None
    error: Unavailable


@dataclass(frozen=True)
class Response:
    """A whole response, for the option `on_response`."""

    status: int
    headers: Mapping[str, str]
    """The headers. Their names are in lower case."""
    content: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def replayed(self) -> bool:
        """Returns whether the service repeated an earlier response of the same key."""
        return "idempotent-replayed" in self.headers


Steps = Generator[Attempt | Pause | ApiKey | Outage, Any, T]


class Blocking:
    """The base of handles whose methods return results."""

    def _run(self, steps: Steps[T]) -> T:
        raise NotImplementedError


class Asynchronous:
    """The base of handles whose methods return awaitables."""

    def _run(self, steps: Steps[T]) -> Awaitable[T]:
        raise NotImplementedError


class operation(Generic[P, T]):
    """Turns a method that returns steps into one that runs them: with a result on a `Blocking` handle, and with an
    awaitable on an `Asynchronous` one."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self._steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, handle: Blocking, owner: object = None) -> Callable[P, T]: ...

    @overload
    def __get__(self, handle: Asynchronous, owner: object = None) -> Callable[P, Awaitable[T]]: ...

    @overload
    def __get__(self, handle: None, owner: object = None) -> operation[P, T]: ...

    def __get__(self, handle: Any, owner: object = None) -> Any:
        if handle is None:
            return self

        @functools.wraps(self._steps)
        def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            return handle._run(self._steps(handle, *args, **kwargs))

        return run
