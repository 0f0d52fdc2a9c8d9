"""The server side: an ASGI middleware that records the exchange between a client and this process.

Invariants:

- ``receive`` and ``send`` hand on the very messages, in order, with their exceptions; nothing is buffered.
- A request is recorded once, by the outermost wrapper that sees it (a private key in the scope tells the inner ones);
  a call made in process, with a scope of its own, is a request of its own.
- Websocket and lifespan scopes pass through; when a lifespan's shutdown is complete the capture is brought to its
  file, because a server may be killed by the very signal that it is shutting down for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace

from otel_wirecap.capture.events import ErrorInfo, Outcome, RequestHead, ResponseHead
from otel_wirecap.instrumentation.runtime import Runtime, active, current_flow, now_ns, outcome_of
from otel_wirecap.storage.registry import pause_writers

if TYPE_CHECKING:
    from otel_wirecap.capture.exchange import Exchange

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_FILE_MESSAGES = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
SCOPE_KEY = "otel_wirecap.exchange"
SHUTDOWN_FLUSH_SECONDS = 5.0


class WireCaptureMiddleware:
    """Records the HTTP exchanges of an ASGI application, as long as a capture runs.

    Args:
        app: the application.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    def __getattr__(self, name: str) -> Any:
        if name == "app":
            raise AttributeError(name)
        return getattr(self.app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application."""
        await record(self.app, scope, receive, send)


async def record(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Calls ``app`` and records the exchange, unless a wrapper further out does."""
    runtime = active()
    if runtime is None or SCOPE_KEY in scope:
        await app(scope, receive, send)
        return
    if scope["type"] == "lifespan":
        await app(scope, receive, _flushing(scope, send))
        return
    if scope["type"] != "http":
        await app(scope, receive, send)
        return
    serving = _begin(runtime, scope, send)
    if serving is None:
        await app(scope, receive, send)
        return
    try:
        await app(scope, serving.receiver(receive), serving.sender(send))
    except BaseException as error:
        serving.guarded(serving.raised, error)
        raise
    finally:
        serving.guarded(serving.returned)


def _begin(runtime: Runtime, scope: Scope, send: Send) -> _Serving | None:
    try:
        serving = _Serving(runtime, scope, send)
        scope[SCOPE_KEY] = serving.exchange.id
    except Exception as error:  # noqa: BLE001  # the host is never harmed
        runtime.failed(error)
        return None
    return serving


class _Serving:
    """One request being served."""

    def __init__(self, runtime: Runtime, scope: Scope, send: Send) -> None:
        self._runtime = runtime
        self._attached: Any = None
        self._flow_token: Any = None
        self._disconnected = False
        self._complete = False
        self._server_cycle = getattr(send, "__self__", None)
        headers = [(bytes(name), bytes(value)) for name, value in scope.get("headers") or ()]
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        client, server = scope.get("client"), scope.get("server")
        head = RequestHead(
            method=scope["method"],
            url=_url(scope, sent.get("host")),
            headers=headers,
            http_version="HTTP/" + scope["http_version"] if scope.get("http_version") else None,
            client_host=client[0] if client else None,
            body=None if _may_have_body(scope, sent) else b"",
        )
        context = propagate.extract(sent)
        address = (server[0], server[1] or 0) if server else None
        self.exchange: Exchange
        self.exchange, span = runtime.begin_client(head, context, address)
        try:
            self._flow_token = current_flow.set(self.exchange.flow)
            if span.get_span_context().is_valid:
                self._attached = otel_context.attach(trace.set_span_in_context(span.inner, context))
        except Exception as error:  # noqa: BLE001  # the exchange has begun: it ends here, the host goes on
            self.exchange.fail(error)

    def guarded(self, action: Callable[..., None], *arguments: Any) -> None:
        """Calls an action of ours so that its failure harms nobody."""
        try:
            action(*arguments)
        except Exception as error:  # noqa: BLE001  # the host is never harmed
            self.exchange.fail(error)

    def receiver(self, receive: Receive) -> Receive:
        """``receive``, with an eye on what comes."""

        async def receive_recorded() -> Message:
            message = await receive()
            self.guarded(self._received, message)
            return message

        return receive_recorded

    def sender(self, send: Send) -> Send:
        """``send``, with an eye on what goes."""
        exchange = self.exchange

        async def send_recorded(message: Message) -> None:
            # Before it is sent: the record's moment is that of the hand-over, and a slow client delays nothing.
            now = now_ns()
            await send(message)
            try:
                if message["type"] == "http.response.body":
                    body = message.get("body", b"")
                    if body:
                        exchange.chunk(now, body if type(body) is bytes else bytes(body))
                    if not message.get("more_body"):
                        self._finished(now_ns())
                else:
                    self._sent(now, message)
            except Exception as error:  # noqa: BLE001  # the host is never harmed
                exchange.fail(error)

        return send_recorded

    def _received(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.request":
            body = message.get("body", b"")
            if body:
                self.exchange.request_chunk(now_ns(), bytes(body))
            if not message.get("more_body"):
                self.exchange.request_end(now_ns())
        elif kind == "http.disconnect" and not self._complete:
            self._disconnected = True

    def _sent(self, now: int, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers") or ()]
            self.exchange.response(now, ResponseHead(message["status"], None, headers))
        elif kind in _FILE_MESSAGES and not message.get("more_body"):
            # The server reads the file by itself: its bytes do not pass here.
            self._complete = True
            self.exchange.end(now_ns(), "closed")

    def _finished(self, now: int) -> None:
        self._complete = True
        gone = self._disconnected or getattr(self._server_cycle, "disconnected", False)
        self.exchange.end(now, "client_disconnect" if gone else "complete")

    def raised(self, error: BaseException) -> None:
        """The application raised."""
        if self._disconnected or getattr(self._server_cycle, "disconnected", False):
            self.exchange.end(now_ns(), "client_disconnect")
            return
        outcome, info = outcome_of(error)
        self.exchange.end(now_ns(), outcome, info)

    def returned(self) -> None:
        """The application is done, one way or the other."""
        try:
            outcome: Outcome = "error"
            info: ErrorInfo | None = ErrorInfo("IncompleteResponse", "the application ended before its response did")
            if self._disconnected or getattr(self._server_cycle, "disconnected", False):
                outcome, info = "client_disconnect", None
            self.exchange.end(now_ns(), outcome, info)
        finally:
            if self._attached is not None:
                otel_context.detach(self._attached)
            if self._flow_token is not None:
                current_flow.reset(self._flow_token)


def _url(scope: Scope, host: str | None) -> str:
    """The URL that was asked for: the path as it was sent, where the server tells it."""
    raw_path = scope.get("raw_path")
    path = raw_path.partition(b"?")[0].decode("latin-1") if raw_path else scope.get("path", "/")
    query = scope.get("query_string", b"")
    if not host:
        server = scope.get("server") or ("localhost", None)
        host = f"{server[0]}:{server[1]}" if server[1] else str(server[0])
    url = f"{scope.get('scheme', 'http')}://{host}{path}"
    return f"{url}?{query.decode('latin-1')}" if query else url


def _may_have_body(scope: Scope, headers: dict[str, str]) -> bool:
    if headers.get("transfer-encoding") or headers.get("content-length", "0") != "0":
        return True
    # From HTTP/2 on a body needs no header that announces it.
    return str(scope.get("http_version", "1.1")) >= "2" and scope["method"] not in {"GET", "HEAD"}


def _flushing(scope: Scope, send: Send) -> Send:
    """A lifespan's ``send`` that brings the capture to its file when the shutdown is over."""

    async def send_and_flush(message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown."):
            await flush_before_exit()
        await send(message)

    return send_and_flush


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
