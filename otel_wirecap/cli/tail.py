"""``otel-wirecap tail [-F] [FILE]``: the last events of a capture, or whole flows as they end; live with ``-F``."""

from __future__ import annotations

import argparse
import select
import sys
import time
from typing import TYPE_CHECKING, Any

from otel_wirecap.cli.captures import add_reading_parser, named, tell, write, write_json
from otel_wirecap.cli.choosing import add_choice, chosen
from otel_wirecap.cli.flow_text import SHORT_ID, attempts, clock, outcome
from otel_wirecap.cli.text import milliseconds, printable, size
from otel_wirecap.errors import CaptureFileError
from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.follow import FlowWatch, Follower
from otel_wirecap.reading.lines import payload_text
from otel_wirecap.reading.sources import STDIN
from otel_wirecap.reading.summaries import FlowFilter, document

if TYPE_CHECKING:
    import re

    from otel_wirecap.reading.flows import Flow
    from otel_wirecap.reading.lines import RawRecord

POLL_SECONDS = 0.1
SETTLED_SECONDS = 0.5

EXAMPLES = """
otel-wirecap tail
otel-wirecap tail -F logs/wire_capture.log
otel-wirecap tail -F --failed --backend openai
otel-wirecap tail -F --flows --json logs/wire_capture.log | jq .error
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = add_reading_parser(
        subparsers,
        "tail",
        "follow a capture live",
        "Shows the last events of a capture, one per line; with -F, follows it across rotations.",
        EXAMPLES,
        indexed=False,
    )
    parser.add_argument(
        "-F", "--follow", action="store_true", help="keep following; wait for a capture that does not exist yet"
    )
    parser.add_argument("-n", "--last", metavar="N", type=_count, default=10, help="start with the last N (default 10)")
    parser.add_argument("--flows", action="store_true", help="print whole flows as they end, instead of events")
    add_choice(parser, "events, or flows")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code.

    Raises:
        CaptureFileError: several captures are named, or none exists and ``-F`` was not given.
        CaptureFormatError: the file is not a capture, or is empty, and ``-F`` was not given.
    """
    names = named(arguments)
    if len(names) > 1:
        raise CaptureFileError(f"tail follows one capture; {len(names)} are named")
    if not arguments.follow and names[0] != STDIN:
        with Captures(names, use_index=False):
            pass  # says what is no capture; with -F it may become one
    show = _Show(arguments)
    with Follower(names[0], tell) as follower:
        if not follower.is_there:
            tell(f"capture {names[0]!r} is not there yet; waiting for it")
        for record, line in follower.last(arguments.last, show.takes):
            show.take(record, line)
        show.ended(time.monotonic() + SETTLED_SECONDS)
        while arguments.follow and not _is_closed():
            for record, line in follower.new():
                if show.takes(record, line):
                    show.take(record, line)
            show.ended(time.monotonic())
            sys.stdout.flush()
            time.sleep(POLL_SECONDS)
    return 0


class _Show:
    """Prints the selected events, or flows as they end."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._choice = FlowFilter(**chosen(arguments))
        self._pattern: re.Pattern[bytes] | None = arguments.grep
        self._as_json: bool = arguments.json
        self._watch = FlowWatch(SETTLED_SECONDS) if arguments.flows else None

    def takes(self, record: RawRecord, line: bytes) -> bool:
        """Returns whether a record is needed. For flows all are: they are selected only after they end."""
        return self._watch is not None or (self._choice.takes_record(record) and self._is_found(line))

    def take(self, record: RawRecord, line: bytes) -> None:
        """Prints an event, or keeps it for its flow."""
        if self._watch is not None:
            self._watch.add(record, time.monotonic(), is_wanted=self._is_found(line))
        elif self._as_json:
            write_json(record)
        else:
            write(_line(record))

    def ended(self, now: float) -> None:
        """Prints the flows that have ended."""
        for flow in self._watch.ended(now) if self._watch is not None else ():
            if not self._choice.takes(flow):
                continue
            if self._as_json:
                write_json(document(flow))
            else:
                write(_flow_line(flow))

    def _is_found(self, line: bytes) -> bool:
        return self._pattern is None or self._pattern.search(payload_text(line)) is not None


def _line(record: RawRecord) -> str:
    metadata: dict[str, Any] = record["metadata"]
    flow = printable(str(metadata.get("request_id", "-")))[:SHORT_ID]
    facts = [f"{record['source']} → {record['destination']}", record.get("model") or ""]
    facts += [f"{metadata[name]}" for name in ("method", "url", "status_code", "outcome") if metadata.get(name)]
    if "chunk_number" in metadata:
        facts.append(f"#{metadata['chunk_number']}")
    if record.get("content_length"):
        facts.append(size(record["content_length"]))
    if "duration_ms" in metadata:
        facts.append(milliseconds(metadata["duration_ms"]))
    if isinstance(metadata.get("error"), dict):
        facts.append(f"! {metadata['error'].get('type')}: {metadata['error'].get('message')}")
    told = printable("  ".join(str(fact) for fact in facts if fact))
    return f"{clock(record['timestamp_unix'])}  {flow:{SHORT_ID}}  {printable(record['direction']):21}  {told}"


def _flow_line(flow: Flow) -> str:
    took = milliseconds((flow.ended_unix - flow.started_unix) * 1000)
    told = (printable(flow.client_name or "-"), printable(flow.model or "-"), attempts(flow), took, outcome(flow))
    return f"{clock(flow.started_unix)}  {printable(flow.request_id)[:SHORT_ID]}  {'  '.join(told)}"


def _is_closed() -> bool:
    """Returns whether the reader of stdout has gone; a pipe reports this before it is written to."""
    watched = select.poll()
    try:
        watched.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):
        return False
    return any(happened & select.POLLERR for _, happened in watched.poll(0))


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of events; expected a whole number, 0 or more")
    return int(text)
