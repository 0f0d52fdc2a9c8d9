"""What all tests share: a capture in this process, and reading one."""

from __future__ import annotations

import json
import os
import socketserver
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import otel_wirecap
from otel_wirecap.instrumentation.runtime import active

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")

# Not 5: the kernel may reset a connection that finds no place in the queue of a backend.
socketserver.TCPServer.request_queue_size = 128

Records = list[dict[str, Any]]


def read_records(path: Path) -> Records:
    """All records of a capture file, those about the capture itself left out."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [record for record in records if not record["direction"].startswith("system_")]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("WIRE_CAPTURE", "OTEL_")):
            monkeypatch.delenv(name)


@pytest.fixture
def capture_file(tmp_path: Path) -> Path:
    return tmp_path / "capture.log"


@pytest.fixture
def read_capture(capture_file: Path) -> Callable[[], Records]:
    """Reads the capture file."""
    return lambda: read_records(capture_file)


@pytest.fixture
def captured(capture_file: Path) -> Iterator[Callable[[], Records]]:
    """A capture of this process; calling it ends the capture and gives its records."""
    otel_wirecap.instrument(capture_file=capture_file)

    def finish() -> Records:
        if active() is not None:
            otel_wirecap.uninstrument()
        return read_records(capture_file)

    yield finish
    if active() is not None:
        otel_wirecap.uninstrument()
