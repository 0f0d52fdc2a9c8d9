"""Looks for secrets in captures and other files, with what masks them when a capture is written.

Invariants: nothing of a secret leaves this module, only where it stands and which rule found it. What is masked already
is no finding.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from otel_wirecap.capture.redaction.names import header_rule, reads_like_a_secret
from otel_wirecap.capture.redaction.online import OnlineSearch
from otel_wirecap.capture.redaction.spans import MARKER
from otel_wirecap.capture.redaction.stream import Released, StreamRedactor
from otel_wirecap.reading.reader import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_wirecap.capture.redaction.redactor import Redactor

_MOST_STREAMS = 256
_MOST_DOCUMENT_LINES = 1_000_000
_HEADER = re.compile(r"[\s>|<*-]*(?P<name>[A-Za-z][A-Za-z0-9-]{2,60}):[ \t]+(?P<value>\S.*?)\s*")
_CHUNK, _END = "stream_chunk", "stream_end"


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


def scan(path: str | Path, redactor: Redactor) -> Iterator[Finding | Unreadable]:
    """Looks for secrets in the files of a capture, or in any other file.

    Args:
        path: the file; a capture's rotated files are looked into too.
        redactor: what finds them.

    Raises:
        CaptureFileError: there is no such file, or it cannot be read.
    """
    scanner: _FileScanner | None = None
    for file, number, line in read_lines(path):
        if scanner is None or scanner.file != file:
            if scanner is not None:
                yield from scanner.close()
            scanner = _FileScanner(file, redactor)
        if line is None:
            yield Unreadable(file, number)
        else:
            yield from scanner.line(number, line + b"\n")
    if scanner is not None:
        yield from scanner.close()


class _FileScanner:
    def __init__(self, file: Path, redactor: Redactor) -> None:
        self.file = file
        self._redactor = redactor
        self._streams: dict[str, StreamRedactor] = {}
        self._number = 0
        # What is no document on a line of its own: text, or a document on many lines.
        self._text = OnlineSearch(redactor)
        self._line_starts: list[int] = []
        self._line_numbers: list[int] = []
        self._text_size = 0
        self._document: list[bytes] | None = []

    def line(self, number: int, line: bytes) -> Iterator[Finding]:
        self._number = number
        counts: Counter[str] = Counter()
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError:
            document = None
        if isinstance(document, dict | list):
            self._document = None
            counts += self._in_document(line, document)
        else:
            yield from self._in_text(number, line)
        yield from (Finding(self.file, number, rule, count) for rule, count in counts.items())

    def close(self) -> Iterator[Finding]:
        yield from self._told(self._text.feed(b"", (), is_end=True))
        for stream in self._streams.values():
            yield from (Finding(self.file, self._number, *found) for found in _counts(stream.close()).items())
        if self._document:
            try:
                document = orjson.loads(b"".join(self._document))
            except orjson.JSONDecodeError:
                return
            found = Counter(rule for rule in _named_headers(document))
            yield from (Finding(self.file, 1, rule, count) for rule, count in found.items())

    def _in_document(self, line: bytes, document: Any) -> Counter[str]:
        counts: dict[str, int] = {}
        self._redactor.json(line, counts)
        found = Counter(counts)
        found.update(_named_headers(document))
        for data in _encoded_bytes(document):
            counts = {}
            self._redactor.bytes_(data, counts)
            found |= Counter(counts)  # those with a shape are seen through the base64, too
        if isinstance(document, dict) and str(document.get("direction", "")).endswith((_CHUNK, _END)):
            found.update(self._in_stream(document))
        return found

    def _in_stream(self, record: dict[str, Any]) -> Counter[str]:
        """What a chunk's end completes: secrets that no line holds as a whole."""
        metadata = record.get("metadata")
        key = str(metadata.get("exchange_id") if isinstance(metadata, dict) else None)
        found: Counter[str] = Counter()
        stream = self._streams.get(key)
        if str(record["direction"]).endswith(_END):
            if stream is not None:
                found.update(_counts(self._streams.pop(key).close()))
        else:
            if stream is None:
                if len(self._streams) >= _MOST_STREAMS:
                    found.update(_counts(self._streams.pop(next(iter(self._streams))).close()))
                stream = self._streams[key] = StreamRedactor(self._redactor, "")
            payload = record.get("payload")
            data = payload.encode() if isinstance(payload, str) else b"".join(_encoded_bytes({"payload": payload}))
            try:
                found.update(_counts(stream.feed([data])))
            except ValueError:  # an event that cannot be told: its own line was looked into
                del self._streams[key]
        return found

    def _in_text(self, number: int, line: bytes) -> Iterator[Finding]:
        if self._document is not None:
            self._document.append(line)
            if len(self._document) > _MOST_DOCUMENT_LINES:
                self._document = None
        header = _HEADER.fullmatch(line.decode("utf-8", "replace"))
        if header is not None and header["value"] != MARKER and reads_like_a_secret(header["value"]):
            rule = header_rule(header["name"])
            if rule is not None:
                yield Finding(self.file, number, rule, 1)
        self._line_starts.append(self._text_size)
        self._line_numbers.append(number)
        self._text_size += len(line)
        yield from self._told(self._text.feed(line, ()))
        if not self._text.open_bytes:
            self._line_starts, self._line_numbers = [], []

    def _told(self, spans: list[Any]) -> Iterator[Finding]:
        for start, _, rule in spans:
            lines = [line for line, begin in zip(self._line_numbers, self._line_starts, strict=True) if begin <= start]
            if rule:
                yield Finding(self.file, lines[-1] if lines else self._number, rule, 1)


def _counts(released: Released) -> Counter[str]:
    """Rule to number of the secrets in pieces of a stream."""
    found: Counter[str] = Counter()
    for counts in released.counts.values():
        found.update(counts)
    return found


def _nodes(document: Any) -> Iterator[dict[str, Any] | list[Any]]:
    """The objects and arrays of a document, however deep."""
    left = [document]
    while left:
        node = left.pop()
        if isinstance(node, dict | list):
            yield node
            left += node.values() if isinstance(node, dict) else node


def _named_headers(document: Any) -> Iterator[str]:
    """The rules of headers that stand as ``[name, value]`` or as ``{"name": …, "value": …}``."""
    for node in _nodes(document):
        if isinstance(node, dict):
            name, value = node.get("name"), node.get("value")
        else:
            name, value = node if len(node) == 2 else (None, None)
        if isinstance(name, str) and isinstance(value, str) and value != MARKER and reads_like_a_secret(value):
            rule = header_rule(name)
            if rule is not None:
                yield rule


def _encoded_bytes(document: Any) -> Iterator[bytes]:
    """What payloads hold that are no text."""
    for node in _nodes(document):
        data = node.get("data") if isinstance(node, dict) and node.get("encoding") == "base64" else None
        if isinstance(data, str):
            try:
                yield base64.b64decode(data)
            except ValueError:  # no base64, not even ASCII
                continue
