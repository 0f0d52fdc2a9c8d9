"""Payloads for collectors, for those who ask for it: the records, redacted, as span events or as log records.

Invariants:

- What is sent is the record as it stands in the capture, or its beginning, with the file and the number under which the
  whole of it is found there.
- It is made in the thread that takes the writer's answers, and handed on in another one (``Handover``). Nothing that
  goes wrong reaches the capture.
- A span never carries more than its limit of events takes: of a long stream the later chunks are left out and counted,
  so that the request before them and the end behind them stay.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry import trace
from opentelemetry._logs import Logger, LoggerProvider, SeverityNumber, get_logger
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext

from otel_wirecap.capture.formats.jsonl import JSONLines
from otel_wirecap.capture.record import STREAM_CHUNKS, WEBSOCKET_MESSAGE
from otel_wirecap.errors import ConfigurationError
from otel_wirecap.log import warn_once
from otel_wirecap.storage.system_records import shortened
from otel_wirecap.tracing import attributes as names
from otel_wirecap.version import __version__

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from otel_wirecap.capture.record import CaptureRecord
    from otel_wirecap.tracing.handover import Handover
    from otel_wirecap.tracing.span_identity import SpanIdentity

MAX_RECORD_BYTES = 1 << 16
MAX_SPAN_BYTES = 1 << 20
"""Of the records on one span: collectors take messages of 4 MB by default, and one message has many spans."""

MIN_RECORD_BYTES = 1 << 13
"""What a record that is no chunk always finds room for."""

MAX_CHUNKS = 100
"""On one span, which keeps 128 events by default and loses the first ones over it."""

_NOT_SENT = "a payload is left out of telemetry: %s"
_PARTS = STREAM_CHUNKS | {WEBSOCKET_MESSAGE}


@dataclasses.dataclass(slots=True)
class CarriedPayloads:
    """The payloads that one span carries already.

    Attributes:
        chunks: of streams and of websockets.
        bytes: of all of them.
        left_out: chunks that found no room.
    """

    chunks: int = 0
    bytes: int = 0
    left_out: int = 0


class _Document(NamedTuple):
    """A record as it is sent, and its size on the way."""

    text: str
    bytes: int


class Payloads:
    """Sends records to collectors.

    Args:
        wanted: ``events``, ``logs`` or ``both``.
        capture_file: the absolute path of the file that has the records.
        logger_provider: whose log records they become; None: the global provider's, also one set later.
        handover: hands log records over.

    Raises:
        ConfigurationError: log records are wanted, and this OpenTelemetry cannot name an event of one.
    """

    def __init__(
        self, wanted: str, capture_file: str, logger_provider: LoggerProvider | None, handover: Handover
    ) -> None:
        self._events = wanted in {"events", "both"}
        self._logger: Logger | None = None
        if wanted in {"logs", "both"}:
            if "event_name" not in inspect.signature(Logger.emit).parameters:
                raise ConfigurationError(
                    f"capture_span_payloads: {wanted!r} needs a newer opentelemetry-api, one whose log records have an "
                    "event_name; expected: events"
                )
            self._logger = get_logger("otel_wirecap", __version__, logger_provider, names.SCHEMA_URL)
        self._capture_file = capture_file
        self._format = JSONLines()
        self._handover = handover

    def send(self, span: SpanIdentity, carried: CarriedPayloads, record: CaptureRecord) -> None:
        """Sends a record that is in the capture by now.

        Args:
            span: that of the record's exchange.
            carried: what the span carries already; what it gets is added.
            record: as it stands in the capture.
        """
        try:
            document: _Document | None = None
            if self._logger is not None:
                document = self._document(record, MAX_RECORD_BYTES)
                self._emit(self._logger, _context_of(span), record, document)
            if self._events and span.inner.is_recording():
                self._add_event(span.inner, carried, record, document)
        except Exception as error:  # noqa: BLE001  # the capture goes on
            warn_once(_NOT_SENT, type(error).__name__)

    def send_system_record(self, record: CaptureRecord) -> None:
        """Sends a record about the capture itself, as a log record: no span is there that it could be an event of."""
        if self._logger is not None:
            try:
                self._emit(self._logger, Context(), record, self._document(record, MAX_RECORD_BYTES))
            except Exception as error:  # noqa: BLE001  # as above
                warn_once(_NOT_SENT, type(error).__name__)

    def _add_event(
        self, span: Span, carried: CarriedPayloads, record: CaptureRecord, document: _Document | None
    ) -> None:
        room = min(MAX_RECORD_BYTES, MAX_SPAN_BYTES - carried.bytes)
        if record.direction in _PARTS:
            if carried.chunks >= MAX_CHUNKS or room < MIN_RECORD_BYTES:
                carried.left_out += 1
                return
            carried.chunks += 1
        room = max(room, MIN_RECORD_BYTES)
        if document is None or document.bytes > room:
            document = self._document(record, room)
        carried.bytes += document.bytes
        attributes = {names.EVENT_RECORD: document.text, **self._pointer(record)}
        span.add_event("wirecap." + record.direction, attributes, record.time_ns)

    def _emit(self, logger: Logger, context: Context, record: CaptureRecord, document: _Document) -> None:
        emit = functools.partial(
            logger.emit,
            timestamp=record.time_ns,
            context=context,
            severity_number=SeverityNumber.INFO,
            severity_text=SeverityNumber.INFO.name,
            event_name="wirecap." + record.direction,
            body=document.text,
            attributes=self._pointer(record),
        )
        self._handover.put(emit, document.bytes)

    def _document(self, record: CaptureRecord, most: int) -> _Document:
        data = self._format.encode(record)
        if len(data) > most:
            copy = dataclasses.replace(record, metadata=dict(record.metadata))
            data = shortened(copy, self._format, most)
        return _Document(data.decode().rstrip("\n"), len(data))

    def _pointer(self, record: CaptureRecord) -> dict[str, AttributeValue]:
        """Where the whole record is."""
        return {
            names.CAPTURE_FILE: self._capture_file,
            names.WIRECAP_SEQ: record.metadata["seq"],
            names.EVENT_PROCESS: record.metadata["process"],
        }


def _context_of(span: SpanIdentity) -> Context:
    """A context that correlates with the exchange's span, also where that is the capture's own."""
    flags = span.inner.get_span_context().trace_flags
    context = SpanContext(int(span.trace_id, 16), int(span.span_id, 16), is_remote=False, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(context))
