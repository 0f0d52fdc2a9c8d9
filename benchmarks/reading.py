"""Measures the reading commands on a large capture, beside other tools that can answer the same, in one run.

    python benchmarks/make_capture.py big.log --bytes 1GB
    python benchmarks/reading.py big.log
    python benchmarks/reading.py --bytes 200MB --against ../before/.venv/bin/python

Each is a process of its own; seconds are wall-clock, the best and the median of the rounds, interleaved; memory is the
largest sum of the proportional set sizes of the process and its children (Linux). jq and DuckDB count records by
direction, which is less than ``ls`` does; they are left out where they are not installed.

With ``--against`` the commands of both environments are compared on the same capture, each with indexes of its own:
seconds, and CPU seconds of a command and of all that it has started. Without a file one is made for the run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import orjson
from against import Installation, Measure, add_options, compare, parsed
from processes import HERE, fail, own_environment, wirecap

BASE = "orjson.loads on every line"
INDEXED = "ls, from the index"
QUICK = ("ls, no index", INDEXED, "show, from the index", "verify")
SECONDS_A_TURN, MAX_RUNS_A_TURN = 0.5, 5
ORJSON = "import orjson, sys\nfor line in open(sys.argv[1], 'rb'): orjson.loads(line)"
DUCKDB = (
    "import duckdb, sys\nprint(duckdb.sql(\"select direction, count(*) from read_json(?, format='newline_delimited', "
    "columns={direction: 'VARCHAR'}) group by 1\", params=[sys.argv[1]]).fetchall())"
)


def processes_of(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += processes_of(int(child))
    return found


def memory_of(pid: int) -> float:
    """MiB of a process and its children, what they share counted once."""
    total = 0
    for one in processes_of(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


class Run(NamedTuple):
    """What one run of a command took: seconds, CPU seconds of all its processes, and MiB."""

    seconds: float
    cpu_seconds: float
    memory: float


def timed(command: Sequence[str], environ: Mapping[str, str], *, watch_memory: bool = False) -> Run:
    """Runs a command to its end."""
    before = children_seconds()
    began, most = time.perf_counter(), 0.0
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environ)
        looked = began
        while process.poll() is None:
            if watch_memory and time.perf_counter() - looked > 0.1:
                most = max(most, memory_of(process.pid))
                looked = time.perf_counter()
            time.sleep(0.001)
        seconds = time.perf_counter() - began
        if process.returncode not in ((0, 1) if "verify" in command else (0,)):  # a made capture has no numbers
            errors.seek(0)
            told = errors.read()[-500:].decode(errors="replace")
            fail(f"{' '.join(command)}: exit code {process.returncode}: {told}")
    return Run(seconds, children_seconds() - before, most)


def children_seconds() -> float:
    """CPU seconds of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def turn(command: Sequence[str], environ: Mapping[str, str]) -> Run:
    """The medians of as many runs as a short command needs to be measured."""
    runs = [timed(command, environ)]
    while len(runs) < MAX_RUNS_A_TURN and sum(run.seconds for run in runs) < SECONDS_A_TURN:
        runs.append(timed(command, environ))
    return Run(*map(statistics.median, zip(*runs, strict=True)))


def commands(python: str, file: str) -> dict[str, list[str]]:
    """The commands that read, of an interpreter's environment."""
    ours, name = wirecap(python), flow_in_the_middle(file)
    return {
        "ls, no index": [*ours, "ls", "--no-index", file],
        "ls --by model, no index": [*ours, "ls", "--no-index", "--by", "model", file],
        "ls, from the index": [*ours, "ls", file],
        "show, from the index": [*ours, "show", name, file],
        "timeline, from the index": [*ours, "timeline", name, file],
        "stats, no index": [*ours, "stats", "--no-index", file],
        "stats, from the index": [*ours, "stats", file],
        "verify": [*ours, "verify", file],
        "scan": [*ours, "scan", file],
    }


def flow_in_the_middle(file: str) -> str:
    """The request id of a record in the middle of a capture."""
    with Path(file).open("rb") as lines:
        lines.seek(Path(file).stat().st_size // 2)
        lines.readline()
        return str(orjson.loads(lines.readline())["metadata"]["request_id"])


@contextlib.contextmanager
def side(installed: Installation, _number: int, *, file: str) -> Iterator[Measure]:
    """Makes an environment's index; gives what measures a command of it."""
    to_run = commands(installed.python, file)
    with tempfile.TemporaryDirectory() as cache:
        environ = own_environment() | {"XDG_CACHE_HOME": cache}
        timed(to_run[INDEXED], environ)

        def figures(row: str) -> dict[str, float]:
            run = turn(to_run[row], environ)
            return {f"{row}: s": run.seconds, f"{row}: CPU s": run.cpu_seconds}

        yield figures


def table(file: str, rounds: int, only: Sequence[str]) -> None:
    """Runs all rounds, and prints the table."""
    rows = {BASE: [sys.executable, "-c", ORJSON, file]}
    rows |= {row: command for row, command in commands(sys.executable, file).items() if row in only}
    if shutil.which("jq"):
        rows["jq"] = ["jq", "-r", ".direction", file]
    if subprocess.run([sys.executable, "-c", "import duckdb"], capture_output=True, check=False).returncode == 0:
        rows["DuckDB"] = [sys.executable, "-c", DUCKDB, file]
    with tempfile.TemporaryDirectory() as cache:
        environ = own_environment() | {"XDG_CACHE_HOME": cache}
        timed(commands(sys.executable, file)[INDEXED], environ)
        runs: dict[str, list[Run]] = {row: [] for row in rows}
        for number in range(rounds):
            for row, command in rows.items():
                if row == "jq" and number:
                    continue  # it takes as long as all the others together
                runs[row].append(timed(command, environ, watch_memory=True))
    base = statistics.median(run.seconds for run in runs[BASE])
    print(f"{file}: {Path(file).stat().st_size:,} bytes, {os.cpu_count()} processors")
    print(f"{'':28} {'best s':>8} {'median s':>8} {'x orjson':>8} {'MiB':>6}")
    for row, own in runs.items():
        took = [run.seconds for run in own]
        median = statistics.median(took)
        memory = max(run.memory for run in own)
        print(f"{row:28} {min(took):8.2f} {median:8.2f} {median / base:8.2f} {memory:6.0f}")


def main() -> int:
    """Measures and prints the table; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="a capture; without, one is made")
    parser.add_argument("--bytes", help="how large a capture to make; default: 50MB; 5MB with --quick")
    parser.add_argument("--only", action="append", metavar="ROW", help="only this row of the table; repeatedly")
    add_options(parser, rounds=3)
    options = parsed(parser)
    with tempfile.TemporaryDirectory() as folder:
        file = options.file
        if file is None:
            file = str(Path(folder, "capture.log"))
            size = options.bytes or ("5MB" if options.quick else "50MB")
            command = [sys.executable, str(HERE / "make_capture.py"), file, "--bytes", size]
            if subprocess.run(command, env=own_environment(), stdout=sys.stderr, check=False).returncode:
                fail(f"no capture could be made by {' '.join(command)}")
        known = commands(sys.executable, file)
        only = options.only or (QUICK if options.quick else list(known))
        if unknown := set(only) - known.keys():
            parser.error(f"--only: {', '.join(sorted(unknown))} is no row; expected: {'; '.join(known)}")
        if options.there is not None:
            return compare(options, partial(side, file=file), only)
        table(file, options.rounds, only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
