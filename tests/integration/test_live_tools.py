"""Everyday tools on a capture that is being written and rotated: tail, jq, lnav, logrotate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import wait_until

pytestmark = pytest.mark.tools

ROOT = Path(__file__).resolve().parents[2]
FORMAT = ROOT / "examples" / "lnav" / "otel_wirecap.json"

WRITER = """
    import sys, time
    import httpx
    import otel_wirecap

    otel_wirecap.instrument(
        capture_file=sys.argv[1], capture_max_bytes=int(sys.argv[2]), capture_max_files=100, capture_flush_interval=0.05
    )
    seconds = float(sys.argv[3])

    class Stream(httpx.SyncByteStream):
        def __iter__(self):
            end = time.monotonic() + seconds
            number = 0
            while time.monotonic() < end:
                number += 1
                yield b"data: %d\\n\\n" % number
                time.sleep(0.01)

    def answer(request):
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream())

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        client.post("http://backend.example/v1/chat/completions", json={"stream": True})
"""


def need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            pytest.skip(f"{tool} is not installed")


@contextmanager
def writing(path: Path, *, max_bytes: int = 60_000, seconds: float = 6.0) -> Iterator[subprocess.Popen[bytes]]:
    """A process that captures one long stream; each file of its capture lives for about two seconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), path, str(max_bytes), str(seconds)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        deadline = time.monotonic() + 60
        while not path.exists() or not path.stat().st_size:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def numbers(text: str) -> list[int]:
    return [json.loads(line)["metadata"]["seq"] for line in text.splitlines()]


def captured(path: Path) -> str:
    rotated = sorted(path.parent.glob(path.name + ".*"), key=lambda file: -int(file.suffix[1:]))
    return "".join(file.read_text() for file in [*rotated, path] if file.exists())


def test_tail_follows_over_rotations(tmp_path: Path) -> None:
    """GNU tail opens the new file when it next looks; a file must live longer than that, here 0.05 seconds."""
    need("tail")
    path, followed = tmp_path / "capture.log", tmp_path / "followed"
    with writing(path) as process, followed.open("wb") as out:
        tail = subprocess.Popen(["tail", "-n", "+1", "-s", "0.05", "-F", path], stdout=out, stderr=subprocess.DEVNULL)
        try:
            process.wait(60)
            whole = captured(path)
            wait_until(lambda: followed.stat().st_size >= len(whole.encode()))
        finally:
            tail.terminate()
            tail.wait()
    assert len(list(tmp_path.glob("capture.log.*"))) >= 2
    assert followed.read_text() == whole
    assert numbers(whole) == list(range(1, len(numbers(whole)) + 1))


def test_jq_answers_while_the_capture_grows(tmp_path: Path) -> None:
    need("tail", "jq")
    path, answers = tmp_path / "capture.log", tmp_path / "answers"
    command = (
        f"tail -n +1 -s 0.05 -F {path} 2>/dev/null | "
        "jq -r --unbuffered 'select(.direction==\"stream_chunk\") | .metadata.chunk_number'"
    )
    with writing(path) as process, answers.open("wb") as out:
        shell = subprocess.Popen(["bash", "-c", command], stdout=out, start_new_session=True)
        try:
            wait_until(lambda: len(answers.read_text().split()) > 50)
            assert process.poll() is None, "the capture was whole before"
            process.wait(60)
            chunks = sum(json.loads(line)["direction"] == "stream_chunk" for line in captured(path).splitlines())
            wait_until(lambda: len(answers.read_text().split()) >= chunks)
        finally:
            os.killpg(shell.pid, 15)
            shell.wait()
    told = [int(number) for number in answers.read_text().split()]
    assert told == list(range(1, chunks + 1))


def lnav(home: Path, *arguments: str | Path) -> str:
    done = subprocess.run(
        ["lnav", *arguments], env=os.environ | {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "TERM": "dumb"},
        capture_output=True, text=True, check=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout


def test_lnav_knows_the_format(tmp_path: Path) -> None:
    need("lnav")
    home = tmp_path / "home"
    home.mkdir()
    path = tmp_path / "captures" / "capture.log"
    lnav(home, "-i", FORMAT)
    lnav(home, "-C")  # fails on a format that is not right
    query = (
        ";SELECT log_level, count(*), count(log_opid), min(log_time), sum(log_opid IS NULL) FROM otel_wirecap "
        "GROUP BY log_level"
    )
    with writing(path) as process:
        wait_until(lambda: captured(path).count('"stream_chunk"') > 20)
        live = lnav(home, "-n", "-c", query, "-c", ":write-csv-to -", path)
        process.wait(60)
    assert int(dict(row.split(",")[:2] for row in live.splitlines())["debug"]) > 10
    files = sorted(path.parent.iterdir())
    assert len(files) > 1
    rows = [row.split(",") for row in lnav(home, "-n", "-c", query, "-c", ":write-csv-to -", *files).splitlines()[1:]]
    records = [json.loads(line) for line in captured(path).splitlines()]
    counts = {level: int(count) for level, count, *_ in rows}
    assert counts == {
        "stats": sum(record["direction"].startswith("system_") for record in records),
        "debug": sum(record["direction"] == "stream_chunk" for record in records),
        "info": sum(record["direction"] in {"outbound_request", "stream_start", "stream_end"} for record in records),
    }
    opids = {level: int(count) for level, _, count, *_ in rows}
    assert opids == counts | {"stats": 0}
    (first,) = [moment for level, _, _, moment, *_ in rows if level == "stats"]
    assert records[0]["timestamp_iso"].startswith(first.replace(" ", "T").rstrip("0"))
    shown = lnav(home, "-n", path)
    (end,) = [line for line in shown.splitlines() if "stream_end" in line]
    assert records[-2]["metadata"]["request_id"] in end
    assert "complete" in end


def test_logrotate_needs_no_signal(tmp_path: Path) -> None:
    need("logrotate")
    path = tmp_path / "captures" / "capture.log"
    settings = tmp_path / "logrotate.conf"
    settings.write_text(f"{path} {{\n  rotate 50\n  nocreate\n  missingok\n  notifempty\n}}\n")
    settings.chmod(0o600)
    command = [shutil.which("logrotate", path=os.environ["PATH"] + ":/usr/sbin:/sbin") or "", "-f"]
    times = 0
    with writing(path, max_bytes=100_000_000, seconds=4) as process:
        path.parent.chmod(0o700)
        while process.poll() is None:
            wait_until(lambda: process.poll() is not None or (path.exists() and path.stat().st_size > 10_000))
            subprocess.run([*command, "-s", tmp_path / "state", settings], check=True, capture_output=True)
            times += 1
    assert times > 2
    found = numbers(captured(path))
    assert found == list(range(1, len(found) + 1))
    assert len(found) > 200
