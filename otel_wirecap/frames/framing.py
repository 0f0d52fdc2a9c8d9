"""Which syntax a stream has: what its first bytes are, or else what its content type says."""

from typing import Final

from otel_wirecap.frames.aws import AWSLexer
from otel_wirecap.frames.aws_message import PRELUDE, is_prelude
from otel_wirecap.frames.json_values import BLANK, JSONLinesLexer, JSONValuesLexer
from otel_wirecap.frames.lexer import MAX_FRAME_BYTES, Frame, Lexer
from otel_wirecap.frames.sse import SSELexer

SSE_TYPE: Final = "text/event-stream"
AWS_TYPE: Final = "application/vnd.amazon.eventstream"
JSON_LINES_TYPES: Final = frozenset({
    "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl", "application/x-jsonlines",
})  # fmt: skip
"""Types of JSON on a line each; that of JSON text sequences (RFC 7464) says nothing of lines."""
STREAM_TYPES: Final = JSON_LINES_TYPES | {SSE_TYPE, AWS_TYPE, "application/json-seq"}
"""Types that are those of streams, whatever was asked for."""

_BOM: Final = b"\xef\xbb\xbf"
_EVENT_BEGINNINGS: Final = (b"data:", b"event:", b"id:", b"retry:", b":", b"error: {", b"error:{")
_MAX_TO_GUESS: Final = 1024
"""Bytes at the beginning that are looked at: blank ones, and what follows them."""
_MAX_LENGTH_BYTE: Final = b"\x01"
"""A message of an AWS event stream begins with its length in four bytes; of none that is read is the first larger."""


class TextLexer(Lexer):
    """Finds nothing: the stream is text or bytes."""

    def read(self, data: bytes | bytearray, *, is_end: bool) -> list[Frame]:
        """See ``Lexer``."""
        self.consumed += len(data)
        return []


def lexer_of(content_type: str | None, data: bytes | bytearray, max_frame_bytes: int, *, is_end: bool) -> Lexer | None:
    """What finds the frames of a stream.

    The first bytes decide where they are the beginning of some syntax, since content types are missing or wrong as
    often as not. The type decides the rest, and whether JSON stands on lines.

    Args:
        content_type: the stream's, with or without parameters, in any case; None or "" where there is none.
        data: the stream as far as it came.
        max_frame_bytes: the most that a frame may take.
        is_end: nothing follows.

    Returns:
        None as long as it is not known. A byte order mark is consumed.
    """
    if not is_end and len(data) < len(_BOM) and _BOM.startswith(data):
        return None
    begin = len(_BOM) if data.startswith(_BOM) else 0
    kind = (content_type or "").partition(";")[0].strip().lower()
    head = bytes(data[begin : begin + _MAX_TO_GUESS]).lstrip(BLANK)
    lexer: type[Lexer] | None = None
    if head.startswith(_EVENT_BEGINNINGS):
        lexer = SSELexer
    elif head[:1] == b"[" and kind in JSON_LINES_TYPES:
        if b"\n" not in head and not is_end and len(data) - begin < _MAX_TO_GUESS:
            return None
        lexer = JSONValuesLexer if _is_array_on_lines(head) else JSONLinesLexer
    elif head.startswith((b"{", b"[")):
        lexer = JSONLinesLexer if kind in JSON_LINES_TYPES else JSONValuesLexer
    elif head[:1] <= _MAX_LENGTH_BYTE and is_prelude(head):
        lexer = AWSLexer
    elif not is_end and len(data) - begin < _MAX_TO_GUESS and _may_begin(head):
        return None
    else:
        lexer = _of_type(kind)
    return lexer(max_frame_bytes, begin=begin)


def _is_array_on_lines(head: bytes) -> bool:
    """Whether an array begins whose elements stand on lines of their own, whatever the type says of lines."""
    line, newline, _ = head.partition(b"\n")
    return line[:1] == b"[" and bool(newline) and not line.rstrip(BLANK).endswith(b"]")


def _may_begin(head: bytes) -> bool:
    """Whether this is too little to see what it begins."""
    if any(beginning.startswith(head) for beginning in _EVENT_BEGINNINGS):
        return True
    return len(head) < PRELUDE.size and head[:1] <= _MAX_LENGTH_BYTE


def _of_type(kind: str) -> type[Lexer]:
    if kind == SSE_TYPE:
        return SSELexer
    if kind == AWS_TYPE:
        return AWSLexer
    if kind in JSON_LINES_TYPES:
        return JSONLinesLexer
    return JSONValuesLexer if "json" in kind else TextLexer


class FrameReader:
    """Finds the frames of one stream that comes in pieces; keeps what is to be kept of it.

    Args:
        content_type: as in `lexer_of`.
        max_frame_bytes: the most that a frame may take. One over it is dropped.
    """

    __slots__ = ("_content_type", "_held", "_lexer", "_max_frame_bytes")

    def __init__(self, content_type: str | None, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._content_type = content_type
        self._max_frame_bytes = max_frame_bytes
        self._held = bytearray()
        self._lexer: Lexer | None = None

    @property
    def overflowed(self) -> bool:
        """Whether a frame was dropped because it was too large."""
        return self._lexer is not None and self._lexer.overflowed

    def feed(self, data: bytes) -> list[Frame]:
        """Takes the next bytes, any number of them; returns the frames that they complete, in order."""
        return self._read(data, is_end=False)

    def close(self) -> list[Frame]:
        """Ends the stream; returns what it cuts off, as far as it came."""
        return self._read(b"", is_end=True)

    def _read(self, data: bytes, *, is_end: bool) -> list[Frame]:
        held: bytes | bytearray = data
        if self._held:
            held = self._held
            held += data
        begin, lexer = 0, self._lexer
        if lexer is None:
            lexer = self._lexer = lexer_of(self._content_type, held, self._max_frame_bytes, is_end=is_end)
            if lexer is None:
                self._held = bytearray(held)
                return []
            begin = lexer.consumed
        place = lexer.consumed
        frames = lexer.read(held[begin:] if begin else held, is_end=is_end)
        begin += lexer.consumed - place
        if held is self._held:
            del self._held[:begin]
        elif begin < len(held):
            self._held = bytearray(held[begin:])
        return frames
