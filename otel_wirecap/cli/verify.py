"""``otel-wirecap verify [FILE …]``: checks that captures are complete, and reports where they are not."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from otel_wirecap.cli.captures import add_reading_parser, opened, tell, write, write_json
from otel_wirecap.cli.text import Style, printable
from otel_wirecap.reading.verify import Verification

if TYPE_CHECKING:
    from otel_wirecap.reading.verify import Problem

PROBLEM = 1

EXAMPLES = """
otel-wirecap verify                               # the capture that WIRE_CAPTURE_FILE names
otel-wirecap verify a.log b.cbor && echo whole
otel-wirecap verify --json | jq -r 'select(.problem) | .exchange_id' | sort -u
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    add_reading_parser(
        subparsers,
        "verify",
        "check captures for missing or damaged records",
        "Checks that captures are complete: every line is a record, no process skips a number, every exchange has its "
        "request and its end, every stream all its chunks and bytes, and the capture itself reports no loss. "
        "Exit code: 0 complete, 1 not.",
        EXAMPLES,
        indexed=False,
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    verification, style, count = Verification(), Style(sys.stdout), 0
    with opened(arguments) as captures:
        for problem in verification.problems(captures):
            count += 1
            if arguments.json:
                write_json(problem.document())
            else:
                write(_line(problem, style))
    if arguments.json:
        write_json({**verification.document(), "problems": count})
    else:
        _tell_about(verification, count)
    return PROBLEM if count else 0


def _line(problem: Problem, style: Style) -> str:
    place = f"{printable(str(problem.place.file))}:{problem.place.line}:"
    about = f" ({printable(problem.exchange_id)})" if problem.exchange_id is not None else ""
    return f"{style(place, 'cyan')} {style(problem.kind, 'red')}: {printable(problem.message)}{about}"


def _tell_about(verification: Verification, count: int) -> None:
    whole = "whole" if not verification.encrypted else "no problem in what was checked"
    found = whole if not count else "1 problem" if count == 1 else f"{count:,} problems"
    tell(
        f"{found}: {verification.records:,} records of {verification.exchanges:,} exchanges, "
        f"written by {verification.processes:,} {'process' if verification.processes == 1 else 'processes'}"
    )
    if verification.encrypted:
        tell(f"encrypted, not checked: {verification.encrypted:,} files")
    if verification.rotated_away:
        tell(f"{verification.rotated_away:,} processes and exchanges began in files that are rotated away")
    if verification.running:
        tell(f"{verification.running:,} exchanges have no end yet: their process still runs")
    if verification.unnumbered:
        tell(f"{verification.unnumbered:,} records have no number: whether some are missing cannot be known")
