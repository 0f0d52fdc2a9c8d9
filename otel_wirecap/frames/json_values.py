"""JSON in a stream: on a line each, or one value after the other, or as the elements of an array."""

import re
from typing import Final

from otel_wirecap.frames.lexer import Frame, Lexer

BLANK: Final = b" \t\r\n\x1e"
"""Bytes between values: those of JSON, and what begins a record of a JSON text sequence (RFC 7464)."""

_OPENING: Final = (b"{", b"[")
_NEWLINE: Final = 10
_QUOTE: Final = 34
_BACKSLASH: Final = 92

_TOKEN: Final = re.compile(rb'"(?:[^"\\\n]|\\[^\n])*+"|[{}\[\]"]')
_STRING_REST: Final = re.compile(rb'(?:[^"\\\n]|\\[^\n])*+')


class JSONLinesLexer(Lexer):
    """JSON values on a line each (NDJSON). Every line that is not blank is a frame, whatever it holds."""

    def __init__(self, max_frame_bytes: int, *, begin: int = 0) -> None:
        super().__init__(max_frame_bytes, begin=begin)
        self._searched = 0
        self._skips = False  # what comes is the rest of a line that is too large

    def read(self, data: bytes | bytearray, *, is_end: bool) -> list[Frame]:
        """See ``Lexer``."""
        end = len(data) if is_end else data.rfind(b"\n", self._searched) + 1
        frames: list[Frame] = []
        place = self.consumed
        if end:
            *lines, last = bytes(data[:end]).split(b"\n")
            for line in lines:
                self._take(line, place, place + len(line) + 1, frames)
                place += len(line) + 1
            if is_end:
                self._take(last, place, place + len(last), frames)
        rest = len(data) - end
        if rest > self.max_frame_bytes:
            self._skips = True
            self._drop(self.consumed + end)
        self._searched = 0 if self._skips else rest
        self.consumed += len(data) - self._searched
        return frames

    def _take(self, line: bytes, start: int, end: int, frames: list[Frame]) -> None:
        """Takes a line, without its line feed."""
        if self._skips:
            self._skips = False
        elif len(line) > self.max_frame_bytes:
            self._drop(start)
        else:
            content = line.lstrip(BLANK)
            offset = start + len(line) - len(content)
            content = content.rstrip(BLANK)
            if content:
                frames.append(Frame("", content, start, end, ((0, offset),)))


class JSONValuesLexer(Lexer):
    """JSON objects and arrays one after the other, or, where an array is the first thing that comes, its elements.

    Whatever stands between them is passed over. A line that ends within a string ends the value: JSON has no such
    strings, so that one was cut off.
    """

    def __init__(self, max_frame_bytes: int, *, begin: int = 0) -> None:
        super().__init__(max_frame_bytes, begin=begin)
        self._is_first = True
        self._scanned = 0  # of the bytes that come again
        self._depth = 0  # of brackets around what comes next, within a value
        self._in_string = False
        self._is_escaped = False  # within a string, after a backslash
        self._skips = False  # the value is too large

    def read(self, data: bytes | bytearray, *, is_end: bool) -> list[Frame]:
        """See ``Lexer``."""
        frames: list[Frame] = []
        begin, at, size, place = 0, self._scanned, len(data), self.consumed
        while at < size:
            if self._in_string:
                at = self._leave_string(data, at, begin)
                continue
            for token in _TOKEN.finditer(data, at):
                kind = token[0]
                if kind == b'"':  # the rest of the string is not here
                    self._in_string = True
                    at = token.end()
                    break
                if kind in _OPENING:
                    begin = begin if self._depth else token.start()
                    self._depth += self._depth > 0 or not self._begins_array(data, begin)
                elif self._depth and len(kind) == 1:
                    self._depth -= 1
                    if not self._depth:
                        self._yield(data, begin, token.end(), frames)
            else:
                break
        self._is_first = self._is_first and not data.strip(BLANK)
        if self._depth and is_end:
            self._yield(data, begin, size, frames)
        elif self._depth and size - begin > self.max_frame_bytes:
            self._skips = True
            self._drop(place + begin)
        if not self._depth or is_end or self._skips:
            begin = size
        self.consumed, self._scanned = place + begin, size - begin
        return frames

    def _begins_array(self, data: bytes | bytearray, at: int) -> bool:
        """Whether the bracket there is that of the array whose elements are the stream's values."""
        is_first, self._is_first = self._is_first, False
        return is_first and data[at : at + 1] == b"[" and not data[:at].strip(BLANK)

    def _yield(self, data: bytes | bytearray, begin: int, end: int, frames: list[Frame]) -> None:
        """Ends a value."""
        if self._skips or end - begin > self.max_frame_bytes:
            self._drop(self.consumed + begin)
        else:
            place = self.consumed + begin
            content = bytes(data[begin:end])
            frames.append(Frame("", content, place, place + end - begin, ((0, place),)))
        self._skips = False

    def _leave_string(self, data: bytes | bytearray, at: int, begin: int) -> int:
        """Looks for the end of the string from ``at`` on, of a value from ``begin`` on; returns where to go on."""
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
        if data[end] != _QUOTE:  # a line's end
            if self._depth and end - begin > self.max_frame_bytes:
                self._drop(self.consumed + begin)
            self._depth = 0
            self._skips = False
        return end + 1
