"""The files of one capture, opened: their records in the schema's shape, and where one flow's records stand.

A flow's summary has the places of its records (``Flow.spans``), so that its records are read without reading all.
What offsets cannot be gone to in (compressed files, CBOR, bundles, records of other shapes) is copied to a temporary
file without a name as soon as a second flow is read from it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import orjson

from otel_wirecap.capture.naming import is_rotated_name
from otel_wirecap.reading.flows import FlowCollector
from otel_wirecap.reading.lines import envelope_of, json_record, payload_text
from otel_wirecap.reading.quick import NotOurs, quick_parts
from otel_wirecap.reading.sources import Source

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Iterator

    from otel_wirecap.reading.flows import Flow
    from otel_wirecap.reading.lines import RawRecord

_MAX_FLOWS_A_PART = 2000
_MAX_RECORDS_A_PART = 20_000
_LINES_BETWEEN = 1000
"""Lines between two reports of progress."""


class Place(NamedTuple):
    """Where a record stands.

    Attributes:
        file: the file.
        line: the number of its line, or of its item, from 1.
        offset: of its first byte in what the file holds.
    """

    file: Path
    line: int
    offset: int


class CaptureFiles:
    """The files of one capture, open as long as the stack they were opened on.

    Args:
        sources: the oldest first.
        stack: where temporary files are closed.

    Attributes:
        sources: those of the files that have something in them.
        is_ours: whether its records name their exchanges, as far as is known.
    """

    def __init__(self, sources: list[Source], stack: contextlib.ExitStack) -> None:
        there = {source.path for source in sources}
        decrypted = {path for path in there if path.suffix == ".age" and path.with_suffix("") in there}
        sources = [source for source in sources if source.path not in decrypted]
        self.sources = [source for source in sources if source.size] or sources
        self.is_ours = True
        self._stack = stack
        self._copies: dict[str, Source | None] = {}
        for source in self.sources:
            # One that is encrypted, among others that are not, is left out: see Captures.encrypted.
            if not source.is_encrypted or all(one.is_encrypted for one in self.sources):
                source.check()

    @property
    def is_rotated(self) -> bool:
        """Whether its first files may be gone."""
        return len(self.sources) > 1 or any(is_rotated_name(source.path.name) for source in self.sources)

    def placed_records(self, report: Callable[[int], None]) -> Iterator[tuple[Place, RawRecord | None]]:
        """All records with their places; None for what is no record. ``report`` gets the bytes that are read."""
        from otel_wirecap.reading.other_shapes import OtherShapes  # only who reads all records needs it

        shapes, done = OtherShapes(), 0
        for source in self.sources:
            for number, offset, line in source.lines():
                read = None if line is None else json_record(line)
                yield Place(source.path, number, offset), None if read is None else shapes.normal(read)
                if not number % _LINES_BETWEEN:
                    report(done + min(offset, source.size))
            done += source.size

    def normal_lines(
        self, on_damage: Callable[[Path, int], None] | None = None, *, spelt: bool = True
    ) -> Iterator[tuple[RawRecord, bytes]]:
        """The records in the schema's shape, each with its line; where ``spelt``, the line has that shape too."""
        from otel_wirecap.reading.other_shapes import OtherShapes  # as above

        shapes = OtherShapes()
        for source in self.sources:
            for number, _, line in source.lines():
                read = None if line is None else json_record(line)
                record = None if read is None else shapes.normal(read)
                if record is not None and line is not None:
                    yield record, orjson.dumps(record) if spelt and record is not read else line
                elif on_damage is not None:
                    on_damage(source.path, number)

    def flow_parts(self) -> Iterator[FlowCollector]:
        """The flows of one part of the capture after the other, by this process, each part small.

        Raises:
            NotOurs: the records turned out to be of another shape; what has come is to be thrown away, and the next
                call reads them as such.
        """
        if not self.is_ours:
            yield from self.inferred_parts()
            return
        try:
            for source in self.sources:
                if not source.is_encrypted:
                    yield from quick_parts(source, max_flows=_MAX_FLOWS_A_PART)
        except NotOurs:
            self.is_ours = False
            raise

    def inferred_parts(self) -> Iterator[FlowCollector]:
        """As ``flow_parts``, of records whose exchanges must be inferred: all in their order."""
        flows, offset, key = FlowCollector(), 0, self.sources[0].key

        def count(_: Path, number: int) -> None:
            flows.damaged += number > 0

        for record, line in self.normal_lines(count):
            end = offset + len(line) + 1
            flows.add(record, (key, offset, end))
            offset = end
            if flows.records == _MAX_RECORDS_A_PART:
                yield flows
                flows = FlowCollector()
        yield flows

    def lines_of(self, flow: Flow) -> Iterator[tuple[RawRecord, bytes]]:
        """The records of one flow, each with its line."""
        for line in self._lines_with(flow.request_id.encode(), flow.spans):
            record = json_record(line)
            if record is not None and _is_of(record, flow.request_id):
                yield record, line

    def flows_with(self, pattern: re.Pattern[bytes]) -> Iterator[str]:
        """The ids of the flows in one of whose payloads, as JSON text, the pattern is found."""
        if not self.is_ours:
            for record, _ in self.normal_lines(spelt=False):
                if pattern.search(orjson.dumps(record.get("payload"))):
                    yield str(record["metadata"].get("request_id"))
            return
        for source in self.sources:
            for _, _, line in source.lines():
                if line is not None and pattern.search(payload_text(line)):
                    found = envelope_of(line)
                    if found is not None and isinstance(found.get("metadata"), dict):
                        yield str(found["metadata"].get("request_id"))

    def _lines_with(self, wanted: bytes, spans: dict[str, tuple[int, int]]) -> Iterator[bytes]:
        """The lines within a flow's spans that have the bytes within them."""
        if not self.is_ours:
            key = self.sources[0].key
            if key in spans:
                yield from self._search(key, self._spelt_lines, wanted, spans[key])
            return
        for source in self.sources:
            if source.key not in spans:
                continue
            if source.is_plain:
                yield from _found(source, wanted, *spans[source.key])
            else:
                yield from self._search(source.key, source.placed_lines, wanted, spans[source.key])

    def _search(
        self, key: str, read: Callable[[], Iterator[tuple[int, bytes]]], wanted: bytes, span: tuple[int, int]
    ) -> Iterator[bytes]:
        """Searches all lines for the first flow, a copy of them for those that follow."""
        if key in self._copies and self._copies[key] is None:
            with contextlib.suppress(OSError):  # no room for one
                self._copies[key] = _copy_of(read(), self._stack)
        copy = self._copies.setdefault(key, None)
        if copy is None:
            yield from (line for _, line in read() if wanted in line)
        else:
            yield from _found(copy, wanted, *span)

    def _spelt_lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines in the schema's shape, with the offsets that ``inferred_parts`` gives them."""
        offset = 0
        for _, line in self.normal_lines():
            yield offset, line
            offset += len(line) + 1


def _copy_of(lines: Iterable[tuple[int, bytes]], stack: contextlib.ExitStack) -> Source:
    """Lines in a temporary file, each at its offset."""
    import tempfile  # seldom wanted, and much to import

    file = cast("BinaryIO", stack.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115  # the stack closes it
    position = 0
    for offset, line in lines:
        position += file.write(b"\n" * (offset - position) + line + b"\n")
    file.flush()
    return Source(Path("copy"), file)


def _found(source: Source, wanted: bytes, start: int, end: int) -> Iterator[bytes]:
    """The lines of a part of a file that have the bytes within them."""
    for _, block in source.blocks(start, end):
        if block is None:
            continue
        place = block.find(wanted)
        while place >= 0:
            until = block.find(b"\n", place)
            until = len(block) if until < 0 else until
            yield block[block.rfind(b"\n", 0, place) + 1 : until]
            place = block.find(wanted, until)


def _is_of(record: RawRecord, request_id: str) -> bool:
    metadata = record.get("metadata")
    is_ours = isinstance(record.get("direction"), str) and isinstance(record.get("timestamp_unix"), int | float)
    return is_ours and isinstance(metadata, dict) and metadata.get("request_id") == request_id
