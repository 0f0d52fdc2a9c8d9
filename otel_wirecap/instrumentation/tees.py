"""Tees on the bodies of a client library: what passes is recorded and handed on untouched.

Invariants:

- A tee yields the very objects of the inner stream, in its order, with its exceptions.
- A tee's iterator has the methods of an async generator exactly where the inner one has them: httpx2 closes only those.
- However a response's body is left (read to its end, closed, failed, cancelled, dropped), its exchange ends once.

Where a library looks at the class of a body, its hook makes a subclass of the tee and of that class.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, cast

from otel_wirecap.capture.exchange import LiveExchange
from otel_wirecap.instrumentation.guard import now_ns, outcome_of

if TYPE_CHECKING:
    from otel_wirecap.capture.events import ErrorInfo, Outcome


class ResponseIterator:
    """Iterates over a response's chunks."""

    __slots__ = ("_exchange", "_inner")

    def __init__(self, inner: Iterator[bytes], exchange: LiveExchange) -> None:
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
    """Iterates over a response's chunks, asynchronously."""

    __slots__ = ("_exchange", "_inner")

    def __init__(self, inner: AsyncIterator[bytes], exchange: LiveExchange) -> None:
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
    """As its base, over an async generator."""

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


class _Tee:
    """In all other ways than those that it records, a tee is the inner body."""

    _wirecap_inner: Any

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_wirecap_"):
            raise AttributeError(name)
        return getattr(self._wirecap_inner, name)


class _ResponseTee(_Tee):
    """What both response tees share.

    A response and its stream are a ring that waits for the garbage collector; once closed, the exchange does not wait
    with them.

    Args:
        inner: the response's body, which can be iterated over once, and closed.
        exchange: the one whose response it is.
    """

    def __init__(self, inner: Any, exchange: LiveExchange) -> None:
        self._wirecap_inner = inner
        self._wirecap_exchange: LiveExchange | None = exchange

    def _wirecap_closed(self, outcome: Outcome, error: ErrorInfo | None = None) -> None:
        exchange, self._wirecap_exchange = self._wirecap_exchange, None
        if exchange is not None:
            exchange.end(now_ns(), outcome, error)

    def __del__(self) -> None:
        # Not yet: where the garbage collector takes it together with an async generator, the event loop brings both
        # back to life, to run the generator's end, which may well close the response.
        with contextlib.suppress(Exception):  # at interpreter shutdown anything may be gone
            exchange = self._wirecap_exchange
            if exchange is not None and not exchange.ended:
                self._wirecap_dropped = _Dropped(exchange)


class _Dropped:
    """Ends an exchange when its response's tee is gone for good."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: LiveExchange) -> None:
        self._exchange = exchange

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # as above
            self._exchange.end(now_ns(), "abandoned")


class SyncResponseTee(_ResponseTee):
    """A tee on a response's body that is iterated over with ``for`` and closed with ``close()``."""

    def __iter__(self) -> Iterator[bytes]:
        inner, exchange = iter(self._wirecap_inner), self._wirecap_exchange
        return inner if exchange is None else ResponseIterator(inner, exchange)

    def close(self) -> None:
        """As the inner body's."""
        try:
            self._wirecap_inner.close()
        except BaseException as error:
            self._wirecap_closed(*outcome_of(error))
            raise
        self._wirecap_closed("closed")


class AsyncResponseTee(_ResponseTee):
    """A tee on a response's body that is iterated over with ``async for`` and closed with ``aclose()``."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        inner, exchange = self._wirecap_inner.__aiter__(), self._wirecap_exchange
        if exchange is None:
            return cast("AsyncIterator[bytes]", inner)
        kind = AsyncResponseGenerator if isinstance(inner, AsyncGenerator) else AsyncResponseIterator
        return kind(inner, exchange)

    async def aclose(self) -> None:
        """As the inner body's."""
        try:
            await self._wirecap_inner.aclose()
        except BaseException as error:
            self._wirecap_closed(*outcome_of(error))
            raise
        self._wirecap_closed("closed")


class _RequestTee(_Tee):
    """What both request tees share. A transport may read the body again from its beginning (to retry).

    Args:
        inner: the request's body, which can be iterated over.
        exchange: the one whose request it is.
    """

    def __init__(self, inner: Any, exchange: LiveExchange) -> None:
        self._wirecap_inner = inner
        self._wirecap_exchange = exchange
        self._wirecap_passes = 0

    def _wirecap_begin(self) -> LiveExchange:
        self._wirecap_passes += 1
        if self._wirecap_passes > 1:
            self._wirecap_exchange.request_restart(now_ns())
        return self._wirecap_exchange


class SyncRequestTee(_RequestTee):
    """A tee on a request's body that is iterated over with ``for``."""

    def __iter__(self) -> Iterator[bytes]:
        exchange = self._wirecap_begin()
        for chunk in self._wirecap_inner:
            exchange.request_chunk(now_ns(), chunk)
            yield chunk
        exchange.request_end(now_ns())

    def close(self) -> None:
        """As the inner body's."""
        self._wirecap_inner.close()


class AsyncRequestTee(_RequestTee):
    """A tee on a request's body that is iterated over with ``async for``."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange = self._wirecap_begin()
        async for chunk in self._wirecap_inner:
            exchange.request_chunk(now_ns(), chunk)
            yield chunk
        exchange.request_end(now_ns())

    async def aclose(self) -> None:
        """As the inner body's."""
        await self._wirecap_inner.aclose()
