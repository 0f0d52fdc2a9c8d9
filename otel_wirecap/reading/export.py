"""Captures in other shapes: HAR, Parquet, the capture formats, one flow as a file for a bug report; always redacted.

Everything that leaves goes through ``Outgoing``: a capture that was written without redaction, or by another tool,
gives no secret away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from otel_wirecap.capture.formats import FORMATS, JSONLines
from otel_wirecap.llm.text import json_value
from otel_wirecap.reading.flows import FlowCollector
from otel_wirecap.reading.har import entry
from otel_wirecap.reading.legs import legs_from
from otel_wirecap.reading.outgoing import outgoing
from otel_wirecap.reading.sources import BUNDLE_BEGINNING
from otel_wirecap.reading.summaries import document
from otel_wirecap.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from otel_wirecap.capture.record import CaptureRecord
    from otel_wirecap.capture.redaction.gate import Gate
    from otel_wirecap.reading.captures import Captures
    from otel_wirecap.reading.flows import Flow
    from otel_wirecap.reading.lines import RawRecord

HAR, BUNDLE, PARQUET = "har", "bundle", "parquet"
KINDS = (HAR, *FORMATS, PARQUET, BUNDLE)
"""What captures can be exported as."""


class Exporter:
    """Writes what was chosen of captures.

    Args:
        captures: the captures.
        gate: what they leave through.
        flows: what was chosen; None for all records, those about the captures themselves included.
    """

    def __init__(self, captures: Captures, gate: Gate, flows: Sequence[Flow] | None) -> None:
        self._captures = captures
        self._gate = gate
        self._flows = flows
        self._json = JSONLines()

    def pieces(self, kind: str) -> Iterator[bytes]:
        """What to write, piece by piece; ``kind`` is one of ``KINDS``, but for Parquet.

        Raises:
            ValueError: a bundle of more than one flow, or of none, is wanted.
        """
        if kind == HAR:
            return self._har()
        if kind == BUNDLE:
            return self._bundle()
        return self._format(kind)

    def lines(self) -> Iterator[bytes]:
        """The chosen records as JSON Lines."""
        return map(self._json.encode, self._records())

    def _records(self) -> Iterator[CaptureRecord]:
        lines = self._captures.json_lines()
        if self._flows is not None:
            names = {flow.request_id for flow in self._flows}
            lines = (line for line in lines if _flow_of(line) in names)
        return outgoing(lines, self._gate)

    def _format(self, kind: str) -> Iterator[bytes]:
        form = FORMATS[kind]()
        for record in self._records():
            record.metadata.setdefault("process", "")  # what marks a record's end in CBOR
            yield form.encode(record)

    def _lines_of(self, flow: Flow) -> list[bytes]:
        """The lines of a flow, redacted."""
        lines = (line for _, line in self._captures.lines_of(flow))
        return [self._json.encode(record) for record in outgoing(lines, self._gate)]

    def _har(self) -> Iterator[bytes]:
        yield b'{"log":{"version":"1.2","creator":' + orjson.dumps({"name": "otel-wirecap", "version": __version__})
        yield b',"entries":['
        separator = b"\n"
        for flow in self._captures.flows() if self._flows is None else self._flows:
            for told in self._entries(self._lines_of(flow)):
                yield separator + orjson.dumps(told)
                separator = b",\n"
        yield b"\n]}}\n"

    def _entries(self, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        """The exchanges of one flow; all that is told is taken from the redacted lines."""
        flows, pairs = _flows_in(lines)
        for flow in flows:
            yield from map(entry, legs_from(flow, pairs))

    def _bundle(self) -> Iterator[bytes]:
        flows = self._captures.flows() if self._flows is None else self._flows
        if len(flows) != 1:
            raise ValueError(f"a bundle holds one flow, and {len(flows)} are chosen; choose one with --flow")
        lines = self._lines_of(flows[0])
        (flow,), pairs = _flows_in(lines)
        messages = {leg.exchange.exchange_id: leg.answer for leg in legs_from(flow, pairs)}
        head = {"otel-wirecap": __version__, "flow": document(flow), "answers": messages}
        yield BUNDLE_BEGINNING + orjson.dumps(head)[1:-1] + b',"records":[\n'
        lines = [*self._about(pairs), *lines]
        yield b",\n".join(line.rstrip(b"\n") for line in lines)
        yield b"\n]}\n"

    def _about(self, pairs: Iterable[tuple[dict[str, Any], bytes]]) -> Iterator[bytes]:
        """The records that tell of the captures that a flow stands in: versions, settings."""
        processes = {record["metadata"].get("process") for record, _ in pairs}

        def starts() -> Iterator[bytes]:
            for line in self._captures.json_lines():
                if b'"system_start"' in line and json_value(line)["metadata"].get("process") in processes:
                    yield line

        return map(self._json.encode, outgoing(starts(), self._gate))


def _flows_in(lines: Iterable[bytes]) -> tuple[list[Flow], list[tuple[RawRecord, bytes]]]:
    """The flows that records tell of, and the records, each with its line."""
    pairs = [(json_value(line), line) for line in lines]
    collector = FlowCollector()
    for record, _ in pairs:
        collector.add(record)
    return collector.flows, pairs


def _flow_of(line: bytes) -> object:
    metadata = json_value(line).get("metadata")
    return metadata.get("request_id") if isinstance(metadata, dict) else None
