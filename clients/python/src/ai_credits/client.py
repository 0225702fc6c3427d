"""The clients: `AICredits` blocks, `AsyncAICredits` runs on asyncio."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from . import schema
from .pages import AsyncPages, Pages
from .send import CallOptions, Settings, exchange, path_of
from .steps import ApiKey, Asynchronous, Attempt, Blocking, Outage, Pause, Response, Steps, operation
from .workspace import AsyncWorkspace, Workspace

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

T = TypeVar("T")


class _Operations:
    """The calls that both clients have."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @operation
    def put_workspace(
        self, workspace_id: str, profile: schema.Profile, **options: Unpack[CallOptions]
    ) -> Steps[schema.Workspace]:
        """Creates or changes a workspace."""
        return exchange(self._settings, "PUT", path_of("workspaces", workspace_id), profile, **options)

    @operation
    def get_workspace(self, workspace_id: str, **options: Unpack[CallOptions]) -> Steps[schema.Workspace]:
        """Returns a workspace."""
        return exchange(self._settings, "GET", path_of("workspaces", workspace_id), **options)

    @operation
    def get_catalog(self, *, workspace: str | None = None, **options: Unpack[CallOptions]) -> Steps[schema.Catalogue]:
        """Returns packs, tiers, plans and the rate card, with a workspace's own prices if one is named."""
        return exchange(self._settings, "GET", path_of("catalog"), query={"workspace": workspace}, **options)

    @operation
    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        **options: Unpack[CallOptions],
    ) -> Steps[Any]:
        """Makes any other call of the API. `path` follows the base URL: `/v1/…`, with its segments escaped."""
        return exchange(self._settings, method, path, body, query=query, **options)


class AICredits(_Operations, Blocking):
    """A client whose methods block. It can be shared between threads.

    `api_key` is a string, or a function that returns the key for each attempt. `deadline_seconds` bounds a call with
    its retries, and `attempt_timeout_seconds` one attempt. `on_outage` receives each POST of a workspace that had no
    final response. `http_client` replaces the client's own, and is not closed with it.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | Callable[[], str],
        *,
        deadline_seconds: float = 30,
        attempt_timeout_seconds: float = 10,
        first_pause_seconds: float = 0.1,
        on_outage: Callable[[Outage], object] | None = None,
        http_client: httpx.Client | None = None,
    ) -> None:
        super().__init__(Settings(base_url, deadline_seconds, attempt_timeout_seconds, first_pause_seconds))
        self._api_key = api_key
        self._on_outage = on_outage
        self._owns_http = http_client is None
        self._http = http_client or httpx.Client()

    def workspace(self, workspace_id: str) -> Workspace:
        """Returns a handle of a workspace. Sends nothing."""
        return Workspace(self, workspace_id)

    def list(self, path: str, items: str, *, query: Mapping[str, object] | None = None) -> Pages[Any, Any]:
        """Lists any resource whose pages have a `next_cursor`. `items` is the field that holds a page's items."""
        return Pages(self, path, items, query)

    def close(self) -> None:
        """Closes the client's connections."""
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    result = self._perform(step)
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    def _perform(self, step: Attempt | Pause | ApiKey | Outage) -> object:
        if isinstance(step, Attempt):
            return self._attempt(step)
        if isinstance(step, ApiKey):
            return self._api_key if isinstance(self._api_key, str) else self._api_key()
        if isinstance(step, Outage):
            return self._on_outage(step) if self._on_outage else None
        time.sleep(step.seconds)
        return None

    def _attempt(self, attempt: Attempt) -> Response:
        ends = time.monotonic() + attempt.timeout
        request = _request(self._http, attempt)
        # httpx bounds each wait for the network. This bounds their sum.
        request.extensions["timeout"] = _Remaining(ends)
        response = self._http.send(request, stream=True, follow_redirects=False)
        try:
            content = b""
            for part in response.iter_bytes():
                content += part
                if time.monotonic() > ends:
                    raise httpx.ReadTimeout("the response took too long", request=request)
        finally:
            response.close()
        return Response(response.status_code, dict(response.headers), content)


class AsyncAICredits(_Operations, Asynchronous):
    """A client whose methods are awaited. It runs on asyncio.

    The arguments are those of `AICredits`. `api_key` and `on_outage` may be asynchronous functions.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | Callable[[], str | Awaitable[str]],
        *,
        deadline_seconds: float = 30,
        attempt_timeout_seconds: float = 10,
        first_pause_seconds: float = 0.1,
        on_outage: Callable[[Outage], object] | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        super().__init__(Settings(base_url, deadline_seconds, attempt_timeout_seconds, first_pause_seconds))
        self._api_key = api_key
        self._on_outage = on_outage
        self._owns_http = http_client is None
        self._http = http_client or httpx.AsyncClient()
        self._tasks: set[asyncio.Task[Any]] = set()

    def workspace(self, workspace_id: str) -> AsyncWorkspace:
        """Returns a handle of a workspace. Sends nothing."""
        return AsyncWorkspace(self, workspace_id)

    def list(self, path: str, items: str, *, query: Mapping[str, object] | None = None) -> AsyncPages[Any, Any]:
        """Lists any resource whose pages have a `next_cursor`. `items` is the field that holds a page's items."""
        return AsyncPages(self, path, items, query)

    async def settled(self) -> None:
        """Waits for the settlements that are under way. They go on after a cancellation of their callers."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Waits for the settlements that are under way, and closes the client's connections."""
        await self.settled()
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def _background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts work that a cancellation of the caller does not reach."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    result = await self._perform(step)
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    async def _perform(self, step: Attempt | Pause | ApiKey | Outage) -> object:
        if isinstance(step, Attempt):
            return await self._attempt(step)
        if isinstance(step, ApiKey):
            return self._api_key if isinstance(self._api_key, str) else await _awaited(self._api_key())
        if isinstance(step, Outage):
            return await _awaited(self._on_outage(step)) if self._on_outage else None
        await asyncio.sleep(step.seconds)
        return None

    async def _attempt(self, attempt: Attempt) -> Response:
        request = _request(self._http, attempt)
        try:
            response = await asyncio.wait_for(self._http.send(request, follow_redirects=False), attempt.timeout)
        except asyncio.TimeoutError as error:
            raise httpx.ReadTimeout("the response took too long", request=request) from error
        return Response(response.status_code, dict(response.headers), response.content)


class _Remaining(dict[str, float]):
    """The timeouts of a request: for each wait what is left of the attempt."""

    def __init__(self, ends: float) -> None:
        super().__init__(dict.fromkeys(("connect", "read", "write", "pool"), ends - time.monotonic()))
        self._ends = ends

    def get(self, key: str, default: object = None) -> float:
        return max(0.001, self._ends - time.monotonic())


def _request(http: httpx.Client | httpx.AsyncClient, attempt: Attempt) -> httpx.Request:
    return http.build_request(
        attempt.method, attempt.url, headers=dict(attempt.headers), content=attempt.content, timeout=attempt.timeout
    )


async def _awaited(value: object) -> object:
    return await value if inspect.isawaitable(value) else value
