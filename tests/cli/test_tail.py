"""``otel-wirecap tail``: the last events, what comes live, flows as they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "otel_wirecap"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration's capture."""
    path = tmp_path_factory.mktemp("demo") / "demo.log"
    subprocess.run([*COMMAND, "demo", "--capture-file", str(path)], check=True, capture_output=True, env=clean())
    return path


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, "tail", *arguments], capture_output=True, text=True, timeout=60, env=clean())


def test_the_last_events_are_shown_one_a_line(made: Path) -> None:
    records = [json.loads(line) for line in made.read_text().splitlines()]
    lines = run("-n", "7", str(made)).stdout.splitlines()
    assert len(lines) == 7
    for line, record in zip(lines, records[-7:], strict=True):
        assert record["direction"] in line
    told = run("-n", "7", "--json", str(made)).stdout.splitlines()
    assert [json.loads(line) for line in told] == records[-7:]


def test_flows_are_shown_as_they_end(made: Path) -> None:
    done = run("--flows", "--json", "-n", "100000", str(made))
    flows = [json.loads(line) for line in done.stdout.splitlines()]
    records = [json.loads(line) for line in made.read_text().splitlines()]
    named = {record["metadata"]["request_id"] for record in records if "request_id" in record["metadata"]}
    assert {flow["request_id"] for flow in flows} == named
    assert len(run("--flows", "-n", "100000", str(made)).stdout.splitlines()) == len(flows)


def test_what_comes_is_shown_live_also_of_a_capture_that_is_not_there_yet(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "live.log"
    lines = made.read_bytes().splitlines(keepends=True)
    command = [*COMMAND, "tail", "-F", "--json", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"not there yet" in process.stderr.readline()
        path.write_bytes(b"".join(lines[:3]))
        told: list[Any] = [json.loads(process.stdout.readline()) for _ in range(3)]
        path.rename(tmp_path / "live.log.1")
        path.write_bytes(b"".join(lines[3:6]))
        told += [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert told == [json.loads(line) for line in lines[:6]]


def test_it_ends_when_nobody_reads_on(made: Path) -> None:
    command = [*COMMAND, "tail", "-F", str(made)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean()) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        began = time.monotonic()
        assert process.wait(20) == 0
        assert time.monotonic() - began < 20
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_what_cannot_be_followed_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = run(str(tmp_path / "none.log"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such file" in done.stderr
    done = run("a.log", "b.log")
    assert done.returncode == 2
    assert "one capture" in done.stderr
    assert run("-n", "x").returncode == 2
