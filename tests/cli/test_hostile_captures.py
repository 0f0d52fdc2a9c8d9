"""Files that would fill the memory, or be waited for without end: one sentence with the file's name instead."""

from __future__ import annotations

import gzip
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from test_bad_captures import LINE, READING

from otel_wirecap.reading.sources import MAX_LINE_BYTES

MEMORY = 640 << 20
"""Bytes of address space that a command gets: what is unpacked has twice as many."""

LIMITED = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
from otel_wirecap.cli import main
sys.exit(main(sys.argv[1:]))
"""
OTHERS = {"scan": (), "import": ("--output", "made.log")}


def run(command: str, path: Path) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    line = [sys.executable, "-c", LIMITED, command, *(READING | OTHERS)[command], str(path)]
    return subprocess.run(line, env=environ, cwd=path.parent, capture_output=True, text=True, timeout=300)


def the_one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said of a file that it could not read at all."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("otel-wirecap: ")
    return line


@pytest.fixture(scope="session")
def bomb(tmp_path_factory) -> Path:
    """A compressed line without an end: 1.25 GiB in 1.2 MB."""
    path = tmp_path_factory.mktemp("bomb") / "endless.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(1280):
            file.write(b"a" * (1 << 20))
    return path


@pytest.mark.parametrize("command", [*READING, *OTHERS])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "socket"])
@pytest.mark.sampled(12, rest="thorough")
def test_what_is_no_file_is_not_waited_for(command, kind, tmp_path):
    import socket

    path = tmp_path / "capture.log"
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            server.bind(str(path))
        told = the_one_line(run(command, path))
    kind = {"fifo": "a named pipe", "folder": "a directory", "device": "a device", "socket": "a socket"}[kind]
    assert told.endswith(f"{str(path)!r} cannot be read: it is {kind}, not a file")


@pytest.mark.parametrize("command", [*READING, *OTHERS])
@pytest.mark.parametrize("kind", ["compressed", "plain"])
@pytest.mark.sampled(6, rest="thorough")
def test_a_line_without_an_end_is_told_in_one_sentence(command, kind, bomb, tmp_path):
    path = tmp_path / "capture.log"
    if kind == "compressed":
        path.symlink_to(bomb)
    else:
        with path.open("wb") as file:
            file.write(b'{"timestamp_iso":"')
            file.truncate(10 * MAX_LINE_BYTES)  # with a hole
    done = run(command, path)
    assert "MemoryError" not in done.stderr
    if command == "scan":
        assert done.returncode == 2
        assert str(path) in done.stderr
        assert "cannot be read" in done.stderr
    else:
        told = the_one_line(done)
        assert str(path) in told


@pytest.mark.parametrize("command", READING)
@pytest.mark.sampled(2, rest="thorough")
def test_a_rotated_file_of_one_endless_line_is_named(command, bomb, tmp_path):
    path = tmp_path / "capture.log"
    path.write_bytes(LINE)
    rotated = tmp_path / "capture.log.1.gz"
    rotated.symlink_to(bomb)
    told = the_one_line(run(command, path))
    assert repr(str(rotated)) in told


@pytest.mark.parametrize("form", ["plain", "gzip"])
@pytest.mark.parametrize("command", ["ls", "verify", "stats", "show", "export", "scan"])
@pytest.mark.sampled(3, rest="thorough")
def test_an_endless_line_hides_none_of_those_before_it(command, form, tmp_path):
    path = tmp_path / "capture.log"
    with gzip.open(path, "wb", compresslevel=1) if form == "gzip" else path.open("wb") as file:
        file.write(LINE)
        for _ in range(10):
            file.write(b"\0" * MAX_LINE_BYTES)
        file.write(b"\n" + LINE.replace(b"req_1", b"req_2").replace(b'"ex_', b'"ey_'))
    done = run(command, path)
    assert "Traceback" not in done.stderr
    assert done.returncode == {"verify": 1, "scan": 2}.get(command, 0), done.stderr
    if command != "scan":
        assert done.stdout
    if command == "ls":
        assert "req_1" in done.stdout
        assert ("req_2" in done.stdout) is (form == "plain")
        assert "1 lines are damaged" in done.stderr


def test_an_endless_item_of_cbor_is_told_in_one_sentence(tmp_path):
    pytest.importorskip("cbor2")
    from otel_wirecap.capture.formats import CBOR

    path = tmp_path / "capture.log"
    with path.open("wb") as file:
        file.write(CBOR.beginning)
        file.truncate(10 * MAX_LINE_BYTES)
    assert repr(str(path)) in the_one_line(run("ls", path))


def test_a_line_of_many_bytes_is_read(tmp_path):
    path, text = tmp_path / "capture.log", secrets.token_hex(8)
    path.write_bytes(LINE.replace(b'"payload":{}', b'"payload":{"text":"%b"}' % (text.encode() * (1 << 22))))
    done = run("ls", path)
    assert "req_1" in done.stdout
    assert "damaged" not in done.stderr
