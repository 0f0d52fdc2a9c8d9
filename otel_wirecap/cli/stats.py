"""``otel-wirecap stats [FILE …]``: summarises captures: errors, tokens, cost and latency."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from otel_wirecap.cli.captures import add_reading_parser, opened, tell, write, write_json
from otel_wirecap.cli.choosing import add_flow_choice, chosen_flows
from otel_wirecap.cli.flow_text import dollars
from otel_wirecap.cli.ls import show_groups
from otel_wirecap.cli.text import Cell, Column, Style, columns_of, cut, milliseconds, printable, table
from otel_wirecap.reading.prices import price_table
from otel_wirecap.reading.stats import statistics_of
from otel_wirecap.reading.summaries import GROUPINGS, grouped

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence

    from otel_wirecap.reading.distribution import Distribution
    from otel_wirecap.reading.flows import Flow
    from otel_wirecap.reading.stats import Statistics

EXAMPLES = """
otel-wirecap stats                                # the capture that WIRE_CAPTURE_FILE names
otel-wirecap stats --by key_name --since 24h
otel-wirecap stats --model claude --json | jq .duration_ms.p99
"""

_BY_DEFAULT = ("model", "backend")
_BARS, _PLAIN_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*%#"
_COLUMNS, _NAME = 16, 9

_TIMES = {
    "duration_ms": "total", "ttfb_ms": "headers", "first_chunk_ms": "first chunk", "backend_ttfb_ms": "backend headers",
    "backend_gap_ms": "backend chunk gap", "client_gap_ms": "client chunk gap", "added_ms": "added by proxy",
    "tokens_per_second": "tokens per second",
}  # fmt: skip


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = add_reading_parser(
        subparsers,
        "stats",
        "summarise captures in numbers",
        "Summarises flows: requests, errors by type, tokens, cost and latencies, with percentiles and histograms "
        "(from minimum to maximum, on a logarithmic scale).",
        EXAMPLES,
    )
    add_flow_choice(parser)
    parser.add_argument("--by", choices=GROUPINGS, help="group by this (default: by model, and by backend)")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    with opened(arguments) as captures:
        flows = chosen_flows(arguments, captures)
        statistics = statistics_of(flows)
        count = len(captures.flows())
    by = (arguments.by,) if arguments.by else _BY_DEFAULT
    if arguments.json:
        groups = {name: [group.document(name) for group in grouped(flows, name)] for name in by}
        write_json({**statistics.document(), "by": groups, "prices": price_table()})
        return 0
    if flows:
        for line in _page(statistics):
            write(line)
        for name in by:
            write("")
            show_groups(grouped(flows, name), name)
    _tell_about(statistics, flows, count)
    return 0


def _page(statistics: Statistics) -> Iterator[str]:
    style, width = Style(sys.stdout), columns_of(sys.stdout)
    for name, told in _facts(statistics):
        room = None if width is None else width - _NAME - 1
        yield f"{style(name.ljust(_NAME), 'dim')} {told if room is None else cut(told, room)}"
    yield ""
    bars = _bars(sys.stdout.encoding)
    columns = [
        Column("", least=12), Column("count", 3, right=True), Column("p50", right=True), Column("p90", 2, right=True),
        Column("p99", right=True), Column("max", 1, right=True), Column("least to most", 4),
    ]  # fmt: skip
    rows = [_row(title, name, getattr(statistics, name), bars) for name, title in _TIMES.items()]
    yield from table(columns, [row for row in rows if row[1].text != "0"], style, width)


def _facts(statistics: Statistics) -> Iterator[tuple[str, str]]:
    requests = f"{statistics.requests:,} by clients"
    if statistics.direct:
        requests += f", {statistics.direct:,} by scripts"
    yield "requests", f"{requests}; {statistics.attempts:,} attempts at backends"
    if statistics.open:
        yield "open", f"{statistics.open:,} have not ended"
    yield "failed", f"{statistics.failed:,} {_errors(statistics.client_errors)}".rstrip()
    if statistics.backend_errors:
        total = sum(statistics.backend_errors.values())
        yield "backends", f"{total:,} attempts failed {_errors(statistics.backend_errors)}"
    usage = statistics.usage
    cached = f", {usage.cache_written:,} written to cache" if usage.cache_written else ""
    reasoning = f" ({usage.reasoning:,} reasoning)" if usage.reasoning else ""
    yield "tokens", f"{usage.input:,} in ({usage.cached:,} cached{cached}), {usage.output:,} out{reasoning}"
    yield "cost", f"{dollars(statistics.cost)} {_missing(statistics.cost_missing)}".rstrip()


def _missing(reasons: Counter[str]) -> str:
    told = "; ".join(f"{printable(why)} ({count:,})" for why, count in reasons.most_common())
    return f"not complete: {told}" if told else ""


def _errors(errors: Counter[str]) -> str:
    told = ", ".join(f"{printable(kind)} {count:,}" for kind, count in errors.most_common())
    return f"({told})" if told else ""


def _row(title: str, name: str, values: Distribution, bars: str) -> list[Cell]:
    in_ms = name.endswith("_ms")

    def told(value: float | None) -> Cell:
        return Cell(milliseconds(value) if in_ms else "-" if value is None else f"{value:,.1f}")

    return [
        Cell(title), Cell(f"{values.count:,}"), *(told(values.percentile(percent)) for percent in (50, 90, 99)),
        told(values.most), Cell(_histogram(values, bars), "cyan"),
    ]  # fmt: skip


def _histogram(values: Distribution, bars: str) -> str:
    counts = values.histogram(_COLUMNS)
    most = max(counts, default=0)
    return "".join(bars[-(-count * (len(bars) - 1) // most)] for count in counts) if most else ""


def _bars(encoding: str) -> str:
    try:
        _BARS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return _PLAIN_BARS
    return _BARS


def _tell_about(statistics: Statistics, flows: Sequence[Flow], count: int) -> None:
    tell(f"{len(flows):,} of {count:,} flows")
    if statistics.cost.dollars is not None:
        tell(f"costs in US dollars by {price_table() or 'what the answers say'}")
