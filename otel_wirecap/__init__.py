"""otel-wirecap: the flight recorder for LLM gateways.

The public names are imported when they are used: a command that only reads captures needs none of what records them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from otel_wirecap.version import __version__

if TYPE_CHECKING:
    from otel_wirecap.errors import (
        CaptureFileError as CaptureFileError,
        CaptureFormatError as CaptureFormatError,
        ConfigurationError as ConfigurationError,
        FlowNotFoundError as FlowNotFoundError,
        QueryError as QueryError,
        WireCaptureError as WireCaptureError,
    )
    from otel_wirecap.instrumentation.api import (
        annotate as annotate,
        carry as carry,
        pause as pause,
        resume as resume,
        stats as stats,
    )
    from otel_wirecap.instrumentation.asgi import WireCaptureMiddleware as WireCaptureMiddleware
    from otel_wirecap.instrumentation.instrumentor import (
        WireCaptureInstrumentor as WireCaptureInstrumentor,
        instrument as instrument,
        instrument_app as instrument_app,
        instrument_client as instrument_client,
        uninstrument as uninstrument,
    )
    from otel_wirecap.storage.stats import CaptureStats as CaptureStats, FileStats as FileStats
    from otel_wirecap.tracing.exporter import WireCaptureSpanExporter as WireCaptureSpanExporter
    from otel_wirecap.tracing.span import CaptureSpan as CaptureSpan

_HOMES = {
    "CaptureFileError": "errors",
    "CaptureFormatError": "errors",
    "CaptureSpan": "tracing.span",
    "CaptureStats": "storage.stats",
    "ConfigurationError": "errors",
    "FileStats": "storage.stats",
    "FlowNotFoundError": "errors",
    "QueryError": "errors",
    "WireCaptureError": "errors",
    "WireCaptureInstrumentor": "instrumentation.instrumentor",
    "WireCaptureMiddleware": "instrumentation.asgi",
    "WireCaptureSpanExporter": "tracing.exporter",
    "annotate": "instrumentation.api",
    "carry": "instrumentation.api",
    "instrument": "instrumentation.instrumentor",
    "instrument_app": "instrumentation.instrumentor",
    "instrument_client": "instrumentation.instrumentor",
    "pause": "instrumentation.api",
    "resume": "instrumentation.api",
    "stats": "instrumentation.api",
    "uninstrument": "instrumentation.instrumentor",
}
"""The public names, each with the module that it is from; type checkers read the same from the imports above."""

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
