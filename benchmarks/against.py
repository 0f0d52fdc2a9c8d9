"""Compares two installed versions of otel-wirecap: what ``--against PYTHON`` does in the benchmarks that have it.

*Here* is the otel-wirecap of the interpreter that runs the benchmark, *there* that of PYTHON, the interpreter of
another environment. Both run the benchmark code that stands beside this file, each with its own otel-wirecap. They take
turns within one run, here first in one round and there first in the next, so that whatever else the machine does meets
both; what is measured is started anew in every round, so that the luck of one process is not taken for a difference.

Invariants: every figure is a cost, less is better; a round has all figures of both or is not counted; a figure is
``worse`` where the whole interval of the median of the rounds' ratios, here over there, lies above ``MAX_RATIO``.
The interval is a percentile bootstrap over the rounds (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13), always with the same seed: the same figures always give the same interval.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import statistics
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from processes import CANNOT_MEASURE, fail, own_environment

MAX_RATIO = 1.03
CONFIDENCE = 0.90
MIN_ROUNDS = 10
"""With fewer, the interval says little."""
QUICK_ROUNDS = 2
RESAMPLES = 4000
SEED = 20261130
WORSE = 1
MAX_NAMED_DISTRIBUTIONS = 8

ABOUT = """
import importlib.metadata, json, pathlib, platform, otel_wirecap
installed = {each.metadata["Name"]: each for each in importlib.metadata.distributions()}
print(json.dumps({
    "package": str(pathlib.Path(otel_wirecap.__file__).parent), "version": otel_wirecap.__version__,
    "release": platform.python_version(), "origin": installed["otel-wirecap"].read_text("direct_url.json") or "{}",
    "distributions": {name: each.version for name, each in installed.items() if name != "otel-wirecap"},
}))
"""


class Installation(NamedTuple):
    """An environment's otel-wirecap.

    Attributes:
        python: the interpreter's path.
        release: its version.
        package: the folder of the package ``otel_wirecap`` that it imports.
        version: the package's version.
        commit: the commit that it was installed from or is a checkout of, as far as that is known.
        distributions: the versions of everything else that is installed, by name.
    """

    python: str
    release: str
    package: Path
    version: str
    commit: str
    distributions: Mapping[str, str]

    def __str__(self) -> str:
        return f"otel-wirecap {self.version}, {self.commit}, {self.package}; Python {self.release}, {self.python}"


def installation(python: str) -> Installation:
    """The otel-wirecap of an interpreter's environment.

    Raises:
        ValueError: there is no such interpreter, or none of its own.
    """
    found = shutil.which(python)
    if found is None:
        raise ValueError(f"{python!r} is no program; expected the Python interpreter of an environment")
    path = str(Path(found).absolute())  # links are not followed: one makes an environment what it is
    command = [path, "-P", "-c", ABOUT]
    done = subprocess.run(command, env=own_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise ValueError(f"{path!r} has no otel-wirecap installed ({why}); expected an environment that has")
    told = json.loads(done.stdout)
    package = Path(told["package"])
    commit = commit_of(package) or json.loads(told["origin"]).get("vcs_info", {}).get("commit_id", "")[:9]
    return Installation(
        path, told["release"], package, told["version"], f"commit {commit}" if commit else "commit unknown",
        told["distributions"],
    )  # fmt: skip


def commit_of(package: Path) -> str:
    """The commit that a package is a checkout of, and whether it was changed since; empty where it is none."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=package, capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if not git("ls-files", "--error-unmatch", "__init__.py"):  # in an environment's folder inside a checkout, say
        return ""
    return f"{git('rev-parse', '--short=9', 'HEAD')}{' with changes' if git('status', '--porcelain', '.') else ''}"


def add_options(parser: argparse.ArgumentParser, *, rounds: int) -> None:
    """Adds the options of all benchmarks that compare.

    Args:
        parser: what they are added to.
        rounds: how many there are where nothing is compared and nothing else is said.
    """
    parser.add_argument(
        "--rounds", type=int,
        help=f"default: {rounds}; {MIN_ROUNDS} with --against; {QUICK_ROUNDS} with --quick",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="little of all: whether it works, not what it costs")
    parser.add_argument(
        "--against", metavar="PYTHON",
        help="compare with the otel-wirecap that is installed in the environment of this interpreter, in turns; "
        f"exit code: {WORSE} where a figure is worse here",
    )  # fmt: skip
    parser.set_defaults(usual_rounds=rounds)


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options as given, with ``rounds`` filled in, ``here`` an Installation, and ``there`` another, or None."""
    options = parser.parse_args()
    if options.rounds is None:
        usual = MIN_ROUNDS if options.against else options.usual_rounds
        options.rounds = QUICK_ROUNDS if options.quick else usual
    if options.rounds < 1:
        parser.error(f"--rounds: {options.rounds} is too few; expected 1 or more")
    try:
        options.here = installation(sys.executable)
        options.there = None if options.against is None else installation(options.against)
    except ValueError as error:
        parser.error(str(error))
    if options.there is not None and options.there.package == options.here.package:
        parser.error(
            f"--against: {options.there.python} imports {options.here.package}, as this interpreter does "
            f"({options.here.python}); expected the interpreter of an environment with another otel-wirecap"
        )
    return options


Measure = Callable[[str], Mapping[str, float]]
"""Measures a row: figures by their names."""


def compare(
    options: argparse.Namespace,
    measuring: Callable[[Installation, int], contextlib.AbstractContextManager[Measure]],
    rows: Sequence[str],
) -> int:
    """Measures rows of two installations in turns, prints the table, and gives the program's exit code.

    Args:
        options: as ``parsed()`` gives them.
        measuring: starts what is measured of an installation in the round of that number, and ends it.
        rows: what can be measured.
    """
    try:
        figures = measured(options, measuring, rows)
    except Exception as error:
        traceback.print_exc()
        raise SystemExit(CANNOT_MEASURE) from error  # 1 says that something is worse, and nothing else
    return report(options, [Comparison(name, *both) for name, both in figures.items()])


Figures = dict[str, tuple[list[float], list[float]]]
"""What was measured in the rounds by the names of figures, here and there."""


def measured(
    options: argparse.Namespace,
    measuring: Callable[[Installation, int], contextlib.AbstractContextManager[Measure]],
    rows: Sequence[str],
) -> Figures:
    """Measures rows in turns, as ``compare()`` is told; says how far it is on standard error."""
    figures: Figures = {}
    with contextlib.redirect_stdout(sys.stderr):
        for number in range(options.rounds + 1):
            print(f"round {number} of {options.rounds}" if number else "warming up", flush=True)
            with measuring(options.here, number) as here, measuring(options.there, number) as there:
                for row in rows:
                    pair = {side: (here, there)[side](row) for side in ((0, 1), (1, 0))[number % 2]}
                    if number:  # the round before the first fills caches and compiles modules
                        add(figures, pair[0], pair[1])
    return figures


def add(figures: Figures, here: Mapping[str, float], there: Mapping[str, float]) -> None:
    """Adds what was measured of a row in one round."""
    for name in here:
        if not (here[name] > 0 and there[name] > 0):
            fail(f"{name}: {here[name]} here, {there[name]} there; expected more than nothing: measure more of it")
        ours, theirs = figures.setdefault(name, ([], []))
        ours.append(here[name])
        theirs.append(there[name])


class Comparison:
    """One figure of both installations, round by round.

    Attributes:
        name: what it is, with its unit.
        here, there: the medians of the rounds.
        ratio: the median of the rounds' ratios, here over there.
        low, high: the ends of that median's interval.
    """

    def __init__(self, name: str, here: Sequence[float], there: Sequence[float]) -> None:
        ratios = [one / other for one, other in zip(here, there, strict=True)]
        self.name = name
        self.here = statistics.median(here)
        self.there = statistics.median(there)
        self.ratio = statistics.median(ratios)
        self.low, self.high = interval(ratios)

    @property
    def is_worse(self) -> bool:
        """Whether all of the interval is more than is put up with."""
        return self.low > MAX_RATIO


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The ends of the interval, of confidence ``CONFIDENCE``, of the median of values."""
    dice = random.Random(SEED)
    medians = sorted(statistics.median(dice.choices(values, k=len(values))) for _ in range(RESAMPLES))
    beyond = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return medians[beyond], medians[-1 - beyond]


def report(options: argparse.Namespace, comparisons: Sequence[Comparison]) -> int:
    """Prints the table and gives the program's exit code."""
    print(f"here:  {options.here}\nthere: {options.there}")
    differing = differing_distributions(options.here.distributions, options.there.distributions)
    if differing:
        print(f"The environments differ in more than otel-wirecap: {differing}")
    print(
        f"\nrounds in turns: {options.rounds}; medians of the rounds, the median of their ratios here / there, and its "
        f"{CONFIDENCE:.0%} interval\n"
    )
    print("| | here | there | ratio | from | to | |\n|---|---|---|---|---|---|---|")
    for one in comparisons:
        verdict = "worse" if one.is_worse else ""
        print(
            f"| {one.name} | {digits(one.here)} | {digits(one.there)} | {one.ratio:.3f} | {one.low:.3f} | "
            f"{one.high:.3f} | {verdict} |"
        )
    worse = sum(one.is_worse for one in comparisons)
    print(f"\nworse, the whole interval above {MAX_RATIO}: {worse} of {len(comparisons)}")
    if options.rounds < MIN_ROUNDS:
        print(f"No interval of fewer than {MIN_ROUNDS} rounds can be relied on.")
    return WORSE if worse else 0


def differing_distributions(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """What else is installed in two environments, but not the same, as text."""
    names = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    told = [f"{name} {here.get(name, 'not')} here, {there.get(name, 'not')} there" for name in names]
    more = [f"and {len(told) - MAX_NAMED_DISTRIBUTIONS} more"] if len(told) > MAX_NAMED_DISTRIBUTIONS else []
    return "; ".join(told[:MAX_NAMED_DISTRIBUTIONS] + more)


def digits(value: float) -> str:
    """A figure with four digits, or all before the point where those are more."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
