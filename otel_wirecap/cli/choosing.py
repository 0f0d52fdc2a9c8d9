"""The options that select flows or events, shared by all commands that have them."""

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
    """Adds the options and returns their group; ``what`` is ``flows`` or ``events``."""
    group = parser.add_argument_group(f"select {what}")
    group.add_argument("--failed", action="store_true", help="only failed ones")
    group.add_argument("--session", metavar="ID", help="session id, or its beginning")
    group.add_argument("--backend", metavar="NAME", help="any attempt went to this backend")
    group.add_argument("--model", metavar="TEXT", help="requested or answering model contains TEXT")
    group.add_argument("--status", metavar="CODE", type=_status, help="status code on any leg: 429, 5xx")
    group.add_argument("--direction", metavar="NAME", help="has a record of this direction: stream_end")
    group.add_argument("--grep", metavar="REGEX", type=_pattern, help="a payload matches REGEX")
    return group


def add_flow_choice(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds the options that select flows and returns their group: those of ``add_choice``, plus time and duration."""
    group = add_choice(parser, "flows")
    group.add_argument("--slow", metavar="TIME", type=span_ms, help="took longer than TIME: 2s, 500ms")
    group.add_argument("--since", metavar="WHEN", type=moment, help="started at or after WHEN: 10m (ago), a date")
    group.add_argument("--until", metavar="WHEN", type=moment, help="started before WHEN")
    return group


def is_chosen(arguments: argparse.Namespace) -> bool:
    """Returns whether any option of ``add_flow_choice`` was given."""
    return any(getattr(arguments, name) for name in (*_NAMES, "grep", "slow", "since", "until"))


def chosen_flows(arguments: argparse.Namespace, captures: Captures) -> list[Flow]:
    """Returns the selected flows, in the order in which they began."""
    from otel_wirecap.reading.summaries import FlowFilter  # commands that show one flow do without

    among = frozenset(captures.flows_with(arguments.grep)) if arguments.grep else None
    times = {"slow_ms": arguments.slow, "since": arguments.since, "until": arguments.until}
    choice = FlowFilter(**chosen(arguments), **times, among=among)
    return [flow for flow in captures.flows() if choice.takes(flow)]


def chosen(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Returns the options as a ``FlowFilter``, except ``--grep``, which is matched where the payloads are."""
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
