"""The JSON documents that the frames of a stream carry, as the redaction wants them.

Invariants:

- A document has as many bytes as its place in the stream, so that a place in one is a place in the other; what is no
  JSON there (the names of fields, line ends) is blank. Only what is encoded within a message has a place of its own.
- Documents come in order, and what comes does not depend on how the stream was cut.
- What is not whole yet is looked at again with the next bytes, at most ``max_bytes`` of it. The strings of a larger
  document are not joined with those of others.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import orjson

from otel_wirecap.capture.decoding import NOT_JSON
from otel_wirecap.capture.redaction.edits import Edit, applied, merged
from otel_wirecap.frames.aws_message import CHECKSUM, PRELUDE, AWSMessage
from otel_wirecap.frames.framing import lexer_of
from otel_wirecap.frames.sse import SSELexer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_wirecap.frames.lexer import Frame, Lexer

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]:,]', re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.")
_LONE_CR: Final = re.compile(rb"\r(?!\n)")

_MAX_DEPTH: Final = 200
"""How deep a document may nest; a deeper one is read by nobody, and would exhaust the stack."""


class Document(NamedTuple):
    """A piece of the stream that is read as one.

    Attributes:
        start: where it begins in the stream, what surrounds it included.
        offset: the place in the stream of the first byte of ``content``.
        content: the JSON, perhaps after the name of a field, or the text where ``value`` is ``NOT_JSON``.
        value: the parsed JSON.
        frame: the message that it is encoded in, if that has to be made anew when the document changes.
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


class Documents(Protocol):
    """Finds the documents of a stream."""

    @property
    def consumed(self) -> int:
        """Where the next reading begins; every document that begins before is found."""

    def read(self, data: bytes, recognised: Recognised, *, is_end: bool) -> Iterator[Document]:
        """The documents that are whole.

        Args:
            data: the stream from ``consumed`` on.
            recognised: is shown the documents of events before they are parsed; what it takes is not yielded.
            is_end: nothing follows.
        """


class FramedDocuments:
    """The documents that the frames of a stream carry; see ``Documents``.

    Args:
        content_type: the stream's.
        max_bytes: the most that a frame may take.
    """

    def __init__(self, content_type: str, max_bytes: int) -> None:
        self._content_type = content_type
        self._max_bytes = max_bytes
        self._lexer: Lexer | None = None

    @property
    def consumed(self) -> int:
        """See ``Documents``."""
        return 0 if self._lexer is None else self._lexer.consumed

    def read(self, data: bytes, recognised: Recognised, *, is_end: bool) -> Iterator[Document]:
        """See ``Documents``."""
        lexer = self._lexer
        if lexer is None:
            lexer = self._lexer = lexer_of(self._content_type, data, self._max_bytes, is_end=is_end)
            if lexer is None:
                return iter(())
            data = data[lexer.consumed :]
        if isinstance(lexer, SSELexer):
            return _of_events(lexer, data, recognised, is_end=is_end)
        return filter(None, map(_of_frame, lexer.read(data, is_end=is_end)))


def _of_events(lexer: SSELexer, data: bytes, recognised: Recognised, *, is_end: bool) -> Iterator[Document]:
    """The ``data`` of each event."""
    block, place = lexer.whole(data, is_end=is_end)
    if not block:
        return
    plain = _LONE_CR.sub(b"\n", block) if b"\r" in block else block
    lines = b"\n%b\n" % plain if block[-1:] not in b"\r\n" else b"\n" + plain
    first = place - 1  # of the lines
    if recognised.all(lines, first):
        return
    for frame in _frames(lexer, block, place):
        if len(frame.parts) > 1:
            yield from _of_lines(frame)
            continue
        at = lines.rfind(b"\n", 0, frame.parts[0][1] - first)
        if recognised.one(lines, at, first + at + 1):
            continue
        end = lines.index(b"\n", at + 1)
        value = parsed(frame.data)
        if value is NOT_JSON:
            yield from _of_lines(frame)
            continue
        yield Document(first + at + 1, first + at + 1, lines[at + 1 : end], value)
        if recognised.news() and recognised.all(lines[end:], first + end):
            return


def _frames(lexer: SSELexer, block: bytes, place: int) -> Iterator[Frame]:
    """The events; the first one apart, for by it the others may be recognised."""
    end = block.find(b"\n\n") + 2
    if end >= 2:
        yield from lexer.frames(block[:end], place)
        block, place = block[end:], place + end
    yield from lexer.frames(block, place)


def _of_lines(frame: Frame) -> Iterator[Document]:
    """The document on several lines, or else that of each line, or its text."""
    parts = [
        (place, frame.data[at:stop])
        for (at, place), stop in zip(
            frame.parts, [*(at - 1 for at, _ in frame.parts[1:]), len(frame.data)], strict=True
        )
    ]
    value = parsed(frame.data)
    if value is NOT_JSON:
        for place, text in parts:
            yield Document(place, place, text, parsed(text))
        return
    start, end = parts[0][0], parts[-1][0] + len(parts[-1][1])
    content = bytearray(b" " * (end - start))
    for place, text in parts:
        content[place - start : place - start + len(text)] = text
    yield Document(frame.start, start, bytes(content), value)


def _of_frame(frame: Frame) -> Document | None:
    message = frame.message
    if message is None:
        value, place = parsed(frame.data), frame.parts[0][1]
        return None if value is NOT_JSON else Document(place, place, frame.data, value)
    inner = message.unwrapped()
    content = message.payload if inner is None else inner
    return Document(frame.start, frame.start + message.payload_start, content, parsed(content), frame)


def without_field(line: bytes) -> bytes:
    """An event's document without the name of the field before it."""
    return line[5:] if line[:5] == b"data:" else line


def changes(frame: Frame, content: list[Edit], around: list[Edit]) -> list[Edit]:
    """What to put where in an AWS event stream, so that a message's document is changed and the message is valid.

    Args:
        frame: the message's.
        content: edits of its document.
        around: edits of the stream, within the payload: those beside a document in base64 are made, too.

    Raises:
        ValueError: the message's payload names its document twice, so that it cannot be told which was read.
    """
    message = frame.message
    assert message is not None  # noqa: S101  # only such frames are encoded
    old, place, edits = message.payload, frame.start + message.payload_start, merged(content)
    rules = tuple(rule for edit in edits for rule in edit.rules)
    inner = message.unwrapped()
    if inner is not None:
        places = strings_at(old, ("bytes",))
        if len(places) != 1:
            raise ValueError("a message's member is there twice")
        begin, end = places[0]
        moved = [
            edit._replace(start=max(0, edit.start - place), end=min(len(old), edit.end - place)) for edit in around
        ]
        beside = [edit for edit in moved if edit.end <= begin or edit.start >= end]
        if not edits and not beside:
            return []
        rules += tuple(rule for edit in beside for rule in edit.rules)
        edits = merged([Edit(begin, end, base64.b64encode(applied(inner, edits))), *beside])
    if not edits:
        return []
    payload = applied(old, edits)
    made = AWSMessage(message.headers, payload).encoded()
    first = next((i for i, (one, other) in enumerate(zip(old, payload, strict=False)) if one != other), 0)
    end = frame.end - CHECKSUM.size
    return [
        Edit(frame.start, frame.start + PRELUDE.size, made[: PRELUDE.size], rules),
        Edit(place + first, end, payload[first:]),
        Edit(end, frame.end, made[-CHECKSUM.size :]),
    ]


def parsed(content: bytes) -> Any:
    """The object or array; ``NOT_JSON`` for what is none, or nests too deep."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        if content.lstrip(b" \t\x1e")[:1] not in (b"{", b"["):
            return NOT_JSON
        try:  # half of a surrogate pair at the end of a delta, which orjson refuses
            value = json.loads(content.replace(b"\x1e", b" "))
        except (ValueError, RecursionError):
            return NOT_JSON
    if not isinstance(value, dict | list):
        return NOT_JSON
    brackets = content.count(b"{") + content.count(b"[")
    return NOT_JSON if brackets > _MAX_DEPTH and _is_deep(value) else value


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
