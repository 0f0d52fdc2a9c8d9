"""Tees on the byte streams of aiohttp's client: what passes is told to the exchange and handed on untouched.

aiohttp's parser pushes a response into a reader; the consumer takes it out again as it likes. What came over the wire
is what the parser pushes, so the tee sits on that side. Invariants:

- A reader keeps its identity and everything it is: only its class is exchanged for a subclass of it without state of
  its own, and its buffer for one that knows the exchange.
- A failed or cancelled read is no end by itself (a consumer may poll with a time-out and read on); it tells how the
  stream was left if nothing more comes before the response is closed.
"""

from __future__ import annotations

import collections
import functools
from typing import Any

import wrapt

from otel_wirecap.capture.events import ErrorInfo, Outcome
from otel_wirecap.capture.exchange import Exchange
from otel_wirecap.instrumentation.runtime import now_ns, outcome_of


class _Buffer(collections.deque[bytes]):
    """A reader's buffer that knows whose bytes it holds."""

    exchange: Exchange
    left: tuple[Outcome, ErrorInfo | None] = ("closed", None)


class ResponseTee:
    """A response's reader under observation."""

    __slots__ = ("_buffer", "_exchange")

    def __init__(self, reader: Any, exchange: Exchange) -> None:
        self._exchange = exchange
        self._buffer = buffer = _Buffer(reader._buffer)  # noqa: SLF001  # aiohttp offers no other way to its bytes
        buffer.exchange = exchange
        now = now_ns()
        for data in buffer:  # came with the head
            exchange.chunk(now, bytes(data))
        if reader.is_eof():
            exchange.end(now, "complete")
            return
        if reader.exception() is not None:
            exchange.end(now, *outcome_of(reader.exception()))
            return
        reader._buffer = buffer  # noqa: SLF001
        kind: Any = type(reader)
        reader.__class__ = _recording(kind)

    def left(self) -> None:
        """The response was closed or released."""
        self._exchange.end(now_ns(), *self._buffer.left)

    def dropped(self) -> None:
        """Nobody holds the response any more."""
        outcome, error = self._buffer.left
        self._exchange.end(now_ns(), "abandoned" if outcome == "closed" else outcome, error)


@functools.cache
def _recording(reader: Any) -> type[Any]:
    """The subclass of a reader class that tells what it is fed; its layout has room for methods only."""

    class RecordingReader(reader):  # type: ignore[misc]  # a class that is known at run time
        __slots__ = ()

        def feed_data(self, data: bytes, *arguments: Any, **keywords: Any) -> Any:
            if data:
                buffer = self._buffer
                buffer.left = ("closed", None)
                buffer.exchange.chunk(now_ns(), data if type(data) is bytes else bytes(data))
            return super().feed_data(data, *arguments, **keywords)

        def feed_eof(self) -> None:
            self._buffer.exchange.end(now_ns(), "complete")
            super().feed_eof()

        def set_exception(self, exc: Any, *arguments: Any, **keywords: Any) -> None:
            self._buffer.exchange.end(now_ns(), *outcome_of(exc() if isinstance(exc, type) else exc))
            super().set_exception(exc, *arguments, **keywords)

        async def _wait(self, *arguments: Any, **keywords: Any) -> None:
            try:
                await super()._wait(*arguments, **keywords)
            except BaseException as error:
                self._buffer.left = outcome_of(error)
                raise

    RecordingReader.__name__, RecordingReader.__qualname__ = reader.__name__, reader.__qualname__
    RecordingReader.__module__ = reader.__module__
    return RecordingReader


class RequestTee(wrapt.ObjectProxy[Any]):
    """The writer of a request's body under observation."""

    def __init__(self, writer: Any, exchange: Exchange) -> None:
        super().__init__(writer)
        self._self_exchange = exchange

    async def write(self, chunk: bytes | bytearray | memoryview, *arguments: Any, **keywords: Any) -> None:
        """As the writer's."""
        self._self_exchange.request_chunk(now_ns(), bytes(chunk))
        await self.__wrapped__.write(chunk, *arguments, **keywords)

    async def write_eof(self, chunk: bytes | bytearray | memoryview = b"") -> None:
        """As the writer's."""
        if chunk:
            self._self_exchange.request_chunk(now_ns(), bytes(chunk))
        self._self_exchange.request_end(now_ns())
        await self.__wrapped__.write_eof(chunk)
