"""``otel-wirecap proxy`` that cannot do its work says so at once."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path


def start(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "otel_wirecap", "proxy", "--port", "0", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = start(tmp_path, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "cannot listen on 127.0.0.1:" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_capture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    done = start(tmp_path, "--capture-file", str(tmp_path))
    assert done.returncode == 2
    assert f"cannot write the capture file {tmp_path}" in done.stderr
    assert done.stderr.count("\n") == 1
