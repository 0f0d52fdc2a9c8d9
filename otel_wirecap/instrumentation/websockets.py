"""The client hook: the websockets library, asyncio, threads and trio alike.

All of them drive ``websockets.client.ClientProtocol``, which sees the handshake and every frame: fragments go their way
as parts of a message, control frames are left out. A connection that is refused before the handshake is no
exchange here. The module is never imported by us.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from otel_wirecap.capture.events import BINARY, TEXT, RequestHead, ResponseHead, WebsocketClose, WebsocketMessage
from otel_wirecap.instrumentation.attempts import followed, redirected
from otel_wirecap.instrumentation.patching import Hook
from otel_wirecap.instrumentation.runtime import (
    NO_CLOSE_FRAME,
    ORDINARY_CLOSES,
    Runtime,
    active,
    guarded,
    now_ns,
    outcome_of,
    outcome_of_close,
)

if TYPE_CHECKING:
    from otel_wirecap.capture.events import Headers

ATTRIBUTE = "_otel_wirecap_connection"
CONTINUATION = 0


class _Connection:
    """One websocket, from the hook's side; lives as long as its protocol object."""

    __slots__ = ("_begun", "_request_headers", "exchange")

    def __init__(self, runtime: Runtime, protocol: Any, url: str, request: Any) -> None:
        flow, redirect_of = followed(url)
        head = RequestHead(
            method="GET",
            url=url,
            headers=_encoded(request.headers),
            http_version="HTTP/1.1",
            body=b"",
            redirect_of=redirect_of,
            websocket=True,
        )
        # Of a message that is not whole yet, opcode and parts so far: by us, by the other side.
        self._begun: dict[bool, tuple[int, int]] = {}
        self._request_headers = request.headers
        server = (protocol.uri.host, protocol.uri.port)
        self.exchange = runtime.begin_backend(head, server, flow, self._inject).exchange

    def _inject(self, carrier: dict[str, str]) -> Headers:
        headers = self._request_headers
        for name, value in carrier.items():
            if name in headers:
                del headers[name]
            headers[name] = value
        return _encoded(headers)

    def answered(self, response: Any) -> None:
        """The handshake is answered."""
        headers = _encoded(response.headers)
        self.exchange.response(now_ns(), ResponseHead(response.status_code, response.reason_phrase, headers))
        if response.body:
            self.exchange.chunk(now_ns(), bytes(response.body))
        setattr(response, ATTRIBUTE, self.exchange)  # for ``connect``, which may follow it in another context than this

    def frame(self, frame: Any, *, asker: bool) -> None:
        """A frame passes."""
        opcode = int(frame.opcode)
        if opcode not in (TEXT, BINARY, CONTINUATION):
            return
        part = 1
        if opcode == CONTINUATION:
            opcode, parts = self._begun.pop(asker, (BINARY, 0))
            part += parts
        self.exchange.message(now_ns(), WebsocketMessage(asker, opcode, bytes(frame.data), part, bool(frame.fin)))
        if not frame.fin:
            self._begun[asker] = (opcode, part)

    def closed(self, protocol: Any) -> None:
        """Nothing will come any more."""
        if protocol.handshake_exc is not None:
            self.exchange.end(now_ns(), *outcome_of(protocol.handshake_exc))
            return
        close = WebsocketClose(NO_CLOSE_FRAME, "")
        for frame in (protocol.close_sent, protocol.close_rcvd):
            # What we closed with counts only where the other side's fault made us.
            if frame is not None and (frame is protocol.close_rcvd or int(frame.code) not in ORDINARY_CLOSES):
                ours = protocol.close_sent is not None and protocol.close_rcvd_then_sent is not True
                close = WebsocketClose(int(frame.code), frame.reason, ours)
        self.exchange.end(now_ns(), *outcome_of_close(close), close)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at interpreter shutdown anything may be gone
            self.exchange.end(now_ns(), "abandoned")


def _url(uri: Any, path: str) -> str:
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    port = "" if uri.port == (443 if uri.secure else 80) else f":{uri.port}"
    return f"{'wss' if uri.secure else 'ws'}://{host}{port}{path}"


def _encoded(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode("utf-8", "replace"), value.encode("utf-8", "replace")) for name, value in headers.raw_items()]


def _send_request(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    runtime = active()
    if runtime is not None:
        try:
            request = arguments[0] if arguments else keywords["request"]
            url = _url(instance.uri, request.path)
            if runtime.wants("backend", url):
                setattr(instance, ATTRIBUTE, _Connection(runtime, instance, url, request))
        except Exception as error:  # noqa: BLE001  # the host is never harmed
            runtime.failed(None, error)
    return wrapped(*arguments, **keywords)


def _process_response(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    connection = getattr(instance, ATTRIBUTE, None)
    if connection is not None:
        guarded(connection.exchange, connection.answered, arguments[0] if arguments else keywords["response"])
    return wrapped(*arguments, **keywords)


def _receive_frame(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    connection = getattr(instance, ATTRIBUTE, None)
    if connection is not None:
        guarded(connection.exchange, connection.frame, arguments[0] if arguments else keywords["frame"], asker=False)
    return wrapped(*arguments, **keywords)


def _send_frame(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    connection = getattr(instance, ATTRIBUTE, None)
    if connection is not None:
        guarded(connection.exchange, connection.frame, arguments[0] if arguments else keywords["frame"], asker=True)
    return wrapped(*arguments, **keywords)


def _receive_eof(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    try:
        return wrapped(*arguments, **keywords)
    finally:
        connection = getattr(instance, ATTRIBUTE, None)
        if connection is not None:
            guarded(connection.exchange, connection.closed, instance)


def _process_redirect(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    followed_to = wrapped(*arguments, **keywords)
    refusal = arguments[0] if arguments else keywords["exc"]
    exchange = getattr(getattr(refusal, "response", None), ATTRIBUTE, None)
    if exchange is not None and isinstance(followed_to, str):

        def target() -> str:
            uri = sys.modules["websockets.uri"].parse_uri(followed_to)
            return _url(uri, uri.resource_name)

        redirected(exchange, target)
    return followed_to


HOOKS = (
    *(
        Hook(f"websockets.{kind}.client", owner, "process_redirect", _process_redirect)
        for kind, owner in (("asyncio", "connect"), ("sync", "reconnect"), ("trio", "connect"))
    ),
    Hook("websockets.client", "ClientProtocol", "send_request", _send_request),
    Hook("websockets.client", "ClientProtocol", "process_response", _process_response),
    Hook("websockets.protocol", "Protocol", "recv_frame", _receive_frame),
    Hook("websockets.protocol", "Protocol", "send_frame", _send_frame),
    Hook("websockets.protocol", "Protocol", "receive_eof", _receive_eof),
)
