"""JSON objects out of bytes that come in pieces: one a line, one after the other, or the elements of an array.

Invariants:

- What comes out does not depend on where the bytes were cut.
- Held at any time: at most one line or object, of at most ``max_event_bytes``.
- Every byte is looked at a fixed number of times, however small the pieces are.
"""

import re
from typing import Final

from otel_wirecap.llm.events import Event

_BLANK: Final = b" \t\r\x1e"
_CLOSING: Final = (b"}", b"]")
_NEWLINE: Final = 10
_QUOTE: Final = 34
_BACKSLASH: Final = 92

_TOKEN: Final = re.compile(rb'"(?:[^"\\\n]|\\[^\n])*+"|[{}\[\]"]')
_STRING_REST: Final = re.compile(rb'(?:[^"\\\n]|\\[^\n])*+')


class _Held:
    """The pieces of an event that is not whole yet; forgotten when they grow too large."""

    __slots__ = ("_dropped", "_limit", "_pieces", "_size", "overflowed")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._dropped = False
        self.overflowed = False

    def add(self, piece: bytes) -> None:
        """Takes a piece."""
        self._size += len(piece)
        if self._size > self._limit:
            self.overflowed = self._dropped = True
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)

    def take(self) -> bytes:
        """All of it, nothing where that was too large; the next event begins."""
        data = b"".join(self._pieces)
        self.clear()
        return data

    def clear(self) -> None:
        """The next event begins."""
        self._pieces.clear()
        self._size = 0
        self._dropped = False


class JSONLinesParser:
    """Parses JSON objects on a line each (NDJSON); see `EventParser`. Every line that is not blank is an event.

    Args:
        max_event_bytes: the most that a line may take. One over it is dropped.
    """

    __slots__ = ("_held",)

    def __init__(self, *, max_event_bytes: int = 1 << 24) -> None:
        self._held = _Held(max_event_bytes)

    @property
    def overflowed(self) -> bool:
        """Whether an event was dropped because it was too large."""
        return self._held.overflowed

    def feed(self, data: bytes) -> list[Event]:
        """See ``EventParser.feed``."""
        *lines, rest = data.split(b"\n")
        held = self._held
        events: list[Event] = []
        for line in lines:
            held.add(line)
            _append(events, held.take())
        held.add(rest)
        return events

    def close(self) -> list[Event]:
        """See ``EventParser.close``."""
        events: list[Event] = []
        _append(events, self._held.take())
        return events


class JSONObjectsParser:
    """Parses JSON objects one after the other or within an array; see `EventParser`. Each object is an event.

    Whatever stands between the objects is passed over. A line that ends within a string ends the object: JSON has
    no such strings, so that one was cut off.

    Args:
        max_event_bytes: the most that an object may take. One over it is dropped.
    """

    __slots__ = ("_depth", "_held", "_in_string", "_is_escaped")

    def __init__(self, *, max_event_bytes: int = 1 << 24) -> None:
        self._held = _Held(max_event_bytes)
        self._depth = 0  # of brackets around what comes next, within an object
        self._in_string = False
        self._is_escaped = False  # within a string, after a backslash

    @property
    def overflowed(self) -> bool:
        """Whether an event was dropped because it was too large."""
        return self._held.overflowed

    def feed(self, data: bytes) -> list[Event]:
        """See ``EventParser.feed``."""
        events: list[Event] = []
        begin = at = 0  # of the object's bytes in these; of what is looked at next
        while at < len(data):
            if self._in_string:
                at = self._leave_string(data, at, begin)
                continue
            for token in _TOKEN.finditer(data, at):
                kind = token[0]
                if kind == b'"':  # the rest of the string is not here
                    self._in_string = True
                elif kind == b"{":
                    begin = begin if self._depth else token.start()
                    self._depth += 1
                elif self._depth and kind == b"[":
                    self._depth += 1
                elif self._depth and kind in _CLOSING:
                    self._depth -= 1
                    if not self._depth:
                        self._held.add(data[begin : token.end()])
                        _append(events, self._held.take())
                if self._in_string:
                    at = token.end()
                    break
            else:
                break
        if self._depth:
            self._held.add(data[begin:])
        return events

    def close(self) -> list[Event]:
        """See ``EventParser.close``."""
        events: list[Event] = []
        _append(events, self._held.take())
        return events

    def _leave_string(self, data: bytes, at: int, begin: int) -> int:
        """Looks for the end of the string from ``at`` on, of an object from ``begin`` on; returns where to go on."""
        if self._is_escaped:
            self._is_escaped = False
            at += data[at] != _NEWLINE
        rest = _STRING_REST.match(data, at)
        assert rest is not None  # noqa: S101 - the pattern matches nothing, too
        end = rest.end()
        if end == len(data):
            return end
        if data[end] == _BACKSLASH and end + 1 == len(data):
            self._is_escaped = True
            return len(data)
        self._in_string = False
        if data[end] != _QUOTE:
            self._depth = 0
            self._held.add(data[begin:end])  # its size counts, wherever it was cut
            self._held.clear()
        return end + 1


def _append(events: list[Event], data: bytes) -> None:
    data = data.strip(_BLANK)
    if data:
        events.append(Event("", data))
