"""The records of one websocket: its start with the headers of both sides, every message, its end.

Messages come out in the order in which they came. One waits as long as a secret may go on in the next of its side.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import orjson

from otel_wirecap.capture.body import BodyCollector, RecordedBody
from otel_wirecap.capture.context import RecordingContext
from otel_wirecap.capture.decoding import text_or_bytes
from otel_wirecap.capture.endings import closed_by
from otel_wirecap.capture.identity import PROXY, header
from otel_wirecap.capture.record import WEBSOCKET_END, WEBSOCKET_MESSAGE, WEBSOCKET_START, RawJSON
from otel_wirecap.capture.recording import ExchangeRecording
from otel_wirecap.capture.redaction.gate import Passed, add_counts, withheld

if TYPE_CHECKING:
    from otel_wirecap.capture.events import End, ExchangeHead, RequestHead, ResponseHead, WebsocketMessage
    from otel_wirecap.capture.flow import FlowRecording
    from otel_wirecap.capture.redaction.gate import StreamRedaction

SWITCHING_PROTOCOLS = 101

MAX_WAIT_NS = 5_000_000_000
"""A conversation pauses; a secret in the middle of being said does not."""


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


class _HeldMessage(NamedTuple):
    """A whole message that is not written yet: when it came, its number, its kind, its length, its parts."""

    now_ns: int
    number: int
    opcode: int
    length: int
    parts: int


class _Ready(NamedTuple):
    """A message that waits only for those before it."""

    message: _HeldMessage
    recorded: RecordedBody
    asker: bool


class _Side:
    """The messages of one side that are whole and not written yet."""

    def __init__(self, redaction: StreamRedaction) -> None:
        self.redaction = redaction
        self.waiting: deque[_HeldMessage] = deque()
        self.unredacted: list[bytes] = []


class WebsocketRecording(ExchangeRecording):
    """One websocket on its way into the capture.

    Its start is one record, written when the upgrade is granted, or else when it ends, with the answer's body.
    """

    LOST: ClassVar = "lost_messages"

    __slots__ = (
        "_begun",
        "_messages",
        "_ready",
        "_refusal",
        "_sides",
        "_started",
        "_total_bytes",
        "_unwritten",
        "_written",
    )

    def __init__(
        self, shared: RecordingContext, exchange_id: str, about: ExchangeHead, flow: FlowRecording, head: RequestHead
    ) -> None:
        super().__init__(shared, exchange_id, about, flow, head)
        self._started = False
        self._begun: dict[bool, _Message] = {}
        self._refusal: BodyCollector | None = None
        self._sides: dict[bool, _Side] = {}
        self._ready: dict[int, _Ready] = {}
        self._written = 0
        self._unwritten = 0  # parts of messages
        self._messages = 0
        self._total_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of messages that are not whole yet, and of those in which a secret may begin."""
        held = 0 if self._refusal is None else self._refusal.kept
        held += sum(message.body.kept for message in self._begun.values())
        held += sum(ready.message.length for ready in self._ready.values())
        return held + sum(waiting.length for side in self._sides.values() for waiting in side.waiting)

    @property
    def unredacted_chunks(self) -> int:
        """Messages that are kept to be redacted together."""
        return sum(len(side.unredacted) for side in self._sides.values())

    @property
    def held_chunks(self) -> int:
        """Messages, or parts of such, and chunks of a refusal, of which there is no record yet."""
        return self._unwritten + (0 if self._refusal is None else self._refusal.chunks)

    @property
    def has_waiting(self) -> bool:
        """Whether messages wait for what follows them."""
        return any(side.waiting for side in self._sides.values())

    def record_request(self) -> None:
        """Finds out who asks whom; the record follows with the answer."""
        if not self.request_recorded:
            self.request_recorded = True
            self.identity.identify(None)

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
        self._unwritten += 1
        if message.final:
            self._record_message(now_ns, begun, None)
        else:
            self._begun[message.asker] = begun

    def _record_message(self, now_ns: int, message: _Message, incomplete: str | None) -> None:
        self._messages += 1
        body = message.body
        self._total_bytes += body.length
        waiting = _HeldMessage(now_ns, self._messages, message.opcode, body.length, body.chunks)
        incomplete = "dropped" if message.holes else incomplete
        if incomplete is None and body.truncated is None:
            side = self._sides.get(message.asker)
            if side is None:
                redaction = self._shared.gate.messages(self._shared.settings.max_held_bytes)
                side = self._sides[message.asker] = _Side(redaction)
            side.waiting.append(waiting)
            side.unredacted.append(body.content())
            return
        # What is not whole says nothing to go on with.
        self._settle(message.asker)
        recorded = self._gate.body(body, "", "", incomplete, as_text=True)
        self._write_message(waiting, recorded, asker=message.asker)

    def write_chunks(self, *, now_ns: int = 0, since_ns: int = 0) -> None:
        """Writes the messages that came, but for those in which a secret may begin whose rest is still to come.

        Those of a side that has been silent for long are written, too.
        """
        for asker, side in self._sides.items():
            messages, side.unredacted = side.unredacted, []
            if messages:
                self._redact(side, asker, messages)
            if side.waiting and now_ns - side.waiting[-1].now_ns >= MAX_WAIT_NS:
                self._settle(asker)

    def _settle(self, asker: bool) -> None:  # noqa: FBT001  # a side's name
        """Writes all messages of a side that wait."""
        self.write_chunks()
        side = self._sides.get(asker)
        if side is not None and side.waiting:
            self._redact(side, asker, None)

    def _redact(self, side: _Side, asker: bool, messages: list[bytes] | None) -> None:  # noqa: FBT001  # a side's name
        """Writes what the next messages decide; without any, all that wait."""
        redaction, credentials = side.redaction, self.flow.credentials
        released = redaction.close(credentials) if messages is None else redaction.feed(messages, credentials)
        for number, piece in enumerate(released.pieces):
            message = side.waiting.popleft()
            payload = text_or_bytes(piece) if message.length else None
            recorded = RecordedBody(payload, message.length, {}, counts=released.counts.get(number, {}))
            self._write_message(message, recorded, asker=asker)
        for _ in range(released.withheld):
            message = side.waiting.popleft()
            passed = withheld() if message.length else Passed(None, {})  # no byte of an empty one is missing
            recorded = RecordedBody(None, message.length, dict(passed.facts), counts=passed.counts)
            self._write_message(message, recorded, asker=asker)

    def _write_message(self, message: _HeldMessage, recorded: RecordedBody, *, asker: bool) -> None:
        """Writes a message when those before it are written."""
        self._ready[message.number] = _Ready(message, recorded, asker)
        while (ready := self._ready.pop(self._written + 1, None)) is not None:
            self._written += 1
            message, recorded, asker = ready
            self._unwritten -= message.parts
            facts = {"from": self._side(asker=asker), "opcode": message.opcode}
            metadata = {**self.identity.base, "message_number": message.number, "websocket": facts, **recorded.metadata}
            counts = dict(recorded.counts)
            self._write(
                WEBSOCKET_MESSAGE, message.now_ns, recorded.length, recorded.payload, metadata, counts, asking=asker
            )

    def _side(self, *, asker: bool) -> str:
        asking, asked = ("client", PROXY) if self.is_client else (PROXY, "backend")
        return asking if asker else asked

    def _record_start(self) -> None:
        if self._started:
            return
        self._started = True
        counts: dict[str, int] = {}
        metadata = self.identity.base | self._request_metadata(counts)
        payload, length = None, 0
        if self._response is not None:
            answer = self._response_metadata(counts)
            metadata["status_code"] = answer["status_code"]
            metadata["response_headers"] = answer["headers"]
            subprotocol = header(self._response_headers, "sec-websocket-protocol")
            if subprotocol:
                metadata["websocket"] = {"subprotocol": self._gate.label(subprotocol)}
        if self._refusal is not None:
            content_type, encoding = (
                header(self._response_headers, name) for name in ("content-type", "content-encoding")
            )
            body = self._gate.body(self._refusal, content_type, encoding, None)
            add_counts(counts, body.counts)
            payload, length, metadata = body.payload, body.length, metadata | body.metadata
            self._refusal = None
        self._write(WEBSOCKET_START, self._about.began_ns, length, payload, metadata, counts, asking=True)

    def _settle_end(self, now_ns: int, end: End) -> tuple[End, str | None]:
        if end.close is None or end.close.asker is None:
            return end, closed_by(end, is_client=self.is_client)
        return end, self._side(asker=end.close.asker)

    def _record_end(self, now_ns: int, end: End, metadata: dict[str, Any], counts: dict[str, int]) -> None:
        self._record_start()
        for begun in self._begun.values():
            self._record_message(now_ns, begun, "cut")
        for asker in list(self._sides):
            self._settle(asker)
        facts = dict(self.identity.base)
        if self._response is not None:
            facts["status_code"] = self._response.status_code
        facts |= metadata
        if end.close is not None:
            reason = self._gate.close_reason(end.close.reason, counts)
            closed: dict[str, Any] = {"close_code": end.close.code, "close_reason": reason}
            if end.close.asker is not None:
                closed = {"from": self._side(asker=end.close.asker), **closed}
            facts["websocket"] = closed
        totals = orjson.dumps({"total_bytes": self._total_bytes, "total_messages": self._messages})
        self._write(WEBSOCKET_END, now_ns, len(totals), RawJSON(totals), facts, counts)

    def _record_failure(self, metadata: dict[str, Any]) -> None:
        if not self._started:
            self._started = True
            self._write(WEBSOCKET_START, self._about.began_ns, 0, None, dict(metadata), {}, asking=True)
        self._write(WEBSOCKET_END, self._about.began_ns, 0, None, metadata, {})
