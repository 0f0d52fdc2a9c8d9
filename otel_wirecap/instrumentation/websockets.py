"""The client hook: the websockets library, asyncio, threads and trio alike.

All of them drive ``websockets.client.ClientProtocol``, which sees the handshake and every frame: fragments go their way
as parts of a message, control frames are left out. A connection that is refused before the handshake is no
exchange here. The module is never imported by us.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from otel_wirecap.capture.events import BINARY, TEXT, RequestHead, ResponseHead, WebsocketClose, WebsocketMessage
from otel_wirecap.instrumentation.attempts import redirected
from otel_wirecap.instrumentation.client_hook import ClientAttempt
from otel_wirecap.instrumentation.guard import (
    NO_CLOSE_FRAME,
    ORDINARY_CLOSES,
    guarded,
    now_ns,
    outcome_of,
    outcome_of_close,
)
from otel_wirecap.instrumentation.patching import Hook, Wrapper

if TYPE_CHECKING:
    from otel_wirecap.capture.events import Headers

ATTRIBUTE = "_otel_wirecap_websocket"
CONTINUATION = 0


class _Websocket(ClientAttempt):
    """Lives as long as its protocol object, which keeps it; so it keeps neither that nor the request."""

    __slots__ = ("_begun", "_request_headers")

    def describe(self, protocol: Any, request: Any, url: str) -> tuple[RequestHead, tuple[str, int]]:
        # Of a message that is not whole yet, opcode and parts so far: by us, by the other side.
        self._begun: dict[bool, tuple[int, int]] = {}
        self._request_headers = request.headers
        headers = _encoded(request.headers)
        head = RequestHead("GET", url, headers, http_version="HTTP/1.1", body=b"", websocket=True)
        return head, (protocol.uri.host, protocol.uri.port)

    @classmethod
    def url_of(cls, protocol: Any, request: Any) -> str:
        return _url(protocol.uri, request.path)

    def set_headers(self, headers: dict[str, str]) -> Headers:
        request_headers = self._request_headers
        for name, value in headers.items():
            if name in request_headers:
                del request_headers[name]
            request_headers[name] = value
        return _encoded(request_headers)

    def answered(self, response: Any) -> None:
        headers = _encoded(response.headers)
        self.exchange.response(now_ns(), ResponseHead(response.status_code, response.reason_phrase, headers))
        if response.body:
            self.exchange.chunk(now_ns(), bytes(response.body))
        setattr(response, ATTRIBUTE, self.exchange)  # for ``connect``, which may follow it in another context than this

    def received(self, frame: Any) -> None:
        """Records a frame of the other side."""
        self._record(frame, asker=False)

    def sent(self, frame: Any) -> None:
        """Records a frame of ours."""
        self._record(frame, asker=True)

    def _record(self, frame: Any, *, asker: bool) -> None:
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
    websocket = _Websocket.begin(instance, arguments, keywords)
    if websocket is not None:
        guarded(websocket.exchange, setattr, instance, ATTRIBUTE, websocket)
    return wrapped(*arguments, **keywords)


def _recorded(record: Callable[[_Websocket, Any], None], keyword: str) -> Wrapper:
    """The wrapper of a method whose only argument, named ``keyword``, is recorded before the call."""

    def wrapper(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        websocket = getattr(instance, ATTRIBUTE, None)
        if websocket is not None:
            guarded(websocket.exchange, record, websocket, arguments[0] if arguments else keywords[keyword])
        return wrapped(*arguments, **keywords)

    return wrapper


def _receive_eof(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    try:
        return wrapped(*arguments, **keywords)
    finally:
        websocket = getattr(instance, ATTRIBUTE, None)
        if websocket is not None:
            guarded(websocket.exchange, websocket.closed, instance)


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
    Hook("websockets.client", "ClientProtocol", "process_response", _recorded(_Websocket.answered, "response")),
    Hook("websockets.protocol", "Protocol", "recv_frame", _recorded(_Websocket.received, "frame")),
    Hook("websockets.protocol", "Protocol", "send_frame", _recorded(_Websocket.sent, "frame")),
    Hook("websockets.protocol", "Protocol", "receive_eof", _receive_eof),
)
