"""The custom span exporter: payload events, live or on finished spans, into a capture.

Live: ``emit`` takes each payload event the moment it happens. At the end: ``export`` takes finished spans of any
pipeline (``OTEL_TRACES_EXPORTER=wirecap``) that carry payload events as span events and makes records of them again.
Both end in the same writer, behind the same redaction. An exporter that a pipeline makes opens its capture when it has
something for it: OpenTelemetry makes it before the capture of this process starts, whose settings are to count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_wirecap.config import CaptureConfig, load_config
from otel_wirecap.errors import WireCaptureError
from otel_wirecap.log import warn
from otel_wirecap.messages import without_secrets
from otel_wirecap.storage.registry import is_written_here, open_writer, release_writer
from otel_wirecap.tracing import attributes as names
from otel_wirecap.tracing.spans import open_spans

if TYPE_CHECKING:
    from otel_wirecap.capture.exchange import Put
    from otel_wirecap.capture.record import CaptureRecord
    from otel_wirecap.storage.ledger import Loss
    from otel_wirecap.storage.stats import CaptureStats
    from otel_wirecap.storage.writer import CaptureWriter


class WireCaptureSpanExporter(SpanExporter):
    """Writes payload events into the capture that the settings name.

    Args:
        config: the settings, or a YAML file that has some; None, as OpenTelemetry's own pipelines call it: those of the
            environment.
        settings: any setting by name, over those of the environment, as declarative configuration gives them. Without
            a capture file it exports nothing, and with settings that cannot be used neither, which is told in the log.

    Attributes:
        emit: takes one payload event; see ``EventQueue.put``. ``flow_gone``: see there, too.
    """

    emit: Put
    flow_gone: Callable[[str], None]

    def __init__(self, config: CaptureConfig | str | None = None, **settings: Any) -> None:
        self._config: CaptureConfig | None = None
        self._writer: CaptureWriter | None = None
        if isinstance(config, CaptureConfig):
            self._config = config
            self._open(config)
            return
        try:
            loaded = load_config({"config": config, **settings})
        except WireCaptureError as error:
            self._switch_off(error)
        else:
            if loaded.capture_file is not None:
                self._config = loaded

    def _open(self, config: CaptureConfig) -> CaptureWriter:
        self._writer = open_writer(config)
        self._writer.observe_exchanges(open_spans)
        self.emit = self._writer.put
        self.flow_gone = self._writer.flow_gone
        return self._writer

    def _switch_off(self, error: WireCaptureError) -> None:
        self._config = None
        warn("the span exporter 'wirecap' is off: %s", without_secrets(error))

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Makes records of the payload events on finished spans; those that went into this capture live are there."""
        config = self._config
        if config is None:
            return SpanExportResult.SUCCESS
        try:
            for span in spans:
                for event in span.events:
                    held = event.attributes or {}
                    document = held.get(names.EVENT_RECORD)
                    if isinstance(document, str) and not is_written_here(config, held.get(names.EVENT_PROCESS)):
                        (self._writer or self._open(config)).put_document(document)
        except WireCaptureError as error:  # the file cannot be opened
            self._switch_off(error)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def lose(self, loss: Loss) -> None:
        """As ``CaptureWriter.lose``; nothing where no capture is written."""
        if self._writer is not None:
            self._writer.lose(loss)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Waits until everything is in the file."""
        return self._writer is None or self._writer.flush(timeout_millis / 1000)

    def observe_system_records(self, tell: Callable[[CaptureRecord], None]) -> None:
        """As ``CaptureWriter.observe_system_records``; nothing where no capture is written."""
        if self._writer is not None:
            self._writer.observe_system_records(tell)

    def stats(self) -> CaptureStats | None:
        """The capture's counters in this process; None where it writes no capture."""
        return None if self._writer is None else self._writer.stats()

    def shutdown(self) -> None:
        """Gives the capture back; its last user ends it."""
        self._config = None
        writer, self._writer = self._writer, None
        if writer is not None:
            release_writer(writer)
