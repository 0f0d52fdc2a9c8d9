"""Which framing a stream has: by its content type, or by its first bytes where that does not tell."""

from typing import Final

from otel_wirecap.llm.aws_frames import PRELUDE, AWSFramesParser, is_prelude
from otel_wirecap.llm.events import Event, EventParser
from otel_wirecap.llm.json_stream import JSONLinesParser, JSONObjectsParser
from otel_wirecap.llm.sse import SSEParser

_MAX_EVENT_BYTES: Final = 1 << 24

_LINES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl"})
_BLANK: Final = b" \t\r\n\x1e"
_BOM: Final = b"\xef\xbb\xbf"
_EVENT_BEGINNINGS: Final = (b"data:", b"event:", b"id:", b"retry:", b":", _BOM)


def event_parser(content_type: str | None, *, max_event_bytes: int = _MAX_EVENT_BYTES) -> EventParser:
    """What finds the events of a stream.

    Args:
        content_type: the stream's, with or without parameters, in any case; None or anything that does not tell when
            its first bytes are to tell.
        max_event_bytes: the most that an event may take. One over it is dropped.
    """
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return SSEParser(max_event_bytes=max_event_bytes)
    if kind == "application/vnd.amazon.eventstream":
        return AWSFramesParser(max_event_bytes=max_event_bytes)
    if kind in _LINES:
        return JSONLinesParser(max_event_bytes=max_event_bytes)
    if "json" in kind:
        return JSONObjectsParser(max_event_bytes=max_event_bytes)
    return _GuessingParser(max_event_bytes)


class _GuessingParser:
    """Waits for the bytes by which a stream's framing can be told; see `EventParser`."""

    __slots__ = ("_first", "_limit", "_parser")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._first = b""
        self._parser: EventParser | None = None

    @property
    def overflowed(self) -> bool:
        """Whether an event was dropped because it was too large."""
        return self._parser is not None and self._parser.overflowed

    def feed(self, data: bytes) -> list[Event]:
        """See ``EventParser.feed``."""
        if self._parser is not None:
            return self._parser.feed(data)
        # Blank bytes at the beginning mean nothing in any framing.
        self._first = (self._first + data).lstrip(_BLANK)
        return self._begin() if len(self._first) >= PRELUDE.size else []

    def close(self) -> list[Event]:
        """See ``EventParser.close``."""
        events = [] if self._parser is not None else self._begin()
        return events if self._parser is None else events + self._parser.close()

    def _begin(self) -> list[Event]:
        first, self._first = self._first, b""
        if first.startswith(_EVENT_BEGINNINGS):
            self._parser = SSEParser(max_event_bytes=self._limit)
        elif first.startswith((b"{", b"[")):
            self._parser = JSONObjectsParser(max_event_bytes=self._limit)
        else:
            self._parser = AWSFramesParser(max_event_bytes=self._limit) if is_prelude(first) else _NoEvents()
        return self._parser.feed(first)


class _NoEvents:
    """Finds nothing in what is no stream of events; see `EventParser`."""

    overflowed = False

    def feed(self, _data: bytes) -> list[Event]:
        """See ``EventParser.feed``."""
        return []

    def close(self) -> list[Event]:
        """See ``EventParser.close``."""
        return []
