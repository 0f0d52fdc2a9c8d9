"""What all tests share: a capture in this process, and reading one."""

from __future__ import annotations

import fcntl
import json
import os
import socketserver
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import otel_wirecap
from otel_wirecap.instrumentation.runtime import active

pytest_plugins = ["leftovers", "selection"]

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


@pytest.fixture(scope="session")
def demo_capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration's capture: thirteen flows on both legs, streams and others, an error, a client that left.

    It is made once, for all workers; who would change it copies it.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which the workers share
    made = folder / "demo" / "demo.log"
    with (folder / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            making = tmp_path_factory.mktemp("demo")
            dropped = ("WIRE_CAPTURE", "OTEL_")
            environ = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
            command = [sys.executable, "-m", "otel_wirecap", "demo", "--capture-file", "demo.log"]
            subprocess.run(command, cwd=making, env=environ, check=True, capture_output=True, timeout=120)
            making.rename(made.parent)
    return made


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
