"""``otel-wirecap import FILE … -o CAPTURE``: turns records in telemetry back into a capture."""

from __future__ import annotations

import argparse
import collections
from pathlib import Path

from otel_wirecap.cli.captures import tell
from otel_wirecap.config import load_config
from otel_wirecap.errors import CaptureFileError
from otel_wirecap.reading.otlp import carried_in
from otel_wirecap.storage.registry import open_writer, release_writer

NOTHING_FOUND = 1
_SECONDS = 30.0
_OF_PROCESSES = frozenset({"system_start", "system_stop"})
"""What a process tells of its own capture: in another one it would say something that is not so."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "import",
        help="make a capture of records in exported telemetry",
        description="Reads OTLP in JSON, as a Collector's file exporter writes it, and makes a capture of the records "
        "that span events or log records carry (capture_span_payloads), redacted anew.",
        epilog="examples:\n  otel-wirecap import otlp.json -o from_the_fleet.log\n"
        "exit code: 0 some found, 1 none found, 2 a file cannot be read",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="OTLP JSON: traces or logs")
    parser.add_argument("-o", "--output", metavar="CAPTURE", required=True, help="capture to append to")
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings for the capture written")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    given = {"capture_file": arguments.output} | ({"config": arguments.config} if arguments.config else {})
    config = load_config(given)
    seen: set[tuple[object, object]] = set()
    cut: collections.Counter[str] = collections.Counter()
    writer = None
    try:
        for path in arguments.files:
            for one in carried_in(path):
                if one.direction in _OF_PROCESSES or one.identity in seen:
                    continue
                writer = writer or open_writer(config)
                while not writer.put_document(one.document):
                    if not writer.flush(_SECONDS):
                        raise CaptureFileError(f"{arguments.output!r} cannot be written")
                seen.add(one.identity)
                if one.is_cut:
                    cut[one.capture_file] += 1
    except OSError as error:
        raise CaptureFileError(f"{error.filename!r} cannot be read: {error.strerror or error}") from error
    finally:
        if writer is not None:
            release_writer(writer, _SECONDS)
    tell(f"{len(seen):,} {'record' if len(seen) == 1 else 'records'}")
    for file, count in sorted(cut.items()):
        tell(f"{count:,} of them were cut on their way; whole in {file or 'the capture that they are from'}")
    if not seen:
        tell("no span event and no log record carries one: was capture_span_payloads on?")
    return 0 if seen else NOTHING_FOUND
