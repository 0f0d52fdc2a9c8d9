"""What otel-wirecap adds to the start of a program: milliseconds of fresh interpreters, in one run.

    python benchmarks/start_up.py [--rounds 20]

Each program imports httpx, FastAPI and uvicorn, and ends: by itself, with ``otel_wirecap.instrument()`` after that, and
under ``opentelemetry-instrument``, without otel-wirecap and with it, with no other instrumentor and no exporter. The
package is compiled before, as installing it does. All take their turns in every round, after one that fills caches; the
figures are medians, those of what is added medians of each round's difference. Ready is when the imports and
``instrument()`` are done, ended is when the process is. The CPU time is that of the process, all threads, until it has
ended; that of its children is told beside it, of those that outlive it, too.

The second table names the imports that ``instrument()`` adds and that take the most time themselves, without what they
import in turn, as ``-X importtime`` tells, which slows them down.
"""

from __future__ import annotations

import argparse
import compileall
import ctypes
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from processes import HERE, INSTRUMENT, OTHERS, cpu_clock, descendants, own_environment

IMPORTS = "import sys, time, httpx, fastapi, uvicorn\n"
READY = "print(time.monotonic(), time.process_time(), flush=True)\n"
OURS = "import otel_wirecap; otel_wirecap.instrument(capture_file={capture!r})\n"
WATCHED = (
    IMPORTS
    + "before = set(sys.modules)\n"
    + OURS
    + "import json; print(json.dumps(sorted(set(sys.modules) - before)), flush=True)\n"
)
PR_SET_CHILD_SUBREAPER = 36
ADDED = {"instrument()": "imports", "opentelemetry-instrument, with otel-wirecap": "opentelemetry-instrument"}


class Run(NamedTuple):
    """Milliseconds of one process, wall-clock and CPU time."""

    ready: float
    ready_cpu: float
    ended: float
    cpu: float
    children_cpu: float

    def since(self, base: Run) -> Run:
        """What is more than in another run."""
        return Run(*(own - other for own, other in zip(self, base, strict=True)))


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Run:
    """Runs a program that tells when it is ready, to its end, and that of all that it has started."""
    for old in folder.iterdir():
        old.unlink()
    told = folder / "told"
    with told.open("w") as out:  # no pipe: children may hold it open
        began = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=out)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    ended = time.monotonic()
    own = cpu_clock(process.pid)  # it is still there, for want of being waited for, and its children are not in this
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    children = usage.ru_utime + usage.ru_stime - own + left_behind()
    ready, ready_cpu = map(float, told.read_text().split()[:2])
    return Run(*(1000 * one for one in (ready - began, ready_cpu, ended - began, own, max(0.0, children))))


def left_behind() -> float:
    """CPU seconds of the processes that outlived their parent, once they have ended; in the end they have to."""
    spent, deadline = 0.0, time.monotonic() + 10
    while True:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return spent
        if pid:
            spent += usage.ru_utime + usage.ru_stime
        elif time.monotonic() > deadline:
            for one in descendants(os.getpid()):
                os.kill(one, signal.SIGKILL)
            deadline += 10
        else:
            time.sleep(0.005)


def environment_of(extra: Mapping[str, str]) -> dict[str, str]:
    """The variables of this process, without those of captures and telemetry, and others."""
    kept = {key: value for key, value in own_environment().items() if not key.startswith(("WIRE_CAPTURE_", "OTEL_"))}
    return kept | extra


def programs(capture: str) -> dict[str, tuple[list[str], dict[str, str]]]:
    """The command and the variables of each."""
    exporters = {f"OTEL_{kind}_EXPORTER": "none" for kind in ("TRACES", "METRICS", "LOGS")}
    none = exporters | {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": f"{OTHERS},wirecap"}
    ours = exporters | {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": OTHERS, "WIRE_CAPTURE_FILE": capture}
    python = [sys.executable, "-c"]
    return {
        "imports": ([*python, IMPORTS + READY], environment_of({})),
        "instrument()": ([*python, IMPORTS + OURS.format(capture=capture) + READY], environment_of({})),
        "opentelemetry-instrument": ([INSTRUMENT, *python, IMPORTS + READY], environment_of(none)),
        "opentelemetry-instrument, with otel-wirecap": ([INSTRUMENT, *python, IMPORTS + READY], environment_of(ours)),
    }


def start_up(rounds: int, folder: Path) -> None:
    """Runs all programs in turns, and prints the table."""
    to_run = programs(str(folder / "capture.log"))
    runs: dict[str, list[Run]] = {name: [] for name in to_run}
    for number in range(-1, rounds):
        for name in list(to_run)[:: 1 if number % 2 else -1]:
            seen = run(*to_run[name], folder)
            if number >= 0:
                runs[name].append(seen)
            elif name in ADDED and not (folder / "capture.log").exists():
                raise SystemExit(f"{name}: nothing was captured")
    print("| | ready, ms | CPU by then, ms | ended, ms | CPU in all, ms | CPU of children, ms |")
    print("|---" * 6 + "|")
    for name, own in runs.items():
        print(f"| {name} | {medians(own)} |")
    for name, base in ADDED.items():
        added = [one.since(other) for one, other in zip(runs[name], runs[base], strict=True)]
        print(f"| added by {name} | {medians(added)} |")


def medians(runs: Sequence[Run]) -> str:
    """The medians of runs, as cells."""
    return " | ".join(f"{statistics.median(column):,.0f}" for column in zip(*runs, strict=True))


def imports(rounds: int, folder: Path) -> None:
    """Prints the ten imports of ``instrument()`` that take most."""
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        for old in folder.iterdir():
            old.unlink()
        program = WATCHED.format(capture=str(folder / "capture.log"))
        found = watched([sys.executable, "-X", "importtime", "-c", program])
        for module, milliseconds in found.items():
            took.setdefault(module, []).append(milliseconds)
    middle = {module: statistics.median(each) for module, each in took.items()}
    print("| import | ms |\n|---|---|")
    for module in sorted(middle, key=middle.__getitem__, reverse=True)[:10]:
        print(f"| `{module}` | {middle[module]:.1f} |")
    print(f"| all {len(middle)} together | {sum(middle.values()):.1f} |")


def watched(command: Sequence[str]) -> dict[str, float]:
    """The modules that are new once the program has instrumented itself, and the milliseconds of each by itself."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:  # no pipes, as above
        subprocess.run(command, env=environment_of({}), stdout=out, stderr=errors, check=True)
        left_behind()
        out.seek(0)
        errors.seek(0)
        new = set(json.loads(out.readline()))
        found: dict[str, float] = {}
        for line in errors:
            if line.startswith("import time:") and "|" in line:
                self_time, _, name = (cell.strip() for cell in line.removeprefix("import time:").split("|"))
                if name in new:  # a child of the program may tell of its imports, too
                    found.setdefault(name, int(self_time) / 1000)
    return found


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # who outlives its parent becomes a child of ours
    compileall.compile_dir(HERE.parent / "otel_wirecap", quiet=2)
    print(f"medians of {options.rounds} interleaved runs\n")
    with tempfile.TemporaryDirectory() as folder:
        start_up(options.rounds, Path(folder))
        print()
        imports(max(1, options.rounds // 4), Path(folder))


if __name__ == "__main__":
    main()
