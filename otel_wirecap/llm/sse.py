"""Server-sent events out of bytes that come in pieces.

The rules are those of the WHATWG (https://html.spec.whatwg.org/multipage/server-sent-events.html, "Parsing an
event stream"), but for two that a recorder wants otherwise: data stay bytes, and an event that the stream's
end cuts off is told.

Invariants:

- What comes out does not depend on where the bytes were cut.
- Held at any time: at most one line and one event's data, each of at most ``max_event_bytes``.
- Every byte is looked at a fixed number of times, however small the pieces are.
"""

from typing import Final

from otel_wirecap.llm.events import Event

_BOM: Final = b"\xef\xbb\xbf"
_LF: Final = 10
_CR: Final = 13

_new_tuple = tuple.__new__  # an event at half the price of calling the class


class SSEParser:
    r"""Parses one event stream; see `EventParser`.

    An event's name is its ``event`` field, its data are its ``data`` lines, joined by ``\n``.

    Args:
        max_event_bytes: the most that a line, and the data of one event, may take. An event over it is
            dropped.

    Attributes:
        overflowed: whether an event was dropped because it was too large.
    """

    __slots__ = (
        "_after_cr",
        "_at_rest",
        "_data",
        "_data_size",
        "_dropped",
        "_fresh",
        "_limit",
        "_line",
        "_line_size",
        "_name",
        "overflowed",
    )

    def __init__(self, *, max_event_bytes: int = 1 << 24) -> None:
        self._limit = max_event_bytes
        self._fresh = True  # nothing came but, perhaps, the beginning of a byte order mark
        self._after_cr = False  # a line feed that comes next belongs to the line end already seen
        self._at_rest = False  # between two events, with nothing of the three above or below pending
        self._line: list[bytes] = []  # the line that has not ended yet; emptied when it grows too long
        self._line_size = 0
        self._name = b""
        self._data: list[bytes] = []
        self._data_size = 0
        self._dropped = False  # the current event is too large
        self.overflowed = False

    def feed(self, data: bytes) -> list[Event]:
        """See ``EventParser.feed``."""
        # Most pieces are one whole event, of a data line and perhaps a name before it.
        if self._at_rest and data[-2:] == b"\n\n" and len(data) <= self._limit:
            if data[:6] == b"data: ":
                body = data[6:-2]
                if _LF not in body and _CR not in body:
                    return [_new_tuple(Event, ("", body))]
            elif data[:7] == b"event: ":
                end = data.find(b"\n")
                body = data[end + 7 : -2]
                if data[end + 1 : end + 7] == b"data: " and _LF not in body and _CR not in data:
                    return [_new_tuple(Event, (data[7:end].decode("utf-8", "replace"), body))]
        return self._feed(data)

    def close(self) -> list[Event]:
        """See ``EventParser.close``."""
        if not self._line_size:
            return self._take_lines(b"\n")
        return self._take_lines(b"\n\n")

    def _feed(self, data: bytes) -> list[Event]:
        if self._fresh:
            data = b"".join((*self._line, data))
            self._line.clear()
            self._line_size = 0
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._hold(data)
                return []
            self._fresh = False
            data = data.removeprefix(_BOM)
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        events = self._take_lines(data[:end]) if end else []
        self._after_cr = self._after_cr or data[-1:] == b"\r"
        self._hold(data[end:])
        self._at_rest = not (
            self._line_size or self._after_cr or self._data or self._name or self._dropped or self._fresh
        )
        return events

    def _hold(self, rest: bytes) -> None:
        """Keeps the beginning of a line."""
        if not rest:
            return
        self._line_size += len(rest)
        if self._line_size > self._limit:
            self._line.clear()
        else:
            self._line.append(rest)

    def _take_lines(self, data: bytes) -> list[Event]:
        """Takes bytes that end with a line end."""
        limit = self._limit
        lines = data.splitlines()  # of bytes: at CR, LF and CRLF only
        if self._line_size:
            if self._line_size + len(lines[0]) > limit:
                self._drop()
                lines[0] = b":"
            else:
                self._line.append(lines[0])
                lines[0] = b"".join(self._line)
            self._line.clear()
            self._line_size = 0
        events: list[Event] = []
        for line in lines:
            if not line:
                if self._data and not self._dropped:
                    body = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    name = self._name.decode("utf-8", "replace") if self._name else ""
                    events.append(_new_tuple(Event, (name, body)))
                self._data = []
                self._data_size = 0
                self._name = b""
                self._dropped = False
            elif len(line) > limit:
                self._drop()
            else:
                field, _, value = line.partition(b":")
                if value[:1] == b" ":
                    value = value[1:]
                if field == b"data":
                    self._add_data(value)
                elif field == b"event":
                    self._name = value
                # A comment has an empty field name; "id" and "retry" are a browser's business.
        return events

    def _add_data(self, value: bytes) -> None:
        if self._dropped:
            return
        self._data.append(value)
        self._data_size += len(value) + 1  # with its line end, so that empty lines don't come for free
        if self._data_size > self._limit + 1:
            self._drop()

    def _drop(self) -> None:
        self.overflowed = True
        self._dropped = True
        self._data.clear()
