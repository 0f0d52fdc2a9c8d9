"""Shared by all commands that read captures: file arguments, ``--json``, times and durations."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from otel_wirecap.cli.text import Style, columns_of, progress_bar, table
from otel_wirecap.environment import DEFAULT_CAPTURE_FILE, default_capture_file, environment_variable
from otel_wirecap.errors import CaptureFileError
from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.prices import remember

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_wirecap.cli.text import Cell, Column

_UNITS_MS = {"ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0, "d": 86_400_000.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def add_reading_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    description: str,
    examples: str,
    *,
    subject: tuple[str, str] | None = None,
    indexed: bool = True,
    in_json: bool = True,
) -> argparse.ArgumentParser:
    """Registers a command that reads captures: its help with examples, its captures, ``--json``.

    Args:
        subparsers: where to register it.
        name: the command's name.
        summary: half a line for the list of commands.
        description: what it does.
        examples: command lines, one per line.
        subject: an argument before the captures: its name (``FLOW``) and its help.
        indexed: whether it can use an index; adds ``--no-index``.
        in_json: whether it prints results; adds ``--json``.
    """
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if subject is not None:
        parser.add_argument(subject[0].lower(), metavar=subject[0], help=subject[1])
        parser.set_defaults(subject=(name, subject[0]))
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        default=[],
        help="captures; rotated files are found; - reads standard input (default: "
        f"${environment_variable('capture_file')}, else {DEFAULT_CAPTURE_FILE})",
    )
    if in_json:
        parser.add_argument("--json", action="store_true", help="print JSON Lines instead of text")
    if indexed:
        parser.add_argument("--no-index", action="store_true", help="do not use or write the index cache")
    return parser


def named(arguments: argparse.Namespace) -> list[str]:
    """Returns the captures named on the command line, else the one in the environment, else the default.

    Raises:
        CaptureFileError: none is named, and the flow (or other subject) given is a file.
    """
    if arguments.files:
        return list(arguments.files)
    default = default_capture_file()
    if "subject" in arguments:
        name, subject = arguments.subject
        given = getattr(arguments, subject.lower())
        if _is_file(given) and not _is_file(default):
            raise CaptureFileError(
                f"{given!r} is a file; expected {subject} before it: otel-wirecap {name} {subject} FILE"
            )
    return [default]


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # too long for a name: a query
        return False


@contextlib.contextmanager
def opened(arguments: argparse.Namespace, *, with_texts: bool = False) -> Iterator[Captures]:
    """Opens the captures named on the command line, with a progress bar on stderr while they are read.

    Args:
        arguments: the command line.
        with_texts: whether the queries of all URLs or the messages of all errors are wanted, which no index holds.

    Raises:
        CaptureFileError: one of them cannot be read.
    """
    use_index = "no_index" in arguments and not arguments.no_index and not with_texts
    if use_index:
        remember()
    with (
        progress_bar() as progress,
        Captures(named(arguments), use_index=use_index, progress=progress) as captures,
    ):
        if captures.encrypted:
            names = " ".join(repr(str(path)) for path in captures.encrypted)
            tell(f"left out because encrypted: {names}; decrypt each: age --decrypt -i KEY -o NAME NAME.age")
        yield captures


def write(text: str) -> None:
    """Writes a line of data to stdout; escapes what its encoding lacks, except the truncation mark."""
    try:
        sys.stdout.write(text + "\n")
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        sys.stdout.write(text.replace("…", "~").encode(encoding, "backslashreplace").decode(encoding) + "\n")


def write_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    """Writes a table to stdout; nothing where it has no rows."""
    for line in table(columns, rows, Style(sys.stdout), columns_of(sys.stdout)) if rows else ():
        write(line)


def write_json(document: object) -> None:
    """Writes a JSON object as one line to stdout."""
    sys.stdout.flush()
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))


def tell(text: str) -> None:
    """Prints a notice to stderr."""
    sys.stderr.write(f"otel-wirecap: {text}\n")


def span_ms(text: str) -> float:
    """``2s``, ``500ms``, ``1.5m``, ``1h``: returns milliseconds. For ``type=`` of an argument.

    Raises:
        ArgumentTypeError: it is not a duration.
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; expected a number with ms, s, m, h or d: 2s")
    return float(match[1]) * _UNITS_MS[match[2]]


def moment(text: str) -> float:
    """``2026-01-10T15:58``, in UTC by default, or ``10m`` (ago); returns seconds since the epoch.

    Raises:
        ArgumentTypeError: it is not a time.
    """
    if _SPAN.fullmatch(text.strip()):
        return time.time() - span_ms(text) / 1000
    try:
        told = datetime.fromisoformat(text.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no moment; expected 2026-01-10T15:58:41+02:00 (UTC without a zone), or 10m for so long ago"
        ) from None
    return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
