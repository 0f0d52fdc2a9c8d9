"""``otel-wirecap diff FLOW [FILE …]``: what the proxy changed on the way there and on the way back."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

import orjson

from otel_wirecap.cli.captures import add_reading_parser, opened, write, write_json
from otel_wirecap.cli.text import Style, columns_of, cut, printable
from otel_wirecap.errors import FlowNotFoundError
from otel_wirecap.reading.diff import Comparison, compared
from otel_wirecap.reading.json_diff import ADDED, CHANGED, DROPPED, MOVED, Difference
from otel_wirecap.reading.legs import legs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = """
otel-wirecap diff req_2b9cd61f
otel-wirecap diff req_2b9cd61f logs/wire_capture.log --headers
otel-wirecap diff req_2b9cd61f --json | jq '.comparisons[].body[]'
"""

_SIGNS = {ADDED: ("+", "green"), DROPPED: ("-", "red"), CHANGED: ("~", "yellow"), MOVED: (">", "cyan")}
_VALUE_COLUMNS, _AROUND = 60, 20


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = add_reading_parser(
        subparsers,
        "diff",
        "show what the proxy changed in one flow",
        "Compares the client's request with each request to a backend, and the backend's response with the client's. "
        "Exit code 1 if they differ.",
        EXAMPLES,
        subject=("FLOW", "id of a flow or of one of its exchanges, or the beginning of it"),
    )
    parser.add_argument("--headers", action="store_true", help="include headers that differ on every connection")
    parser.add_argument("--full", action="store_true", help="print values in full")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    with opened(arguments) as captures:
        flow = captures.flow(arguments.flow)
        comparisons = compared(legs_of(captures, flow))
    if not comparisons:
        missing = "no client leg" if flow.client is None else "no backend leg"
        raise FlowNotFoundError(f"{flow.request_id} has {missing}: there is nothing to compare")
    count = sum(one.count for one in comparisons)
    if arguments.json:
        write_json({
            "request_id": flow.request_id, "session_id": flow.session_id, "differences": count,
            "comparisons": [one.document() for one in comparisons],
        })  # fmt: skip
    else:
        style = Style(sys.stdout)
        write(style(printable(flow.request_id), "bold", "cyan"))
        for one in comparisons:
            for line in _told(one, style, arguments):
                write(line)
    return 1 if count else 0


def _told(one: Comparison, style: Style, arguments: argparse.Namespace) -> Iterator[str]:
    backend = f"{printable(one.backend or 'backend')}, attempt {one.attempt}"
    if one.part == "request":
        title = f"request  client → proxy, beside proxy → {backend}"
    else:
        title = f"response  {backend} → proxy, beside proxy → client"
    yield f"{style(f'── {title}', 'bold')}  {_verdict(one)}"
    if one.protocols is not None:
        yield style(f"  {one.protocols[0]} and {one.protocols[1]}: compared is what they have in common", "dim")
    for remark in one.remarks:
        yield style(f"  ({remark})", "yellow")
    width = columns_of(sys.stdout)
    groups = [("", one.line), ("header ", one.headers), ("", one.body)]
    if arguments.headers:
        groups.insert(2, ("header ", one.noise))
    for prefix, found in groups:
        for difference in found:
            sign, colour = _SIGNS[difference.kind]
            line = f"  {sign} {prefix}{printable(difference.path)}{_values(difference, full=arguments.full)}"
            yield style(line if width is None or arguments.full else cut(line, width), colour)


def _verdict(one: Comparison) -> str:
    if one.same_bytes is None:
        bytes_told = "not compared"
    elif not one.same_bytes:
        bytes_told = "other bytes" + ("" if one.body else " that say the same")
    elif one.same_chunks is None:
        bytes_told = "the same bytes"
    else:
        bytes_told = "the same bytes, " + ("chunk by chunk" if one.same_chunks else "cut into other chunks")
    return f"{one.count} {'difference' if one.count == 1 else 'differences'}; body: {bytes_told}"


def _values(difference: Difference, *, full: bool) -> str:
    if difference.kind == MOVED:
        return f" → {printable(str(difference.to))}"
    if difference.kind == ADDED:
        return f": {_value(difference.after, 0, full=full)}"
    if difference.kind == DROPPED:
        return f": {_value(difference.before, 0, full=full)}"
    before, after = _spelt(difference.before), _spelt(difference.after)
    same = next((n for n, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), 0)
    place = f" (now {printable(difference.to)})" if difference.to else ""
    return f"{place}: {_value(difference.before, same, full=full)} → {_value(difference.after, same, full=full)}"


def _value(value: Any, near: int, *, full: bool) -> str:
    """Returns a value on one line: in full, or only the part near a character."""
    text = _spelt(value)
    if full or len(text) <= _VALUE_COLUMNS:
        return printable(text)
    start = max(0, near - _AROUND) if near + _AROUND > _VALUE_COLUMNS else 0
    return ("…" if start else "") + cut(printable(text[start:]), _VALUE_COLUMNS)


def _spelt(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # whole numbers of more than 64 bits
        return repr(value)
