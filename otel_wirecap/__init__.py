"""otel-wirecap: the flight recorder for LLM gateways.

The public names are imported when they are used: a command that only reads captures needs none of what records them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from otel_wirecap.version import __version__

if TYPE_CHECKING:
    from otel_wirecap.errors import (
        CaptureFileError,
        CaptureFormatError,
        ConfigurationError,
        FlowNotFoundError,
        WireCaptureError,
    )
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

__all__ = [
    "CaptureFileError",
    "CaptureFormatError",
    "CaptureSpan",
    "CaptureStats",
    "ConfigurationError",
    "FileStats",
    "FlowNotFoundError",
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

_MODULES = {
    "errors": (
        "CaptureFileError",
        "CaptureFormatError",
        "ConfigurationError",
        "FlowNotFoundError",
        "WireCaptureError",
    ),
    "instrumentation.asgi": ("WireCaptureMiddleware",),
    "instrumentation.instrumentor": (
        "WireCaptureInstrumentor",
        "instrument",
        "instrument_app",
        "instrument_client",
        "uninstrument",
    ),
    "instrumentation.runtime": ("annotate", "carry", "pause", "resume", "stats"),
    "storage.stats": ("CaptureStats", "FileStats"),
    "tracing.exporter": ("WireCaptureSpanExporter",),
    "tracing.span": ("CaptureSpan",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
