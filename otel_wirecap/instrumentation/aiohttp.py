"""The client hook: aiohttp.

An attempt begins where its connection is asked for (``BaseConnector.connect``: a backend that cannot be reached is an
exchange too), its body passes ``ClientRequest.write_bytes``, its response begins in ``ClientResponse.start``. Where
aiohttp carries a request of httpx the attempt is recorded there. The module is never imported by us.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from otel_wirecap.capture.events import RequestHead, ResponseHead
from otel_wirecap.instrumentation.aiohttp_streams import RequestTee, ResponseTee
from otel_wirecap.instrumentation.attempts import current_request, followed, redirected
from otel_wirecap.instrumentation.patching import Hook
from otel_wirecap.instrumentation.runtime import Runtime, active, guarded, now_ns, outcome_of

if TYPE_CHECKING:
    from otel_wirecap.capture.events import Headers

ATTRIBUTE = "_otel_wirecap_attempt"
REDIRECTS = frozenset({301, 302, 303, 307, 308})
DECODED = frozenset({"gzip", "deflate", "br", "zstd"})
"""The content encodings that aiohttp undoes before anybody sees the body."""


class _Attempt:
    """One request on its way; lives as long as the request or its response does."""

    __slots__ = ("_headers", "_request_headers", "_url", "exchange", "tee")

    def __init__(self, runtime: Runtime, request: Any) -> None:
        self._url = str(request.url)
        self._request_headers = request.headers
        self._headers = _encoded(request.headers)
        flow, redirect_of = followed(self._url)
        head = RequestHead(
            method=request.method,
            url=self._url,
            headers=self._headers,
            body=_body_in_memory(request),
            redirect_of=redirect_of,
            decoded=bool(request.compress),
        )
        self.tee: ResponseTee | None = None
        server = (request.url.host or "", request.url.port or 0)
        self.exchange = runtime.begin_backend(head, server, flow, self._inject).exchange

    def _inject(self, carrier: dict[str, str]) -> Headers:
        self._request_headers.update(carrier)
        self._headers = _encoded(self._request_headers)
        return self._headers

    def answered(self, response: Any) -> None:
        """The response's head is there."""
        exchange, version, content = self.exchange, response.version, response.content
        headers = [(bytes(name), bytes(value)) for name, value in response.raw_headers]
        headers_now = _encoded(self._request_headers)
        exchange.response(
            now_ns(),
            ResponseHead(
                status_code=response.status,
                reason=response.reason,
                headers=headers,
                http_version=f"HTTP/{version.major}.{version.minor}" if version is not None else None,
                request_headers=headers_now if headers_now != self._headers else None,
                decoded=_decompresses(content) and response.headers.get("content-encoding", "").lower() in DECODED,
            ),
        )
        target = response.headers.get("location") or response.headers.get("uri")
        if response.status in REDIRECTS and target:
            redirected(exchange, lambda: urljoin(self._url, target))
        if hasattr(content, "_buffer"):
            self.tee = ResponseTee(content, exchange)
        else:  # the reader that all empty responses share
            exchange.end(now_ns(), "complete")

    def failed(self, error: BaseException) -> None:
        """There was no response."""
        self.exchange.end(now_ns(), *outcome_of(error))

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


def _decompresses(reader: Any) -> bool:
    """Whether aiohttp undoes the content encoding, by its count of compressed bytes; releases without one do."""
    return getattr(reader, "total_compressed_bytes", 0) is not None


def _attempt_of(holder: Any) -> _Attempt | None:
    return getattr(holder, ATTRIBUTE, None)


def _begin(request: Any) -> _Attempt | None:
    runtime = active()
    if runtime is None:
        return None
    try:
        if current_request() is not None or not runtime.wants("backend", str(request.url)):
            return None
        attempt = _Attempt(runtime, request)
        setattr(request, ATTRIBUTE, attempt)
    except Exception as error:  # noqa: BLE001  # the host is never harmed
        runtime.failed(None, error)
        return None
    return attempt


async def _connect(wrapped: Any, _instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    attempt = _begin(arguments[0] if arguments else keywords["req"])
    try:
        return await wrapped(*arguments, **keywords)
    except BaseException as error:
        if attempt is not None:
            guarded(attempt.exchange, attempt.failed, error)
        raise


async def _send(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    attempt = _attempt_of(instance)
    if attempt is None:
        return await wrapped(*arguments, **keywords)
    try:
        response = await wrapped(*arguments, **keywords)
    except BaseException as error:
        guarded(attempt.exchange, attempt.failed, error)
        raise
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
    try:
        started = await wrapped(*arguments, **keywords)
    except BaseException as error:
        guarded(attempt.exchange, attempt.failed, error)
        raise
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
