"""Real servers on loopback ports: uvicorn for applications, plain sockets where every byte counts."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
import uvicorn

from otel_wirecap.proxy.app import create_app
from otel_wirecap.proxy.backends import Backend
from otel_wirecap.proxy.server import MAX_HEAD_BYTES, transparent_config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


class SocketBackend:
    """A backend that is a plain socket: it keeps what arrives and answers what its handler writes."""

    def __init__(self, handler: Callable[[SocketBackend, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]):
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self.heads: list[bytes] = []
        self.connections = 0
        self.port = 0
        self.client_left = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def head_lines(self) -> list[bytes]:
        """The last request's line and headers."""
        return self.heads[-1].split(b"\r\n")[:-2]

    async def head(self, reader: asyncio.StreamReader) -> bytes:
        """Reads a request's head."""
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        return self.heads[-1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._handler(self, reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def servers() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def socket_backend(servers):
    async def start(handler) -> SocketBackend:
        backend = SocketBackend(handler)
        server = await asyncio.start_server(backend.serve, "127.0.0.1", 0, limit=MAX_HEAD_BYTES)
        backend.port = server.sockets[0].getsockname()[1]
        servers.callback(server.close)
        servers.push_async_callback(backend.stop)
        return backend

    return start


@pytest.fixture
def serve_app(servers):
    async def start(app) -> str:
        """Serves an application; returns its URL."""
        # Started and stopped piece by piece: uvicorn's own loop takes over signals, and 0.2 s to end.
        config = transparent_config(app, "127.0.0.1", 0)
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup()

        async def stop() -> None:
            for listener in server.servers:
                listener.close()
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            await asyncio.wait_for(asyncio.gather(*server.server_state.tasks, return_exceptions=True), 60)
            await server.lifespan.shutdown()

        servers.push_async_callback(stop)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    return start


@pytest.fixture
def serve_proxy(serve_app):
    async def start(url: str, *, environ=None, name="openai", others=(), default=None, **options) -> str:
        """Serves a proxy with one default backend (and others); returns its URL."""
        backends = {name: default or Backend(name, url, key_variables=("OPENAI_API_KEY",))}
        backends |= {backend.name: backend for backend in others}
        return await serve_app(create_app(backends, name, environ=environ or {}, **options))

    return start


class RawConnection:
    """A client that is a plain socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> list[bytes]:
        """Reads a response's status line and headers."""
        return (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]

    async def chunk(self) -> bytes:
        """Reads one chunk of a chunked body; empty at the end."""
        size = int(await self.reader.readline(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]


@pytest.fixture
def connect(servers):
    async def start(url: str) -> RawConnection:
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        servers.callback(writer.close)
        return RawConnection(reader, writer)

    return start
