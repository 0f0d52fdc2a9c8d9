"""Runs a program under logfire: FastAPI and httpx instrumented, headers and bodies taken, spans to OTLP only.

python benchmarks/with_logfire.py proxy.py --port 8000 …

With ``SPANS_FILE`` in the environment they go into that file, too; with ``WITH_PAYLOADS``, bodies with them.
"""

from __future__ import annotations

import os
import runpy
import sys

import fastapi
import logfire
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from span_lines import SpanLines

path = os.environ.get("SPANS_FILE")
logfire.configure(
    send_to_logfire=False, console=False, inspect_arguments=False, metrics=False,
    additional_span_processors=[BatchSpanProcessor(SpanLines(path))] if path else None,
)  # fmt: skip
logfire.instrument_httpx(capture_all="WITH_PAYLOADS" in os.environ)
made = fastapi.FastAPI.__init__


def instrumented(app: fastapi.FastAPI, *arguments: object, **options: object) -> None:
    made(app, *arguments, **options)
    logfire.instrument_fastapi(app)


fastapi.FastAPI.__init__ = instrumented
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
