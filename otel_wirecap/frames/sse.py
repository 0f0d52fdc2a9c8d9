"""Server-sent events.

The rules are those of the WHATWG (https://html.spec.whatwg.org/multipage/server-sent-events.html, "Parsing an
event stream"), but for what a recorder wants otherwise: data stay bytes, an event that the stream's end cuts off is a
frame, and so are the errors that servers send without the field ``data``: in a field ``error`` (llama.cpp of 2025), and
as a JSON object that is no field at all (gateways that pass on the body of an error).
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from otel_wirecap.frames.lexer import Frame, Lexer

FIELDS: Final = (b"data", b"event", b"id", b"retry")

_CR: Final = 13
_COLON: Final = 58
_BRACE: Final = 123

_USUAL: Final = re.compile(rb"((?:event: ?+([^\r\n]*+)\r?+\n)?+data: ?+)([^\r\n]*+)(\r?+\n\r?+\n)")
"""An event as almost all are: one line of data, perhaps a name before it."""
_ALL_USUAL: Final = re.compile(rb"(?:(?:event:[^\r\n]*+\r?+\n)?+data:[^\r\n]*+\r?+\n\r?+\n)*+")
_IDLE: Final = re.compile(rb"(?:(?::[^\r\n]*+)?+(?:\r\n|\n|\r(?!\Z))|\r)*+")
"""Comments and blank lines, which begin no event."""
_BLANK_LINE: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")

_new_tuple = tuple.__new__  # a frame at half the price of calling the class


class SSELine(NamedTuple):
    """One line of an event stream.

    Attributes:
        field: the name of the field; "" for a comment, and for a blank line.
        start: where it begins.
        value: where the field's value begins.
        end: where it ends, what ends it not included.
        stop: where the next one begins.
    """

    field: bytes
    start: int
    value: int
    end: int
    stop: int


def lines_of(block: bytes) -> Iterator[SSELine]:
    """The lines of a part of an event stream that begins with a line."""
    start = 0
    for whole in block.splitlines(keepends=True):  # of bytes: at CR, LF and CRLF only
        line = whole.rstrip(b"\r\n")
        end, stop = start + len(line), start + len(whole)
        field, colon, value = line.partition(b":")
        yield SSELine(field, start, end - len(value) + (value[:1] == b" ") if colon else end, end, stop)
        start = stop


class SSELexer(Lexer):
    r"""Finds the events of an event stream.

    An event's name is its ``event`` field, its data are its ``data`` lines, joined by ``\n``. One without data is none,
    unless it has ``error`` lines (these are its data then, and its name is ``error``) or begins with a JSON object (its
    data then). It begins with its first line that is no comment, and ends with the blank line.
    """

    def __init__(self, max_frame_bytes: int, *, begin: int = 0) -> None:
        super().__init__(max_frame_bytes, begin=begin)
        self._searched = 0  # of the bytes that come again
        self._skips = False  # what comes is the rest of an event that is too large

    def read(self, data: bytes | bytearray, *, is_end: bool) -> list[Frame]:
        """See ``Lexer``."""
        block, place = self.whole(data, is_end=is_end)
        return self.frames(block, place) if block else []

    def whole(self, data: bytes | bytearray, *, is_end: bool) -> tuple[bytes, int]:
        """Takes the next bytes as ``read`` does; returns those of the events that are whole, and their place.

        They begin with a line. What is passed over may stand between the events.
        """
        begin, place, size = 0, self.consumed, len(data)
        if self._skips:
            found = _BLANK_LINE.search(data)
            if found is None:
                self.consumed += size if is_end else max(0, size - 2)
                return b"", place
            self._skips = False
            begin = self._searched = found.end()
        end = size if is_end else max(begin, self._end_of_events(data, max(begin, self._searched)))
        if end < size and data[end] in b":\r\n" and _has_line_end(data, max(end, self._searched)):
            end = self._end_of_idle(data, end)
        rest = size - end - 2  # without the line's end that may be there
        if rest > self.max_frame_bytes:
            self._skips = True
            self._drop(place + end)
            self.consumed += rest
        self.consumed += end
        self._searched = 0 if self._skips else max(0, rest + 1)
        return bytes(data[begin:end]), place + begin

    def _end_of_idle(self, data: bytes | bytearray, begin: int) -> int:
        idle = _IDLE.match(data, begin)
        end = begin if idle is None else idle.end()
        if end - begin > self.max_frame_bytes:
            for line in lines_of(bytes(data[begin:end])):
                if line.end - line.start > self.max_frame_bytes:
                    return begin + line.start
        return end

    def _end_of_events(self, data: bytes | bytearray, begin: int) -> int:
        """Behind the last blank line that ends from ``begin`` on; 0 where there is none."""
        at = data.rfind(b"\n\n", begin)
        if data.find(b"\r", begin) >= 0:
            at = max(at, data.rfind(b"\n\r", begin), data.rfind(b"\r\r", begin))
        end = at + 2
        return 0 if at < 0 else end + (data[end - 1] == _CR and data[end : end + 1] == b"\n")

    def frames(self, block: bytes, place: int) -> list[Frame]:
        """The events in what ``whole`` returned."""
        frames: list[Frame] = []
        if len(block) > self.max_frame_bytes or not _ALL_USUAL.fullmatch(block):
            self._read_lines(block, place, frames)
            return frames
        for head, name, data, tail in _USUAL.findall(block):
            begin = place + len(head)
            end = begin + len(data) + len(tail)
            named = name.decode("utf-8", "replace") if name else ""
            frames.append(_new_tuple(Frame, (named, data, place, end, ((0, begin),), None)))
            place = end
        return frames

    def _read_lines(self, block: bytes, place: int, frames: list[Frame]) -> None:
        start = last = -1  # of the event: where it begins, and where its last line ends
        name = b""
        values: list[SSELine] = []
        errors: list[SSELine] = []
        for line in (*lines_of(block), SSELine(b"", len(block), 0, len(block), len(block))):
            if line.end > line.start:
                if start >= 0 or block[line.start] != _COLON or line.end - line.start > self.max_frame_bytes:
                    start = line.start if start < 0 else start
                    last = line.end
                if line.field == b"data":
                    values.append(line)
                elif line.field == b"event":
                    name = block[line.value : line.end]
                elif line.field == b"error" and line.end > line.value:
                    errors.append(line)
                continue
            if last - start > self.max_frame_bytes:
                self._drop(place + start)
            elif values:
                frames.append(_event(block, place, (start, line.stop), name, values))
            elif errors:
                frames.append(_event(block, place, (start, line.stop), b"error", errors))
            elif start >= 0 and block[start] == _BRACE:
                data = block[start:last]
                frames.append(Frame("", data, place + start, place + line.stop, ((0, place + start),)))
            start = last = -1
            name, values, errors = b"", [], []


def _event(block: bytes, place: int, span: tuple[int, int], name: bytes, values: list[SSELine]) -> Frame:
    parts: list[tuple[int, int]] = []
    at = 0
    for line in values:
        parts.append((at, place + line.value))
        at += line.end - line.value + 1
    data = b"\n".join([block[line.value : line.end] for line in values])
    start, end = span
    return Frame(name.decode("utf-8", "replace"), data, place + start, place + end, tuple(parts))


def _has_line_end(data: bytes | bytearray, begin: int) -> bool:
    return data.find(b"\n", begin) >= 0 or data.find(b"\r", begin) >= 0
