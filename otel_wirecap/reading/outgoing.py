"""Records on their way out of a capture: redacted, whoever wrote them and whatever they were redacted by.

Invariants:

- Records come out in the order they went in; those in which nothing is secret as they were.
- The pieces of a stream are searched as the recorder does: a secret that is split over them is found.
- What cannot be redacted is withheld, and says so.
- Bounded: at most ``MOST_HELD`` bytes of records wait for what a stream says next; then it is taken for over.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from otel_wirecap.capture.body import redact_body, redact_json
from otel_wirecap.capture.decoding import text_or_bytes
from otel_wirecap.capture.formats import JSONLines
from otel_wirecap.capture.formats.timestamps import Timestamps
from otel_wirecap.capture.record import RawJSON, Record
from otel_wirecap.capture.redaction.names import named_secrets
from otel_wirecap.capture.redaction.streams import stream_redaction
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
    from collections.abc import Callable, Iterable, Iterator

    from otel_wirecap.capture.redaction.redactor import Redactor
    from otel_wirecap.capture.redaction.streams import StreamRedaction

Redacted = TypeVar("Redacted")

MOST_HELD: Final = 64 * 1024 * 1024
_MOST_OF_A_STREAM: Final = 1024 * 1024

_PIECES: Final = STREAM_CHUNKS | {WEBSOCKET_MESSAGE}
_HEADERS: Final = ("headers", "request_headers", "response_headers")
_NAMES: Final = ("source", "destination", "session_id", "backend", "model", "key_name")
_FIELDS: Final = (
    "timestamp_iso", "timestamp_unix", "direction", "source", "destination", "session_id", "backend", "model",
    "key_name", "content_type", "content_length", "payload", "metadata",
)  # fmt: skip


@dataclasses.dataclass(slots=True)
class _Waiting:
    """A record that is about to go out; ``size`` is that of its line, ``key`` its stream's where it waits for that."""

    record: Record
    size: int
    key: str | None = None


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
                self._types[exchange] = _content_type(metadata, _HEADERS[0])
            content = record.payload
            if record.direction in _PIECES and isinstance(content, str | bytes):
                record.payload = None  # until its stream gives it back
                self._clean_facts(record, counts)
                self._feed(exchange, item, content.encode() if isinstance(content, str) else content)
            else:
                if record.direction in STREAM_ENDS or record.direction == WEBSOCKET_END:
                    self._end(exchange)
                self._clean_payload(record, counts)
                self._clean_facts(record, counts)
        except Exception:  # noqa: BLE001  # fail closed: what could not be redacted does not go out
            _withhold(record)
        else:
            _count(record, counts)

    def _learn(self, metadata: dict[str, Any]) -> None:
        """Has the credentials of a request masked wherever they turn up later."""
        headers = [(str(name), str(value)) for name, value in metadata.get("headers") or ()]
        self._redactor.learn(named_secrets(headers, url_parts(str(metadata.get("url", ""))).query))

    def _clean_payload(self, record: Record, counts: dict[str, int]) -> None:
        payload = record.payload
        if isinstance(payload, RawJSON):
            record.payload = redact_json(payload.data, self._redactor, counts, ())
        elif isinstance(payload, str | bytes):
            kind = _content_type(record.metadata, _HEADERS[0])
            record.payload = _once(lambda told: redact_body(payload, kind, self._redactor, told, ()), payload, counts)

    def _clean_facts(self, record: Record, counts: dict[str, int]) -> None:
        """Masks what is not the payload."""
        redactor, metadata = self._redactor, dict(record.metadata)
        for name in _HEADERS:
            if isinstance(headers := metadata.get(name), list):
                metadata[name] = [self._header([str(part) for part in header], counts) for header in headers]
        if isinstance(url := metadata.get("url"), str):
            metadata["url"] = _once(lambda told: redactor.url(url, told), url, counts)
        error = metadata.get("error")
        if isinstance(error, dict) and isinstance(message := error.get("message"), str):
            clean = _once(lambda told: redactor.text_with_urls(message, told), message, counts)
            metadata["error"] = {**error, "message": clean}
        document = orjson.dumps(metadata)
        redacted = redactor.json(document, counts)
        record.metadata = metadata if redacted is document else orjson.loads(redacted)
        for name in _NAMES:
            if isinstance(value := getattr(record, name), str):
                setattr(record, name, redactor.text(value, counts))

    def _header(self, header: list[str], counts: dict[str, int]) -> list[str]:
        name, value = header
        return _once(lambda told: self._redactor.headers([(name, value)], told)[0], header, counts)

    # -- streams -----------------------------------------------------------------------------------------------------

    def _feed(self, exchange: str, item: _Waiting, content: bytes) -> None:
        sender = item.record.metadata.get("websocket", {}).get("from")
        key = exchange if sender is None else f"{exchange} {sender}"
        stream = self._streams.get(key)
        if stream is None:
            kind = "application/json" if sender is not None else self._types.pop(exchange, "")
            redaction = stream_redaction(self._redactor, kind.partition(";")[0].strip().lower(), _MOST_OF_A_STREAM)
            stream = self._streams[key] = _Stream(redaction)
        item.key = key
        stream.waiting.append(item)
        self._release(key, [content], is_end=False)

    def _end(self, exchange: str) -> None:
        for key in [key for key in self._streams if key.partition(" ")[0] == exchange]:
            self._close(key)

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
            item.record.payload = text_or_bytes(piece)
            item.key = None
            _count(item.record, released.counts.get(number, {}))
        if is_end:
            del self._streams[key]


def _once(clean: Callable[[dict[str, int]], Redacted], before: Redacted, counts: dict[str, int]) -> Redacted:
    """What ``clean`` makes of something; what was masked before is not counted again."""
    told: dict[str, int] = {}
    after = clean(told)
    if after != before:
        for rule, count in told.items():
            counts[rule] = counts.get(rule, 0) + count
    return after


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


def _content_type(metadata: dict[str, Any], name: str) -> str:
    pairs = metadata.get(name) or ()
    return next((str(value) for key, value in pairs if str(key).lower() == "content-type"), "")


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
