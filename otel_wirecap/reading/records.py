"""One record of a capture, for those who read captures from Python."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

import orjson

from otel_wirecap.reading.lines import body_of, moment_of, typed


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
        return typed(self.fields.get("source"), str)

    @property
    def destination(self) -> str | None:
        """Where it went."""
        return typed(self.fields.get("destination"), str)

    @property
    def session_id(self) -> str | None:
        """Groups the requests of one conversation or agent run."""
        return typed(self.fields.get("session_id"), str)

    @property
    def backend(self) -> str | None:
        """The backend's name."""
        return typed(self.fields.get("backend"), str)

    @property
    def model(self) -> str | None:
        """The model that this leg names: as requested on requests, as answered on responses."""
        return typed(self.fields.get("model"), str)

    @property
    def key_name(self) -> str | None:
        """The name of the environment variable whose value is the credential."""
        return typed(self.fields.get("key_name"), str)

    @property
    def content_type(self) -> str | None:
        """``json``, ``text``, ``bytes`` or ``empty``: what the payload is."""
        return typed(self.fields.get("content_type"), str)

    @property
    def content_length(self) -> int | None:
        """Bytes of the body, or of the chunk, after content-decoding and before redaction."""
        return typed(self.fields.get("content_length"), int)

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
        return typed(self.fields.get("metadata"), dict) or {}

    @property
    def request_id(self) -> str | None:
        """The id of its flow; None for records of the capture about itself."""
        return typed(self.metadata.get("request_id"), str)

    @property
    def exchange_id(self) -> str | None:
        """The id of its exchange."""
        return typed(self.metadata.get("exchange_id"), str)

    @property
    def leg(self) -> str | None:
        """``client`` or ``backend``."""
        return typed(self.metadata.get("leg"), str)
