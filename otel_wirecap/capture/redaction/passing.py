"""Records one after another on their way through the gate, those of streams as streams.

Invariants:

- A record waits to leave only after it has been through the gate: what fails there is withheld, and nothing raises.
- The records of one line come out in the order they went in; those in which nothing is secret as they were. A capture
  that is exported is one line; where many flows arrive at once, each is a line, since a reader puts a flow's records
  together by their order, and those of two flows by their moments.
- The pieces of a stream are searched as the recorder does: a secret that is split over them is found, also where some
  of them could not wait for the rest: those are withheld, and the search goes on over them.
- Where prompts are masked, nothing comes out that the recorder would not have written.
- Bounded: records of at most ``max_held_bytes`` wait for what their streams say next, and ``MAX_STREAMS`` streams are
  open.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from otel_wirecap.capture.decoding import text_or_bytes
from otel_wirecap.capture.record import (
    REQUESTS,
    STREAM_CHUNKS,
    STREAM_ENDS,
    STREAM_STARTS,
    WEBSOCKET_END,
    WEBSOCKET_MESSAGE,
    body_type,
    header_pairs,
)
from otel_wirecap.capture.redaction.records import add_redactions, pass_record, withhold_payload, withhold_record
from otel_wirecap.capture.secret_values import named_secrets
from otel_wirecap.capture.url import url_parts

if TYPE_CHECKING:
    from otel_wirecap.capture.record import CaptureRecord
    from otel_wirecap.capture.redaction.edits import Released
    from otel_wirecap.capture.redaction.streams import StreamRedaction
    from otel_wirecap.capture.redaction.texts import TextGate

MAX_HELD_BYTES: Final = 64 * 1024 * 1024
MAX_STREAMS: Final = 256
"""Open at a time; beyond these, the one that began first and holds nothing is taken for over."""

_MAX_STREAM_BYTES: Final = 1024 * 1024
_ENDS: Final = STREAM_ENDS | {WEBSOCKET_END}


@dataclasses.dataclass(slots=True)
class _HeldRecord:
    """A record that is about to go out.

    Attributes:
        record: the record.
        size: of its line, in bytes.
        since_ns: when it came.
        key: its stream's, where it waits for what that says next.
        content: its payload, which its stream has until then.
        is_withheld: it does not get that back.
    """

    record: CaptureRecord
    size: int
    since_ns: int
    key: str | None = None
    content: str | bytes = b""
    is_withheld: bool = False

    def withhold(self) -> None:
        """Lets the record go without its payload, whatever its stream will say."""
        self.key = None
        if not self.is_withheld:  # else it may have left
            self.is_withheld = True
            withhold_payload(self.record)


@dataclasses.dataclass(slots=True)
class _Stream:
    """A stream, and those of its records whose pieces it still holds."""

    redaction: StreamRedaction
    pieces: deque[_HeldRecord] = dataclasses.field(default_factory=deque)


class RecordRedaction:
    """Records on their way through the gate; see ``Gate.records`` for the arguments.

    Attributes:
        held_bytes: of the lines of the records that wait.
        held_records: how many of them there are.
    """

    def __init__(self, gate: TextGate, max_held_bytes: int = MAX_HELD_BYTES, *, by_flow: bool = False) -> None:
        self._gate = gate
        self._max_held_bytes = max_held_bytes
        self._by_flow = by_flow
        self._lines: dict[str, deque[_HeldRecord]] = {}
        self._streams: dict[str, _Stream] = {}
        self._types: dict[str, str] = {}  # of the streams that have begun, by exchange, until their first piece
        self.held_bytes = 0
        self.held_records = 0

    def feed(self, record: CaptureRecord, size: int, now_ns: int = 0) -> list[CaptureRecord]:
        """Takes the next record, of so many bytes; returns those that may leave now."""
        item = _HeldRecord(record, size, now_ns)
        name = _line_of(record) if self._by_flow else ""
        try:
            self._take(item)
        except Exception:  # noqa: BLE001  # fail closed
            item.key, item.is_withheld = None, True
            withhold_record(record)
        self._lines.setdefault(name, deque()).append(item)
        self.held_bytes += size
        self.held_records += 1
        ready = self._ready()
        while self.held_bytes > self._max_held_bytes:
            self._cut(min((line[0] for line in self._lines.values()), key=lambda first: first.since_ns))
            ready += self._ready()
        return ready

    def let_go(self, before_ns: int | None = None) -> list[CaptureRecord]:
        """Returns the records that came before a moment, or all of them, though their streams may go on.

        A piece that may hold a part of a secret is withheld.
        """
        ready: list[CaptureRecord] = []
        while late := [line[0] for line in self._lines.values() if before_ns is None or line[0].since_ns < before_ns]:
            for item in late:
                self._cut(item)
            ready += self._ready()
        return ready

    def close(self) -> list[CaptureRecord]:
        """Returns the records that are left: all streams are over."""
        for key in list(self._streams):
            self._close(key)
        self._types.clear()
        return self._ready()

    def _ready(self) -> list[CaptureRecord]:
        ready: list[CaptureRecord] = []
        for name, line in list(self._lines.items()):
            while line and line[0].key is None:
                item = line.popleft()
                self.held_bytes -= item.size
                self.held_records -= 1
                ready.append(item.record)
            if not line:
                del self._lines[name]
        return ready

    def _take(self, item: _HeldRecord) -> None:
        record = item.record
        metadata, direction = record.metadata, record.direction
        exchange = str(metadata.get("exchange_id"))
        if direction in REQUESTS:
            self._learn(metadata)
        if direction in STREAM_STARTS:
            self._types.pop(exchange, None)
            self._types[exchange] = body_type(metadata)
            if len(self._types) > MAX_STREAMS:
                del self._types[next(iter(self._types))]
        if direction in _ENDS:
            self._end(exchange)
        key, payload = _stream_of(record), record.payload
        if key is None or not isinstance(payload, str | bytes):
            pass_record(record, self._gate)
            return
        if direction == WEBSOCKET_MESSAGE and metadata.keys() & {"truncated", "incomplete"}:  # nothing to go on with
            self._close(key)
            pass_record(record, self._gate)
            return
        piece = payload.encode("utf-8", "replace") if isinstance(payload, str) else payload
        stream = self._stream(key, exchange, record)
        item.key, item.content, record.payload = key, payload, None  # until its stream gives it back
        item.is_withheld = not pass_record(record, self._gate)
        stream.pieces.append(item)
        _release(stream, stream.redaction.feed([piece]))

    def _learn(self, metadata: dict[str, Any]) -> None:
        """Masks the credentials of a request wherever they turn up later."""
        headers = [(str(name), str(value)) for name, value in header_pairs(metadata.get("headers"))]
        self._gate.learn(named_secrets(headers, url_parts(str(metadata.get("url", ""))).query))

    # -- streams -----------------------------------------------------------------------------------------------------

    def _stream(self, key: str, exchange: str, record: CaptureRecord) -> _Stream:
        """The stream that ``record`` is of, or begins."""
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= MAX_STREAMS:
                oldest = next(iter(self._streams))
                self._drop(next((one for one, stream in self._streams.items() if not stream.pieces), oldest))
            stream = self._streams[key] = _Stream(self._redaction(exchange, record))
        return stream

    def _redaction(self, exchange: str, first: CaptureRecord) -> StreamRedaction:
        """The redaction of a stream whose next record is ``first``."""
        if first.direction == WEBSOCKET_MESSAGE:
            return self._gate.messages(_MAX_STREAM_BYTES)
        is_from_start = exchange in self._types or first.metadata.get("chunk_number") == 1
        kind = self._types.pop(exchange, "").partition(";")[0].strip().lower()
        return self._gate.stream(kind, _MAX_STREAM_BYTES, is_from_start=is_from_start)

    def _end(self, exchange: str) -> None:
        for key in [key for key in self._streams if key.partition(" ")[0] == exchange]:
            self._close(key)
        self._types.pop(exchange, None)

    def _close(self, key: str) -> None:
        """A stream is over, and tells what it holds."""
        stream = self._streams.pop(key, None)
        if stream is not None:
            _release(stream, stream.redaction.close())

    def _drop(self, key: str) -> None:
        """Forgets a stream that may go on; what it holds is withheld."""
        for item in self._streams.pop(key).pieces:
            item.withhold()

    def _cut(self, item: _HeldRecord) -> None:
        """Lets what a record's stream holds go: withheld, since it may be a part of a secret that goes on."""
        stream = self._streams.get(item.key or "")
        item.withhold()
        for piece in stream.pieces if stream is not None else ():
            piece.withhold()


def _release(stream: _Stream, released: Released) -> None:
    """Gives the pieces that a stream lets go of to their records."""
    for number, piece in enumerate(released.pieces):
        item = stream.pieces.popleft()
        item.key = None
        if item.is_withheld:
            continue
        item.record.payload = _payload(item, piece)
        if item.record.payload != item.content:
            add_redactions(item.record, released.counts.get(number, {}))
    for _ in range(released.withheld):
        stream.pieces.popleft().withhold()


def _payload(item: _HeldRecord, piece: bytes) -> str | bytes:
    """What a stream gives back as the recorder has it: a chunk stays text or bytes."""
    if item.record.direction == WEBSOCKET_MESSAGE:
        return text_or_bytes(piece)
    return piece.decode("utf-8", "replace") if isinstance(item.content, str) else piece


def _stream_of(record: CaptureRecord) -> str | None:
    """The key of the stream that a record is of: an exchange's chunks, or the messages of one side of a websocket."""
    exchange = str(record.metadata.get("exchange_id"))
    if record.direction == WEBSOCKET_MESSAGE:
        websocket = record.metadata.get("websocket")
        return f"{exchange} {websocket.get('from') if isinstance(websocket, dict) else None}"
    return exchange if record.direction in STREAM_CHUNKS else None


def _line_of(record: CaptureRecord) -> str:
    """The flow that a record is of, or its exchange, where it names one."""
    with contextlib.suppress(Exception):  # metadata may be anything
        return str(record.metadata.get("request_id") or record.metadata.get("exchange_id"))
    return ""
