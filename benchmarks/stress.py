"""Many processes on one capture, some killed: is anything lost, torn, doubled or out of order, do the caps hold?

Three parts: writers that rotate without rest while others are killed; the same within tight caps, which are looked at
all the while; and whole captures whose process is killed at random moments, each followed by a next start. Exits with
1 where anything is not as promised.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

from otel_wirecap.config import load_config
from otel_wirecap.reading.reader import read_records
from otel_wirecap.storage.capture_file import CaptureFile
from otel_wirecap.storage.writer import CaptureWriter

fork = multiprocessing.get_context("fork")
NAME = "capture.log"
FLUSH_INTERVAL = 0.1
SCHEDULING = 0.4
"""Seconds that a thread may have to wait on a busy machine, beside the flush interval."""


def record(writer: int, number: int) -> bytes:
    return b"%d %d %s %d %d\n" % (writer, number, b"x" * (200 + number * 37 % 400), writer, number)


def write(folder: Path, caps: dict[str, int], writer: int, count: int, told: Any) -> None:
    file = CaptureFile(folder / NAME, **caps)
    rng = random.Random(writer)
    number = 0
    while number < count:
        batch = rng.randint(1, 100)
        result = file.append([record(writer, n) for n in range(number, min(count, number + batch))])
        if result.error is not None:
            raise result.error
        number += result.written
        told[writer] = number


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


def stress(processes: int, count: int, caps: dict[str, int], *, kills: bool) -> bool:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = random.Random(3)
        told = fork.Array("q", processes + 10_000, lock=False)
        began = time.monotonic()
        running = [fork.Process(target=write, args=(folder, caps, n, count, told)) for n in range(processes)]
        for process in running:
            process.start()
        looks = passed = victims = 0
        while any(process.is_alive() for process in running):
            if kills:
                victim = fork.Process(target=write, args=(folder, caps, processes + victims, 10**9, told))
                victim.start()
                time.sleep(rng.uniform(0, 0.05))
                os.kill(victim.pid or 0, signal.SIGKILL)
                victim.join()
                victims += 1
            counts, beyond = look(folder, caps)
            looks += counts
            passed += beyond
        seconds = time.monotonic() - began
        if any(process.exitcode for process in running):
            raise SystemExit("a writer failed")
        CaptureFile(folder / NAME, **caps).append([record(999_999, 0)])  # repairs what the last victim left
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
    print(
        f"| {processes} of {count:,}, {victims} killed | {seconds:.1f} | {rotations} | {lost} | {torn} | {doubled} | "
        f"{disordered} | {passed} of {looks} |",
        flush=True,
    )
    return not (lost or torn or doubled or disordered or passed)


VICTIM = f"""
    import sys, time
    from otel_wirecap.capture.events import RequestHead, ResponseHead
    from otel_wirecap.capture.exchange import Exchange, Flow
    from otel_wirecap.config import load_config
    from otel_wirecap.storage.writer import CaptureWriter

    settings = {{"capture_file": sys.argv[1], "capture_flush_interval": {FLUSH_INTERVAL}, "capture_max_bytes": "100KB",
                "capture_max_files": 9999, "capture_total_max_bytes": "8GB", "capture_compression": sys.argv[2],
                "capture_writer": "thread"}}  # which is killed with the process
    writer = CaptureWriter(load_config(settings, {{}}), sys.argv[1])
    writer.open()
    exchange = Exchange(
        "victim", "backend", Flow("req_1"), attempt=1, trace_id="0" * 32, span_id="0" * 16,
        began_unix_ns=time.time_ns(), began_ns=time.monotonic_ns(), emit=writer.put, on_failure=print,
    )
    exchange.begin(RequestHead("POST", "https://api.openai.com/v1/chat/completions", [], body=b"{{}}"))
    exchange.response(time.monotonic_ns(), ResponseHead(200, None, [(b"content-type", b"text/event-stream")]))
    print(writer.process, flush=True)
    size, pause = int(sys.argv[3]), float(sys.argv[4])
    number = 0
    while True:
        number += 1
        exchange.chunk(time.monotonic_ns(), b"data: %d %s.\\n\\n" % (number, b"x" * size))
        print(number, flush=True)
        time.sleep(pause)
"""


def crashes(kills: int) -> bool:
    rng = random.Random(5)
    put = kept = due = torn = 0
    good = True
    with tempfile.TemporaryDirectory() as name:
        for _ in range(kills):
            folder = Path(tempfile.mkdtemp(dir=name))
            path = folder / NAME
            arguments = [sys.executable, "-c", textwrap.dedent(VICTIM), str(path), rng.choice(("none", "zstd"))]
            arguments += rng.choice((("300", "0.0002"), ("30000", "0.002")))  # long writes are torn more often
            with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as victim:
                assert victim.stdout is not None
                process = victim.stdout.readline().strip()
                moments: list[float] = []
                stop_after = rng.uniform(0.01, 0.6)
                while not moments or time.monotonic() - moments[0] < stop_after:
                    victim.stdout.readline()
                    moments.append(time.monotonic())
                victim.kill()
                killed = time.monotonic()
            settings = {"capture_file": path, "capture_max_files": 9999, "capture_total_max_bytes": "8GB"}
            following = CaptureWriter(load_config(settings, {}), str(path))
            following.open()
            good &= following.close()
            unreadable: list[int] = []
            found = list(read_records(path, on_damage=lambda _, line: unreadable.append(line)))  # noqa: B023
            chunks = [
                int(one["payload"].split()[1])
                for one in found
                if one["metadata"]["process"] == process and one["direction"] == "stream_chunk"
            ]
            must = sum(moment < killed - FLUSH_INTERVAL - SCHEDULING for moment in moments)
            good &= not unreadable and chunks == list(range(1, len(chunks) + 1)) and len(chunks) >= must
            put += len(moments)
            kept += len(chunks)
            due += must
            torn += sum(one["direction"] == "system_gap" for one in found)
    print("\n| kills | put | kept | older than a flush interval | torn ends cut off and told | as promised |")
    print("|---|---|---|---|---|---|")
    print(f"| {kills} | {put:,} | {kept:,} | {due:,} | {torn} | {'yes' if good else 'NO'} |")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--records", type=int, default=20_000, help="of each process")
    parser.add_argument("--kills", type=int, default=200, help="of whole captures")
    options = parser.parse_args()
    print("| writers | seconds | rotated files | lost | torn | doubled | out of order | looks that saw a cap passed |")
    print("|---|---|---|---|---|---|---|---|")
    roomy = {"max_bytes": 256 << 10, "max_files": 99_999, "total_max_bytes": 8 << 30}
    tight = {"max_bytes": 256 << 10, "max_files": 4, "total_max_bytes": 1200 << 10}
    good = stress(options.processes, options.records, roomy, kills=True)
    good &= stress(options.processes, options.records, tight, kills=False)
    good &= crashes(options.kills)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
