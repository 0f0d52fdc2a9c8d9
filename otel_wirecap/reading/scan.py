"""Looks for secrets in captures and other files, with what masks them when a capture is written.

Invariants: nothing of a secret leaves this module, only where it stands and which rule found it. What is masked already
is no finding.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_wirecap.capture.record import STREAM_CHUNKS, STREAM_ENDS
from otel_wirecap.llm.text import json_value
from otel_wirecap.reading.reader import read_lines
from otel_wirecap.reading.sources import MAX_LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_wirecap.capture.redaction.gate import FoundInStream, Gate

_MAX_STREAMS = 256
_MAX_DOCUMENT_LINES = 1_000_000
_HEADER = re.compile(r"[\s>|<*-]*(?P<name>[A-Za-z][A-Za-z0-9-]{2,60}):[ \t]+(?P<value>\S.*?)\s*")
_PACKED = re.compile(rb"\xfd7zXZ\0|BZh[1-9]1AY&SY|PK\x03\x04|7z\xbc\xaf\x27\x1c|\x04\x22M\x18|PAR1")
"""How files begin whose contents are compressed in a way that is not undone here."""


class Finding(NamedTuple):
    """Secrets in one line of a file: the file, the line's number, the rule that found them, how many."""

    file: Path
    line: int
    rule: str
    times: int


class Unreadable(NamedTuple):
    """A part of a file that cannot be looked into: the file, and the line; 0 for all of it."""

    file: Path
    line: int


def scan(path: str | Path, gate: Gate) -> Iterator[Finding | Unreadable]:
    """Looks for secrets in the files of a capture, or in any other file.

    Args:
        path: the file; a capture's rotated files are looked into too.
        gate: knows what is secret.

    Raises:
        CaptureFileError: there is no such file, or it cannot be read.
    """
    scanner: _FileScanner | None = None
    for file, number, line in read_lines(path):
        if scanner is None or scanner.file != file:
            if scanner is not None:
                yield from scanner.close()
            scanner = _FileScanner(file, gate)
            if line is not None and _PACKED.match(line):
                yield Unreadable(file, 0)
        if line is None:
            yield Unreadable(file, number)
        else:
            yield from scanner.line(number, line + b"\n")
    if scanner is not None:
        yield from scanner.close()


class _FileScanner:
    def __init__(self, file: Path, gate: Gate) -> None:
        self.file = file
        self._finder = gate.finder()
        self._streams: dict[str, FoundInStream] = {}
        self._number = 0
        # What is no document on a line of its own: text, or a document on many lines.
        self._text = self._finder.text()
        self._line_starts: list[int] = []
        self._line_numbers: list[int] = []
        self._text_size = 0
        self._document: list[bytes] | None = []
        self._document_bytes = 0

    def line(self, number: int, line: bytes) -> Iterator[Finding]:
        self._number = number
        counts: Counter[str] = Counter()
        try:
            document = json_value(line)
        except ValueError:
            document = None
        if isinstance(document, dict | list):
            self._document = None
            counts += self._in_document(line, document)
        else:
            yield from self._in_text(number, line)
        yield from (Finding(self.file, number, rule, count) for rule, count in counts.items())

    def close(self) -> Iterator[Finding]:
        yield from self._told(self._text.feed(b"", is_end=True))
        for stream in self._streams.values():
            yield from (Finding(self.file, self._number, *found) for found in stream.close().items())
        if self._document:
            try:
                document = json_value(b"".join(self._document))
            except ValueError:
                return
            found = Counter(self._finder.in_named_headers(document))
            yield from (Finding(self.file, 1, rule, count) for rule, count in found.items())

    def _in_document(self, line: bytes, document: Any) -> Counter[str]:
        found = self._finder.in_document(line, document)
        if isinstance(document, dict) and str(document.get("direction")) in STREAM_CHUNKS | STREAM_ENDS:
            found.update(self._in_stream(document))
        return found

    def _in_stream(self, record: dict[str, Any]) -> Counter[str]:
        """What a chunk's end completes: secrets that no line holds as a whole."""
        metadata = record.get("metadata")
        key = str(metadata.get("exchange_id") if isinstance(metadata, dict) else None)
        found: Counter[str] = Counter()
        stream = self._streams.get(key)
        if record["direction"] in STREAM_ENDS:
            if stream is not None:
                found.update(self._streams.pop(key).close())
        else:
            if stream is None:
                if len(self._streams) >= _MAX_STREAMS:
                    found.update(self._streams.pop(next(iter(self._streams))).close())
                stream = self._streams[key] = self._finder.stream()
            try:
                found.update(stream.feed(record.get("payload")))
            except ValueError:  # an event that cannot be told: its own line was looked into
                del self._streams[key]
        return found

    def _in_text(self, number: int, line: bytes) -> Iterator[Finding]:
        if self._document is not None:
            self._document.append(line)
            self._document_bytes += len(line)
            if len(self._document) > _MAX_DOCUMENT_LINES or self._document_bytes > MAX_LINE_BYTES:
                self._document = None
        header = _HEADER.fullmatch(line.decode("utf-8", "replace"))
        rule = self._finder.in_line(header["name"], header["value"]) if header is not None else None
        if rule is not None:
            yield Finding(self.file, number, rule, 1)
        self._line_starts.append(self._text_size)
        self._line_numbers.append(number)
        self._text_size += len(line)
        yield from self._told(self._text.feed(line))
        if not self._text.is_open:
            self._line_starts, self._line_numbers = [], []

    def _told(self, found: list[tuple[int, str]]) -> Iterator[Finding]:
        for start, rule in found:
            lines = [line for line, begin in zip(self._line_numbers, self._line_starts, strict=True) if begin <= start]
            yield Finding(self.file, lines[-1] if lines else self._number, rule, 1)
