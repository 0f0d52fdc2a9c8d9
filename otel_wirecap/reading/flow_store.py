"""The flows of a capture of any size, in the order they began, in bounded memory.

The newest are kept in memory. When they are many, they go to a temporary database on disk, which merges and sorts them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from otel_wirecap.reading.flows import FlowCollector
from otel_wirecap.reading.packing import packed, unpacked

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from otel_wirecap.reading.flows import Flow

MAX_FLOWS_IN_MEMORY = 4000

_TABLE = "CREATE TABLE flows (request_id TEXT, began REAL, packed BLOB)"
_INSERT = "INSERT INTO flows VALUES (?, ?, ?)"
_IN_ORDER = """
SELECT request_id, packed, min(began) OVER (PARTITION BY request_id) AS first
FROM flows ORDER BY first, request_id, rowid
"""


class FlowStore:
    """Takes the flows of one part of a capture after the other, and gives all of them in order.

    Attributes:
        damaged: how many lines were no records.
    """

    def __init__(self) -> None:
        self.damaged = 0
        self._recent = FlowCollector()
        self._database: sqlite3.Connection | None = None

    def add(self, part: FlowCollector) -> None:
        """Takes the flows of the part that comes next, which is of no more use then."""
        self.damaged += part.damaged
        self._recent.merge(part)
        if self._recent.flow_count > MAX_FLOWS_IN_MEMORY:
            self._spill()

    def flows(self) -> Iterator[Flow]:
        """All flows, in the order they began; to be asked for once."""
        if self._database is None:
            yield from self._recent.flows
            return
        self._spill()
        rows = self._database.execute(_IN_ORDER)
        for _, pieces in itertools.groupby(rows, key=lambda row: str(row[0])):
            collector = FlowCollector()
            for _, piece, _ in pieces:
                collector.add_flow(unpacked(piece))
            yield from collector.flows

    def close(self) -> None:
        """Removes what is on disk."""
        if self._database is not None:
            self._database.close()

    def _spill(self) -> None:
        if self._database is None:
            import sqlite3  # only large captures need it

            self._database = sqlite3.connect("", check_same_thread=False)  # a file without a name
            self._database.execute(_TABLE)
        rows = [(flow.request_id, flow.started_unix or None, packed(flow)) for flow in self._recent.flows]
        self._database.executemany(_INSERT, rows)
        self._recent = FlowCollector()
