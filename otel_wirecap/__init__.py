"""otel-wirecap: the flight recorder for LLM gateways."""

from otel_wirecap.errors import CaptureFileError, ConfigurationError, WireCaptureError
from otel_wirecap.instrumentation.asgi import WireCaptureMiddleware
from otel_wirecap.instrumentation.instrumentor import (
    WireCaptureInstrumentor,
    instrument,
    instrument_app,
    instrument_client,
    uninstrument,
)
from otel_wirecap.instrumentation.runtime import annotate, carry, pause, resume, stats
from otel_wirecap.storage.stats import CaptureStats, FileStats
from otel_wirecap.tracing.exporter import WireCaptureSpanExporter
from otel_wirecap.tracing.span import CaptureSpan
from otel_wirecap.version import __version__

__all__ = [
    "CaptureFileError",
    "CaptureSpan",
    "CaptureStats",
    "ConfigurationError",
    "FileStats",
    "WireCaptureError",
    "WireCaptureInstrumentor",
    "WireCaptureMiddleware",
    "WireCaptureSpanExporter",
    "__version__",
    "annotate",
    "carry",
    "instrument",
    "instrument_app",
    "instrument_client",
    "pause",
    "resume",
    "stats",
    "uninstrument",
]
