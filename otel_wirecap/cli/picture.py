"""A picture of a capture's flows in the terminal: each flow's legs on one clock, then the totals.

What a colour says is also said in words; characters of the data that would command the terminal are escaped.
"""

from __future__ import annotations

import collections
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, TextIO, TypeAlias

from otel_wirecap.cli.text import milliseconds, printable, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_wirecap.reading.flows import Exchange, Flow

MOST_WIDTH = 120
LEG_WIDTH = 13
NUMBERS_WIDTH = 47
"""Status, time to first byte, duration, chunks, bytes, outcome, with the spaces before them."""

LEAST_BAR = 8

OUTCOMES = {"client_disconnect": "client left"}
GOOD, ODD, BAD, DIM = "green", "yellow", "red", "dim"
CLIENT_ERRORS, SERVER_ERRORS = 400, 500


Line: TypeAlias = list[tuple[str, str]]
"""Pieces of text with their styles."""


class Marks(NamedTuple):
    """The characters that the picture is made of."""

    wait: str
    body: str
    branch: str
    more: str
    arrow: str


UNICODE = Marks("░", "█", "└─ ", "…", "→")
ASCII = Marks(".", "#", "`- ", "~", "->")


def print_picture(
    flows: Sequence[Flow],
    stream: TextIO,
    *,
    records: int = 0,
    gaps: Sequence[dict[str, object]] = (),
    width: int | None = None,
) -> None:
    """Prints the picture.

    Args:
        flows: in the order to show them.
        stream: where to print; colours only on a terminal, and not with ``NO_COLOR`` set.
        records: how many records the flows were read from.
        gaps: what the capture says was lost.
        width: columns; default: the terminal's, 80 where there is none.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, width=width, highlight=False, soft_wrap=True)
    marks = UNICODE if _can_encode(console.encoding, "".join(UNICODE)) else ASCII
    columns = max(min(console.width, MOST_WIDTH), LEG_WIDTH + NUMBERS_WIDTH + LEAST_BAR)
    for line in picture_lines(flows, columns, marks, records=records, gaps=gaps):
        console.print(Text.assemble(*line, no_wrap=True, overflow="ignore"), soft_wrap=True)


def picture_lines(
    flows: Sequence[Flow],
    columns: int,
    marks: Marks = UNICODE,
    *,
    records: int = 0,
    gaps: Sequence[dict[str, object]] = (),
) -> list[Line]:
    """The picture's lines, each at most ``columns`` characters wide where that leaves room for a bar."""
    bar_width = columns - LEG_WIDTH - NUMBERS_WIDTH
    heading = "leg".ljust(LEG_WIDTH) + "one clock a flow"[:bar_width].ljust(bar_width)
    numbers = _numbers("status", "first", "total", "chunks", "bytes") + " outcome"
    lines: list[Line] = [
        [
            (f"client {marks.arrow} proxy {marks.arrow} backend and back;  ", "bold"),
            (f"{marks.wait} waiting for the first byte  {marks.body} body", DIM),
        ],
        [(heading + numbers, DIM)],
    ]
    for number, flow in enumerate(flows, 1):
        lines.append(_title(number, flow, columns, marks))
        clock = _Clock(flow.started, flow.ended, bar_width)
        for exchange in flow.exchanges:
            lines.extend(_leg(exchange, clock, columns, marks))
    lines.append([])
    lines.extend(_totals(flows, records, gaps))
    return lines


class _Clock(NamedTuple):
    """A flow's time on the columns of its bar."""

    started: float
    ended: float
    width: int

    def column(self, moment: float) -> int:
        span = self.ended - self.started
        place = (moment - self.started) / span if span > 0 else 0.0
        return round(min(max(place, 0.0), 1.0) * self.width)

    def bar(self, exchange: Exchange, marks: Marks) -> str:
        """Spaces until the request, then the wait for the first byte, then the body until the end."""
        if exchange.started is None:
            return " " * self.width
        end_ms = exchange.duration_ms or exchange.ttfb_ms or 0.0
        first_ms = end_ms if exchange.ttfb_ms is None else exchange.ttfb_ms
        begin = min(self.column(exchange.started), self.width - 1)
        first = self.column(exchange.started + first_ms / 1000)
        end = max(self.column(exchange.started + end_ms / 1000), begin + 1)
        wait = min(max(first - begin, 0), end - begin)
        return (" " * begin + marks.wait * wait + marks.body * (end - begin - wait)).ljust(self.width)


def _title(number: int, flow: Flow, columns: int, marks: Marks) -> Line:
    first = flow.exchanges[0]
    moment = datetime.fromtimestamp(flow.started, UTC).strftime("%H:%M:%S.%f")[:-3]
    head = f"{number:>3}  "
    tail = f"  {moment}"
    what = " ".join(printable(part) for part in (first.method, first.path, flow.model or "") if part)
    room = columns - len(head) - len(tail)
    return [(head, DIM), (_cut(what, room, marks).ljust(room), "bold"), (tail, DIM)]


def _leg(exchange: Exchange, clock: _Clock, columns: int, marks: Marks) -> list[Line]:
    name = "client" if exchange.leg == "client" else marks.branch + printable(exchange.backend or "backend")
    style = _style(exchange)
    numbers = _numbers(
        "-" if exchange.status is None else str(exchange.status),
        milliseconds(exchange.ttfb_ms),
        milliseconds(exchange.duration_ms),
        str(exchange.chunks) if exchange.streamed else "-",
        size(exchange.bytes),
    )
    lines: list[Line] = [
        [
            (_cut(name, LEG_WIDTH - 1, marks).ljust(LEG_WIDTH), ""),
            (clock.bar(exchange, marks), style),
            (numbers, ""),
            (" " + _outcome(exchange), style),
        ]
    ]
    if exchange.error is not None:
        text = ": ".join(
            printable(str(exchange.error[part])) for part in ("type", "message") if exchange.error.get(part)
        )
        lines.append([(" " * LEG_WIDTH + _cut("! " + text, columns - LEG_WIDTH, marks), style)])
    return lines


def _numbers(status: str, first: str, total: str, chunks: str, body: str) -> str:
    return f" {status:>6} {first:>6} {total:>6} {chunks:>6} {body:>6}"


def _outcome(exchange: Exchange) -> str:
    if exchange.outcome is None:
        return "not ended"
    return OUTCOMES.get(exchange.outcome, printable(exchange.outcome))


def _style(exchange: Exchange) -> str:
    status = exchange.status or 0
    if exchange.outcome == "error" or exchange.error is not None or status >= SERVER_ERRORS:
        return BAD
    if status >= CLIENT_ERRORS or exchange.outcome != "complete":
        return ODD
    return GOOD


def _totals(flows: Sequence[Flow], records: int, gaps: Sequence[dict[str, object]]) -> list[Line]:
    exchanges = [exchange for flow in flows for exchange in flow.exchanges]
    backend = [exchange for exchange in exchanges if exchange.leg != "client"]
    outcomes = collections.Counter(_outcome(exchange) for exchange in exchanges)
    counted = (
        f"{_count(len(flows), 'flow')}, {_count(len(exchanges), 'exchange')}"
        + (f", {_count(records, 'record')}" if records else "")
        + f"; {_count(sum(one.chunks for one in backend), 'chunk')} and "
        f"{size(sum(one.bytes for one in backend))} from backends"
    )
    ended = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
    lines: list[Line] = [[(counted, "bold")], [("outcomes: " + (ended or "none"), "")]]
    if gaps:
        reasons = collections.Counter(printable(str(gap.get("reason", "unknown"))) for gap in gaps)
        told = ", ".join(f"{reason} ({number})" for reason, number in reasons.most_common())
        lines.append([(f"{_count(len(gaps), 'gap')} in the capture: {told}", BAD)])
    else:
        lines.append([("no gaps: nothing was lost", GOOD)])
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _cut(text: str, width: int, marks: Marks) -> str:
    if len(text) <= width:
        return text
    return text[: max(width - len(marks.more), 0)] + marks.more


def _can_encode(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True
