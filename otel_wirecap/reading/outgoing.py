"""Records on their way out of a capture: redacted, whoever wrote them and whatever they were redacted by.

Invariants:

- Records come out in the order they went in; those in which nothing is secret as they were.
- The pieces of a stream are searched as the recorder does: a secret that is split over them is found.
- Where prompts are masked, nothing goes out that the recorder would not have written.
- What cannot be redacted is withheld, and says so.
- Bounded: at most ``MOST_HELD`` bytes of records wait for what a stream says next; then it is taken for over.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import orjson

from otel_wirecap.capture.decoding import text_or_bytes
from otel_wirecap.capture.formats import JSONLines
from otel_wirecap.capture.formats.timestamps import Timestamps
from otel_wirecap.capture.recorded import content_type_of, redact_facts, redact_payload
from otel_wirecap.capture.redaction.names import named_secrets
from otel_wirecap.capture.redaction.streams import message_redaction, stream_redaction
from otel_wirecap.capture.url import url_parts
from otel_wirecap.reading.flows import (
    REQUESTS,
    STREAM_CHUNKS,
    STREAM_ENDS,
    STREAM_STARTS,
    WEBSOCKET_END,
    WEBSOCKET_MESSAGE,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_wirecap.capture.record import Record
    from otel_wirecap.capture.redaction.redactor import Redactor
    from otel_wirecap.capture.redaction.streams import StreamRedaction

MOST_HELD: Final = 64 * 1024 * 1024
_MOST_OF_A_STREAM: Final = 1024 * 1024

_NAMES: Final = ("source", "destination", "session_id", "backend", "model", "key_name")
_FIELDS: Final = (
    "timestamp_iso", "timestamp_unix", "direction", "source", "destination", "session_id", "backend", "model",
    "key_name", "content_type", "content_length", "payload", "metadata",
)  # fmt: skip


@dataclasses.dataclass(slots=True)
class _Waiting:
    """A record that is about to go out.

    Attributes:
        record: the record.
        size: of its line, in bytes.
        key: its stream's, where it waits for what that says next.
        content: its payload, which its stream has until then.
    """

    record: Record
    size: int
    key: str | None = None
    content: str | bytes = b""


@dataclasses.dataclass(slots=True)
class _Stream:
    """A stream, and those of its records whose pieces it still holds."""

    redaction: StreamRedaction
    waiting: deque[_Waiting] = dataclasses.field(default_factory=deque)


class Outgoing:
    """Redacts the records of one capture.

    Args:
        redactor: what finds the secrets.
        most_held: bytes of records that may wait for what a stream says next.
    """

    def __init__(self, redactor: Redactor, most_held: int = MOST_HELD) -> None:
        self._redactor = redactor
        self._most_held = most_held
        self._decode = JSONLines().decode
        self._queue: deque[_Waiting] = deque()
        self._held = 0
        self._streams: dict[str, _Stream] = {}
        self._types: dict[str, str] = {}

    def records(self, lines: Iterable[bytes]) -> Iterator[Record]:
        """The records of lines in the schema's shape, redacted."""
        for line in lines:
            self._take(self._record(line), len(line))
            while self._held > self._most_held and self._queue and self._queue[0].key is not None:
                self._close(self._queue[0].key)
            yield from self._ready()
        for key in list(self._streams):
            self._close(key)
        yield from self._ready()

    def _ready(self) -> Iterator[Record]:
        while self._queue and self._queue[0].key is None:
            item = self._queue.popleft()
            self._held -= item.size
            yield item.record

    def _record(self, line: bytes) -> Record:
        try:
            return self._decode(line)
        except ValueError:  # another tool's: not all fields are there, or they are in another order
            return self._decode(orjson.dumps(_completed(orjson.loads(line))))

    def _take(self, record: Record, size: int) -> None:
        item = _Waiting(record, size)
        self._queue.append(item)
        self._held += size
        metadata = record.metadata
        exchange = str(metadata.get("exchange_id"))
        counts: dict[str, int] = {}
        try:
            if record.direction in REQUESTS:
                self._learn(metadata)
            if record.direction in STREAM_STARTS:
                self._types[exchange] = content_type_of(metadata)
            if record.direction in STREAM_ENDS or record.direction == WEBSOCKET_END:
                self._end(exchange)
            key, payload = _stream_of(record), record.payload
            if record.direction == WEBSOCKET_MESSAGE and _is_part(metadata):  # it says nothing to go on with
                if key in self._streams:
                    self._close(key)
                key = None
            if key is not None and isinstance(payload, str | bytes):
                item.content, record.payload = payload, None  # until its stream gives it back
                redact_facts(record, self._redactor, counts)
                self._feed(key, exchange, item)
            else:
                record.payload = redact_payload(record, self._redactor, counts)
                redact_facts(record, self._redactor, counts)
        except Exception:  # noqa: BLE001  # fail closed: what could not be redacted does not go out
            _withhold(record)
        else:
            _count(record, counts)

    def _learn(self, metadata: dict[str, Any]) -> None:
        """Has the credentials of a request masked wherever they turn up later."""
        headers = [(str(name), str(value)) for name, value in metadata.get("headers") or ()]
        self._redactor.learn(named_secrets(headers, url_parts(str(metadata.get("url", ""))).query))

    # -- streams -----------------------------------------------------------------------------------------------------

    def _feed(self, key: str, exchange: str, item: _Waiting) -> None:
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream(self._redaction(exchange, item.record))
        item.key = key
        stream.waiting.append(item)
        content = item.content
        self._release(key, [content.encode() if isinstance(content, str) else content], is_end=False)

    def _redaction(self, exchange: str, first: Record) -> StreamRedaction:
        """The redaction of a stream whose next record is ``first``."""
        if first.direction == WEBSOCKET_MESSAGE:
            return message_redaction(self._redactor, _MOST_OF_A_STREAM)
        is_from_start = exchange in self._types or first.metadata.get("chunk_number") == 1
        kind = self._types.pop(exchange, "").partition(";")[0].strip().lower()
        return stream_redaction(self._redactor, kind, _MOST_OF_A_STREAM, is_from_start=is_from_start)

    def _end(self, exchange: str) -> None:
        for key in [key for key in self._streams if key.partition(" ")[0] == exchange]:
            self._close(key)
        self._types.pop(exchange, None)

    def _close(self, key: str) -> None:
        self._release(key, [], is_end=True)

    def _release(self, key: str, pieces: list[bytes], *, is_end: bool) -> None:
        """Gives the pieces that a stream lets go of to their records."""
        stream = self._streams[key]
        try:
            released = stream.redaction.close() if is_end else stream.redaction.feed(pieces)
        except Exception:  # noqa: BLE001  # fail closed: all that it holds is lost
            for item in stream.waiting:
                _withhold(item.record)
                item.key = None
            del self._streams[key]
            return
        for number, piece in enumerate(released.pieces):
            item = stream.waiting.popleft()
            item.record.payload = _payload(item, piece)
            item.key = None
            if item.record.payload != item.content:
                _count(item.record, released.counts.get(number, {}))
        if is_end:
            del self._streams[key]


def _completed(told: dict[str, Any]) -> dict[str, Any]:
    """A record with all fields, in the schema's order."""
    payload = told.get("payload")
    moment = float(told["timestamp_unix"])
    is_bytes = (
        isinstance(payload, dict) and payload.keys() == {"encoding", "data"} and told.get("content_type") == "bytes"
    )
    kind = "empty" if payload is None else "text" if isinstance(payload, str) else "bytes" if is_bytes else "json"
    length = told.get("content_length")
    known = {
        **dict.fromkeys(_FIELDS), "source": "", "destination": "", "backend": "", **told,
        "timestamp_iso": Timestamps().iso(round(moment * 1e6)), "content_type": kind,
        "content_length": length if isinstance(length, int) else len(orjson.dumps(payload)),
    }  # fmt: skip
    return {name: known[name] for name in _FIELDS}


def _payload(item: _Waiting, piece: bytes) -> str | bytes:
    """What a stream gives back as the recorder has it: a chunk stays text or bytes."""
    if item.record.direction == WEBSOCKET_MESSAGE:
        return text_or_bytes(piece)
    return piece.decode("utf-8", "replace") if isinstance(item.content, str) else piece


def _stream_of(record: Record) -> str | None:
    """The key of the stream that a record is of: an exchange's chunks, or the messages of one side of a websocket."""
    exchange = str(record.metadata.get("exchange_id"))
    if record.direction == WEBSOCKET_MESSAGE:
        return f"{exchange} {record.metadata.get('websocket', {}).get('from')}"
    return exchange if record.direction in STREAM_CHUNKS else None


def _is_part(metadata: dict[str, Any]) -> bool:
    """Whether the rest of a record's payload is missing."""
    return not metadata.keys().isdisjoint({"truncated", "incomplete"})


def _withhold(record: Record) -> None:
    """Leaves nothing of a record that came from outside but what it was and when."""
    known = ("leg", "request_id", "exchange_id", "attempt", "process", "pid", "seq", "chunk_number", "chunk_bytes")
    record.payload = None
    for name in _NAMES:
        setattr(record, name, None if name in {"session_id", "model", "key_name"} else "")
    kept = {name: record.metadata[name] for name in known if name in record.metadata}
    record.metadata = {**kept, "incomplete": "withheld", "redactions": {"withheld": 1}}


def _count(record: Record, counts: dict[str, int]) -> None:
    if counts:
        before = record.metadata.get("redactions")
        told = dict(before) if isinstance(before, dict) else {}
        for rule, count in counts.items():
            told[rule] = told.get(rule, 0) + count
        record.metadata["redactions"] = told
