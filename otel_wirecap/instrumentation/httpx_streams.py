"""Tees on the byte streams of httpx and httpx2: what passes is told to the exchange and handed on untouched.

Invariants:

- A tee yields the very objects of the inner stream, in its order, with its exceptions.
- A tee is an instance of exactly the stream kinds that the inner stream is, and its iterator has the methods of an
  async generator exactly where the inner one has them: the clients decide by these.
- However a response stream is left (read to its end, closed, failed, cancelled, dropped), its exchange ends once.

httpx and httpx2 have classes of their own, so the tees are made for a module.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from otel_wirecap.capture.exchange import Exchange
from otel_wirecap.instrumentation.runtime import now_ns, outcome_of

if TYPE_CHECKING:
    from otel_wirecap.capture.events import ErrorInfo, Outcome


class ResponseIterator:
    """Iterates a response's chunks."""

    __slots__ = ("_exchange", "_inner")

    def __init__(self, inner: Iterator[bytes], exchange: Exchange) -> None:
        self._inner = inner
        self._exchange = exchange

    def __iter__(self) -> ResponseIterator:
        return self

    def __next__(self) -> bytes:
        try:
            chunk = next(self._inner)
        except StopIteration:
            self._exchange.end(now_ns(), "complete")
            raise
        except BaseException as error:
            self._exchange.end(now_ns(), *outcome_of(error))
            raise
        self._exchange.chunk(now_ns(), chunk)
        return chunk

    def close(self) -> None:
        """Closes the inner iterator, where that can be closed."""
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()


class AsyncResponseIterator:
    """Iterates a response's chunks, asynchronously."""

    __slots__ = ("_exchange", "_inner")

    def __init__(self, inner: AsyncIterator[bytes], exchange: Exchange) -> None:
        self._inner = inner
        self._exchange = exchange

    def __aiter__(self) -> AsyncResponseIterator:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._inner.__anext__()
        except StopAsyncIteration:
            self._exchange.end(now_ns(), "complete")
            raise
        except BaseException as error:
            self._exchange.end(now_ns(), *outcome_of(error))
            raise
        self._exchange.chunk(now_ns(), chunk)
        return chunk


class AsyncResponseGenerator(AsyncResponseIterator):
    """As its base, over an async generator: the clients close only those."""

    __slots__ = ()
    _inner: AsyncGenerator[bytes, None]

    async def asend(self, value: None) -> bytes:
        """As the inner generator's."""
        return await self._inner.asend(value)

    async def athrow(self, *arguments: Any) -> bytes:
        """As the inner generator's."""
        return await self._inner.athrow(*arguments)

    async def aclose(self) -> None:
        """As the inner generator's."""
        await self._inner.aclose()


class _ResponseTee:
    """What both response tees share.

    A response and its stream are a ring that waits for the garbage collector; once closed, the exchange does not wait
    with them.
    """

    def __init__(self, inner: Any, exchange: Exchange) -> None:
        self._wirecap_inner = inner
        self._wirecap_exchange: Exchange | None = exchange

    def _wirecap_closed(self, outcome: Outcome, error: ErrorInfo | None = None) -> None:
        exchange, self._wirecap_exchange = self._wirecap_exchange, None
        if exchange is not None:
            exchange.end(now_ns(), outcome, error)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_wirecap_"):
            raise AttributeError(name)
        return getattr(self._wirecap_inner, name)

    def __del__(self) -> None:
        # Not yet: where the garbage collector takes it together with an async generator, the event loop brings both
        # back to life, to run the generator's end, which may well close the response.
        with contextlib.suppress(Exception):  # at interpreter shutdown anything may be gone
            exchange = self._wirecap_exchange
            if exchange is not None and not exchange.ended:
                self._wirecap_dropped = _Dropped(exchange)


class _Dropped:
    """Goes with a response's tee when that is gone for good."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # as above
            self._exchange.end(now_ns(), "abandoned")


class _SyncResponseTee(_ResponseTee):
    def __iter__(self) -> Iterator[bytes]:
        inner, exchange = iter(self._wirecap_inner), self._wirecap_exchange
        return inner if exchange is None else ResponseIterator(inner, exchange)

    def close(self) -> None:
        try:
            self._wirecap_inner.close()
        except BaseException as error:
            self._wirecap_closed(*outcome_of(error))
            raise
        self._wirecap_closed("closed")


class _AsyncResponseTee(_ResponseTee):
    def __aiter__(self) -> AsyncIterator[bytes]:
        inner, exchange = self._wirecap_inner.__aiter__(), self._wirecap_exchange
        if exchange is None:
            return cast("AsyncIterator[bytes]", inner)
        kind = AsyncResponseGenerator if isinstance(inner, AsyncGenerator) else AsyncResponseIterator
        return kind(inner, exchange)

    async def aclose(self) -> None:
        try:
            await self._wirecap_inner.aclose()
        except BaseException as error:
            self._wirecap_closed(*outcome_of(error))
            raise
        self._wirecap_closed("closed")


class _RequestTee:
    """What the request tees share. A transport may read the body again from its beginning (to retry)."""

    def __init__(self, inner: Any, exchange: Exchange) -> None:
        self._wirecap_inner = inner
        self._wirecap_exchange = exchange
        self._wirecap_passes = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_wirecap_"):
            raise AttributeError(name)
        return getattr(self._wirecap_inner, name)

    def _wirecap_begin(self) -> Exchange:
        self._wirecap_passes += 1
        if self._wirecap_passes > 1:
            self._wirecap_exchange.request_restart(now_ns())
        return self._wirecap_exchange


class _SyncRequestTee(_RequestTee):
    def __iter__(self) -> Iterator[bytes]:
        exchange = self._wirecap_begin()
        for chunk in self._wirecap_inner:
            exchange.request_chunk(now_ns(), chunk)
            yield chunk
        exchange.request_end(now_ns())

    def close(self) -> None:
        self._wirecap_inner.close()


class _AsyncRequestTee(_RequestTee):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange = self._wirecap_begin()
        async for chunk in self._wirecap_inner:
            exchange.request_chunk(now_ns(), chunk)
            yield chunk
        exchange.request_end(now_ns())

    async def aclose(self) -> None:
        await self._wirecap_inner.aclose()


class Tees(NamedTuple):
    """The tee classes of one client module."""

    module: ModuleType
    sync_response: type[Any]
    async_response: type[Any]
    sync_request: type[Any]
    async_request: type[Any]
    both_request: type[Any]

    def request(self, stream: Any, exchange: Exchange) -> Any | None:
        """A tee on a request's body stream; None where it is no stream at all."""
        is_sync = isinstance(stream, self.module.SyncByteStream)
        is_async = isinstance(stream, self.module.AsyncByteStream)
        if is_sync and is_async:
            return self.both_request(stream, exchange)
        if is_sync:
            return self.sync_request(stream, exchange)
        return self.async_request(stream, exchange) if is_async else None


@functools.cache
def tees_for(module: ModuleType) -> Tees:
    """The tee classes for httpx or httpx2."""
    sync, asynchronous = module.SyncByteStream, module.AsyncByteStream
    return Tees(
        module,
        type("SyncResponseTee", (_SyncResponseTee, sync), {}),
        type("AsyncResponseTee", (_AsyncResponseTee, asynchronous), {}),
        type("SyncRequestTee", (_SyncRequestTee, sync), {}),
        type("AsyncRequestTee", (_AsyncRequestTee, asynchronous), {}),
        type("RequestTee", (_SyncRequestTee, _AsyncRequestTee, sync, asynchronous), {}),
    )
