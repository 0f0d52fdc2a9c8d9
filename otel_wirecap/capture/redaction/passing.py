"""Records one after another on their way through the gate, those of streams as streams.

Invariants:

- Records come out in the order they went in; those in which nothing is secret as they were.
- The pieces of a stream are searched as the recorder does: a secret that is split over them is found.
- Where prompts are masked, nothing comes out that the recorder would not have written.
- What cannot be redacted is withheld, and says so; of a stream, all that follows.
- Bounded: at most ``most_held`` bytes of records wait for what a stream says next; then it is taken for over.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from otel_wirecap.capture.decoding import text_or_bytes
from otel_wirecap.capture.record import body_type
from otel_wirecap.capture.redaction.records import add_redactions, withhold_record
from otel_wirecap.capture.url import url_parts

if TYPE_CHECKING:
    from otel_wirecap.capture.record import Record
    from otel_wirecap.capture.redaction.gate import Gate
    from otel_wirecap.capture.redaction.stream import Released
    from otel_wirecap.capture.redaction.streams import StreamRedaction

MOST_HELD: Final = 64 * 1024 * 1024
_MOST_OF_A_STREAM: Final = 1024 * 1024

_REQUESTS: Final = frozenset({"inbound_request", "outbound_request"})
_STARTS: Final = frozenset({"stream_start", "outbound_stream_start"})
_CHUNKS: Final = frozenset({"stream_chunk", "outbound_stream_chunk"})
_ENDS: Final = frozenset({"stream_end", "outbound_stream_end", "websocket_end"})
_MESSAGE: Final = "websocket_message"


@dataclasses.dataclass(slots=True)
class _Waiting:
    """A record that is about to go out.

    Attributes:
        record: the record.
        size: of its line, in bytes.
        key: its stream's, where it waits for what that says next.
        content: its payload, which its stream has until then.
        is_withheld: it does not get that back.
    """

    record: Record
    size: int
    key: str | None = None
    content: str | bytes = b""
    is_withheld: bool = False


@dataclasses.dataclass(slots=True)
class _Stream:
    """A stream, and those of its records whose pieces it still holds."""

    redaction: StreamRedaction
    waiting: deque[_Waiting] = dataclasses.field(default_factory=deque)


class RecordRedaction:
    """The records of one capture on their way through the gate."""

    def __init__(self, gate: Gate, most_held: int = MOST_HELD) -> None:
        self._gate = gate
        self._most_held = most_held
        self._queue: deque[_Waiting] = deque()
        self._held = 0
        self._streams: dict[str, _Stream] = {}
        self._types: dict[str, str] = {}

    def feed(self, record: Record, size: int) -> list[Record]:
        """Takes the next record, of so many bytes; returns those, in order, that may leave now."""
        self._take(record, size)
        while self._held > self._most_held and self._queue and self._queue[0].key is not None:
            self._close(self._queue[0].key)
        return self._ready()

    def close(self) -> list[Record]:
        """Returns the records that are left, as if all streams were over; more may come."""
        for key in list(self._streams):
            self._close(key)
        return self._ready()

    def _ready(self) -> list[Record]:
        ready: list[Record] = []
        while self._queue and self._queue[0].key is None:
            item = self._queue.popleft()
            self._held -= item.size
            ready.append(item.record)
        return ready

    def _take(self, record: Record, size: int) -> None:
        item = _Waiting(record, size)
        self._queue.append(item)
        self._held += size
        metadata = record.metadata
        exchange = str(metadata.get("exchange_id"))
        if record.direction in _REQUESTS:
            self._learn(metadata)
        if record.direction in _STARTS:
            self._types[exchange] = body_type(metadata)
        if record.direction in _ENDS:
            self._end(exchange)
        key, payload = _stream_of(record), record.payload
        if record.direction == _MESSAGE and _is_part(metadata):  # it says nothing to go on with
            if key in self._streams:
                self._close(key)
            key = None
        if key is None or not isinstance(payload, str | bytes):
            self._gate.record(record)
            return
        stream = self._stream(key, exchange, record)
        item.key, item.content, record.payload = key, payload, None  # until its stream gives it back
        item.is_withheld = not self._gate.record(record)
        stream.waiting.append(item)
        _release(stream, stream.redaction.feed([payload.encode() if isinstance(payload, str) else payload]))

    def _learn(self, metadata: dict[str, Any]) -> None:
        """Has the credentials of a request masked wherever they turn up later."""
        told = metadata.get("headers")
        pairs = told.items() if isinstance(told, dict) else told if isinstance(told, list) else ()
        headers = [(str(pair[0]), str(pair[1])) for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2]
        self._gate.learn(self._gate.named_secrets(headers, url_parts(str(metadata.get("url", ""))).query))

    # -- streams -----------------------------------------------------------------------------------------------------

    def _stream(self, key: str, exchange: str, record: Record) -> _Stream:
        """The stream that ``record`` is of, or begins."""
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream(self._redaction(exchange, record))
        return stream

    def _redaction(self, exchange: str, first: Record) -> StreamRedaction:
        """The redaction of a stream whose next record is ``first``."""
        if first.direction == _MESSAGE:
            return self._gate.messages(_MOST_OF_A_STREAM)
        is_from_start = exchange in self._types or first.metadata.get("chunk_number") == 1
        kind = self._types.pop(exchange, "").partition(";")[0].strip().lower()
        return self._gate.stream(kind, _MOST_OF_A_STREAM, is_from_start=is_from_start)

    def _end(self, exchange: str) -> None:
        for key in [key for key in self._streams if key.partition(" ")[0] == exchange]:
            self._close(key)
        self._types.pop(exchange, None)

    def _close(self, key: str) -> None:
        stream = self._streams.pop(key)
        _release(stream, stream.redaction.close())


def _release(stream: _Stream, released: Released) -> None:
    """Gives the pieces that a stream lets go of to their records."""
    for number, piece in enumerate(released.pieces):
        item = stream.waiting.popleft()
        item.key = None
        if item.is_withheld:
            continue
        item.record.payload = _payload(item, piece)
        if item.record.payload != item.content:
            add_redactions(item.record, released.counts.get(number, {}))
    for _ in range(released.withheld):
        item = stream.waiting.popleft()
        item.key = None
        withhold_record(item.record)


def _payload(item: _Waiting, piece: bytes) -> str | bytes:
    """What a stream gives back as the recorder has it: a chunk stays text or bytes."""
    if item.record.direction == _MESSAGE:
        return text_or_bytes(piece)
    return piece.decode("utf-8", "replace") if isinstance(item.content, str) else piece


def _stream_of(record: Record) -> str | None:
    """The key of the stream that a record is of: an exchange's chunks, or the messages of one side of a websocket."""
    exchange = str(record.metadata.get("exchange_id"))
    if record.direction == _MESSAGE:
        websocket = record.metadata.get("websocket")
        return f"{exchange} {websocket.get('from') if isinstance(websocket, dict) else None}"
    return exchange if record.direction in _CHUNKS else None


def _is_part(metadata: dict[str, Any]) -> bool:
    """Whether the rest of a record's payload is missing."""
    return not metadata.keys().isdisjoint({"truncated", "incomplete"})
