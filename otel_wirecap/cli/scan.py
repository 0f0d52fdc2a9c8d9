"""``otel-wirecap scan FILE…``: looks for secrets in captures and other files, and never prints one."""

from __future__ import annotations

import argparse
import json
import sys

from otel_wirecap.cli.options import add_capture_options, capture_settings
from otel_wirecap.config import load_config
from otel_wirecap.reading.scan import Finding, scan
from otel_wirecap.storage.recording import gate_of

PROBLEM, UNREADABLE = 1, 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "scan",
        help="look for secrets in captures and other files",
        description="Looks for secrets in captures, ours or other tools'; reports where they are, never what they are.",
        epilog="exit code: 0 none found, 1 found, 2 a file cannot be read",
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="a capture (its rotated files are found) or any other file"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per finding")
    add_capture_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    gate = gate_of(load_config(capture_settings(arguments)))
    found, unread = 0, 0
    for name in arguments.files:
        for finding in scan(name, gate):
            if isinstance(finding, Finding):
                found += finding.times
                _tell(finding, as_json=arguments.json)
            else:
                unread += 1
                place = f"{finding.file}:{finding.line}" if finding.line else str(finding.file)
                print(f"otel-wirecap: {place} cannot be read: damaged, encrypted or packed", file=sys.stderr)  # noqa: T201  # the command line
    nothing = "no secret found" + (" in what could be read" if unread else "")
    print(nothing if not found else f"{found} found", file=sys.stderr)  # noqa: T201  # the command line
    return PROBLEM if found else UNREADABLE if unread else 0


def _tell(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        told = {"file": str(finding.file), "line": finding.line, "rule": finding.rule, "count": finding.times}
        text = json.dumps(told, ensure_ascii=False)
    else:
        text = f"{finding.file}:{finding.line}: {finding.rule}" + (f" ({finding.times})" if finding.times > 1 else "")
    print(text)  # noqa: T201  # the command line
