"""How long the chunks of one stream came after each other.

Invariant: the gaps of some chunks, merged with those of the chunks after them, are the gaps of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from otel_wirecap.reading.distribution import Distribution


class ChunkGaps:
    """The times between the chunks of a stream, in the order of their records.

    Args:
        moments: of the chunks, at least one, seconds since the epoch.

    Attributes:
        ms: the times from each chunk to the next, milliseconds; 0 where a clock was set back between the two.
    """

    __slots__ = ("_first", "_last", "ms")

    def __init__(self, moments: Sequence[float]) -> None:
        self.ms = Distribution()
        self._first = self._last = moments[0]
        self.add(moments[1:])

    def add(self, moments: Sequence[float]) -> None:
        """Takes the chunks that came next."""
        last, add = self._last, self.ms.add
        for moment in moments:
            add((moment - last) * 1000)
            last = moment
        self._last = last

    def merge(self, later: ChunkGaps) -> None:
        """Takes the chunks that came next, with the gaps between them."""
        self.add([later._first])
        self.ms.merge(later.ms)
        self._last = later._last

    def packed(self) -> list[float]:
        """All of it as a list of numbers, for ``unpacked``."""
        return [self._first, self._last, *self.ms.packed()]

    @classmethod
    def unpacked(cls, packed: Sequence[Any]) -> Self:
        """What ``packed`` gave so."""
        made = cls([packed[0]])
        made._last, made.ms = packed[1], Distribution.unpacked(packed[2:])
        return made

    def __repr__(self) -> str:
        return f"ChunkGaps({self.ms})"
