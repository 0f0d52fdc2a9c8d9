"""How many of the secrets of a corpus the recorder masks, per cell, and how many harmless texts it changes.

The corpus is that of the tests, made anew from a seed: each kind of secret in each carrier, encoding and chunking.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "capture"))

from recall import false_alarms, measured, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-cell", type=int, default=10, help="cases of each cell, and harmless texts of each kind")
    arguments = parser.parse_args()
    cells = measured(arguments.seed, arguments.per_cell)
    print(table(cells))
    count, changed = false_alarms(arguments.seed, arguments.per_cell)
    print(f"\n{count} harmless exchanges, {len(changed)} of them changed")
    missed = sorted(
        {(*name, case.secret.kind) for name, cell in cells.items() for case, _, _ in cell.leaks}
        | {("harmless", control.kind) for control, _ in changed}
    )
    for names in missed:
        print("missed: " + " | ".join(names))


if __name__ == "__main__":
    main()
