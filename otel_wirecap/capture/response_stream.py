"""One leg's response stream on its way into records: what came is decoded, read and redacted, many chunks at a time.

A proxy that relays sends its client the very bytes that its backend sent. What they say and what they hide is then
found out once for both: the client's stream follows the backend's.

Invariants:

- What comes out of a stream does not depend on whether it follows another.
- One that follows has taken up the same chunks as the one it follows, at any time. Where the next ones differ, or it
  lags behind for long, they part, and each goes on with all that was known up to there.
- What could not be redacted is not told, on neither leg.
"""

# ruff: noqa: SLF001  # a stream and the one that follows it know each other from within

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias

from otel_wirecap.capture.streams import BINARY_TYPES, StreamDecoder, StreamReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_wirecap.capture.redaction.gate import Released, StreamRedaction

WaitingChunk: TypeAlias = tuple[int, type[str] | type[bytes] | type[None], int, dict[str, Any] | None]
"""A chunk that is not told yet: when it came, what its payload is, the length of that in bytes, and what is told of
it, None where that is the length alone. A named tuple takes four times as long to make."""

_MAX_AHEAD = 8
"""Chunks: a relay sends each before it reads the next."""

_ALL_OF_THEM = 1 << 63


class ResponseStream:
    """The chunks of one response stream.

    Args:
        content_type: of the stream, in lower case and without parameters; ``content_encoding`` as in its header.
        redaction: what its payloads go through.
        reader: what reads its events.

    Attributes:
        decoder: what its bytes go through first.
        first_chunk_ns: when its first chunk came, as soon as that is taken up.
        waiting: the chunks that are taken up and not told, in order.
        held_bytes: bytes of all chunks that are not told.
    """

    __slots__ = (
        "_came",
        "_content",
        "_follower",
        "_leader",
        "_reader",
        "_redaction",
        "_released",
        "decoder",
        "first_chunk_ns",
        "held_bytes",
        "waiting",
    )

    def __init__(
        self, content_type: str, content_encoding: str, redaction: StreamRedaction, reader: StreamReader
    ) -> None:
        self._content = content_type, content_encoding
        self.decoder = StreamDecoder(binary=content_type in BINARY_TYPES, content_encoding=content_encoding)
        self._redaction = redaction
        self._reader = reader
        self._came: list[tuple[int, bytes]] = []
        self._released: list[Released] = []
        self._leader: ResponseStream | None = None
        self._follower: ResponseStream | None = None
        self.first_chunk_ns: int | None = None
        self.waiting: deque[WaitingChunk] = deque()
        self.held_bytes = 0

    @property
    def reader(self) -> StreamReader:
        """What has read the chunks that are taken up."""
        return self._reader if self._leader is None else self._leader.reader

    @property
    def came(self) -> int:
        """Chunks that came and are not taken up."""
        return len(self._came)

    def follow(self, leader: ResponseStream) -> None:
        """Has this stream, a client's, follow a backend's, if that has only just begun and is alike."""
        if leader._content == self._content and leader.first_chunk_ns is None and leader._follower is None:
            self._leader, leader._follower = leader, self

    def chunk(self, now_ns: int, data: bytes) -> None:
        """A chunk comes."""
        self._came.append((now_ns, data))
        self.held_bytes += len(data)

    def take_up(self, credentials: Sequence[str], since_ns: int) -> None:
        """Takes up what came: all that came until ``since_ns``, the rest at least where it need not wait."""
        (self if self._leader is None else self._leader)._take_up(credentials, since_ns)

    def end(self, now_ns: int, credentials: Sequence[str]) -> None:
        """The stream is over: takes up all of it."""
        first = self if self._leader is None else self._leader
        first._take_up(credentials, _ALL_OF_THEM)
        first._part()
        rest = self.decoder.rest()
        if rest:
            self._read_and_redact([self._wait(now_ns, rest, {"chunk_bytes": 0})], credentials)
        self._released.append(self._redaction.close(credentials))

    def leave(self) -> None:
        """The recording of this stream has failed: the other one goes on by itself."""
        (self if self._leader is None else self._leader)._part()

    def released(self) -> list[Released]:
        """What can be told, of the chunks that wait longest; once."""
        released, self._released = self._released, []
        return released

    # -- two streams -------------------------------------------------------------------------------------------------

    def _take_up(self, credentials: Sequence[str], since_ns: int) -> None:
        follower = self._follower
        if follower is None:
            self._read_and_redact(self._decoded(len(self._came)), credentials)
            return
        alike = _alike(self._came, follower._came)
        pieces = self._decoded(alike)
        follower._decoded(alike)
        self._read_and_redact(pieces, credentials)
        came = self._came
        if follower._came or len(came) > _MAX_AHEAD or (came and came[0][0] <= since_ns):
            self._part()
            self._take_up(credentials, since_ns)
            follower._take_up(credentials, since_ns)

    def _part(self) -> None:
        """Detaches the stream that follows this one: it goes on by itself."""
        follower, self._follower = self._follower, None
        if follower is None:
            return
        follower._leader = None
        if self.first_chunk_ns is None:  # its own are as good
            return
        follower._redaction = self._redaction.fork()
        with contextlib.suppress(Exception):  # its own reads the rest
            follower._reader = self._reader.fork()

    # -- what is done with chunks ------------------------------------------------------------------------------------

    def _decoded(self, count: int) -> list[bytes]:
        """The payloads of the first chunks that came, which wait from now on."""
        came, self._came = self._came[:count], self._came[count:]
        if not came:
            return []
        if self.first_chunk_ns is None:
            self.first_chunk_ns = came[0][0]
        chunks = [data for _, data in came]
        if self.decoder.takes_whole(chunks):
            self.waiting += [(now_ns, str, len(data), None) for now_ns, data in came]
            return chunks
        return [self._decoded_chunk(now_ns, data) for now_ns, data in came]

    def _decoded_chunk(self, now_ns: int, data: bytes) -> bytes:
        self.held_bytes -= len(data)
        decoded = self.decoder.decode(data)
        if decoded is None:
            return self._wait(now_ns, None, {"chunk_bytes": 0, "wire_length": len(data), "incomplete": "undecodable"})
        facts: dict[str, Any] = {"chunk_bytes": len(decoded)}
        if self.decoder.compressed:
            facts["wire_length"] = len(data)
        return self._wait(now_ns, self.decoder.payload(decoded), facts)

    def _wait(self, now_ns: int, content: str | bytes | None, facts: dict[str, Any]) -> bytes:
        data = content.encode() if isinstance(content, str) else content or b""
        self.waiting.append((now_ns, type(content), len(data), facts))
        self.held_bytes += len(data)
        return data

    def _read_and_redact(self, pieces: list[bytes], credentials: Sequence[str]) -> None:
        if not pieces:
            return
        released = self._redaction.feed(pieces, credentials)
        self._released.append(released)
        if self._follower is not None:
            self._follower._released.append(released)
        self._reader.feed(b"".join(pieces))


def _alike(these: list[tuple[int, bytes]], those: list[tuple[int, bytes]]) -> int:
    """How many of the first chunks are the same."""
    count = 0
    for (_, this), (_, that) in zip(these, those, strict=False):
        if this is not that and this != that:
            break
        count += 1
    return count
