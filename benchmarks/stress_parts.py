"""What ``stress.py`` does, in a process of the environment whose otel-wirecap is tried.

Two parts: writers that share a capture, of which some are killed; and captures whose process is killed, each followed
by a next start.
"""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import answer, internal

import otel_wirecap

fork = multiprocessing.get_context("fork")
NAME = "capture.log"
MAX_KILLED = 10_000
FLUSH_INTERVAL = 0.1
SCHEDULING = 0.4
"""Seconds that a thread may have to wait on a busy machine, beside the flush interval."""


@functools.cache
def capture_files() -> Callable[..., Any]:
    """Makes a capture file as storage has it: ``append()`` takes lines, and tells how many are written, or why not."""
    return internal("otel_wirecap.storage.capture_file:CaptureFile")


def records_of(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records of a capture, and how many of its lines are unreadable."""
    read_lines = internal("otel_wirecap.reading.reader:read_lines")
    records: list[dict[str, Any]] = []
    unreadable = 0
    for _, _, line in read_lines(path):
        try:
            records.append(json.loads(line or b""))
        except ValueError:
            unreadable += 1
    return records, unreadable


def record(writer: int, number: int) -> bytes:
    return b"%d %d %s %d %d\n" % (writer, number, b"x" * (200 + number * 37 % 400), writer, number)


def write(folder: Path, caps: dict[str, int], writer: int, count: int, told: Any, spent: Any) -> None:
    began = time.process_time()
    file = capture_files()(folder / NAME, **caps)
    rng = random.Random(writer)
    number = 0
    while number < count:
        batch = rng.randint(1, 100)
        result = file.append([record(writer, n) for n in range(number, min(count, number + batch))])
        if result.error is not None:
            raise result.error
        number += result.written
        told[writer] = number
    spent[writer] = time.process_time() - began


def files(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(folder.iterdir(), key=lambda file: -int(file.name.removeprefix(NAME).removeprefix(".") or 0))


def numbers(folder: Path) -> tuple[dict[int, list[int]], int]:
    """Writer → numbers in the order of the files, and how many lines are torn."""
    found: dict[int, list[int]] = {}
    torn = 0
    for file in files(folder):
        for line in file.read_bytes().splitlines(keepends=True):
            parts = line.split(b" ", 2)
            if len(parts) < 3 or line != record(int(parts[0]), int(parts[1])):
                torn += 1
            else:
                found.setdefault(int(parts[0]), []).append(int(parts[1]))
    return found, torn


def look(folder: Path, caps: dict[str, int]) -> tuple[bool, bool]:
    """Whether this look counts (nothing was renamed meanwhile), and whether a cap was passed."""
    looks = []
    for _ in range(2):
        sizes = {}
        for entry in os.scandir(folder):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                # Inodes are used again: the moment of its last rename tells a rotated file from an earlier one.
                renamed = status.st_ctime_ns if entry.name != NAME else 0
                sizes[entry.name, status.st_ino, renamed] = status.st_size
        looks.append(sizes)
    if looks[0].keys() != looks[1].keys():
        return False, False
    sizes = looks[0]
    passed = (
        sum(sizes.values()) > caps["total_max_bytes"]
        or max(sizes.values(), default=0) > caps["max_bytes"]
        or len(sizes) > caps["max_files"] + 1
    )
    return True, passed


def writers(processes: int, count: int, caps: dict[str, int], *, kills: bool) -> dict[str, float]:
    """Has processes write so many records each, and looks at the caps meanwhile; what it took and what went wrong."""
    capture_files()  # what is imported here, no writer imports in the time that is measured
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = random.Random(3)
        told, spent = (fork.Array(kind, processes + MAX_KILLED, lock=False) for kind in "qd")
        began = time.monotonic()
        process = functools.partial(fork.Process, target=write, daemon=True)  # none outlives this process
        running = [process(args=(folder, caps, n, count, told, spent)) for n in range(processes)]
        for each in running:
            each.start()
        looks = passed = victims = 0
        while any(each.is_alive() for each in running):
            if kills and victims < MAX_KILLED:
                victim = process(args=(folder, caps, processes + victims, 10**9, told, spent))
                victim.start()
                time.sleep(rng.uniform(0, 0.05))
                os.kill(victim.pid or 0, signal.SIGKILL)
                victim.join()
                victims += 1
            counts, beyond = look(folder, caps)
            looks += counts
            passed += beyond
        seconds = time.monotonic() - began
        if any(each.exitcode for each in running):
            raise SystemExit("a writer failed")
        capture_files()(folder / NAME, **caps).append([record(999_999, 0)])  # repairs what the last victim left
        found, torn = numbers(folder)
        lost = doubled = disordered = 0
        for writer in range(processes + victims):
            kept = found.get(writer, [])
            put = told[writer] if writer >= processes else count
            whole = caps["max_files"] > 1000  # nothing is rotated away
            missing = set(range(put)) - set(kept) if whole else set(range(kept[0], put) if kept else ()) - set(kept)
            lost += len(missing)
            doubled += len(kept) - len(set(kept))
            disordered += kept != sorted(kept)
        rotations = len(files(folder)) - 1
    return {
        "seconds": seconds, "cpu_seconds": sum(spent), "killed": victims, "rotations": rotations, "lost": lost,
        "torn": torn, "doubled": doubled, "disordered": disordered, "looks": looks, "passed": passed,
    }  # fmt: skip


VICTIM = f"""
    import asyncio, sys, time
    import otel_wirecap

    size, pause = int(sys.argv[3]), float(sys.argv[4])

    async def application(scope, receive, send):
        headers = [(b"content-type", b"text/event-stream")]
        await send({{"type": "http.response.start", "status": 200, "headers": headers}})
        number = 0
        while True:
            number += 1
            chunk = b"data: %d %s.\\n\\n" % (number, b"x" * size)
            await send({{"type": "http.response.body", "body": chunk, "more_body": True}})
            print(number, flush=True)
            time.sleep(pause)

    async def receive():
        return {{"type": "http.request", "body": b"{{}}", "more_body": False}}

    async def send(message):
        pass

    otel_wirecap.instrument(
        capture_file=sys.argv[1], capture_flush_interval={FLUSH_INTERVAL}, capture_max_bytes="100KB",
        capture_max_files=9999, capture_total_max_bytes="8GB", capture_compression=sys.argv[2],
        capture_writer="thread",  # which is killed with the process
    )
    scope = {{
        "type": "http", "asgi": {{"version": "3.0"}}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/v1/chat/completions", "raw_path": b"/v1/chat/completions", "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/json")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }}
    asyncio.run(otel_wirecap.WireCaptureMiddleware(application)(scope, receive, send))
"""


def crashes(kills: int) -> dict[str, float]:
    """Kills so many captures at random moments, starts each again, and looks what is kept."""
    rng = random.Random(5)
    put = kept = due = torn = broken = 0
    with tempfile.TemporaryDirectory() as name:
        for _ in range(kills):
            folder = Path(tempfile.mkdtemp(dir=name))
            path = folder / NAME
            arguments = [sys.executable, "-c", textwrap.dedent(VICTIM), str(path), rng.choice(("none", "zstd"))]
            arguments += rng.choice((("300", "0.0002"), ("30000", "0.002")))  # long writes are torn more often
            moments = killed_at_random(arguments, rng.uniform(0.01, 0.6))
            killed = time.monotonic()
            otel_wirecap.instrument(
                capture_file=path, capture_max_files=9999, capture_total_max_bytes="8GB", capture_writer="thread"
            )
            failing = otel_wirecap.stats().failing
            otel_wirecap.uninstrument()
            found, unreadable = records_of(path)
            chunks = [int(one["payload"].split()[1]) for one in found if one["direction"] == "outbound_stream_chunk"]
            must = sum(moment < killed - FLUSH_INTERVAL - SCHEDULING for moment in moments)
            whole = chunks == list(range(1, len(chunks) + 1)) and len(chunks) >= must
            broken += not whole or bool(unreadable) or failing is not None
            put += len(moments)
            kept += len(chunks)
            due += must
            torn += sum(one["direction"] == "system_gap" for one in found)
    return {"put": put, "kept": kept, "due": due, "torn": torn, "broken": broken}


def killed_at_random(command: list[str], after: float) -> list[float]:
    """Runs a command, and kills it so many seconds after its first line; the moments of all of its lines."""
    moments: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        while not moments or time.monotonic() - moments[0] < after:
            if not victim.stdout.readline():
                raise RuntimeError("a capture that was to be killed ended by itself")
            moments.append(time.monotonic())
        victim.kill()
    return moments


if __name__ == "__main__":
    answer({"writers": writers, "crashes": crashes})
