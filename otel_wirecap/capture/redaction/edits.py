"""What is to stand in a stream instead of parts of it, and the pieces of the stream with that done.

Invariants: edits come in order and do not overlap; what stands instead goes into the piece in which the edit begins,
and the rest of the edit is taken out of the pieces that it runs through.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import accumulate, islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Edit(NamedTuple):
    start: int
    end: int
    replacement: bytes
    markers: int


class Edits:
    """Edits of a stream, by places in it."""

    def __init__(self) -> None:
        self._edits: deque[_Edit] = deque()

    def replace(self, start: int, end: int, replacement: bytes, markers: int = 1) -> None:
        """Has ``replacement``, which has so many markers in it, stand instead of a part, or before what comes next."""
        self._edits.append(_Edit(start, end, replacement, markers))

    def drop(self, start: int, end: int) -> None:
        """Takes a part out."""
        if start >= end:
            return
        if self._edits and self._edits[-1].end == start:
            self._edits.append(self._edits.pop()._replace(end=end))
        else:
            self._edits.append(_Edit(start, end, b"", 0))

    def applied(self, piece: bytes, begin: int) -> tuple[bytes, int]:
        """The piece that begins at that place, with its edits made, and the number of markers put in; once for each."""
        edits, end = self._edits, begin + len(piece)
        if not edits or edits[0].start >= end:
            return piece, 0
        parts: list[bytes] = []
        done, markers = begin, 0
        while edits and edits[0].start < end:
            edit = edits.popleft()
            parts += (piece[done - begin : edit.start - begin], edit.replacement)
            markers += edit.markers
            done = min(edit.end, end)
            if edit.end > end:
                edits.appendleft(_Edit(end, edit.end, b"", 0))
                break
        parts.append(piece[done - begin :])
        return b"".join(parts), markers


class Pieces:
    """The pieces of a stream that have not come out."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._ends: list[int] = []
        self._begin = 0
        self._end = 0

    def add(self, pieces: Sequence[bytes]) -> None:
        """Takes the next pieces."""
        self._pieces += pieces
        self._ends += islice(accumulate(map(len, pieces), initial=self._end), 1, None)
        self._end = self._ends[-1] if self._ends else self._end

    @property
    def held_bytes(self) -> int:
        """Bytes of the pieces."""
        return self._end - self._begin

    def take(self, limit: int, edits: Edits) -> list[tuple[bytes, int]]:
        """The pieces that end at a place of the stream or before, edited, each with the number of its markers."""
        count = bisect_right(self._ends, limit)
        ends, self._ends = self._ends[:count], self._ends[count:]
        pieces, self._pieces = self._pieces[:count], self._pieces[count:]
        taken: list[tuple[bytes, int]] = []
        for piece, end in zip(pieces, ends, strict=True):
            taken.append(edits.applied(piece, self._begin))
            self._begin = end
        return taken
