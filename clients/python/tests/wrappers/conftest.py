"""Fixtures of the tests of wrappers."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bench import GRANTED, Bench
from providers import PROVIDERS


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keeps one event loop for all tests, because LangChain keeps its connections."""
    yield  # noqa: PT022 (without it, the loop ends here)


@pytest.fixture(params=["blocking", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "async")


@pytest.fixture
async def benches() -> AsyncIterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        await bench.provider.close()


@pytest.fixture(params=PROVIDERS, ids=lambda provider: provider.__name__)
def bench(request: pytest.FixtureRequest, is_async: bool, benches: list[Bench]) -> Any:
    """Returns a function that makes a bench."""

    def make(credits: str = GRANTED, **options: Any) -> Bench:
        benches.append(Bench(request.param, is_async, credits, **options))
        return benches[-1]

    return make
