"""The capture formats: how a record becomes bytes. One module a format behind one small interface."""

from __future__ import annotations

from typing import ClassVar, Protocol

from otel_wirecap.capture.formats.jsonl import JSONLines
from otel_wirecap.capture.record import Record


class Format(Protocol):
    """How records become bytes.

    Attributes:
        beginning: what the first record of every file begins with.
    """

    beginning: ClassVar[bytes]

    def encode(self, record: Record) -> bytes:
        """The bytes of one record, its terminator included."""


FORMATS: dict[str, type[Format]] = {"jsonl": JSONLines}

__all__ = ["FORMATS", "Format", "JSONLines"]
