"""The command line: one module a command. Data goes to stdout, everything else to stderr.

Exit codes: 0, 1 (problems found), 2 (usage), 130 (interrupted); ``run`` returns its command's code.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from otel_wirecap.errors import WireCaptureError
from otel_wirecap.version import __version__


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands; each sets ``func``."""
    from otel_wirecap.cli import demo, proxy, run, scan

    parser = argparse.ArgumentParser(
        prog="otel-wirecap",
        description="The flight recorder for LLM gateways.",
    )
    parser.add_argument("--version", action="version", version=f"otel-wirecap {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (run, proxy, demo, scan):
        command.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parsed = build_parser().parse_args(arguments)
    try:
        return int(parsed.func(parsed))
    except WireCaptureError as error:
        print(f"otel-wirecap: {error}", file=sys.stderr)  # noqa: T201  # this is the command line
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever reads has seen enough; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
