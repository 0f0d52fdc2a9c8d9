"""How long streams wait between two chunks, from the lines of captures without parsing them.

Invariant: the gaps of some lines, merged with those of the lines after them, are the gaps of all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_wirecap.reading.distribution import Distribution
from otel_wirecap.reading.quick import blocks_of, chunks_in

if TYPE_CHECKING:
    from otel_wirecap.reading.sources import Source


class Gaps:
    """The times between the chunks of each stream, milliseconds.

    Attributes:
        backend: as they came from backends; ``client``: as they went to clients.
    """

    def __init__(self) -> None:
        self.backend, self.client = Distribution(), Distribution()
        self._moments: dict[tuple[str, bytes], tuple[float, float]] = {}

    def add(self, direction: str, exchange: bytes, moment: float) -> None:
        """Takes a chunk of a stream: its direction, its exchange's id, its moment in seconds since the epoch."""
        key = direction, exchange
        known = self._moments.get(key)
        if known is None:
            self._moments[key] = moment, moment
            return
        self._of(direction).add((moment - known[1]) * 1000)
        self._moments[key] = known[0], moment

    def merge(self, later: Gaps) -> None:
        """Takes those of later lines."""
        self.backend.merge(later.backend)
        self.client.merge(later.client)
        for key, (first, last) in later._moments.items():
            known = self._moments.get(key)
            if known is not None:
                self._of(key[0]).add((first - known[1]) * 1000)
            self._moments[key] = first if known is None else known[0], last

    def _of(self, direction: str) -> Distribution:
        return self.backend if direction == "stream_chunk" else self.client


def gaps_in(source: Source, start: int = 0, end: int | None = None, *, wanted: frozenset[bytes] | None = None) -> Gaps:
    """The gaps of the streams in a part of a file; where ``wanted``, of the exchanges with these ids.

    Raises:
        NotOurs: a record has another shape than the schema's.
    """
    gaps = Gaps()
    for block in blocks_of(source, start, end):
        if block is not None:
            for direction, exchange, moment in chunks_in(block[1]):
                if wanted is None or exchange in wanted:
                    gaps.add(direction, exchange, moment)
    return gaps
