"""What is secret in files, for whoever looks for it and changes nothing.

Invariants: nothing of a secret comes out, only the rules that found it, how often, and where. What is masked already is
no finding.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import orjson

from otel_wirecap.capture.redaction.online import OnlineSearch
from otel_wirecap.capture.redaction.records import fingerprint_in
from otel_wirecap.capture.redaction.spans import MARKER
from otel_wirecap.capture.redaction.stream import StreamRedactor
from otel_wirecap.capture.secret_names import header_rule
from otel_wirecap.capture.secret_values import reads_like_a_credential

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_wirecap.capture.redaction.edits import Released
    from otel_wirecap.capture.redaction.redactor import Redactor


_PARTS: Final = re.compile(r"[\s;,]+|(?<=[A-Za-z])=")
"""What stands between the parts of a header's value: a scheme and a token, the names and values of cookies."""


class Finder:
    """Looks for what ``redactor`` would mask."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def in_document(self, line: bytes, document: Any) -> Counter[str]:
        """Rule to number of secrets in a JSON document; ``line`` is how it is spelled."""
        counts: dict[str, int] = {}
        metadata = document.get("metadata") if isinstance(document, dict) else None
        fingerprint = fingerprint_in(metadata) if isinstance(metadata, dict) else None
        if fingerprint is not None:
            line = line.replace(b'"%b"' % fingerprint.encode(), b'""')
        self._redactor.json(line, counts)
        found = Counter(counts)
        nodes = list(_nodes(document))
        found.update(self._in_named_headers(nodes))
        for data in _encoded_bytes(nodes):
            counts = {}
            self._redactor.bytes_(data, counts)
            found |= Counter(counts)  # those with a shape are seen through the base64, too
        return found

    def in_named_headers(self, document: Any) -> Iterator[str]:
        """The rules of headers that stand as ``[name, value]`` or as ``{"name": …, "value": …}``."""
        return self._in_named_headers(_nodes(document))

    def _in_named_headers(self, nodes: Iterable[dict[str, Any] | list[Any]]) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, dict):
                name, value = node.get("name"), node.get("value")
            else:
                name, value = node if len(node) == 2 else (None, None)
            if isinstance(name, str) and isinstance(value, str):
                rule = self.in_header(name, value)
                if rule is not None and not self._is_found(orjson.dumps(node)):
                    yield rule

    def _is_found(self, data: bytes) -> bool:
        """Whether a header is found by its position anyway, so that it is not counted twice."""
        return self._redactor.bytes_(data, {}) is not data

    def in_line(self, name: str, value: str) -> str | None:
        """The rule by which a line that looks like a header's holds a secret, which the text's search does not find."""
        rule = self.in_header(name, value)
        return None if rule is None or self._is_found(f"{name}: {value}".encode()) else rule

    def in_header(self, name: str, value: str) -> str | None:
        """The rule by which a header holds a secret, whatever it looks like; None where it holds none."""
        is_secret = value != MARKER and any(map(reads_like_a_credential, _PARTS.split(value)))
        return header_rule(name) if is_secret else None

    def stream(self) -> FoundInStream:
        """The search in the pieces of a stream."""
        return FoundInStream(self._redactor)

    def text(self) -> FoundInText:
        """The search in a text that comes in parts."""
        return FoundInText(self._redactor)


class FoundInStream:
    """What the pieces of a stream complete: secrets that no piece holds as a whole."""

    def __init__(self, redactor: Redactor) -> None:
        self._stream = StreamRedactor(redactor, "")

    def feed(self, payload: Any) -> Counter[str]:
        """Takes the payload of the next piece's record, parsed; returns rule to number of secrets.

        Raises:
            ValueError: an event of it cannot be told; this is no longer of use.
        """
        data = payload.encode() if isinstance(payload, str) else b"".join(_encoded_bytes(_nodes(payload)))
        return _counted(self._stream.feed([data]))

    def close(self) -> Counter[str]:
        """What is left at the stream's end."""
        return _counted(self._stream.close())


class FoundInText:
    """Secrets in a text that comes in parts, with their places."""

    def __init__(self, redactor: Redactor) -> None:
        self._search = OnlineSearch(redactor.search)

    @property
    def is_open(self) -> bool:
        """Whether a secret may go on in the next part."""
        return self._search.open_bytes > 0

    def feed(self, part: bytes, *, is_end: bool = False) -> list[tuple[int, str]]:
        """Takes the next part; returns where secrets begin in the whole text, and the rules that found them."""
        return [(start, rule) for start, _, rule in self._search.feed(part, (), is_end=is_end) if rule]


def _counted(released: Released) -> Counter[str]:
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


def _encoded_bytes(nodes: Iterable[dict[str, Any] | list[Any]]) -> Iterator[bytes]:
    """What payloads hold that are no text."""
    for node in nodes:
        data = node.get("data") if isinstance(node, dict) and node.get("encoding") == "base64" else None
        if isinstance(data, str):
            try:
                yield base64.b64decode(data)
            except ValueError:  # no base64, not even ASCII
                continue
