"""How tests read frames: a lexer is given each piece with what it has not consumed yet."""

from __future__ import annotations

import itertools

from otel_wirecap.frames.framing import FrameReader
from otel_wirecap.frames.lexer import Frame, Lexer


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def feed(lexer: Lexer, held: bytearray, piece: bytes, *, is_end: bool = False) -> list[Frame]:
    """The frames that a piece completes; ``held`` is what the lexer has not consumed."""
    held += piece
    place = lexer.consumed
    frames = lexer.read(held, is_end=is_end)
    del held[: lexer.consumed - place]
    return frames


def frames_of(lexer: Lexer, *pieces: bytes) -> list[Frame]:
    held = bytearray()
    frames = [frame for piece in pieces for frame in feed(lexer, held, piece)]
    return frames + feed(lexer, held, b"", is_end=True)


def events(frames: list[Frame]) -> list[tuple[str, bytes]]:
    return [(frame.name, frame.data) for frame in frames]


def read(reader: FrameReader, *pieces: bytes) -> list[tuple[str, bytes]]:
    """Name and data of each frame."""
    return events([frame for piece in pieces for frame in reader.feed(piece)] + reader.close())
