"""The response stream of one exchange: its chunks as text or bytes, and what its events say.

Invariant: the chunk payloads, joined, are the bytes of the content-decoded body (before redaction); every chunk that
came in comes out once, in order; leftover bytes of a cut character come out as a last chunk.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from otel_wirecap.capture.decoding import ContentDecoder, TextSplitter, UndecodableError, needs_decoding
from otel_wirecap.frames.framing import AWS_TYPE, FrameReader, lexer_of
from otel_wirecap.frames.json_values import BLANK, JSONValuesLexer
from otel_wirecap.frames.sse import SSELexer
from otel_wirecap.llm.assembly import StreamAssembly
from otel_wirecap.llm.text import json_value

if TYPE_CHECKING:
    from otel_wirecap.frames.lexer import Lexer

BINARY_TYPES = frozenset({AWS_TYPE, "application/octet-stream"})

MAX_UNDECIDED = 1 << 16
"""Bytes of a body after which it is none of the streams that nothing but their bytes says they are."""


class StreamBeginning:
    """Finds out whether a body is a stream: its first bytes are an event, or two JSON objects or arrays on a line each.

    Invariant: no byte of events is looked at more than a fixed number of times, however small the pieces are.

    Attributes:
        chunks: those that came while it was not known, each with its time.
    """

    __slots__ = ("_has_first_value", "_lexer", "chunks")

    def __init__(self) -> None:
        self.chunks: list[tuple[int, bytes]] = []
        self._lexer: Lexer | None = None
        self._has_first_value = False

    def is_stream(self, content: bytes) -> bool | None:
        """Whether the body is a stream.

        Args:
            content: all of it that came, content-decoded; what was given before is its beginning.

        Returns:
            None while too little of it came to say so.
        """
        lexer = self._lexer = self._lexer or lexer_of(None, content, MAX_UNDECIDED, is_end=False)
        if lexer is None:
            return None
        if isinstance(lexer, SSELexer):
            return bool(lexer.read(content[lexer.consumed :], is_end=False)) or None
        if not isinstance(lexer, JSONValuesLexer):
            return False
        first, *others = content[lexer.consumed :].lstrip(BLANK).split(b"\n", 2)
        if not others:
            return None
        self._has_first_value = self._has_first_value or _is_value(first)
        if not self._has_first_value:
            return False
        return _is_value(others[0]) or (False if len(others) > 1 else None)


def _is_value(line: bytes) -> bool:
    try:
        return isinstance(json_value(line.strip(BLANK)), dict | list)
    except ValueError:
        return False


class StreamDecoder:
    """Makes chunk payloads of what came over the wire.

    Attributes:
        total_bytes: content-decoded bytes so far.
        wire_length: bytes on the wire so far.
        undecodable: whether the bytes turned out not to be what ``content-encoding`` says.
    """

    __slots__ = ("_decoder", "_splitter", "compressed", "total_bytes", "undecodable", "wire_length")

    def __init__(self, *, binary: bool, content_encoding: str) -> None:
        self.total_bytes = 0
        self.wire_length = 0
        self.undecodable = False
        self.compressed = needs_decoding(content_encoding)
        self._decoder: ContentDecoder | None = None
        self._splitter = None if binary else TextSplitter()
        if self.compressed:
            try:
                self._decoder = ContentDecoder(content_encoding)
            except UndecodableError:
                self.undecodable = True

    def takes_whole(self, chunks: list[bytes]) -> bool:
        """Takes the next chunks if they are their payloads as they came: texts with no character cut."""
        splitter = self._splitter
        if self.compressed or self.undecodable or splitter is None or not splitter.are_texts(chunks):
            return False
        size = sum(map(len, chunks))
        self.wire_length += size
        self.total_bytes += size
        return True

    def decode(self, data: bytes) -> bytes | None:
        """The content-decoded bytes of one chunk; None where they cannot be told."""
        self.wire_length += len(data)
        if self._decoder is not None:
            try:
                data = self._decoder.decode(data)
            except UndecodableError:
                self._decoder = None
                self.undecodable = True
        if self.undecodable:
            return None
        self.total_bytes += len(data)
        return data

    def payload(self, decoded: bytes) -> str | bytes:
        """The chunk's payload: text less a character that its end cuts, or bytes."""
        return decoded if self._splitter is None else self._splitter.feed(decoded)

    def rest(self) -> bytes:
        """The bytes that are left over when the stream ends."""
        return b"" if self._splitter is None else self._splitter.rest()


class StreamReader:
    """Reads the events of a stream: the answered model, the provider's error, the end mark, the assembled message.

    Args:
        content_type: of the stream; its first bytes say how it is framed, and this where they do not.
        assemble: whether the events are added up to a message.
        max_bytes: the most that the assembly keeps.

    Attributes:
        assembly: what the events say.
    """

    __slots__ = ("_frames", "assembly")

    def __init__(self, content_type: str, *, assemble: bool, max_bytes: int) -> None:
        self._frames = FrameReader(content_type, max_frame_bytes=max_bytes)
        self.assembly = StreamAssembly(max_bytes=max_bytes, assembles=assemble)

    def fork(self) -> StreamReader:
        """Another one that goes on from here and adds up nothing."""
        other = copy.copy(self)
        other._frames = copy.deepcopy(self._frames)  # noqa: SLF001  # one of its own kind
        other.assembly = self.assembly.fork()
        return other

    @property
    def overflowed(self) -> bool:
        """Whether an event was too large to be read."""
        return self._frames.overflowed

    @property
    def lacks(self) -> dict[str, str]:
        """What the metadata of the assembled message say where an event could not be read."""
        return {"incomplete": "undecodable"} if self.assembly.unreadable else {}

    def feed(self, decoded: bytes) -> None:
        """Takes the next content-decoded bytes."""
        for event in self._frames.feed(decoded):
            self.assembly.add(event)

    def close(self) -> dict[str, Any] | None:
        """The stream is over: the assembled message, where there is one and it is wanted."""
        for event in self._frames.close():
            self.assembly.add(event)
        # Where an event is missing, no message is better than a wrong one.
        return None if self._frames.overflowed else self.assembly.message()
