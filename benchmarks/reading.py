"""Measures the reading commands on a large capture, beside other tools that can answer the same, in one run.

    python benchmarks/make_capture.py big.log --bytes 1GB
    python benchmarks/reading.py big.log

Each is a process of its own; seconds are wall-clock, the best and the median of the rounds, interleaved; memory is the
largest sum of the proportional set sizes of the process and its children (Linux). jq and DuckDB count records by
direction, which is less than ``ls`` does; they are left out where they are not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

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


def timed(command: list[str], environ: dict[str, str]) -> tuple[float, float]:
    """Seconds and MiB of one run."""
    began, most = time.perf_counter(), 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ)
    looked = began
    while process.poll() is None:
        if time.perf_counter() - looked > 0.1:
            most = max(most, memory_of(process.pid))
            looked = time.perf_counter()
        time.sleep(0.001)
    if process.returncode:
        raise SystemExit(f"{command}: exit code {process.returncode}")
    return time.perf_counter() - began, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ours = [sys.executable, "-m", "otel_wirecap"]
    size = Path(arguments.file).stat().st_size
    with Path(arguments.file).open("rb") as file:
        file.seek(size // 2)
        file.readline()
        name = orjson.loads(file.readline())["metadata"]["request_id"]
    rows = {
        "orjson.loads on every line": [sys.executable, "-c", ORJSON, arguments.file],
        "ls, no index": [*ours, "ls", "--no-index", arguments.file],
        "ls --by model, no index": [*ours, "ls", "--no-index", "--by", "model", arguments.file],
        "ls, from the index": [*ours, "ls", arguments.file],
        "show, from the index": [*ours, "show", name, arguments.file],
    }
    if shutil.which("jq"):
        rows["jq"] = ["jq", "-r", ".direction", arguments.file]
    if subprocess.run([sys.executable, "-c", "import duckdb"], capture_output=True, check=False).returncode == 0:
        rows["DuckDB"] = [sys.executable, "-c", DUCKDB, arguments.file]
    with tempfile.TemporaryDirectory() as cache:
        environ = os.environ | {"XDG_CACHE_HOME": cache}
        subprocess.run([*ours, "ls", arguments.file], env=environ, check=True, capture_output=True)
        seconds: dict[str, list[float]] = {row: [] for row in rows}
        memory: dict[str, float] = dict.fromkeys(rows, 0.0)
        for number in range(arguments.rounds):
            for row, command in rows.items():
                if row == "jq" and number:
                    continue  # it takes as long as all the others together
                took, most = timed(command, environ)
                seconds[row].append(took)
                memory[row] = max(memory[row], most)
    base = statistics.median(seconds["orjson.loads on every line"])
    print(f"{arguments.file}: {size:,} bytes, {os.cpu_count()} processors")
    print(f"{'':28} {'best s':>8} {'median s':>8} {'x orjson':>8} {'MiB':>6}")
    for row, took in seconds.items():
        median = statistics.median(took)
        print(f"{row:28} {min(took):8.2f} {median:8.2f} {median / base:8.2f} {memory[row]:6.0f}")


if __name__ == "__main__":
    main()
