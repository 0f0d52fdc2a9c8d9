"""The client hook: httpx and httpx2, sync and async, one implementation.

It wraps ``_send_single_request`` of both client classes: the one place that every hop passes, whatever transport,
redirect, authentication flow or retry is around it, and under which the response's stream can be replaced without the
response noticing. The modules are never imported by us.

Invariant: a tee is an instance of exactly the stream kinds that the inner stream is: the clients decide by these.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from otel_wirecap.capture.events import RequestHead, ResponseHead
from otel_wirecap.instrumentation.attempts import redirected
from otel_wirecap.instrumentation.client_hook import ClientAttempt, wrap_async_send, wrap_send
from otel_wirecap.instrumentation.guard import now_ns
from otel_wirecap.instrumentation.patching import Hook, HookWrapper
from otel_wirecap.instrumentation.tees import AsyncRequestTee, AsyncResponseTee, SyncRequestTee, SyncResponseTee

if TYPE_CHECKING:
    from otel_wirecap.capture.events import Headers

MODULES = ("httpx", "httpx2")
SEND = "_send_single_request"


class _HTTPXAttempt(ClientAttempt):
    __slots__ = ("_headers", "_headers_before", "_request", "_sent_headers", "_stream")

    def describe(self, _client: Any, request: Any, url: str) -> tuple[RequestHead, tuple[str, int]]:
        self._request = request
        self._headers = headers = request.headers.raw
        self._headers_before: dict[str, str | None] = {}
        self._stream: tuple[Any, Any] | None = None
        asked = request.url
        port = asked.port or (443 if asked.scheme == "https" else 80)
        return RequestHead(request.method, url, headers, body=getattr(request, "_content", None)), (asked.host, port)

    @classmethod
    def url_of(cls, _client: Any, request: Any) -> str:
        """The URL as it goes out: a path in the extension ``target`` is sent in the place of the URL's own.

        Source: https://www.python-httpx.org/advanced/extensions/#target
        """
        url, target = request.url, request.extensions.get("target")
        if isinstance(target, bytes):
            target = target.decode("latin-1")
        if not target or not target.startswith("/"):
            return str(url)
        return f"{url.scheme}://{url.netloc.decode('ascii')}{target}"

    def set_headers(self, headers: dict[str, str]) -> Headers:
        request_headers = self._request.headers
        for name, value in headers.items():
            self._headers_before[name] = request_headers.get(name)
            request_headers[name] = value
        self._headers = request_headers.raw
        return cast("Headers", self._headers)

    def prepare(self) -> None:
        request = self._request
        if getattr(request, "_content", None) is None:
            stream = request.stream
            tee_class = _tee_class(stream.__class__, SyncRequestTee, AsyncRequestTee)
            if tee_class is not None:
                request.stream = tee = tee_class(stream, self.exchange)
                self._stream = stream, tee

    def restore(self) -> None:
        request = self._request
        headers = request.headers
        self._sent_headers: Headers = headers.raw
        for name, value in self._headers_before.items():  # a redirect, and who sends it again, copy the headers
            if value is None:
                headers.pop(name, None)
            else:
                headers[name] = value
        stream = self._stream
        if stream is not None and request.stream is stream[1]:
            request.stream = stream[0]

    def answered(self, response: Any) -> None:
        exchange, now = self.exchange, now_ns()
        extensions, headers = response.extensions, self._sent_headers
        version = extensions.get("http_version")
        reason = extensions.get("reason_phrase")
        exchange.response(
            now,
            ResponseHead(
                response.status_code,
                reason.decode("latin-1") if isinstance(reason, bytes) else response.reason_phrase,
                response.headers.raw,
                version.decode("latin-1") if isinstance(version, bytes) else None,
                headers if headers != self._headers else None,
            ),
        )
        if response.has_redirect_location:
            redirected(exchange, lambda: str(response.request.url.join(response.headers["location"])))
        bound = response.stream
        inner = bound._stream  # noqa: SLF001  # under the bound stream: the response keeps looking at that one
        if hasattr(response, "_content"):
            # Made whole (mock and cache transports): nobody will iterate its stream.
            raw = getattr(inner, "_stream", None)
            exchange.chunk(now, raw if isinstance(raw, bytes) else response._content)  # noqa: SLF001
            exchange.end(now, "complete")
            return
        tee_class = _tee_class(inner.__class__, SyncResponseTee, AsyncResponseTee)
        bound._stream = tee_class(inner, exchange)  # noqa: SLF001


@functools.lru_cache(maxsize=64)
def _tee_class(stream: type, sync_tee: type, async_tee: type) -> Any:
    """The class of the tees on streams of a class; None where that is no stream of httpx or httpx2."""
    kinds: list[type] = []
    tees: list[type] = []
    for kind in stream.__mro__:
        tee = {"SyncByteStream": sync_tee, "AsyncByteStream": async_tee}.get(kind.__name__)
        if tee is not None and kind.__module__.partition(".")[0] in MODULES:
            kinds.append(kind)
            tees.append(tee)
    return type(stream.__name__, (*tees, *kinds), {}) if kinds else None


_send, _send_async = wrap_send(_HTTPXAttempt), wrap_async_send(_HTTPXAttempt)

HOOKS = tuple(
    Hook(module, owner, SEND, wrapper)
    for module in MODULES
    for owner, wrapper in (("Client", _send), ("AsyncClient", _send_async))
)


def instrument_client(client: Any) -> None:
    """Hooks one client object of httpx or httpx2.

    Raises:
        TypeError: ``client`` is no client of httpx or httpx2.
    """
    module = _module_of(type(client))
    wrapper = _send_async if isinstance(client, module.AsyncClient) else _send
    if SEND not in vars(client):
        setattr(client, SEND, HookWrapper(getattr(client, SEND), wrapper))


def _module_of(client: type) -> ModuleType:
    """The module, httpx or httpx2, of whose client class ``client`` is a subclass."""
    for kind in client.__mro__:
        if kind.__name__ in {"Client", "AsyncClient"}:
            module = sys.modules.get(kind.__module__.partition(".")[0])
            if module is not None and hasattr(module, "AsyncByteStream"):
                return module
    raise TypeError(f"{client.__qualname__} is no client class of httpx or httpx2")
