"""Runs a program under logfire: FastAPI and httpx instrumented, headers and bodies taken, spans to OTLP only.

python benchmarks/with_logfire.py proxy.py --port 8000 …
"""

from __future__ import annotations

import os
import runpy
import sys

import fastapi
import logfire

logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False, metrics=False)
logfire.instrument_httpx(capture_all="WITH_PAYLOADS" in os.environ)
made = fastapi.FastAPI.__init__


def instrumented(app: fastapi.FastAPI, *arguments: object, **options: object) -> None:
    made(app, *arguments, **options)
    logfire.instrument_fastapi(app)


fastapi.FastAPI.__init__ = instrumented
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
