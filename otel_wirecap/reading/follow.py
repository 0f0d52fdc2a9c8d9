"""Follows a capture while it is written: every record once, in the order of the files, over rotations.

Invariants:

- Whether the path still names the open file is looked at before the file is read to its end: nothing is written to a
  file after the path names another, so the end that is read then is its last. (Whoever moves files without our lock
  may be overtaken by one write: the file before is read once more at the next look.)
- The files between the one that was read and the one that the path names are found by where that one stands now,
  which its first record tells, compressed or not. So however many rotations there were between two looks, no record
  is lost or given twice.
- What stands behind the last whole record waits for its rest.
"""

from __future__ import annotations

import collections
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from otel_wirecap.capture.formats import CBOR, JSONLines
from otel_wirecap.errors import CaptureFileError
from otel_wirecap.reading.flows import Flow, FlowCollector
from otel_wirecap.reading.lines import json_record
from otel_wirecap.reading.other_shapes import OtherShapes
from otel_wirecap.reading.resource import Resource, read_errors
from otel_wirecap.reading.sources import BLOCK, MAX_LINE_BYTES, STDIN, Source, open_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_wirecap.reading.lines import RawRecord


class Follower(Resource):
    """One capture, followed from its present end on; one that is not there yet, from its beginning.

    Args:
        path: the live file; ``-`` for standard input.
        tell: is told of what is damaged or was not to be read.

    Raises:
        CaptureFileError: a file is there and cannot be opened.
    """

    def __init__(self, path: str | Path, tell: Callable[[str], None]) -> None:
        self._path = Path(path)
        self._tell = tell
        self._shapes = OtherShapes()
        self._before: _Tape | None = None
        self._tape: _Tape | None = None
        self._last: list[Source] = []
        with contextlib.ExitStack() as stack:
            if self._exists():
                self._last = open_sources(self._path, stack)
                self._tape = _Tape(self._last[-1])
            self._stack = stack.pop_all()

    @property
    def is_there(self) -> bool:
        """Whether the capture has begun."""
        return self._tape is not None

    def last(self, count: int, takes: Callable[[RawRecord, bytes], bool]) -> list[tuple[RawRecord, bytes]]:
        """The last records that are there already and are taken; to be asked once, before ``new``.

        Args:
            count: how many at most; as many as that are kept in memory.
            takes: is asked about a record and its line.
        """
        sources, self._last = self._last, []
        found: list[tuple[RawRecord, bytes]] = []
        if not sources:
            return found
        live = sources[-1]
        if self._tape is not None and (not live.may_grow or (live.is_plain and _names_exchanges(live))):
            self._tape.go_to(live.end_of_lines())
        else:
            kept = collections.deque((pair for pair in self._rest(self._tape) if takes(*pair)), count)
            found, sources = list(kept), sources[:-1]
        for source in reversed(sources):
            if len(found) >= count:
                break
            found = [*self._last_of(source, count - len(found), takes), *found]
        return found

    def new(self) -> Iterator[tuple[RawRecord, bytes]]:
        """The records that have come since, each with its line (CBOR as JSON); ends where there is none for now.

        Raises:
            CaptureFileError: a file cannot be opened any more.
        """
        if self._last:
            self.last(0, lambda _record, _line: False)
        named = self._identity()
        if self._before is not None:
            yield from self._rest(self._before)
            self._before = None
        if self._tape is None:
            if named is not None:
                yield from self._go_on(None)
            return
        moved_on = named is not None and named != self._tape.source.identity
        yield from self._rest(self._tape)
        if moved_on:
            yield from self._go_on(self._tape)

    def _go_on(self, done: _Tape | None) -> Iterator[tuple[RawRecord, bytes]]:
        """Reads the files that came after one that has been read."""
        with contextlib.ExitStack() as stack:
            try:
                files = open_sources(self._path, stack)
            except CaptureFileError:
                if self._exists():
                    raise
                return  # rotated away this moment: it comes back
            later = files if done is None else _after(done, files)
            if not later:
                return
            opened, self._stack = self._stack, stack.pop_all()
        for source in later[:-1]:
            yield from self._lines(source)
        self._before, self._tape = done, _Tape(later[-1])
        yield from self._rest(self._tape)
        if self._before is not None:
            self._before.source = self._before.source.duplicate(self._stack)
        opened.close()

    def _rest(self, tape: _Tape | None) -> Iterator[tuple[RawRecord, bytes]]:
        if tape is None:
            return
        if tape.was_cut():
            self._tell(f"{str(self._path)!r} was cut off; following from its beginning")
            tape.go_to(0)
        for line in tape.lines():
            yield from self._read(line)

    def _lines(self, source: Source) -> Iterator[tuple[RawRecord, bytes]]:
        if source.is_encrypted:
            self._tell(f"{str(source.path)!r} was encrypted before it was read; its records are left out")
            return
        for line in source.lines():
            yield from self._read(line.data)

    def _read(self, line: bytes | None) -> Iterator[tuple[RawRecord, bytes]]:
        read = json_record(line) if line is not None else None
        record = self._shapes.normal(read) if read is not None else None
        if record is None or line is None:
            self._tell(f"{str(self._path)!r}: a line is damaged and was left out")
        else:
            yield record, line

    def _last_of(
        self, source: Source, count: int, takes: Callable[[RawRecord, bytes], bool]
    ) -> list[tuple[RawRecord, bytes]]:
        """The last records of one file that is whole, or whose torn end is read later."""
        found: list[tuple[RawRecord, bytes]] = []
        if not source.is_plain or not _names_exchanges(source):
            return list(collections.deque((pair for pair in self._lines(source) if takes(*pair)), count))
        end = source.end_of_lines()
        while end > 0 and len(found) < count:
            start = max(end - BLOCK, 0)
            pairs = [pair for line in source.lines(start, end) for pair in self._read(line.data) if takes(*pair)]
            found, end = [*pairs, *found], start
        return found[-count:]

    def _exists(self) -> bool:
        return str(self._path) == STDIN or self._identity() is not None

    def _identity(self) -> tuple[int, int] | None:
        """What the path names now; None where it names nothing, as that of standard input."""
        if str(self._path) == STDIN:
            return None
        with read_errors(self._path), contextlib.suppress(FileNotFoundError):
            status = self._path.stat()
            return status.st_dev, status.st_ino
        return None


class _Tape:
    """A growing file, read on from where it was left; lines, or items of CBOR as lines."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._offset = 0
        self._left = bytearray()
        self._searched = 0
        self._terminator = b""
        self._decode: Callable[[bytes], bytes | None] = bytes

    def go_to(self, offset: int) -> None:
        """Reads on from an offset at which a line begins."""
        self._offset, self._searched, self._terminator = offset, 0, b"\n" if offset else b""
        self._left.clear()
        self._decode = bytes

    def was_cut(self) -> bool:
        """Whether the file is shorter than what has been read of it."""
        return self.source.length() < self._offset

    def lines(self) -> Iterator[bytes | None]:
        """The whole lines that have come since; None in the place of what is none."""
        while data := self.source.read(self._offset, BLOCK):
            self._offset += len(data)
            self._left += data
            if not self._terminator:
                self._begin()
            begin = 0
            while (place := self._left.find(self._terminator, self._searched)) >= 0:
                self._searched = place + len(self._terminator)
                line = self._decode(bytes(self._left[begin : self._searched]))
                begin = self._searched
                if line is None or not line.isspace():
                    yield None if line is None else line.rstrip(b"\n")
            del self._left[:begin]
            if len(self._left) > MAX_LINE_BYTES:  # what follows of it is no line either
                yield None
                self._left.clear()
            self._searched = max(0, len(self._left) - len(self._terminator) + 1)

    def _begin(self) -> None:
        self._terminator = b"\n"
        if self._left[:1] != CBOR.beginning[:1]:
            return
        try:
            cbor, lines = CBOR(), JSONLines()
        except ImportError:
            raise CaptureFileError("a capture in CBOR needs the package cbor2; install otel-wirecap[cbor]") from None
        self._terminator = cbor.terminator

        def decode(item: bytes) -> bytes | None:
            try:
                return lines.encode(cbor.decode(item))
            except (ValueError, TypeError):
                return None

        self._decode = decode


class FlowWatch:
    """Puts records together to flows, and gives each when it has ended.

    A flow has ended when all its exchanges have: not at once, for a script may try again, and the message that a
    stream adds up to comes behind its end. One that goes on after it was given is given again when it ends again.

    Args:
        settled_seconds: how long nothing more must have come.
    """

    MAX_KEPT = 10_000
    """Flows that are remembered; of more, those that nothing was heard of for the longest time are forgotten."""

    def __init__(self, settled_seconds: float) -> None:
        self._settled_seconds = settled_seconds
        self._flows: collections.OrderedDict[str, _Watched] = collections.OrderedDict()

    def add(self, record: RawRecord, now: float, *, is_wanted: bool = True) -> None:
        """Takes a record that came at ``now``, in seconds of any steady clock.

        Args:
            record: in the schema's shape.
            now: when it came.
            is_wanted: whether its flow is to be given, where another record does not say so.
        """
        name = record["metadata"].get("request_id")
        if not isinstance(name, str):
            return
        watched = self._flows.get(name)
        if watched is None:
            watched = self._flows[name] = _Watched()
            if len(self._flows) > self.MAX_KEPT:
                self._flows.popitem(last=False)
        self._flows.move_to_end(name)
        watched.collector.add(record)
        watched.is_wanted |= is_wanted
        watched.heard = now

    def ended(self, now: float) -> Iterator[Flow]:
        """The flows that have ended by now and were not given yet, in the order in which they were last heard of."""
        for watched in list(self._flows.values()):
            if now - watched.heard < self._settled_seconds:
                return  # and all behind it were heard of later
            flow = watched.flow()
            if flow is None or len(flow.exchanges) == watched.given:
                continue
            if all(one.outcome is not None for one in flow.exchanges):
                watched.given = len(flow.exchanges)
                if watched.is_wanted:
                    yield flow


class _Watched:
    def __init__(self) -> None:
        self.collector = FlowCollector()
        self.heard = 0.0
        self.given = 0
        self.is_wanted = False

    def flow(self) -> Flow | None:
        flows = self.collector.flows
        return flows[0] if flows else None


def _after(done: _Tape, files: list[Source]) -> list[Source]:
    """The files that were begun after one that has been read, wherever that stands now."""
    with contextlib.ExitStack() as stack:
        first = _first_line(done.source.duplicate(stack))  # it may have been empty when it was opened
    for place, source in enumerate(files):
        if source.identity == done.source.identity or (first and _first_line(source) == first):
            return files[place + 1 :]
    written = done.source.written_ns()
    return [source for source in files if source.mtime_ns > written] or files[-1:]


def _first_line(source: Source) -> bytes | None:
    return next((line.data for line in source.lines()), None)


def _names_exchanges(source: Source) -> bool:
    """Whether a file's records can be understood from the middle on."""
    for line in source.lines():
        record = json_record(line.data) if line.data is not None else None
        if record is not None:
            facts = record.get("metadata")
            return isinstance(facts, dict) and ("exchange_id" in facts or "process" in facts)
    return False
