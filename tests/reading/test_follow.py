"""A capture is followed while a real recorder, in a process of its own, writes and rotates it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.follow import FlowWatch, Follower

ROOT = Path(__file__).parents[2]
WRITER = """
    import sys, time
    from pathlib import Path
    from driving import open_writer, stream

    path, format, compression = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    writer = open_writer(
        path, capture_format=format, capture_compression=compression, capture_max_bytes=20_000,
        capture_max_files=500, capture_flush_interval=0.01,
    )
    for number in range(40):
        stream(writer, f"one{number}", chunks=20, size=200)
        time.sleep(0.01)
    assert writer.close()
"""


def writing(path: Path, form: str = "jsonl", compression: str = "none") -> subprocess.Popen[bytes]:
    found = os.pathsep.join(map(str, (ROOT / "tests" / "storage", ROOT / "tests", ROOT)))
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path), form, compression]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": found})


def place(record) -> tuple[str, int]:
    return record["metadata"]["process"], record["metadata"]["seq"]


def everything(_record, _line) -> bool:
    return True


@pytest.mark.parametrize("pause", [0.001, 0.4], ids=["one rotation at a time", "many rotations between two looks"])
@pytest.mark.parametrize(
    ("form", "compression"), [("jsonl", "none"), ("jsonl", "gzip"), ("cbor", "none"), ("structured", "none")]
)
@pytest.mark.sampled(2, rest="thorough")
def test_no_record_is_lost_or_doubled_over_rotations(tmp_path, form, compression, pause):
    path, told, found = tmp_path / "capture.log", [], []
    with Follower(path, told.append) as follower:
        assert not follower.is_there
        with writing(path, form, compression) as process:
            while process.poll() is None:
                found += [place(record) for record, _ in follower.new()]
                time.sleep(pause)
            assert process.returncode == 0
        for _ in range(2):
            found += [place(record) for record, _ in follower.new()]
    assert len(list(tmp_path.glob("capture.log.*"))) > 10
    with Captures([path]) as captures:
        assert found == [place(record) for record, _ in captures.lines()]
    assert not told


def test_what_is_there_comes_once_and_what_follows_joins_it(tmp_path, demo_lines):
    path = tmp_path / "capture.log"
    (tmp_path / "capture.log.1").write_bytes(b"".join(demo_lines[:50]))
    path.write_bytes(b"".join(demo_lines[50:60]) + demo_lines[60][:40])
    with Follower(path, pytest.fail) as follower:
        assert [line for _, line in follower.last(20, everything)] == [line[:-1] for line in demo_lines[40:60]]
        assert list(follower.new()) == []
        with path.open("ab") as file:
            file.write(demo_lines[60][40:] + demo_lines[61])
        assert [line for _, line in follower.new()] == [line[:-1] for line in demo_lines[60:62]]
        path.rename(tmp_path / "capture.log.moved")
        assert list(follower.new()) == []
        path.write_bytes(demo_lines[62])
        assert [line for _, line in follower.new()] == [demo_lines[62][:-1]]


def test_a_file_that_is_cut_off_is_followed_from_its_beginning(tmp_path, demo_lines):
    path, told = tmp_path / "capture.log", []
    path.write_bytes(b"".join(demo_lines[:10]))
    with Follower(path, told.append) as follower:
        assert len(follower.last(3, everything)) == 3
        path.write_bytes(demo_lines[10])
        assert [line for _, line in follower.new()] == [demo_lines[10][:-1]]
    assert len(told) == 1
    assert "cut off" in told[0]


def test_a_damaged_line_is_told_and_left_out(tmp_path, demo_lines):
    path, told = tmp_path / "capture.log", []
    path.write_bytes(demo_lines[0])
    with Follower(path, told.append) as follower:
        assert list(follower.new()) == []
        with path.open("ab") as file:
            file.write(demo_lines[1][:30] + b"\n" + demo_lines[2])
        assert [line for _, line in follower.new()] == [demo_lines[2][:-1]]
    assert len(told) == 1


def test_flows_come_when_they_have_ended_with_what_their_streams_add_up_to(demo):
    watch, now = FlowWatch(settled_seconds=0.5), 100.0
    with Captures([demo]) as captures:
        flows = {flow.request_id: flow for flow in captures.flows()}
        for record, _ in captures.lines():
            watch.add(record, now)
    assert list(watch.ended(now + 0.4)) == []
    ended = list(watch.ended(now + 0.6))
    assert {flow.request_id for flow in ended} == {name for name, flow in flows.items() if flow.outer.outcome}
    assert all(flow.usage == flows[flow.request_id].usage for flow in ended)
    assert list(watch.ended(now + 10)) == []
