"""The records of one websocket: its start with the headers of both sides, every message, its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from otel_wirecap.capture.body import BodyCollector, record_body
from otel_wirecap.capture.record import RawJSON
from otel_wirecap.capture.recording import PROXY, ExchangeRecording, Recording, header

if TYPE_CHECKING:
    from otel_wirecap.capture.events import End, RequestHead, ResponseHead, WebsocketMessage
    from otel_wirecap.capture.exchange import Exchange
    from otel_wirecap.capture.flow import FlowRecording

START, MESSAGE, END = "websocket_start", "websocket_message", "websocket_end"


class WebsocketRecording(ExchangeRecording):
    """One websocket on its way into the capture.

    Its start is one record, written when the upgrade is answered, or when it ends without an answer.
    """

    __slots__ = ("_messages", "_started", "_total_bytes")

    held_bytes = 0

    def __init__(self, shared: Recording, exchange: Exchange, flow: FlowRecording, head: RequestHead) -> None:
        super().__init__(shared, exchange, flow, head)
        self._started = False
        self._messages = 0
        self._total_bytes = 0

    def record_request(self) -> None:
        """Finds out who asks whom; the record follows with the answer."""
        if not self.request_recorded:
            self.request_recorded = True
            self._identify(None)

    def response(self, now_ns: int, head: ResponseHead) -> None:
        """The upgrade is answered, one way or the other."""
        super().response(now_ns, head)
        self._record_start()

    def chunk(self, now_ns: int, data: bytes) -> None:
        """Bytes of an answer that refused the upgrade: only counted."""
        self._total_bytes += len(data)

    def message(self, now_ns: int, message: WebsocketMessage) -> None:
        """A whole message."""
        self._messages += 1
        data = message.data.encode("utf-8", "surrogatepass") if isinstance(message.data, str) else message.data
        self._total_bytes += len(data)
        body = BodyCollector(self._shared.settings.max_payload_bytes)
        body.add(data)
        counts: dict[str, int] = {}
        recorded = record_body(
            body, content_type="", content_encoding="", incomplete=None, redactor=self._shared.redactor, counts=counts,
            credentials=self.flow.credentials, as_text=True,
        )  # fmt: skip
        asker, asked = ("client", PROXY) if self.is_client else (PROXY, "backend")
        facts = {"from": asker if message.asker else asked, "opcode": message.opcode}
        metadata = {**self._base, "message_number": self._messages, "websocket": facts, **recorded.metadata}
        self._write(MESSAGE, now_ns, recorded.length, recorded.payload, metadata, counts, asking=message.asker)

    def _record_start(self) -> None:
        if self._started:
            return
        self._started = True
        counts: dict[str, int] = {}
        metadata = self._base | self._request_metadata(counts)
        if self._response is not None:
            answer = self._response_metadata(counts)
            metadata["status_code"] = answer["status_code"]
            metadata["response_headers"] = answer["headers"]
            subprotocol = header(self._response_headers, "sec-websocket-protocol")
            if subprotocol:
                metadata["websocket"] = {"subprotocol": self._clean(subprotocol)}
        self._write(START, self._exchange.began_ns, 0, None, metadata, counts, asking=True)

    def _record_end(self, now_ns: int, end: End, metadata: dict[str, Any], counts: dict[str, int]) -> None:
        self._record_start()
        facts = dict(self._base)
        if self._response is not None:
            facts["status_code"] = self._response.status_code
        facts |= metadata
        if end.close is not None:
            facts["websocket"] = {"close_code": end.close.code, "close_reason": self._clean(end.close.reason)}
        totals = orjson.dumps({"total_bytes": self._total_bytes, "total_messages": self._messages})
        self._write(END, now_ns, len(totals), RawJSON(totals), facts, counts)

    def _record_failure(self, metadata: dict[str, Any]) -> None:
        if not self._started:
            self._started = True
            self._write(START, self._exchange.began_ns, 0, None, dict(metadata), {}, asking=True)
        self._write(END, self._exchange.began_ns, 0, None, metadata, {})
