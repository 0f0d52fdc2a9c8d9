"""The flows of a capture of any size, in the order they began, in bounded memory.

The newest are kept in memory. When they are many, they go to a temporary database on disk, which merges and sorts them.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, TypeAlias

from otel_wirecap.errors import CaptureFileError
from otel_wirecap.reading.flows import CountedOnce, FlowCollector
from otel_wirecap.reading.packing import packed, unpacked

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from otel_wirecap.reading.flows import Flow

MAX_FLOWS_IN_MEMORY = 4000

_TABLES = """
CREATE TABLE pieces (request_id TEXT, began REAL, packed BLOB);
CREATE TABLE flows (request_id TEXT, began REAL, packed BLOB);
"""
_Row: TypeAlias = tuple[str, float, bytes]


class FlowStore:
    """Takes the flows of one part of a capture after the other, and gives all of them in order.

    Attributes:
        damaged: how many lines were no records.
    """

    def __init__(self) -> None:
        self.damaged = 0
        self._recent = FlowCollector()
        self._once = CountedOnce()
        self._database: sqlite3.Connection | None = None

    def add(self, part: FlowCollector) -> None:
        """Takes the flows of the part that comes next, which is of no more use then."""
        self.damaged += part.damaged
        for flow in part.flows:
            self._once.expect(flow)
        self._recent.merge(part)
        if self._recent.flow_count > MAX_FLOWS_IN_MEMORY:
            self._spill()

    def flows(self) -> Iterator[Flow]:
        """All flows, in the order they began; to be asked for once."""
        if self._database is None:
            yield from self._recent.flows
            return
        self._spill()
        with _explained():
            pieces = self._database.execute("SELECT request_id, began, packed FROM pieces ORDER BY request_id, rowid")
            self._database.executemany("INSERT INTO flows VALUES (?, ?, ?)", _merged(pieces))
            sorted_lines = self._database.execute("SELECT packed FROM flows ORDER BY began, request_id")
        for (line,) in sorted_lines:
            flow = unpacked(line)
            self._once.count(flow)
            yield flow

    def close(self) -> None:
        """Removes what is on disk."""
        if self._database is not None:
            self._database.close()

    def _spill(self) -> None:
        with _explained():
            if self._database is None:
                import sqlite3

                self._database = sqlite3.connect("", check_same_thread=False)  # a file without a name
                self._database.executescript(_TABLES)
            self._database.executemany("INSERT INTO pieces VALUES (?, ?, ?)", map(_row, self._recent.flows))
        self._recent = FlowCollector()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        import sqlite3  # only large captures need it
    except ImportError:
        reason = f"captures of more than {MAX_FLOWS_IN_MEMORY} flows need sqlite3, which this Python was built without"
        raise CaptureFileError(reason) from None
    try:
        yield
    except sqlite3.Error as error:
        reason = f"the flows cannot be sorted in a temporary file: {error}; TMPDIR names the folder for it"
        raise CaptureFileError(reason) from error


def _row(flow: Flow) -> _Row:
    return flow.request_id, flow.started_unix, packed(flow)


def _merged(pieces: Iterable[_Row]) -> Iterator[_Row]:
    """Flows of which there are several pieces, one after the other, as one; the others as they are."""
    for _, some in itertools.groupby(pieces, key=lambda row: row[0]):
        first, *others = some
        if not others:
            yield first
            continue
        collector = FlowCollector()
        for _, _, line in (first, *others):
            collector.add_flow(unpacked(line))
        yield from map(_row, collector.flows)
