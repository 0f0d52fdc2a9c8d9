"""Many processes on one capture, some killed: is anything lost, torn, doubled or out of order, do the caps hold?

    python benchmarks/stress.py [--processes 8] [--records 20000] [--kills 200]
    python benchmarks/stress.py --against ../before/.venv/bin/python

Three parts: writers that rotate without rest while others are killed; the same within tight caps, which are looked at
all the while; and whole captures whose process is killed at random moments, each followed by a next start. Exits with
1 where anything is not as promised.

With ``--against`` the time that a record takes is compared in the first two parts, on the clock and of the CPU; the
third has none, for the captures rest between their chunks. Whatever is not as promised, in either version, ends the
comparison.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping
from functools import partial

from against import Installation, Measure, add_options, compare, parsed
from measuring import MeasuringProcess
from processes import fail

PROGRAM = "stress_parts.py"
FAULTS = ("lost", "torn", "doubled", "disordered", "passed")
ROOMY = {"max_bytes": 256 << 10, "max_files": 99_999, "total_max_bytes": 8 << 30}
TIGHT = {"max_bytes": 256 << 10, "max_files": 4, "total_max_bytes": 1200 << 10}
PARTS: Mapping[str, Mapping[str, object]] = {
    "others are killed": {"caps": ROOMY, "kills": True},
    "tight caps": {"caps": TIGHT, "kills": False},
}
QUICK_RECORDS, QUICK_KILLS = 2000, 5


def tables(process: MeasuringProcess, options: argparse.Namespace) -> bool:
    """Tries what is installed here, and prints the tables; whether all is as promised."""
    good = True
    print("| writers | seconds | rotated files | lost | torn | doubled | out of order | looks that saw a cap passed |")
    print("|---|---|---|---|---|---|---|---|")
    for part in PARTS.values():
        told = process.ask("writers", processes=options.processes, count=options.records, **part)
        print(
            f"| {options.processes} of {options.records:,}, {told['killed']} killed | {told['seconds']:.1f} | "
            f"{told['rotations']} | {told['lost']} | {told['torn']} | {told['doubled']} | {told['disordered']} | "
            f"{told['passed']} of {told['looks']} |",
            flush=True,
        )
        good &= not any(told[fault] for fault in FAULTS)
    told = process.ask("crashes", kills=options.kills)
    print("\n| kills | put | kept | older than a flush interval | torn ends cut off and told | as promised |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {options.kills} | {told['put']:,} | {told['kept']:,} | {told['due']:,} | {told['torn']} | "
        f"{'NO' if told['broken'] else 'yes'} |"
    )
    return good and not told["broken"]


@contextlib.contextmanager
def side(installed: Installation, _number: int, *, options: argparse.Namespace) -> Iterator[Measure]:
    """Runs a process of an environment; gives what measures a part there."""
    with MeasuringProcess(installed.python, PROGRAM, installed.package) as process:

        def figures(name: str) -> dict[str, float]:
            told = process.ask("writers", processes=options.processes, count=options.records, **PARTS[name])
            if faults := {fault: told[fault] for fault in FAULTS if told[fault]}:
                fail(f"{installed}: {name}: {faults}; expected none")
            row, each = f"{options.processes} writers, {name}", 1e6 / options.processes / options.records
            return {
                f"{row}: µs a record": told["seconds"] * each,
                f"{row}: CPU µs a record": told["cpu_seconds"] * each,
            }

        yield figures


def main() -> int:
    """Runs all parts and prints the tables; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--records", type=int, help=f"of each process; default: 20000; {QUICK_RECORDS} with --quick")
    parser.add_argument("--kills", type=int, help=f"of whole captures; default: 200; {QUICK_KILLS} with --quick")
    add_options(parser, rounds=1)
    options = parsed(parser)
    if options.records is None:
        options.records = QUICK_RECORDS if options.quick else 20_000
    if options.kills is None:
        options.kills = QUICK_KILLS if options.quick else 200
    if options.there is not None:
        return compare(options, partial(side, options=options), list(PARTS))
    with MeasuringProcess(options.here.python, PROGRAM, options.here.package) as process:
        return 0 if tables(process, options) else 1


if __name__ == "__main__":
    sys.exit(main())
