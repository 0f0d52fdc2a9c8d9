"""The records of one websocket: its start with the headers of both sides, every message, its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from otel_wirecap.capture.body import BodyCollector
from otel_wirecap.capture.record import RawJSON
from otel_wirecap.capture.recording import PROXY, ExchangeRecording, Recording, header

if TYPE_CHECKING:
    from otel_wirecap.capture.events import End, RequestHead, ResponseHead, WebsocketMessage
    from otel_wirecap.capture.exchange import Exchange
    from otel_wirecap.capture.flow import FlowRecording

SWITCHING_PROTOCOLS = 101
START, MESSAGE, END = "websocket_start", "websocket_message", "websocket_end"


class _Message:
    """A message of one side, as far as it has come."""

    def __init__(self, limit: int, first: WebsocketMessage) -> None:
        self.asker, self.opcode = first.asker, first.opcode
        self.body = BodyCollector(limit)
        self._parts = 0
        self.holes = False

    def add(self, part: WebsocketMessage) -> None:
        self._parts += 1
        if part.part != self._parts:  # one before it found no room in the queue
            self.holes, self._parts = True, part.part
        self.body.add(part.data.encode("utf-8", "surrogatepass") if isinstance(part.data, str) else part.data)


class WebsocketRecording(ExchangeRecording):
    """One websocket on its way into the capture.

    Its start is one record, written when the upgrade is granted, or else when it ends, with the answer's body.
    """

    LOST: ClassVar = "lost_messages"

    __slots__ = ("_begun", "_messages", "_refusal", "_started", "_total_bytes")

    def __init__(self, shared: Recording, exchange: Exchange, flow: FlowRecording, head: RequestHead) -> None:
        super().__init__(shared, exchange, flow, head)
        self._started = False
        self._begun: dict[bool, _Message] = {}
        self._refusal: BodyCollector | None = None
        self._messages = 0
        self._total_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of messages that are not whole yet."""
        refusal = 0 if self._refusal is None else self._refusal.kept
        return refusal + sum(message.body.kept for message in self._begun.values())

    def record_request(self) -> None:
        """Finds out who asks whom; the record follows with the answer."""
        if not self.request_recorded:
            self.request_recorded = True
            self._identify(None)

    def response(self, now_ns: int, head: ResponseHead) -> None:
        """The upgrade is answered, one way or the other."""
        super().response(now_ns, head)
        if head.status_code == SWITCHING_PROTOCOLS:
            self._record_start()
        else:
            encoding = header(self._response_headers, "content-encoding")
            self._refusal = BodyCollector(self._shared.settings.max_payload_bytes, encoding)

    def chunk(self, now_ns: int, data: bytes) -> None:
        """Bytes of an answer that refuses the upgrade."""
        if self._refusal is not None:
            self._refusal.add(data)

    def message(self, now_ns: int, message: WebsocketMessage) -> None:
        """A message, or a part of one."""
        begun = self._begun.pop(message.asker, None)
        if begun is not None and message.part == 1:  # its last part found no room in the queue
            self._record_message(now_ns, begun, "dropped")
            begun = None
        begun = begun or _Message(self._shared.settings.max_payload_bytes, message)
        begun.add(message)
        if message.final:
            self._record_message(now_ns, begun, None)
        else:
            self._begun[message.asker] = begun

    def _record_message(self, now_ns: int, message: _Message, incomplete: str | None) -> None:
        self._messages += 1
        self._total_bytes += message.body.length
        counts: dict[str, int] = {}
        recorded = self._recorded(
            message.body, "", "", "dropped" if message.holes else incomplete, counts, as_text=True
        )
        facts = {"from": self._side(asker=message.asker), "opcode": message.opcode}
        metadata = {**self._base, "message_number": self._messages, "websocket": facts, **recorded.metadata}
        self._write(MESSAGE, now_ns, recorded.length, recorded.payload, metadata, counts, asking=message.asker)

    def _side(self, *, asker: bool) -> str:
        asking, asked = ("client", PROXY) if self.is_client else (PROXY, "backend")
        return asking if asker else asked

    def _record_start(self) -> None:
        if self._started:
            return
        self._started = True
        counts: dict[str, int] = {}
        metadata = self._base | self._request_metadata(counts)
        payload, length = None, 0
        if self._response is not None:
            answer = self._response_metadata(counts)
            metadata["status_code"] = answer["status_code"]
            metadata["response_headers"] = answer["headers"]
            subprotocol = header(self._response_headers, "sec-websocket-protocol")
            if subprotocol:
                metadata["websocket"] = {"subprotocol": self._clean(subprotocol)}
        if self._refusal is not None:
            content_type, encoding = (
                header(self._response_headers, name) for name in ("content-type", "content-encoding")
            )
            body = self._recorded(self._refusal, content_type, encoding, None, counts)
            payload, length, metadata = body.payload, body.length, metadata | body.metadata
            self._refusal = None
        self._write(START, self._exchange.began_ns, length, payload, metadata, counts, asking=True)

    def _record_end(self, now_ns: int, end: End, metadata: dict[str, Any], counts: dict[str, int]) -> None:
        self._record_start()
        for begun in self._begun.values():
            self._record_message(now_ns, begun, "cut")
        facts = dict(self._base)
        if self._response is not None:
            facts["status_code"] = self._response.status_code
        facts |= metadata
        if end.close is not None:
            closed: dict[str, Any] = {"close_code": end.close.code, "close_reason": self._clean(end.close.reason)}
            if end.close.asker is not None:
                closed = {"from": self._side(asker=end.close.asker), **closed}
            facts["websocket"] = closed
        totals = orjson.dumps({"total_bytes": self._total_bytes, "total_messages": self._messages})
        self._write(END, now_ns, len(totals), RawJSON(totals), facts, counts)

    def _record_failure(self, metadata: dict[str, Any]) -> None:
        if not self._started:
            self._started = True
            self._write(START, self._exchange.began_ns, 0, None, dict(metadata), {}, asking=True)
        self._write(END, self._exchange.began_ns, 0, None, metadata, {})
