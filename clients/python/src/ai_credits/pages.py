"""Listings: iterates over all items, or returns one page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .send import CallOptions, Settings, exchange
from .steps import Asynchronous, Blocking, Steps, operation

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .client import AICredits, AsyncAICredits

T = TypeVar("T")
Item = TypeVar("Item")
Page = TypeVar("Page")


class _Pages(Generic[Item, Page]):
    def __init__(self, settings: Settings, path: str, items: str, query: Mapping[str, object] | None) -> None:
        self._settings = settings
        self._path = path
        self._items = items
        self._query = query or {}

    @operation
    def page(self, cursor: str | None = None, **options: Unpack[CallOptions]) -> Steps[Page]:
        """Returns one page: the first, or the one that starts at the `next_cursor` of another page."""
        query = self._query if cursor is None else {**self._query, "cursor": cursor}
        return exchange(self._settings, "GET", self._path, query=query, **options)


class Pages(_Pages[Item, Page], Blocking):
    """A listing. Iterating over it returns all items, and fetches their pages as needed."""

    def __init__(self, client: AICredits, path: str, items: str, query: Mapping[str, object] | None = None) -> None:
        super().__init__(client._settings, path, items, query)
        self._client = client

    def _run(self, steps: Steps[T]) -> T:
        return self._client._run(steps)

    def __iter__(self) -> Iterator[Item]:
        page: Any = self.page()
        yield from page[self._items]
        while cursor := page.get("next_cursor"):
            page = self.page(cursor)
            yield from page[self._items]


class AsyncPages(_Pages[Item, Page], Asynchronous):
    """A listing. Iterating over it returns all items, and fetches their pages as needed."""

    def __init__(
        self, client: AsyncAICredits, path: str, items: str, query: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(client._settings, path, items, query)
        self._client = client

    async def _run(self, steps: Steps[T]) -> T:
        return await self._client._run(steps)

    async def __aiter__(self) -> AsyncIterator[Item]:
        page: Any = await self.page()
        while True:
            for item in page[self._items]:
                yield item
            if not (cursor := page.get("next_cursor")):
                return
            page = await self.page(cursor)
