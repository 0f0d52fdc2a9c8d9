"""The names that others may import are these, and no others."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import otel_wirecap
from otel_wirecap import errors

PUBLIC = [
    "CaptureFileError",
    "CaptureFormatError",
    "CaptureSpan",
    "CaptureStats",
    "ConfigurationError",
    "FileStats",
    "FlowNotFoundError",
    "QueryError",
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


def test_these_names_are_public_and_can_be_imported() -> None:
    assert sorted(otel_wirecap.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(otel_wirecap))
    imports = "; ".join(f"from otel_wirecap import {name}" for name in PUBLIC)
    subprocess.run([sys.executable, "-c", imports], check=True, timeout=60)


def test_type_checkers_are_told_of_the_same_names_from_the_same_modules() -> None:
    tree = ast.parse(Path(otel_wirecap.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert told == {name: f"otel_wirecap.{home}" for name, home in otel_wirecap._HOMES.items()}


def test_every_error_that_is_raised_on_purpose_is_public() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.WireCaptureError)
    }
    assert len(defined) > 4
    assert defined <= set(otel_wirecap.__all__)
