"""Every client library as the tests of all of them use it: one request, whose answer is read as it comes.

A driver is one row: the library, and a context manager around an open answer that gives its chunks. A body in a list
is sent as a stream. A new library gets a row here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import ModuleType
from typing import Any, NamedTuple

import aiohttp
import httpx
import httpx2
import tiny_client

Body = bytes | list[bytes]
SyncOpen = Callable[[str, Body], AbstractContextManager[Iterator[bytes]]]
AsyncOpen = Callable[[str, Body], AbstractAsyncContextManager[AsyncIterator[bytes]]]


class Driver(NamedTuple):
    """A client of a library, either sync or async."""

    library: str
    open: SyncOpen | None = None
    open_async: AsyncOpen | None = None

    def read(self, url: str, body: Body = b"", count: int | None = None) -> bytes:
        """The answer; with ``count`` the application goes away after so many chunks."""
        if self.open is not None:
            with self.open(url, body) as chunks:
                return b"".join(chunk for _, chunk in zip(range(count or 1000), chunks, strict=False))
        return asyncio.run(self.read_async(url, body, count))

    async def read_async(self, url: str, body: Body = b"", count: int | None = None) -> bytes:
        """As ``read``, of an async client."""
        assert self.open_async is not None
        read = b""
        async with self.open_async(url, body) as chunks:
            async for chunk in chunks:
                read += chunk
                count = None if count is None else count - 1
                if count == 0:
                    break
        return read


async def pieces(body: list[bytes]) -> AsyncIterator[bytes]:
    for piece in body:
        yield piece


def httpx_like(module: ModuleType) -> tuple[SyncOpen, AsyncOpen]:
    @contextlib.contextmanager
    def opened(url: str, body: Body) -> Iterator[Iterator[bytes]]:
        content = body if isinstance(body, bytes) else iter(body)
        with (
            module.Client(follow_redirects=True) as client,
            client.stream("POST", url, content=content) as response,
        ):
            yield response.iter_raw()

    @contextlib.asynccontextmanager
    async def opened_async(url: str, body: Body) -> AsyncIterator[AsyncIterator[bytes]]:
        content = body if isinstance(body, bytes) else pieces(body)
        async with (
            module.AsyncClient(follow_redirects=True) as client,
            client.stream("POST", url, content=content) as response,
        ):
            yield response.aiter_raw()

    return opened, opened_async


@contextlib.asynccontextmanager
async def by_aiohttp(url: str, body: Body) -> AsyncIterator[AsyncIterator[bytes]]:
    data: Any = body if isinstance(body, bytes) else pieces(body)
    async with aiohttp.ClientSession() as session, session.post(url, data=data) as response:
        yield response.content.iter_any()


@contextlib.contextmanager
def by_tiny_client(url: str, body: Body) -> Iterator[Iterator[bytes]]:
    response = tiny_client.Client().fetch(tiny_client.Request("POST", url, {}, body))
    with contextlib.closing(response.body):
        yield iter(response.body)


@contextlib.asynccontextmanager
async def by_async_tiny_client(url: str, body: Body) -> AsyncIterator[AsyncIterator[bytes]]:
    sent = body if isinstance(body, bytes) else pieces(body)
    response = await tiny_client.AsyncClient().fetch(tiny_client.Request("POST", url, {}, sent))
    async with contextlib.aclosing(response.body):
        yield aiter(response.body)


HTTPX, ASYNC_HTTPX = httpx_like(httpx)
HTTPX2, ASYNC_HTTPX2 = httpx_like(httpx2)
TINY = "tiny_client"
"""The library whose hook is in the documentation."""

DRIVERS = {
    "httpx": Driver("httpx", HTTPX),
    "httpx, async": Driver("httpx", open_async=ASYNC_HTTPX),
    "httpx2": Driver("httpx2", HTTPX2),
    "httpx2, async": Driver("httpx2", open_async=ASYNC_HTTPX2),
    "aiohttp": Driver("aiohttp", open_async=by_aiohttp),
    "tiny_client": Driver(TINY, by_tiny_client),
    "tiny_client, async": Driver(TINY, open_async=by_async_tiny_client),
}
