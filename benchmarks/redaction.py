"""What redaction costs, as a ratio to ``orjson.loads`` and ``orjson.dumps`` of the same data in the same run.

    python benchmarks/redaction.py [--rounds 7]
    python benchmarks/redaction.py --against ../before/.venv/bin/python

What is redacted, and how it is measured: ``redaction_rows.py``. With ``--against`` the redaction of both environments
is compared, with the same data and the same secrets.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from against import Installation, Measure, add_options, compare, parsed
from measuring import MeasuringProcess

BODIES = ("2 KB", "100 KB", "1 MB")
STREAMS = ("OpenAI chat", "OpenAI responses", "Anthropic", "Gemini")
WORST = ("sk-", "all prefixes", "-----BEGIN", "eyJ", "c2st", "one letter", "open field", "quotes", "backslashes")
WORST_SIZES = (1_000_000, 10_000_000)
LOOPS = {
    "idle": {"asking": False, "captured": False},
    "while bodies of 1 MB are sent, not captured": {"asking": True, "captured": False},
    "while bodies of 1 MB are sent and recorded": {"asking": True, "captured": True},
}
WORST_TRIES = 3
LAG_SECONDS = 2.0
MAX_LAG_ROUNDS = 3
PROGRAM = "redaction_rows.py"


def made_up_secrets() -> list[str]:
    """The credential of a request, and the values of eight keys in a process's environment."""
    return ["sk-" + secrets.token_hex(24), *(secrets.token_urlsafe(24) for _ in range(8))]


def shortened(names: Sequence[str], options: argparse.Namespace) -> Sequence[str]:
    """What is measured of all there is."""
    return names[:1] if options.quick else names


def row(figures: Sequence[Sequence[float]], form: str) -> str:
    """Microseconds of limit and redaction, medians of rounds, and the median of their ratios."""
    base, mine = (statistics.median(column) * 1e6 for column in zip(*figures, strict=True))
    return f"{base:{form}} | {mine:{form}} | {statistics.median(own / limit for limit, own in figures):.2f}"


def tables(process: MeasuringProcess, options: argparse.Namespace) -> None:
    """Measures what is installed here, and prints the tables."""
    rounds, batch, made = options.rounds, options.batch, made_up_secrets()
    print("\n| body | loads + dumps, µs | redaction, µs | ratio |\n|---|---|---|---|")
    for name in shortened(BODIES, options):
        print(f"| {name} | {row([process.ask('body', name=name, secrets=made) for _ in range(rounds)], ',.1f')} |")
    print(f"\n| stream, {batch} events at a time | loads + dumps, µs an event | redaction, µs | ratio |")
    print("|---|---|---|---|")
    for kind in shortened(STREAMS, options):
        figures = [process.ask("stream", kind=kind, batch=batch, secrets=made) for _ in range(rounds)]
        print(f"| {kind} | {row(figures, '.2f')} |")
    print("\n| text of nothing but | 1 MB, ms | 10 MB, ms | times |\n|---|---|---|---|")
    for name in shortened(WORST, options):
        small, large = (
            min(process.ask("worst case", name=name, size=size, secrets=made) for _ in range(WORST_TRIES)) * 1e3
            for size in WORST_SIZES
        )
        print(f"| `{name}` | {small:.1f} | {large:.1f} | {large / small:.1f} |")
    lags: dict[str, list[float]] = {name: [] for name in LOOPS}
    for _ in range(min(MAX_LAG_ROUNDS, rounds)):
        for name, how in LOOPS.items():
            lags[name].append(process.ask("loop", duration=LAG_SECONDS, **how))
    print("\n| event loop's lag, p99 | ms |\n|---|---|")
    for name, found in lags.items():
        print(f"| {name} | {statistics.median(found):.2f} |")


def rows(options: argparse.Namespace) -> Mapping[str, Callable[[MeasuringProcess, Sequence[str]], float]]:
    """What is compared, each with what gives its figure."""
    found: dict[str, Callable[[MeasuringProcess, Sequence[str]], float]] = {}
    for name in shortened(BODIES, options):
        found[f"body of {name}: µs"] = lambda process, made, name=name: (
            process.ask("body", name=name, secrets=made)[1] * 1e6
        )
    for kind in shortened(STREAMS, options):
        found[f"stream, {kind}: µs an event"] = lambda process, made, kind=kind: (
            process.ask("stream", kind=kind, batch=options.batch, secrets=made)[1] * 1e6
        )
    for name in shortened(WORST, options):
        found[f"1 MB of nothing but `{name}`: ms"] = lambda process, made, name=name: (
            process.ask("worst case", name=name, size=WORST_SIZES[0], secrets=made) * 1e3
        )
    (*_, (busy, how)) = LOOPS.items()
    found[f"event loop's lag {busy}, p99: ms"] = lambda process, _made: process.ask("loop", duration=LAG_SECONDS, **how)
    return found


@contextlib.contextmanager
def side(
    installed: Installation, _number: int, *, options: argparse.Namespace, made: Sequence[str]
) -> Iterator[Measure]:
    """Runs a process of an environment; gives what measures a row there."""
    measured = rows(options)
    with MeasuringProcess(installed.python, PROGRAM, installed.package) as process:
        yield lambda name: {name: measured[name](process, made)}


def main() -> int:
    """Measures and prints the tables; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=100, help="events that are redacted together")
    add_options(parser, rounds=7)
    options = parsed(parser)
    if options.there is not None:
        return compare(options, partial(side, options=options, made=made_up_secrets()), list(rows(options)))
    with MeasuringProcess(options.here.python, PROGRAM, options.here.package) as process:
        tables(process, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
