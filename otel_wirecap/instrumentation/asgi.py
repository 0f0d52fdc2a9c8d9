"""The server side: an ASGI middleware that records the exchange between a client and this process.

Invariants:

- ``receive`` and ``send`` hand on the very messages, in order, with their exceptions; nothing is buffered.
- A request is recorded once, by the outermost wrapper that sees it (the inner ones find a private key in the scope); a
  call made in process, with a scope of its own, is a request of its own.
- Lifespan scopes pass through; when a shutdown is complete the writer is told that the process may be gone from then
  on, because a server may be killed by the very signal that it is shutting down for.
- That a client has left is known from what shows it first: a message to the application, an OSError of ``send``
  (ASGI 2.4), or the server's own connection object behind ``send``.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import wrapt
from opentelemetry import context as otel_context, propagate, trace
from opentelemetry.propagators.textmap import Getter

from otel_wirecap.capture.events import (
    BINARY,
    TEXT,
    ErrorInfo,
    Headers,
    Outcome,
    RequestHead,
    ResponseHead,
    WebsocketClose,
    WebsocketMessage,
)
from otel_wirecap.capture.exchange import LiveFlow
from otel_wirecap.instrumentation.flow_context import enter_flow, leave_flow
from otel_wirecap.instrumentation.guard import NO_CLOSE_FRAME, guarded, now_ns, outcome_of, outcome_of_close
from otel_wirecap.instrumentation.runtime import Runtime, active
from otel_wirecap.storage.registry import note_end, pause_writers

if TYPE_CHECKING:
    from otel_wirecap.capture.exchange import LiveExchange

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[Any]]

_BEGINNINGS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_FILE_MESSAGES = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
MAX_MIDDLEWARE = 100
SWITCHING_PROTOCOLS, FORBIDDEN = 101, 403
NORMAL_CLOSURE, NO_STATUS_CODE = 1000, 1005
SCOPE_KEY = "otel_wirecap.exchange"
"""In a scope whose request is recorded, or left out on purpose: a ``_Deferred``, or None."""
FOREIGN_INSTRUMENTATION = "opentelemetry.instrumentation.asgi"
"""What contrib's instrumentations of FastAPI, Starlette, Django and ASGI, and logfire's, are made of."""
SHUTDOWN_FLUSH_SECONDS = 5.0


class WireCaptureMiddleware(wrapt.ObjectProxy[Any]):
    """Records the HTTP exchanges and websockets of an ASGI application, as long as a capture runs.

    In every other way it is the application itself: its attributes can be read and set, and it is of its class.

    Args:
        app: the application.
    """

    def __init__(self, app: Any) -> None:
        super().__init__(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Calls the application."""
        return await record(self.__wrapped__, scope, receive, send)


async def record(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> Any:
    """Calls ``app`` and records the exchange, unless a wrapper further out does.

    Returns:
        What the application returns: None, by the specification; servers complain of anything else.
    """
    runtime = active()
    if runtime is None or SCOPE_KEY in scope:
        deferred = scope.get(SCOPE_KEY)
        if deferred is not None:
            deferred.begin()
        return await app(scope, receive, send)
    if scope["type"] == "lifespan":
        return await app(scope, receive, _noting(send))
    kind = _KINDS.get(scope["type"])
    serving = None if kind is None else _begin(kind, runtime, app, scope, receive, send)
    if serving is None:
        return await app(scope, receive, send)
    if isinstance(serving, LiveFlow):
        token = enter_flow(serving, None)
        try:
            return await app(scope, receive, send)
        finally:
            leave_flow(serving, token)
    if isinstance(serving, _Deferred):
        return await serving.call(app, scope)
    try:
        return await app(scope, serving.receiver(receive), serving.sender(send))
    except BaseException as error:
        guarded(serving.exchange, serving.raised, error)
        raise
    finally:
        guarded(serving.exchange, serving.returned)


def _begin(
    kind: type[_Serving], runtime: Runtime, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> _Serving | _Deferred | LiveFlow | None:
    """The request's recording; a flow, where only the exchanges that it causes are to be captured; None: nothing."""
    try:
        headers = _headers(scope)
        sent = dict(headers)
        url = _url(scope, sent.get(b"host"))
        scope[SCOPE_KEY] = None
        if not runtime.wants("client", url):
            return None if runtime.filter.paused else runtime.new_flow()
        request = _Request(scope, receive, send, url, headers, sent, runtime.new_flow())
        if FOREIGN_INSTRUMENTATION in sys.modules and _is_traced_by_others(app):
            scope[SCOPE_KEY] = deferred = _Deferred(kind, runtime, request)
            return deferred
        return kind(runtime, request, is_current=True)
    except Exception as error:  # noqa: BLE001  # the host is never harmed
        runtime.failed(None, error)
        return None


def _is_traced_by_others(app: Any) -> bool:
    """Whether another instrumentation makes a span of each of the application's requests.

    Its middleware is in the application's stack, or will be as soon as that is built, with the first request.
    """
    middleware = getattr(sys.modules[FOREIGN_INSTRUMENTATION], "OpenTelemetryMiddleware", None)
    app = getattr(app, "__self__", app)
    for _ in range(MAX_MIDDLEWARE):
        if app is None or middleware is None:
            return False
        planned = [getattr(entry, "cls", None) for entry in getattr(app, "user_middleware", ())]
        is_marked = getattr(app, "_is_instrumented_by_opentelemetry", False)  # by contrib's for FastAPI and Starlette
        if is_marked or middleware in planned or isinstance(app, middleware):
            return True
        app = getattr(app, "middleware_stack", None) or getattr(app, "app", None)
    return False


class _Request(NamedTuple):
    """A request as the server hands it over, and what all of it has been read for."""

    scope: Scope
    receive: Receive
    send: Send
    url: str
    headers: Headers
    sent: dict[bytes, bytes]
    flow: LiveFlow


class _Deferred:
    """A request for which another instrumentation may make a span: its recording begins within that."""

    def __init__(self, kind: type[_Serving], runtime: Runtime, request: _Request) -> None:
        self._kind = kind
        self._runtime = runtime
        self._request = request
        self._receive, self._send = request.receive, request.send
        self._serving: _Serving | None = None
        self._begun = False
        self._beginning = threading.RLock()  # an attempt in a thread may be the first to ask

    def begin(self) -> None:
        """Begins the recording, if it has not begun."""
        with self._beginning:
            if not self._begun:
                self._begun = True
                try:
                    self._serving = serving = self._kind(self._runtime, self._request, is_current=False)
                    self._receive, self._send = serving.receiver(self._receive), serving.sender(self._send)
                except Exception as error:  # noqa: BLE001  # the host is never harmed
                    self._runtime.failed(None, error)

    async def call(self, app: ASGIApp, scope: Scope) -> Any:
        """Calls the application; returns what it returns."""
        flow = self._request.flow
        token = enter_flow(flow, None, self.begin)
        try:
            return await app(scope, self._receive_within, self._send_within)
        except BaseException as error:
            self.begin()
            if self._serving is not None:
                guarded(self._serving.exchange, self._serving.raised, error)
            raise
        finally:
            self.begin()
            if self._serving is not None:
                guarded(self._serving.exchange, self._serving.returned)
            leave_flow(flow, token)

    async def _receive_within(self) -> Message:
        self.begin()
        return await self._receive()

    async def _send_within(self, message: Message) -> None:
        self.begin()
        await self._send(message)


class _Serving(ABC):
    """One request being served; what its kind makes of the messages is its subclasses' part."""

    def __init__(self, runtime: Runtime, request: _Request, *, is_current: bool) -> None:
        self._attached: Any = None
        self._flow_token: Any = None
        self._disconnected = False
        self._complete = False
        scope, sent = request.scope, request.sent
        sending, receiving = getattr(request.send, "__self__", None), getattr(request.receive, "__self__", None)
        # As uvicorn, hypercorn and gunicorn call it. Others show it in other ways, or not at all.
        self._connections = [
            (connection, name)
            for connection, name in ((sending, "disconnected"), (sending, "closed"), (receiving, "_closed"))
            if hasattr(connection, name)
        ]
        self._scope = scope
        self._mounted_at = scope.get("app_root_path", scope.get("root_path", ""))
        within_foreign = not is_current and trace.get_current_span().get_span_context().is_valid
        context = None if within_foreign else propagate.extract(sent, getter=_SENT)
        self.exchange: LiveExchange
        is_websocket = scope["type"] == "websocket"
        version, client = scope.get("http_version"), scope.get("client")
        head = RequestHead(
            method="GET" if is_websocket else scope["method"],
            url=request.url,
            headers=request.headers,
            http_version=f"HTTP/{version}" if version else None,
            client_host=client[0] if client else None,
            websocket=is_websocket,
            body=None if not is_websocket and _may_have_body(scope, sent) else b"",
        )
        self.exchange, self._span = runtime.begin_client(head, context, request.flow)
        span = self._span.inner
        if not is_current:
            request.flow.span = span
            return
        try:
            self._flow_token = enter_flow(request.flow, span)
            if span.get_span_context().is_valid:
                self._attached = otel_context.attach(trace.set_span_in_context(span, context))
        except Exception as error:  # noqa: BLE001  # the exchange has begun: it ends here, the host goes on
            self.exchange.fail(now_ns(), error)

    @abstractmethod
    def received(self, message: Message) -> None:
        """A message came to the application."""

    @abstractmethod
    def sent(self, now: int, message: Message, headers: Headers, *, gone: bool) -> None:
        """A message of the application has been handed over, with its headers; ``gone``: the client had left before."""

    @abstractmethod
    def unfinished(self) -> tuple[Outcome, ErrorInfo | None]:
        """How it ended if the application is done and did not say so."""

    def responds(self, now: int, head: ResponseHead) -> None:
        """The application answers: by now it knows what serves the request."""
        self._span.identity.route = _route(self._scope, self._mounted_at)
        self.exchange.response(now, head)

    def receiver(self, receive: Receive) -> Receive:
        """``receive``, with an eye on what comes."""

        async def receive_recorded() -> Message:
            message = await receive()
            try:
                self.received(message)
            except Exception as error:  # noqa: BLE001  # the host is never harmed
                self.exchange.fail(now_ns(), error)
            return message

        return receive_recorded

    def sender(self, send: Send) -> Send:
        """``send``, with an eye on what goes."""

        async def send_recorded(message: Message) -> None:
            # Before it is sent: the record's moment is that of the hand-over, and a slow client delays nothing.
            now, gone = now_ns(), self.client_gone()
            headers = self.headers_of(message)
            try:
                await send(message)
            except OSError:
                self._disconnected = True
                raise
            try:
                self.sent(now, message, headers, gone=gone)
            except Exception as error:  # noqa: BLE001  # the host is never harmed
                self.exchange.fail(now_ns(), error)

        return send_recorded

    def headers_of(self, message: Message) -> Headers:
        """The headers of a message that has some, read before the server may use them up."""
        if message.get("type") in _BEGINNINGS:
            try:
                return _headers(message)
            except Exception as error:  # noqa: BLE001  # the server says what is wrong with them
                self.exchange.fail(now_ns(), error)
        return []

    def client_gone(self) -> bool:
        """Whether the client is known to have left before the response was complete."""
        if self._disconnected:
            return True
        for connection, name in self._connections:  # noqa: SIM110  # for every chunk: any() takes three times as long
            if getattr(connection, name, False) is True:
                return True
        return False

    def raised(self, error: BaseException) -> None:
        """The application raised."""
        if self.client_gone() and not self._complete:
            self.exchange.end(now_ns(), "client_disconnect")
            return
        self.exchange.end(now_ns(), *outcome_of(error))

    def returned(self) -> None:
        """The application is done, one way or the other."""
        try:
            gone = self.client_gone() and not self._complete
            self.exchange.end(now_ns(), *(("client_disconnect", None) if gone else self.unfinished()))
        finally:
            here = self._flow_token is not None and leave_flow(self.exchange.flow, self._flow_token)
            if here and self._attached is not None:
                otel_context.detach(self._attached)


class _ServingHTTP(_Serving):
    def received(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.request":
            body = message.get("body", b"")
            if body:
                self.exchange.request_chunk(now_ns(), bytes(body))
            if not message.get("more_body"):
                self.exchange.request_end(now_ns())
        elif kind == "http.disconnect" and not self._complete:
            self._disconnected = True

    def sent(self, now: int, message: Message, headers: Headers, *, gone: bool) -> None:
        kind = message["type"]
        if gone:
            self.exchange.end(now, "client_disconnect")
        elif kind == "http.response.body":
            body = message.get("body", b"")
            if body:
                self.exchange.chunk(now, body if type(body) is bytes else bytes(body))
            if not message.get("more_body"):
                self._complete = True
                self.exchange.end(now_ns(), "complete")
        elif kind == "http.response.start":
            self.responds(now, ResponseHead(message["status"], None, headers))
        elif kind in _FILE_MESSAGES and not message.get("more_body"):
            # The server reads the file by itself: its bytes do not pass here.
            self._complete = True
            self.exchange.end(now_ns(), "closed")

    def unfinished(self) -> tuple[Outcome, ErrorInfo | None]:
        return "error", ErrorInfo("IncompleteResponse", "the application ended before its response did")


class _ServingWebsocket(_Serving):
    def received(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.receive":
            self._message(now_ns(), message, asker=True)
        elif kind == "websocket.disconnect":
            code = message.get("code") or NO_STATUS_CODE
            lost = code == NO_CLOSE_FRAME
            close = WebsocketClose(code, message.get("reason") or "", None if lost else True)
            outcome, error = ("client_disconnect", None) if lost else outcome_of_close(close)
            self._complete = True
            self.exchange.end(now_ns(), outcome, error, close)

    def sent(self, now: int, message: Message, headers: Headers, *, gone: bool) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            self._message(now, message, asker=False)
        elif kind == "websocket.accept":
            if message.get("subprotocol"):
                headers = [*headers, (b"sec-websocket-protocol", message["subprotocol"].encode("latin-1", "replace"))]
            self.responds(now, ResponseHead(SWITCHING_PROTOCOLS, None, headers))
        elif kind == "websocket.close":
            if not self.exchange.responded:
                self.responds(now, ResponseHead(FORBIDDEN, None, []))
            close = WebsocketClose(message.get("code") or NORMAL_CLOSURE, message.get("reason") or "", asker=False)
            self._complete = True
            self.exchange.end(now_ns(), *outcome_of_close(close), close)
        elif kind == "websocket.http.response.start":
            self.responds(now, ResponseHead(message["status"], None, headers))
        elif kind == "websocket.http.response.body":
            self.exchange.chunk(now, bytes(message.get("body", b"")))
            if not message.get("more_body"):
                self._complete = True
                self.exchange.end(now_ns(), "complete")

    def unfinished(self) -> tuple[Outcome, ErrorInfo | None]:
        if self.exchange.responded:  # the server closes it
            return "complete", None
        return "error", ErrorInfo("IncompleteResponse", "the application ended before it answered the upgrade")

    def _message(self, now: int, message: Message, *, asker: bool) -> None:
        text = message.get("text")
        data = bytes(message.get("bytes") or b"") if text is None else text
        self.exchange.message(now, WebsocketMessage(asker, BINARY if text is None else TEXT, data))


_KINDS: dict[str, type[_Serving]] = {"http": _ServingHTTP, "websocket": _ServingWebsocket}


class _SentHeaders(Getter[dict[bytes, bytes]]):
    """What propagators read of a request: few of its headers, so that these alone are decoded."""

    def get(self, carrier: dict[bytes, bytes], key: str) -> list[str] | None:
        value = carrier.get(key.lower().encode("latin-1", "replace"))
        return None if value is None else [value.decode("latin-1")]

    def keys(self, carrier: dict[bytes, bytes]) -> list[str]:
        return [name.decode("latin-1") for name in carrier]


_SENT = _SentHeaders()


def _headers(holder: MutableMapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """The headers of a scope or a message; ASGI lets them be any iterable, one that can be read but once included."""
    headers = holder.get("headers") or ()
    if not isinstance(headers, (list, tuple)):
        headers = holder["headers"] = list(headers)
    return [
        (name if type(name) is bytes else bytes(name), value if type(value) is bytes else bytes(value))
        for name, value in headers
    ]


def _url(scope: Scope, sent_host: bytes | None) -> str:
    """The URL that was asked for: the path as it was sent, where the server reports it.

    A target that is no path (RFC 9112, section 3.2) is a whole URL, or comes behind a slash, so that it is not taken
    for a part of the host; ``*`` is the URL without a path (section 3.3).
    """
    raw_path = scope.get("raw_path")
    path = raw_path.partition(b"?")[0].decode("latin-1") if raw_path else scope.get("path", "/")
    query = scope.get("query_string", b"")
    if sent_host:
        host = sent_host.decode("latin-1")
    else:
        server = scope.get("server") or ("localhost", None)
        host = f"{server[0]}:{server[1]}" if server[1] else str(server[0])
    if not path.startswith("/"):
        path = "/" if path == "*" else path if "://" in path else f"/{path}"
    url = f"{scope.get('scheme', 'http')}://{host}{path}" if path.startswith("/") else path
    return f"{url}?{query.decode('latin-1')}" if query else url


def _route(scope: Scope, mounted_at: str) -> str | None:
    """The template of the path, where Starlette, a framework upon it, or Litestar reports it; below mounts, too."""
    route = scope.get("route")
    context = scope.get("fastapi")
    included = context.get("effective_route_context") if isinstance(context, dict) else None
    if included is not None and getattr(included, "original_route", None) is route:
        route = included  # with the prefixes of the routers that include it
    path = getattr(route, "path_format", None) or getattr(route, "path", None) or scope.get("path_template")
    if not isinstance(path, str):
        return None
    mount = str(scope.get("root_path", "")).removeprefix(mounted_at)
    # What is mounted and has no routes that are known, such as files: the mount's own path is in the prefix already.
    return mount + ("/{path}" if hasattr(route, "routes") else path)


def _may_have_body(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    if headers.get(b"transfer-encoding") or headers.get(b"content-length", b"0") != b"0":
        return True
    # From HTTP/2 on a body needs no header that announces it.
    return str(scope.get("http_version", "1.1")) >= "2" and scope["method"] not in {"GET", "HEAD"}


def _noting(send: Send) -> Send:
    """A lifespan's ``send`` that notes when the shutdown is over."""

    async def note_and_send(message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown."):
            note_end()
        await send(message)

    return note_and_send


async def flush_before_exit() -> None:
    """Brings the capture to its file without keeping the event loop: the process may be killed after this."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # another event loop than asyncio's
        pause_writers(SHUTDOWN_FLUSH_SECONDS)
        return
    try:
        await loop.run_in_executor(None, pause_writers, SHUTDOWN_FLUSH_SECONDS)
    except RuntimeError:  # the executor has been shut down
        pause_writers(SHUTDOWN_FLUSH_SECONDS)
