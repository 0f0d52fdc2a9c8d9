"""The options that choose among flows, or among events, by what they are; alike for all commands that have them."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

from otel_wirecap.cli.captures import moment, span_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_wirecap.reading.captures import Captures
    from otel_wirecap.reading.flows import Flow

_NAMES = ("failed", "session", "backend", "model", "status", "direction")


def add_choice(parser: argparse.ArgumentParser, what: str) -> argparse._ArgumentGroup:
    """Adds the options, and gives their group; ``what`` is chosen, ``flows`` or ``events``."""
    group = parser.add_argument_group(f"which {what}")
    group.add_argument("--failed", action="store_true", help="that went wrong")
    group.add_argument("--session", metavar="ID", help="whose session's id begins so")
    group.add_argument("--backend", metavar="NAME", help="of this backend, be it at one attempt of several")
    group.add_argument("--model", metavar="TEXT", help="in whose model's name this stands")
    group.add_argument("--status", metavar="CODE", type=_status, help="with this status, on any leg: 429, 5xx")
    group.add_argument("--direction", metavar="NAME", help="of, or with a record of, this direction: stream_end")
    group.add_argument("--grep", metavar="REGEX", type=_pattern, help="in whose payload, or one of them, this is found")
    return group


def add_flow_choice(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds the options that choose among flows, and gives their group: as ``add_choice``, and by time and duration."""
    group = add_choice(parser, "flows")
    group.add_argument("--slow", metavar="TIME", type=span_ms, help="that took longer: 2s, 500ms")
    group.add_argument("--since", metavar="WHEN", type=moment, help="that began then or later: 10m (ago), a date")
    group.add_argument("--until", metavar="WHEN", type=moment, help="that began before")
    return group


def is_chosen(arguments: argparse.Namespace) -> bool:
    """Whether any of the options of ``add_flow_choice`` was given."""
    return any(getattr(arguments, name) for name in (*_NAMES, "grep", "slow", "since", "until"))


def chosen_flows(arguments: argparse.Namespace, captures: Captures) -> list[Flow]:
    """The flows that were chosen, in the order they began."""
    from otel_wirecap.reading.summaries import FlowFilter  # commands that show one flow do without

    among = frozenset(captures.flows_with(arguments.grep)) if arguments.grep else None
    times = {"slow_ms": arguments.slow, "since": arguments.since, "until": arguments.until}
    choice = FlowFilter(**chosen(arguments), **times, among=among)
    return [flow for flow in captures.flows() if choice.takes(flow)]


def chosen(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """What was chosen by them, as ``FlowFilter`` takes it; ``--grep`` is looked for where the payloads are."""
    return {name: getattr(arguments, name) for name in _NAMES}


def _status(text: str) -> str:
    if not re.fullmatch(r"[1-5][0-9xX]{2}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no status; expected 429, or 5xx for all of 500 to 599")
    return text


def _pattern(text: str) -> re.Pattern[bytes]:
    try:
        return re.compile(text.encode())
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None
