"""One record of a capture, for those who read captures from Python."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from otel_wirecap.reading.lines import body_of

if TYPE_CHECKING:
    from otel_wirecap.reading.lines import RawRecord


def moment_of(unix: float | None) -> datetime | None:
    """Seconds since the epoch as a date in UTC; None where they are none that a calendar has."""
    try:
        return None if unix is None else datetime.fromtimestamp(unix, UTC)
    except (ValueError, OverflowError, OSError):
        return None


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One record, in the shape of the schema, whatever the capture's format is.

    What a record does not say, or what another tool wrote with another type, is None, an empty string or an empty
    dictionary. All that it does say, fields unknown to the schema included, is in ``fields``.

    Attributes:
        fields: the record as it was read.
    """

    fields: dict[str, Any]
    _line: bytes = dataclasses.field(default=b"", repr=False, compare=False)

    @property
    def timestamp(self) -> datetime | None:
        """The moment, in UTC."""
        return moment_of(self.timestamp_unix)

    @property
    def timestamp_unix(self) -> float:
        """The moment, seconds since the epoch."""
        return float(self.fields["timestamp_unix"])

    @property
    def direction(self) -> str:
        """What is recorded: ``inbound_request``, ``stream_chunk``, ``system_gap`` and others."""
        return str(self.fields["direction"])

    @property
    def source(self) -> str | None:
        """For whom it was, ``127.0.0.1(Cline/1.0)``; of a response the backend's name."""
        return _text(self.fields, "source")

    @property
    def destination(self) -> str | None:
        """Where it went."""
        return _text(self.fields, "destination")

    @property
    def session_id(self) -> str | None:
        """Groups the requests of one conversation or agent run."""
        return _text(self.fields, "session_id")

    @property
    def backend(self) -> str | None:
        """The backend's name."""
        return _text(self.fields, "backend")

    @property
    def model(self) -> str | None:
        """The model that this leg names: as requested on requests, as answered on responses."""
        return _text(self.fields, "model")

    @property
    def key_name(self) -> str | None:
        """The name of the environment variable whose value is the credential."""
        return _text(self.fields, "key_name")

    @property
    def content_type(self) -> str | None:
        """``json``, ``text``, ``bytes`` or ``empty``: what the payload is."""
        return _text(self.fields, "content_type")

    @property
    def content_length(self) -> int | None:
        """Bytes of the body, or of the chunk, after content-decoding and before redaction."""
        length = self.fields.get("content_length")
        return length if isinstance(length, int) else None

    @property
    def payload(self) -> Any:
        """The body: a JSON value, a string, ``{"encoding": "base64", "data": …}`` for bytes, or None."""
        return self.fields.get("payload")

    @property
    def body(self) -> bytes:
        """The payload as bytes; JSON spelt as in the capture."""
        return body_of(self.fields, self._line or orjson.dumps(self.fields))

    @property
    def metadata(self) -> dict[str, Any]:
        """What else is known; annotations and keys unknown to the schema included."""
        metadata = self.fields.get("metadata")
        return metadata if isinstance(metadata, dict) else {}

    @property
    def request_id(self) -> str | None:
        """The id of its flow; None for records of the capture about itself."""
        return _text(self.metadata, "request_id")

    @property
    def exchange_id(self) -> str | None:
        """The id of its exchange."""
        return _text(self.metadata, "exchange_id")

    @property
    def leg(self) -> str | None:
        """``client`` or ``backend``."""
        return _text(self.metadata, "leg")


def _text(fields: RawRecord, name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None
