"""``otel-wirecap tail [-F] [FILE]``: the last events of a capture, or whole flows as they end; live with ``-F``."""

from __future__ import annotations

import argparse
import select
import sys
import time
from typing import TYPE_CHECKING, Any

from otel_wirecap.cli.captures import add_reading_parser, named, tell, write, write_json
from otel_wirecap.cli.ls import attempts, clock, outcome
from otel_wirecap.cli.text import milliseconds, printable, size
from otel_wirecap.errors import CaptureFileError
from otel_wirecap.reading.follow import FlowWatch, Follower
from otel_wirecap.reading.summaries import document

if TYPE_CHECKING:
    from otel_wirecap.reading.flows import Flow
    from otel_wirecap.reading.reader import Record

POLL_SECONDS = 0.1
SETTLED_SECONDS = 0.5
SHORT_ID = 12

EXAMPLES = """
otel-wirecap tail
otel-wirecap tail -F logs/wire_capture.log
otel-wirecap tail -F --flows --json logs/wire_capture.log | jq .error
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = add_reading_parser(
        subparsers,
        "tail",
        "follow a capture live",
        "Shows the last events of a capture, one a line; with -F all that come from then on, over rotations.",
        EXAMPLES,
    )
    parser.add_argument(
        "-F", "--follow", action="store_true", help="go on with what comes; wait for a capture that is not there yet"
    )
    parser.add_argument(
        "-n", "--last", metavar="N", type=_count, default=10, help="so many that are there (default 10)"
    )
    parser.add_argument("--flows", action="store_true", help="whole flows, as they end, in place of events")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code.

    Raises:
        CaptureFileError: several captures are named, or there is none and none is waited for.
    """
    names = named(arguments)
    if len(names) > 1:
        raise CaptureFileError(f"tail follows one capture; {len(names)} are named")
    watch = FlowWatch(SETTLED_SECONDS) if arguments.flows else None
    with Follower(names[0], tell) as follower:
        if not follower.is_there:
            if not arguments.follow:
                raise CaptureFileError(f"capture {names[0]!r} cannot be read: no such file")
            tell(f"capture {names[0]!r} is not there yet; waiting for it")
        for record, _ in follower.last(arguments.last, lambda _record, _line: True):
            _take(record, watch, as_json=arguments.json)
        if watch is not None:
            _show_ended(watch, time.monotonic() + SETTLED_SECONDS, as_json=arguments.json)
        while arguments.follow and not _is_closed():
            for record, _ in follower.new():
                _take(record, watch, as_json=arguments.json)
            if watch is not None:
                _show_ended(watch, time.monotonic(), as_json=arguments.json)
            sys.stdout.flush()
            time.sleep(POLL_SECONDS)
    return 0


def _take(record: Record, watch: FlowWatch | None, *, as_json: bool) -> None:
    if watch is not None:
        watch.add(record, time.monotonic())
    elif as_json:
        write_json(record)
    else:
        write(_line(record))


def _show_ended(watch: FlowWatch, now: float, *, as_json: bool) -> None:
    for flow in watch.ended(now):
        if as_json:
            write_json(document(flow))
        else:
            write(_flow_line(flow))


def _line(record: Record) -> str:
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
    took = milliseconds((flow.ended - flow.started) * 1000)
    told = (printable(flow.client_name or "-"), printable(flow.model or "-"), attempts(flow), took, outcome(flow))
    return f"{clock(flow.started)}  {printable(flow.request_id)[:SHORT_ID]}  {'  '.join(told)}"


def _is_closed() -> bool:
    """Whether nobody reads stdout any more; a pipe tells before something is written to it."""
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
