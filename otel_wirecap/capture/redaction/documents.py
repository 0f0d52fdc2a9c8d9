"""The JSON documents that a stream carries, found without changing a byte of it.

Invariants:

- A document has as many bytes as its place in the stream, so that a place in one is a place in the other; what is no
  JSON there (the names of fields, line ends) is blank. Only what is encoded within a frame has a place of its own.
- Documents come in order, and what comes does not depend on how the stream was cut.
- What is not whole yet is looked at again with the next bytes, at most ``max_bytes`` of it. The strings of a larger
  document are not joined with those of others.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import struct
import zlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]:,]', re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.")
_BRACKET: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]]|"', re.DOTALL)

_OPENING: Final = (b"{", b"[")
_CLOSING: Final = (b"}", b"]")
_BLANK: Final = b" \t\r\n\x1e"
_BOM: Final = b"\xef\xbb\xbf"

_MAX_DEPTH: Final = 200
"""How deep a document may nest; a deeper one is read by nobody, and would exhaust the stack."""

_EVENT_BEGINNINGS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_MAX_TO_GUESS: Final = 8

_PRELUDE: Final = struct.Struct("!III")
_CHECKSUM: Final = struct.Struct("!I")

NO_JSON: Final = object()


class Document(NamedTuple):
    """A piece of the stream that is read as one.

    Attributes:
        start: where it begins in the stream, what surrounds it included.
        offset: the place in the stream of the first byte of ``content``.
        content: the JSON, perhaps after the name of a field, or the text where ``value`` is ``NO_JSON``.
        value: the parsed JSON.
        frame: the frame it was encoded in, if that has to be made anew when the document changes.
    """

    start: int
    offset: int
    content: bytes
    value: Any
    frame: Frame | None = None


class Recognised(Protocol):
    """Knows documents when it sees them, so that they need not be parsed."""

    def all(self, lines: bytes, place: int) -> bool:
        r"""Takes all documents of an event stream, or none.

        Args:
            lines: whole lines, with a ``\n`` before each.
            place: where they begin in the stream.
        """

    def one(self, lines: bytes, at: int, start: int) -> bool:
        """Takes the document of one line, or not; that begins after ``at``, and at ``start`` in the stream."""

    def news(self) -> bool:
        """Whether it has come to know what it did not know when it was asked last."""


class Documents(ABC):
    """Finds the documents of a stream, those of at most ``max_bytes``.

    Attributes:
        consumed: where the next reading begins.
        told: every document that begins before this place of the stream has been told.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.consumed = 0
        self.told = 0

    @abstractmethod
    def read(self, data: bytes, place: int, recognised: Recognised, *, is_end: bool) -> Iterator[Document]:
        """The documents that are whole.

        Args:
            data: the stream from where ``consumed`` said.
            place: where that is in the stream.
            recognised: is shown the documents of events before they are parsed; what it takes is not told.
            is_end: nothing follows.
        """


class ServerSentEvents(Documents):
    """The ``data`` of each event: of each line where that is a document, else of all lines of the event."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._waiting: list[tuple[int, bytes]] = []
        self._searched = 0

    def read(self, data: bytes, place: int, recognised: Recognised, *, is_end: bool) -> Iterator[Document]:
        """See ``Documents``."""
        lines, rest = self._lines(_unmarked(data, place, b"\n"), is_end=is_end)
        if lines and (self._waiting or not recognised.all(lines, place - 1)):
            yield from self._read_lines(lines, place, recognised)
        if is_end:
            yield from self._event()
        self.consumed = place + len(data) - rest
        self.told = self._waiting[0][0] if self._waiting else self.consumed

    def _lines(self, data: bytes, *, is_end: bool) -> tuple[bytes, int]:
        r"""The whole lines, each ended by ``\n``, after another ``\n``; and the number of bytes that are left."""
        length = len(data)
        held = 0  # a carriage return whose line feed may follow
        if b"\r" in data:
            if data[-1:] == b"\r" and not is_end:
                data, held = data[:-1], 1
            data = data.replace(b"\r\n", b" \n").replace(b"\r", b"\n")
        end = data.rfind(b"\n", self._searched) + 1
        rest = length - end
        if is_end:
            data, rest = data + b"\n", 0
        elif rest > self._max_bytes:
            data, rest = data[:end], 0
        else:
            data = data[:end]
        self._searched = max(0, rest - held)
        return b"\n" + data if data else b"", rest

    def _read_lines(self, lines: bytes, place: int, recognised: Recognised) -> Iterator[Document]:
        at = 0
        while (end := lines.find(b"\n", at + 1)) >= 0:
            line = lines[at + 1 : end]
            start, place = place, place + len(line) + 1
            if line[:5] == b"data:":
                if not self._waiting and recognised.one(lines, at, start):
                    at += len(line) + 1
                    continue
                value = NO_JSON if self._waiting else parsed(without_field(line))
                if value is NO_JSON:
                    self._waiting.append((start, line))
                    if place - self._waiting[0][0] > self._max_bytes:
                        yield from self._event()
                else:
                    yield Document(start, start, line, value)
                    at += len(line) + 1
                    if recognised.news() and recognised.all(lines[at:], place - 1):
                        return
                    continue
            elif self._waiting and not line.strip():
                yield from self._event()
            at += len(line) + 1

    def _event(self) -> Iterator[Document]:
        """The document on several lines, or else the text of each line."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        start, end = waiting[0][0], waiting[-1][0] + len(waiting[-1][1])
        content = bytearray(b" " * (end - start))
        for place, line in waiting:
            content[place - start + 5 : place - start + len(line)] = line[5:]
        value = parsed(bytes(content))
        if value is not NO_JSON:
            yield Document(start, start, bytes(content), value)
            return
        for place, line in waiting:
            begin = 6 if line[5:6] == b" " else 5
            yield Document(place, place + begin, line[begin:], NO_JSON)


class JSONValues(Documents):
    """JSON objects one after the other, on lines of their own or not, or the elements of one array."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._is_first = True
        self._scanned = 0
        self._depth = 0

    def read(self, data: bytes, place: int, _recognised: Recognised, *, is_end: bool) -> Iterator[Document]:
        """See ``Documents``."""
        data = _unmarked(data, place, b" ")
        begin = self._array(data)
        scanned = max(begin, self._scanned)
        for token in _BRACKET.finditer(data, scanned):
            kind = token[0]
            if kind == b'"':  # a string that has not ended
                break
            scanned = token.end()
            if kind in _OPENING:
                begin = begin if self._depth else token.start()
                self._depth += 1
            elif kind in _CLOSING:
                self._depth = max(0, self._depth - 1)
                value = NO_JSON if self._depth else parsed(data[begin:scanned])
                if value is not NO_JSON:
                    yield Document(place + begin, place + begin, data[begin:scanned], value)
            if not self._depth:
                begin = scanned
        if is_end or len(data) - begin > self._max_bytes:
            begin = scanned = len(data)
            self._depth = 0
        self.consumed = self.told = place + begin
        self._scanned = scanned - begin

    def _array(self, data: bytes) -> int:
        """Where the first element begins, at the beginning of the stream and where that is one array; else 0."""
        first = data.lstrip(_BLANK)[:1] if self._is_first else b""
        self._is_first = self._is_first and first in (b"", _BOM[:1])  # which may be half a mark as yet
        return data.index(b"[") + 1 if first == b"[" else 0


class Guessed(Documents):
    """What the stream's first bytes look like, where its type does not tell."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._documents: Documents | None = None

    def read(self, data: bytes, place: int, recognised: Recognised, *, is_end: bool) -> Iterator[Document]:
        """See ``Documents``."""
        if self._documents is None:
            head = data.removeprefix(_BOM).lstrip(_BLANK)
            if len(head) < _MAX_TO_GUESS and not is_end:
                return
            if head.startswith(_EVENT_BEGINNINGS):
                self._documents = ServerSentEvents(self._max_bytes)
            elif head[:1] in _OPENING:
                self._documents = JSONValues(self._max_bytes)
            else:
                self._documents = NoDocuments(self._max_bytes)
        yield from self._documents.read(data, place, recognised, is_end=is_end)
        self.consumed, self.told = self._documents.consumed, self._documents.told


class NoDocuments(Documents):
    """None: the stream is text or bytes."""

    def read(self, data: bytes, place: int, _recognised: Recognised, *, is_end: bool) -> Iterator[Document]:
        """See ``Documents``."""
        self.consumed = self.told = place + len(data)
        yield from ()


def documents_of(content_type: str, max_bytes: int) -> Documents:
    """What finds the documents of a stream of this type (lower case, without parameters)."""
    if content_type == "text/event-stream":
        return ServerSentEvents(max_bytes)
    if content_type == "application/vnd.amazon.eventstream":
        return AWSEventStream(max_bytes)
    if "json" in content_type:
        return JSONValues(max_bytes)
    return Guessed(max_bytes)


class Frame(NamedTuple):
    """One message of an AWS event stream (https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html).

    Attributes:
        start: where it begins in the stream.
        data: all its bytes.
        payload: where its payload begins within.
        is_encoded: whether the document stands in base64 in the payload's member ``bytes``.
    """

    start: int
    data: bytes
    payload: int
    is_encoded: bool

    def changed(self, content: bytes) -> list[tuple[int, int, bytes]]:
        """What to put where in the stream, so that the frame holds ``content`` as its document and is valid.

        Raises:
            ValueError: the frame's payload names its document twice, so that it cannot be told which was read.
        """
        data, old = self.data, self.data[self.payload : -4]
        if self.is_encoded:
            places = strings_at(old, ("bytes",))
            if len(places) != 1:
                raise ValueError("a frame's member is there twice")
            begin, end = places[0]
            content = old[:begin] + base64.b64encode(content) + old[end:]
        head = _PRELUDE.pack(len(data) - len(old) + len(content), _PRELUDE.unpack_from(data)[1], 0)[:8]
        head += _CHECKSUM.pack(zlib.crc32(head))
        checksum = _CHECKSUM.pack(zlib.crc32(head + data[12 : self.payload] + content))
        first = next((i for i, (one, other) in enumerate(zip(old, content, strict=False)) if one != other), 0)
        place = self.start + self.payload
        end = self.start + len(data)
        return [
            (self.start, self.start + 12, head),
            (place + first, end - 4, content[first:]),
            (end - 4, end, checksum),
        ]


class AWSEventStream(Documents):
    """The payloads of the messages, those in base64 decoded."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._is_damaged = False

    def read(self, data: bytes, place: int, _recognised: Recognised, *, is_end: bool) -> Iterator[Document]:
        """See ``Documents``."""
        begin = 0
        while not self._is_damaged and len(data) - begin >= _PRELUDE.size:
            total, headers, checksum = _PRELUDE.unpack_from(data, begin)
            payload = _PRELUDE.size + headers
            if checksum != zlib.crc32(data[begin : begin + 8]) or not payload + 4 <= total <= self._max_bytes:
                self._is_damaged = True
                break
            if len(data) - begin < total:
                break
            frame = data[begin : begin + total]
            yield _framed(frame, place + begin, payload)
            begin += total
        if is_end or self._is_damaged:
            begin = len(data)
        self.consumed = self.told = place + begin


def _framed(frame: bytes, start: int, payload: int) -> Document:
    content = frame[payload:-4]
    value = parsed(content)
    inner = value.get("bytes") if isinstance(value, dict) else None
    is_encoded = False
    if isinstance(inner, str):
        with contextlib.suppress(binascii.Error, ValueError):
            content, is_encoded = base64.b64decode(inner, validate=True), True
            value = parsed(content)
    whole = Frame(start, frame, payload, is_encoded)
    return Document(start, start + payload, content, value, whole)


def _unmarked(data: bytes, place: int, blank: bytes) -> bytes:
    """The data, with blanks for the byte order mark that the stream may begin with."""
    return data.replace(_BOM, 3 * blank, 1) if place == 0 and data[:3] == _BOM else data


def without_field(line: bytes) -> bytes:
    """An event's document without the name of the field before it."""
    return line[5:] if line[:5] == b"data:" else line


def parsed(content: bytes) -> Any:
    """The object or array; ``NO_JSON`` for what is none, or nests too deep."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        if content.lstrip(b" \t\x1e")[:1] not in (b"{", b"["):
            return NO_JSON
        try:  # half of a surrogate pair at the end of a delta, which orjson refuses
            value = json.loads(content.replace(b"\x1e", b" "))
        except (ValueError, RecursionError):
            return NO_JSON
    if not isinstance(value, dict | list):
        return NO_JSON
    brackets = content.count(b"{") + content.count(b"[")
    return NO_JSON if brackets > _MAX_DEPTH and _is_deep(value) else value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def strings_at(content: bytes, path: tuple[str, ...]) -> list[tuple[int, int]]:
    """Where a document has the strings, quotes not included, that the names of ``path`` lead to, in order."""
    found: list[tuple[int, int]] = []
    names: list[str | None] = []
    name: str | None = None
    in_object: list[bool] = []
    is_key = False
    for token in _TOKEN.finditer(content):
        first = token[0][:1]
        if first in b"{[":
            names.append(name)
            in_object.append(first == b"{")
            name, is_key = None, in_object[-1]
        elif first in b"}]":
            name = names.pop()
            in_object.pop()
        elif first == b",":
            is_key = in_object[-1]
        elif first == b'"':
            if is_key:
                name, is_key = _decoded(token[0]), False
            elif path == tuple(step for step in (*names, name) if step is not None):
                found.append((token.start() + 1, token.end() - 1))
    return found


def _decoded(token: bytes) -> str:
    text = json.loads(token)
    assert isinstance(text, str)  # noqa: S101  # the token is a string's
    return text


def encoded(text: str) -> bytes:
    """The text's bytes, halves of surrogate pairs as they are."""
    return text.encode("utf-8", "surrogatepass")


def written(spelled: bytes, place: int) -> int:
    """Where a JSON string, as it is spelled, has the ``place``-th byte of what it says."""
    said = done = 0
    for escape in _ESCAPE.finditer(spelled):
        plain = escape.start() - done
        if said + plain >= place:
            break
        said += plain + len(encoded(_decoded(b'"%s"' % escape[0])))
        done = escape.end()
        if said >= place:
            return done
    return done + place - said
