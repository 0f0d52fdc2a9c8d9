"""The capture formats: how a record becomes bytes. One module a format behind one small interface."""

from __future__ import annotations

from typing import ClassVar, Protocol

from otel_wirecap.capture.formats.cbor import CBOR
from otel_wirecap.capture.formats.jsonl import JSONLines
from otel_wirecap.capture.formats.structured import Structured
from otel_wirecap.capture.formats.text import Text
from otel_wirecap.capture.record import CaptureRecord


class Format(Protocol):
    """How records become bytes.

    Attributes:
        beginning: what every record begins with.
        terminator: what every record ends with, and what stands nowhere within one.
    """

    beginning: ClassVar[bytes]
    terminator: ClassVar[bytes]

    def encode(self, record: CaptureRecord) -> bytes:
        """The bytes of one record, its terminator included."""


FORMATS: dict[str, type[Format]] = {"jsonl": JSONLines, "text": Text, "structured": Structured, "cbor": CBOR}

__all__ = ["CBOR", "FORMATS", "Format", "JSONLines", "Structured", "Text"]
