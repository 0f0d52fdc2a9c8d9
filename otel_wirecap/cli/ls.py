"""``otel-wirecap ls [FILE …]``: lists flows in a table, selected and grouped."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from otel_wirecap.cli.captures import add_reading_parser, opened, tell, write_json, write_table
from otel_wirecap.cli.choosing import add_flow_choice, chosen_flows
from otel_wirecap.cli.flow_text import SHORT_ID, attempts, clock, dollars, outcome, outcome_style, unique_length
from otel_wirecap.cli.text import Cell, Column, columns_of, milliseconds, printable, shown_columns
from otel_wirecap.reading.prices import Cost, cost_of, price_table
from otel_wirecap.reading.summaries import GROUPINGS, Group, document, grouped
from otel_wirecap.reading.tally import why_nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_wirecap.reading.captures import Captures
    from otel_wirecap.reading.flows import Flow

_COST = "cost"
_MAX_REASONS = 3

EXAMPLES = """
otel-wirecap ls                                   # the capture that WIRE_CAPTURE_FILE names
otel-wirecap ls --failed --since 10m a.log b.log
otel-wirecap ls --slow 2s --model claude
otel-wirecap ls --by session
otel-wirecap ls --json | jq -r 'select(.status == 429) | .request_id'
zcat old.log.gz | otel-wirecap ls -
"""

COLUMNS = (
    Column("flow", least=SHORT_ID),
    Column("time (UTC)", rank=2, least=18),
    Column("session", rank=5),
    Column("client", rank=8, least=10),
    Column("model", least=10),
    Column("attempts", rank=4, least=12),
    Column("ttfb", rank=3, right=True),
    Column("total", rank=0, right=True),
    Column("in", rank=6, right=True),
    Column("cached", rank=9, right=True),
    Column("out", rank=6, right=True),
    Column(_COST, rank=10, right=True),
    Column("chunks", rank=7, right=True),
    Column("outcome", least=10),
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = add_reading_parser(
        subparsers,
        "ls",
        "list the flows of captures",
        "Lists flows: each client request with the backend attempts it caused.",
        EXAMPLES,
    )
    add_flow_choice(parser)
    parser.add_argument("--by", choices=GROUPINGS, help="group by this")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    with opened(arguments, with_texts=arguments.json and not arguments.by) as captures:
        flows = chosen_flows(arguments, captures)
        nothing = why_nothing(captures)
    with_costs = True
    if arguments.by:
        groups = grouped(flows, arguments.by)
        if arguments.json:
            for group in groups:
                write_json(group.document(arguments.by))
        else:
            show_groups(groups, arguments.by)
    elif arguments.json:
        for flow in flows:
            write_json(document(flow))
    else:
        with_costs = _show(flows)
    if not arguments.json:
        _tell_about(captures, flows, with_costs=with_costs)
        if nothing is not None:
            tell(f"nothing was captured: {nothing}")
    return 0


def _show(flows: Sequence[Flow]) -> bool:
    """Prints the flows; returns whether costs are shown. Without room for costs, the price table is not loaded."""
    if not flows:
        return False
    length = unique_length([flow.request_id for flow in flows])
    rows = [_row(flow, length) for flow in flows]
    place = next(number for number, column in enumerate(COLUMNS) if column.title == _COST)
    with_costs = place in shown_columns(COLUMNS, rows, columns_of(sys.stdout))
    if with_costs:
        for flow, row in zip(flows, rows, strict=True):
            row[place] = Cell(dollars(cost_of(flow)))
    write_table(COLUMNS, rows)
    return with_costs


def _row(flow: Flow, length: int) -> list[Cell]:
    """Returns a flow's cells, with a placeholder of the same width for its cost."""
    outer, usage = flow.outer, flow.usage
    return [
        Cell(printable(flow.request_id[:length]), "cyan"),
        Cell(clock(flow.started_unix)),
        Cell(printable(flow.session_id or "-")),
        Cell(printable(flow.client_name or "-")),
        Cell(printable(flow.model or "-")),
        Cell(attempts(flow)),
        Cell(milliseconds(outer.ttfb_ms)),
        Cell(milliseconds(outer.duration_ms)),
        Cell("-" if usage is None else str(usage.input)),
        Cell("-" if usage is None or not usage.cached else str(usage.cached)),
        Cell("-" if usage is None else str(usage.output)),
        Cell("" if usage is None else dollars(Cost(0.0))),
        Cell(str(outer.chunk_count) if outer.streamed else "-"),
        Cell(outcome(flow), outcome_style(outer)),
    ]


def show_groups(groups: Sequence[Group], by: str) -> None:
    """Prints grouped flows, or attempts, in a table."""
    by_attempt = any(group.by_attempt for group in groups)
    counts = ["attempts", "failed", "flows", "flows failed"] if by_attempt else ["flows", "failed", "attempts"]
    columns = [
        Column(by), *(Column(title, rank, right=True) for title, rank in zip(counts, (0, 1, 4, 4), strict=False)),
        Column("in", 2, right=True), Column("cached", 5, right=True), Column("out", 2, right=True),
        Column("cost", 3, right=True), Column("mean", 6, right=True), Column("first (UTC)", 8), Column("last (UTC)", 7),
    ]  # fmt: skip
    rows = [
        [
            Cell(printable(group.name or "-"), "cyan"), Cell(str(group.count)),
            Cell(str(group.failed), "red" if group.failed else ""),
            *(Cell(str(count)) for count in ([group.flows, group.failed_flows] if by_attempt else [group.attempts])),
            Cell(str(group.usage.input)), Cell(str(group.usage.cached)), Cell(str(group.usage.output)),
            Cell(dollars(group.cost)), Cell(milliseconds(group.mean_ms)),
            Cell(clock(group.first or 0.0)), Cell(clock(group.last or 0.0)),
        ]
        for group in groups
    ]  # fmt: skip
    write_table(columns, rows)


def _tell_about(captures: Captures, flows: Sequence[Flow], *, with_costs: bool) -> None:
    collected = captures.collect()
    told = f"{len(flows):,} of {len(collected.flows):,} flows, {collected.records:,} records"
    if collected.gaps:
        told += f"; the capture tells of {collected.gaps} gaps"
    if collected.damaged:
        told += f"; {collected.damaged} lines are damaged and were left out"
    tell(told)
    if not with_costs:
        return
    costs = [cost_of(flow) for flow in flows]
    if any(cost.dollars is not None for cost in costs):
        tell(f"costs in US dollars by {price_table() or 'what the answers say'}")
    missing = list(dict.fromkeys(why for cost in costs for why in cost.missing))
    if missing:
        more = f"; and {len(missing) - _MAX_REASONS} more reasons" if len(missing) > _MAX_REASONS else ""
        tell(f"costs are not complete: {printable('; '.join(missing[:_MAX_REASONS]))}{more}")
