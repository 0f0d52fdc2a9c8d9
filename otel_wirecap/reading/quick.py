"""Reads flows from lines without parsing what they do not need: the quick pass over a large capture.

``metadata`` is a record's last field and ``payload`` the one before, so a record's envelope and metadata are read from
the two ends of its line. Of a stream's chunks, which most lines are, only the exchange, the moment and the length are
looked at; they are gathered here, and given to the collector together. Payloads are parsed where they are few and
hold facts: responses and ends.

Invariant: what is read is what parsing the whole line gives. A quote within a JSON string is escaped, so the marks that
are looked for stand nowhere within one; a line on which they are not found as expected is parsed as a whole.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from otel_wirecap.capture.formats.jsonl import JSONLines
from otel_wirecap.capture.record import WEBSOCKET_MESSAGE
from otel_wirecap.reading.flows import ENDS, FlowCollector
from otel_wirecap.reading.lines import envelope_of, json_record
from otel_wirecap.reading.sources import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_wirecap.reading.lines import RawRecord
    from otel_wirecap.reading.sources import Source

_BEGINNING, _ISO_LENGTH = JSONLines.beginning, 32
_CHUNKS = (b'"direction":"stream_chunk"', b'"direction":"outbound_stream_chunk"')
_DIRECTION = b'"direction":"'
_EXCHANGE, _CHUNK_BYTES = b'"exchange_id":"', b'"chunk_bytes":'
_UNIX = len(_BEGINNING) + _ISO_LENGTH + len(b'","timestamp_unix":')
"""Where a line has its moment in seconds."""
_DIRECTION_WITHIN = 110
"""Bytes of a line after which its direction begins, at the latest."""

_NEEDS_PAYLOAD = ENDS | {"stream_completion"}
_USAGE = re.compile(rb'usage|"data":"e[wy]', re.IGNORECASE)
"""What may be in a message of a websocket that reports tokens: the word, or the beginning of an object in base64."""


class NotOurs(Exception):  # noqa: N818  # it is no error: who catches it reads in another way
    """The lines hold records of another shape than the schema's."""


class _Chunks:
    """Chunks of one stream: the record of one of them, the moment of each, their bytes, where they stand."""

    __slots__ = ("end", "moments", "record", "size", "start")

    def __init__(self, record: RawRecord, start: int) -> None:
        self.record = record
        self.moments: list[float] = []
        self.size = 0
        self.start = self.end = start


class QuickCollector:
    """Takes whole lines, many at a time, and collects their flows.

    Attributes:
        key: of the file that the lines stand in, for the flows' spans.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._collector = FlowCollector()
        self._chunks: dict[bytes, _Chunks] = {}

    @property
    def flow_count(self) -> int:
        """How many flows have been met, those of which only chunks were left out."""
        return self._collector.flow_count

    def finish(self) -> FlowCollector:
        """The flows of all lines that were taken."""
        for one in self._chunks.values():
            self._collector.add_chunks(one.record, one.moments, one.size, (self.key, one.start, one.end))
        self._chunks.clear()
        return self._collector

    def take(self, base: int, block: bytes) -> None:
        """Takes whole lines; the first begins at ``base`` in its file.

        Raises:
            NotOurs: one of them has another shape than the schema's.
        """
        chunks, find, rfind, startswith = self._chunks, block.find, block.rfind, block.startswith
        start, size = 0, len(block)
        while start < size:
            end = find(b"\n", start)
            if end < 0:
                end = size
            place = find(_DIRECTION, start, start + _DIRECTION_WITHIN)
            if place > 0 and startswith(_CHUNKS, place) and startswith(_BEGINNING, start):
                at = rfind(_EXCHANGE, start, end) + 15
                known = chunks.get(block[at : find(b'"', at, end)])
                at = find(_CHUNK_BYTES, at, end) + 14
                length = block[at : find(b",", at, end)]
                if known is not None and at > 13 and length.isdigit():
                    try:
                        known.moments.append(float(block[start + _UNIX : place - 1]))
                    except ValueError:
                        self._line(base + start, block[start:end])
                    else:
                        known.size += int(length)
                        known.end = base + end + 1
                else:
                    self._first_chunk(base, start, block[start:end])
            elif end > start:
                self._line(base + start, block[start:end])
            start = end + 1

    def _first_chunk(self, base: int, start: int, line: bytes) -> None:
        """The first chunk of an exchange, or one that is not as expected."""
        record = envelope_of(line)
        metadata = None if record is None else record.get("metadata")
        moment = None if record is None else record.get("timestamp_unix")
        if (
            record is None
            or not isinstance(metadata, dict)
            or not isinstance(metadata.get("chunk_bytes"), int)
            or not isinstance(moment, int | float)
        ):
            self._line(base + start, line)
            return
        if "exchange_id" not in metadata:
            raise NotOurs
        key = str(metadata["exchange_id"]).encode()
        known = self._chunks.get(key)
        if known is None:
            known = self._chunks[key] = _Chunks(record, base + start)
        known.moments.append(moment)
        known.size += metadata["chunk_bytes"]
        known.end = base + start + len(line) + 1

    def _line(self, offset: int, line: bytes) -> None:
        record = envelope_of(line)
        if record is not None and (
            record.get("direction") in _NEEDS_PAYLOAD
            or (record.get("direction") == WEBSOCKET_MESSAGE and _USAGE.search(line))
        ):
            record = json_record(line)
        if record is None:
            if not line.isspace():
                self._collector.damaged += 1
            return
        metadata, direction = record.get("metadata"), record.get("direction")
        if "communication" in record or (
            isinstance(metadata, dict)
            and isinstance(direction, str)
            and not direction.startswith("system_")
            and "exchange_id" not in metadata
        ):
            raise NotOurs
        if (
            not isinstance(metadata, dict)
            or not isinstance(direction, str)
            or not isinstance(record.get("timestamp_unix"), int | float)
        ):
            self._collector.damaged += 1
            return
        self._collector.add(record, (self.key, offset, offset + len(line) + 1))


def quick_flows(source: Source, start: int = 0, end: int | None = None) -> FlowCollector:
    """The flows of the lines that begin within a part of a file.

    Args:
        source: the file; one that is compressed, or CBOR, is read whole.
        start: the offset where the part begins.
        end: where it ends; default: where the file does.

    Raises:
        NotOurs: a record has another shape than the schema's.
        CaptureFileError: the file cannot be read.
    """
    (flows,) = quick_parts(source, start, end)
    return flows


def quick_parts(
    source: Source, start: int = 0, end: int | None = None, *, max_flows: float = math.inf
) -> Iterator[FlowCollector]:
    """As ``quick_flows``, of one stretch of lines after the other, cut after about as many flows."""
    collector, damaged = QuickCollector(source.key), 0
    for offset, block in source.blocks(start, end) if source.is_plain else _blocks_of_lines(source):
        if block is None:
            damaged += 1
            continue
        collector.take(offset, block)
        if collector.flow_count >= max_flows:
            yield collector.finish()
            collector = QuickCollector(source.key)
    flows = collector.finish()
    flows.damaged += damaged
    yield flows


def _blocks_of_lines(source: Source) -> Iterator[tuple[int, bytes | None]]:
    """The lines of a file that must be read from its beginning, as ``Source.blocks``; None for what is no line."""
    base, size, lines = 0, 0, list[bytes]()
    for _, start, data in source.lines():
        if lines and (size >= BLOCK or data is None or start != base + size):
            yield base, b"".join(lines)
            lines = []
        if data is None:
            yield start, None
            continue
        if not lines:
            base, size = start, 0
        lines.append(data + b"\n")
        size += len(data) + 1
    if lines:
        yield base, b"".join(lines)
