"""``otel-wirecap export --to KIND [FILE …]``: captures in other formats, redacted on export."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from otel_wirecap.cli.captures import add_reading_parser, opened, tell
from otel_wirecap.cli.choosing import add_flow_choice, chosen_flows, is_chosen
from otel_wirecap.config import load_config
from otel_wirecap.errors import CaptureFileError, ConfigurationError
from otel_wirecap.reading.export import KINDS, PARQUET, Exporter
from otel_wirecap.reading.resource import replacement
from otel_wirecap.storage.recording import gate_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_wirecap.reading.captures import Captures
    from otel_wirecap.reading.flows import Flow

EXAMPLES = """
otel-wirecap export --to har -o slow.har --slow 2s
otel-wirecap export --to bundle --flow req_2b9cd61f -o report.json
otel-wirecap export --to parquet -o traffic.parquet a.log b.log
otel-wirecap export --to jsonl capture.cbor | jq .direction
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = add_reading_parser(
        subparsers,
        "export",
        "convert captures to other formats",
        "Converts captures, or some of their flows, to another format: HTTP archive, Parquet, one of the capture "
        "formats, or a bug report with one flow, which all commands can read. Secrets are masked in captures of any "
        "origin.",
        EXAMPLES,
        in_json=False,
    )
    parser.add_argument("--to", metavar="KIND", choices=KINDS, required=True, help=", ".join(KINDS))
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, help="output file (default: standard output)")
    parser.add_argument("--force", action="store_true", help="overwrite OUT if it exists")
    parser.add_argument("--config", metavar="FILE", help="YAML file with redaction settings in its logging: section")
    add_flow_choice(parser).add_argument(
        "--flow",
        metavar="ID",
        action="append",
        default=[],
        help="this flow, by its id, an exchange's id, or the beginning of one; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    out: Path | None = arguments.output
    if out is not None and out.exists() and not arguments.force:
        raise ConfigurationError(f"{str(out)!r} is there; --force replaces it")
    if out is None and arguments.to == PARQUET:
        raise ConfigurationError("parquet is no stream; name the file to write with -o")
    given = {"capture_redaction": "on"} | ({"config": arguments.config} if arguments.config else {})
    gate = gate_of(load_config(given))
    with opened(arguments, with_texts=is_chosen(arguments) or not arguments.flow) as captures:
        flows = _chosen(arguments, captures)
        exporter = Exporter(captures, gate, flows)
        if flows is not None and not flows:
            tell("no flow is chosen: nothing is written")
            return 1
        try:
            pieces = exporter.pieces(arguments.to) if arguments.to != PARQUET else iter(())
            if out is None:
                sys.stdout.flush()
                for piece in pieces:
                    sys.stdout.buffer.write(piece)
                return 0
            _write_file(out, exporter, pieces, as_parquet=arguments.to == PARQUET)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
    tell(f"{out}: {out.stat().st_size:,} bytes")
    return 0


def _chosen(arguments: argparse.Namespace, captures: Captures) -> Sequence[Flow] | None:
    """Returns the selected flows; None for everything."""
    if not arguments.flow:
        return chosen_flows(arguments, captures) if is_chosen(arguments) else None
    named = {flow.request_id: flow for flow in map(captures.flow, arguments.flow)}
    if not is_chosen(arguments):
        return list(named.values())
    return [flow for flow in chosen_flows(arguments, captures) if flow.request_id in named]


def _write_file(out: Path, exporter: Exporter, pieces: Iterable[bytes], *, as_parquet: bool) -> None:
    try:
        with replacement(out) as (name, file):
            if as_parquet:
                from otel_wirecap.reading.sql import write_parquet

                write_parquet(exporter.lines(), name)
            for piece in pieces:
                file.write(piece)
    except OSError as error:
        raise CaptureFileError(f"{str(out)!r} cannot be written: {error.strerror or error}") from error
