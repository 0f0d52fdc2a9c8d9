"""The client hook: aiohttp.

An attempt begins where its connection is asked for (``BaseConnector.connect``: a backend that cannot be reached is an
exchange too), its body passes ``ClientRequest.write_bytes``, its response begins in ``ClientResponse.start``. Where
aiohttp carries a request of httpx the attempt is recorded there. The module is never imported by us.

aiohttp's parser pushes a response into a reader; the consumer takes it out again as it likes. What came over the wire
is what the parser pushes, so the tee sits on that side. Invariants:

- A reader keeps its identity and everything it is: only its class is exchanged for a subclass of it without state of
  its own, and its buffer for one that knows the exchange.
- A failed or cancelled read is no end by itself (a consumer may poll with a time-out and read on); it is how the
  exchange ends if nothing more comes before the response is closed.
"""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import wrapt

from otel_wirecap.capture.events import ErrorInfo, Outcome, RequestHead, ResponseHead
from otel_wirecap.instrumentation.attempts import redirected
from otel_wirecap.instrumentation.client_hook import ClientAttempt
from otel_wirecap.instrumentation.guard import guarded, now_ns, outcome_of
from otel_wirecap.instrumentation.patching import Hook

if TYPE_CHECKING:
    from otel_wirecap.capture.events import Headers
    from otel_wirecap.capture.exchange import LiveExchange

ATTRIBUTE = "_otel_wirecap_attempt"
REDIRECTS = frozenset({301, 302, 303, 307, 308})
DECODED = frozenset({"gzip", "deflate", "br", "zstd"})
"""The content encodings that aiohttp undoes before anybody sees the body."""


class _AiohttpAttempt(ClientAttempt):
    """Lives as long as the request or its response does, which keep it; so it keeps neither."""

    __slots__ = ("_headers", "_request_headers", "_url", "tee")

    REQUEST_KEYWORD = "req"
    IS_TRANSPORT = True

    def describe(self, _client: Any, request: Any, url: str) -> tuple[RequestHead, tuple[str, int]]:
        self.tee: ResponseTee | None = None
        self._url = url
        self._request_headers = request.headers
        self._headers = _encoded(request.headers)
        head = RequestHead(
            method=request.method,
            url=url,
            headers=self._headers,
            body=_body_in_memory(request),
            decoded=bool(request.compress),
        )
        return head, (request.url.host or "", request.url.port or 0)

    @classmethod
    def url_of(cls, _client: Any, request: Any) -> str:
        return str(request.url)

    def set_headers(self, headers: dict[str, str]) -> Headers:
        self._request_headers.update(headers)
        self._headers = _encoded(self._request_headers)
        return self._headers

    def answered(self, response: Any) -> None:
        exchange, version, content = self.exchange, response.version, response.content
        headers = [(bytes(name), bytes(value)) for name, value in response.raw_headers]
        headers_now = _encoded(self._request_headers)
        # By its count of compressed bytes; releases without one always undo the encoding.
        decompresses = getattr(content, "total_compressed_bytes", 0) is not None
        exchange.response(
            now_ns(),
            ResponseHead(
                status_code=response.status,
                reason=response.reason,
                headers=headers,
                http_version=f"HTTP/{version.major}.{version.minor}" if version is not None else None,
                request_headers=headers_now if headers_now != self._headers else None,
                decoded=decompresses and response.headers.get("content-encoding", "").lower() in DECODED,
            ),
        )
        target = response.headers.get("location") or response.headers.get("uri")
        if response.status in REDIRECTS and target:
            redirected(exchange, lambda: urljoin(self._url, target))
        if hasattr(content, "_buffer"):
            self.tee = ResponseTee(content, exchange)
        else:  # the reader that all empty responses share
            exchange.end(now_ns(), "complete")

    def left(self) -> None:
        """The response was closed or released."""
        if self.tee is not None:
            self.tee.left()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at interpreter shutdown anything may be gone
            if self.tee is not None:
                self.tee.dropped()
            else:
                self.exchange.end(now_ns(), "abandoned")


class _Buffer(collections.deque[bytes]):
    """A reader's buffer that knows whose bytes it holds."""

    exchange: LiveExchange
    left: tuple[Outcome, ErrorInfo | None] = ("closed", None)


class ResponseTee:
    """A response's reader under observation."""

    __slots__ = ("_buffer", "_exchange")

    def __init__(self, reader: Any, exchange: LiveExchange) -> None:
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
    """The subclass of a reader class that records what it is fed; its layout has room for methods only."""

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

    def __init__(self, writer: Any, exchange: LiveExchange) -> None:
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


def _encoded(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
            for name, value in headers.items()]  # fmt: skip


def _body_in_memory(request: Any) -> bytes | None:
    """The whole body where it is there as bytes and sure to be sent, else None."""
    body = request.body
    if body is None or (isinstance(body, bytes | tuple) and not body):
        return b""
    if getattr(request, "_continue", None) is not None:  # the server may not want it
        return None
    value = getattr(body, "_value", body)
    return bytes(value) if isinstance(value, bytes | bytearray) else None


def _attempt_of(holder: Any) -> _AiohttpAttempt | None:
    return getattr(holder, ATTRIBUTE, None)


async def _watched(attempt: _AiohttpAttempt, call: Awaitable[Any]) -> Any:
    """Awaits a call of aiohttp's, whose failure ends the exchange."""
    try:
        return await call
    except BaseException as error:
        guarded(attempt.exchange, attempt.failed, error)
        raise


async def _connect(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    attempt = _AiohttpAttempt.begin(instance, arguments, keywords)
    if attempt is None:
        return await wrapped(*arguments, **keywords)
    guarded(attempt.exchange, setattr, arguments[0] if arguments else keywords["req"], ATTRIBUTE, attempt)
    return await _watched(attempt, wrapped(*arguments, **keywords))


async def _send(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    attempt = _attempt_of(instance)
    if attempt is None:
        return await wrapped(*arguments, **keywords)
    response = await _watched(attempt, wrapped(*arguments, **keywords))
    guarded(attempt.exchange, setattr, response, ATTRIBUTE, attempt)
    return response


def _write_bytes(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Not async, as the coroutine that it hands on is what aiohttp makes a task of."""
    attempt = _attempt_of(instance)
    if attempt is None or not arguments:
        return wrapped(*arguments, **keywords)
    return wrapped(RequestTee(arguments[0], attempt.exchange), *arguments[1:], **keywords)


async def _start(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    attempt = _attempt_of(instance)
    if attempt is None:
        return await wrapped(*arguments, **keywords)
    started = await _watched(attempt, wrapped(*arguments, **keywords))
    guarded(attempt.exchange, attempt.answered, instance)
    return started


def _leave(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    attempt = _attempt_of(instance)
    if attempt is not None:
        guarded(attempt.exchange, attempt.left)
    return wrapped(*arguments, **keywords)


HOOKS = (
    Hook("aiohttp.connector", "BaseConnector", "connect", _connect),
    Hook("aiohttp.client_reqrep", "ClientRequest", "send", _send),
    Hook("aiohttp.client_reqrep", "ClientRequest", "write_bytes", _write_bytes),
    Hook("aiohttp.client_reqrep", "ClientResponse", "start", _start),
    Hook("aiohttp.client_reqrep", "ClientResponse", "close", _leave),
    Hook("aiohttp.client_reqrep", "ClientResponse", "release", _leave),
)
