"""A capture that the demonstration has made, and the folder of the indexes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


class Lines(list[bytes]):
    """Lines that a report of a failure does not print."""

    def __repr__(self) -> str:
        return f"{len(self)} lines"


@pytest.fixture(scope="session")
def demo_lines(tmp_path_factory) -> Lines:
    """The lines of a capture: thirteen flows on both legs, streams and others, an error, a client that left."""
    path = tmp_path_factory.mktemp("demo") / "demo.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    command = [sys.executable, "-m", "otel_wirecap", "demo", "--capture-file", str(path)]
    subprocess.run(command, env=environ, check=True, capture_output=True, timeout=120)
    return Lines(path.read_bytes().splitlines(keepends=True))


@pytest.fixture
def demo(demo_lines, tmp_path) -> Path:
    """That capture in a file of its own."""
    path = tmp_path / "demo.log"
    path.write_bytes(b"".join(demo_lines))
    return path


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch) -> Path:
    """Where indexes go in this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "otel-wirecap"
