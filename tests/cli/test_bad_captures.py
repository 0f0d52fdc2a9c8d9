"""What is no capture, or not a whole one, is told in one clear sentence by every command that reads captures."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from otel_wirecap.cli import COMMANDS

READING = {
    "ls": (), "show": ("req_1",), "diff": ("req_1",), "cache": ("s",), "stats": (), "timeline": ("req_1",), "tail": (),
    "verify": (), "export": ("--to", "jsonl"), "sql": ("SELECT count(*) FROM records",),
}  # fmt: skip
NOT_READING = {"run", "proxy", "demo", "completion", "doctor", "import", "scan"}

RECORD = {
    "timestamp_iso": "2026-01-01T00:00:00.000000+00:00", "timestamp_unix": 1_767_225_600.0,
    "direction": "outbound_request", "source": "proxy", "destination": "openai", "session_id": "s", "backend": "openai",
    "model": None, "key_name": None, "content_type": "json", "content_length": 2, "payload": {},
    "metadata": {"leg": "backend", "request_id": "req_1", "exchange_id": "ex_1", "attempt": 1},
}  # fmt: skip
OF_CLIENT = RECORD | {
    "direction": "inbound_request",
    "metadata": {"leg": "client", "request_id": "req_1", "exchange_id": "ex_2"},
}
LINE = orjson.dumps(OF_CLIENT) + b"\n" + orjson.dumps(RECORD) + b"\n"

BAD = {
    "missing": (None, "cannot be read: no such file"),
    "a folder": (..., "cannot be read"),
    "empty": (b"", "is empty: nothing has been captured in it yet"),
    "binary rubbish": (bytes(range(256)) * 40, "is no capture: it begins with what is neither JSON nor CBOR"),
    "prose": (b"Dear diary,\ntoday nothing was captured.\n", "is no capture"),
    "another version": (b'{"version":2,"events":[]}\n', "is no capture of a version that is known here"),
    "a number": (b"17\n", "is no capture"),
}


def test_every_command_is_one_that_reads_captures_or_one_that_does_not():
    assert set(COMMANDS) <= READING.keys() | NOT_READING


def run(command: str, path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    line = [sys.executable, "-m", "otel_wirecap", command, *READING[command], *more, str(path)]
    return subprocess.run(line, env=environ, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("command", READING)
@pytest.mark.sampled(14, rest="thorough")
def test_what_is_no_capture_is_told_in_one_sentence(command, kind, tmp_path):
    path, (content, told) = tmp_path / "capture.log", BAD[kind]
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    done = run(command, path)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("otel-wirecap: ")
    assert told in line
    assert "capture.log" in line


@pytest.mark.parametrize("command", READING)
@pytest.mark.sampled(3, rest="thorough")
def test_a_half_written_last_line_hides_none_of_the_others(command, tmp_path):
    path = tmp_path / "capture.log"
    path.write_bytes(LINE * 2 + LINE[:100])
    done = run(command, path)
    assert "Traceback" not in done.stderr
    assert done.returncode == (1 if command == "verify" else 0)
    assert done.stdout or command == "cache"


@pytest.mark.parametrize("command", READING)
@pytest.mark.sampled(3, rest="thorough")
def test_rubbish_between_records_hides_none_of_the_others(command, tmp_path):
    path = tmp_path / "capture.log"
    path.write_bytes(LINE + secrets.token_bytes(3000).replace(b"\n", b"") + b"\n" + LINE)
    done = run(command, path)
    assert "Traceback" not in done.stderr
    assert done.returncode == (1 if command == "verify" else 0)


@pytest.mark.parametrize("command", READING)
def test_a_capture_that_may_not_be_read_is_told(command, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = tmp_path / "capture.log"
    path.write_bytes(LINE)
    path.chmod(0)
    done = run(command, path)
    assert done.returncode == 2
    assert "Permission denied" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "subject"),
    [("show", "FLOW"), ("diff", "FLOW"), ("timeline", "FLOW|SESSION"), ("cache", "SESSION"), ("sql", "QUERY")],
)
@pytest.mark.sampled(2, rest="thorough")
def test_a_file_in_the_place_of_what_the_command_wants_of_it_is_told(command, subject, tmp_path):
    path = tmp_path / "capture.log"
    path.write_bytes(LINE)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    line = [sys.executable, "-m", "otel_wirecap", command, str(path)]
    done = subprocess.run(line, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"otel-wirecap: {str(path)!r} is a file; expected {subject} before it: otel-wirecap {command} {subject} FILE"
    ]
