"""``otel-wirecap timeline FLOW|SESSION [FILE …]``: both legs on one clock, a waterfall in the terminal."""

from __future__ import annotations

import argparse
import itertools
import sys
import textwrap
from typing import TYPE_CHECKING

from otel_wirecap.cli.captures import add_reading_parser, opened, span_ms, tell, write, write_json
from otel_wirecap.cli.flow_text import clock, ended, error_text, outcome_style, unique_length
from otel_wirecap.cli.text import Style, columns_of, cut, milliseconds, printable, size, width_of
from otel_wirecap.errors import FlowNotFoundError
from otel_wirecap.reading.flows import CLIENT
from otel_wirecap.reading.timeline import GAP_MS, WAITING, Lane, Timeline, timeline_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from otel_wirecap.reading.captures import Captures
    from otel_wirecap.reading.flows import Flow

EXAMPLES = """
otel-wirecap timeline req_2b9cd61f
otel-wirecap timeline req_2b9cd61f logs/wire_capture.log --gap 250ms
otel-wirecap timeline 5f0c --json | jq '.lanes[].stalls[]'
"""

_WAIT, _RECEIVE, _CHUNK, _STALL, _OWN, _END, _FAIL, _LEFT, _OPEN = "─░█╌▓┤✗◁▷"
_PLAIN = str.maketrans("─░█╌▓┤✗◁▷·…", "-:#.%|x<>.~")
"""What stands in their place where the output's encoding has none of them."""

_STYLES = {_WAIT: "dim", _RECEIVE: "cyan", _CHUNK: "cyan", _STALL: "red", _OWN: "yellow", _FAIL: "red", _LEFT: "yellow"}
_LEGEND = (
    (_WAIT, "waiting for the first byte"), (_RECEIVE, "receiving"), (_CHUNK, "chunk"), (_STALL, "stalled"),
    (_OWN, "the proxy's own time"), (_END, "end"), (_FAIL, "failed"), (_LEFT, "client left"), (_OPEN, "not ended"),
)  # fmt: skip
_WIDE, _USUAL = 80, 100
"""From so many columns on the facts stand beside the bar; so many there are where the output is no terminal."""

_SUBJECT = "FLOW|SESSION"
_MIN_BAR, _MAX_LABEL = 16, 20
_STEPS = (1, 2, 5)
_OUTLIVED_MS = 50.0
"""An attempt that goes on for longer after its client left is told."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = add_reading_parser(
        subparsers,
        "timeline",
        "show a flow or a session on one clock",
        "Shows what happened when, on both legs: waiting, receiving, chunks, stalls, retries, and the time the proxy "
        "itself took.",
        EXAMPLES,
        subject=(_SUBJECT, "id of a flow, of one of its exchanges, or of a session, or the beginning of it"),
    )
    parser.add_argument(
        "--gap",
        metavar="TIME",
        type=span_ms,
        default=GAP_MS,
        help="report a stall after this long without a chunk: 250ms (default 1s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    with opened(arguments) as captures:
        flows = _chosen(captures, vars(arguments)[_SUBJECT.lower()])
        if arguments.json:
            for flow in flows:
                write_json(timeline_of(captures, flow, gap_ms=arguments.gap).document())
            return 0
        timelines = [timeline_of(captures, flow, gap_ms=arguments.gap) for flow in flows]
    for line in _TimelinePage(timelines).lines():
        write(line)
    stalls = sum(len(lane.stalls) for one in timelines for lane in one.lanes)
    if stalls:
        tell(f"{stalls} {'stall' if stalls == 1 else 'stalls'} of {milliseconds(arguments.gap)} or more")
    return 0


def _chosen(captures: Captures, prefix: str) -> list[Flow]:
    """Returns the flow with this id, else the flows of the session."""
    try:
        return [captures.flow(prefix)]
    except FlowNotFoundError as no_flow:
        try:
            return captures.session(prefix)
        except FlowNotFoundError as no_session:
            raise FlowNotFoundError(f"{no_flow}; {no_session}") from None


class _TimelinePage:
    """Timelines on one clock, to be read by a person. No line is wider than the terminal."""

    def __init__(self, timelines: Sequence[Timeline]) -> None:
        self._timelines = timelines
        self._style = Style(sys.stdout)
        self._width = columns_of(sys.stdout) or _USUAL
        self._translate = _translation(sys.stdout.encoding)
        self._start = min(one.start for one in timelines)
        self._seconds = max(max(one.end for one in timelines) - self._start, 0.000_001)
        labels = [_label(lane) for one in timelines for lane in one.lanes]
        self._label = min(max([len("proxy"), *map(width_of, labels)]), _MAX_LABEL)
        facts = [_facts(lane) for one in timelines for lane in one.lanes] + [_own_told(one) for one in timelines]
        beside = self._width - self._label - 2 - 2 - max(map(width_of, facts), default=0)
        self._is_wide = self._width >= _WIDE and beside >= max(_MIN_BAR, self._width // 3)
        self._bar = beside if self._is_wide else self._width - 2

    def lines(self) -> Iterator[str]:
        """Returns the lines of the page."""
        several = len(self._timelines) > 1
        if several:
            first = self._timelines[0].flow
            told = f"session {first.session_id}  {clock(self._start)} UTC  {milliseconds(self._seconds * 1000)}"
            yield self._cut(printable(told), "bold")
        length = unique_length([one.flow.request_id for one in self._timelines]) if several else None
        yield self._ruler()
        used: set[str] = set()
        for one in self._timelines:
            yield self._cut(self._title(one, length), "bold")
            yield from self._rows(one, used)
        yield from self._legend(used)

    def _title(self, one: Timeline, length: int | None) -> str:
        flow = one.flow
        told = [flow.request_id[:length]]
        if length is None:
            told += [f"{clock(one.start)} UTC", milliseconds((one.end - one.start) * 1000)]
        else:
            told.append(f"+{milliseconds((one.start - self._start) * 1000)}")
        told += [flow.model or "", flow.client_name]
        return printable("  ".join(part for part in told if part))

    def _rows(self, one: Timeline, used: set[str]) -> Iterator[str]:
        client = [lane for lane in one.lanes if lane.exchange.leg == CLIENT]
        for lane in client:
            yield from self._row(_label(lane), _facts(lane), outcome_style(lane.exchange), self._lane(lane), used)
        if client:
            cells = [" "] * self._bar
            for span in one.own:
                self._fill(cells, span.start, span.end, _OWN)
            yield from self._row("proxy", _own_told(one), "", cells, used)
        for lane in one.lanes:
            if lane not in client:
                yield from self._row(_label(lane), _facts(lane), outcome_style(lane.exchange), self._lane(lane), used)
        for note in self._notes(one):
            for line in textwrap.wrap(note, self._width, initial_indent="  ! ", subsequent_indent="    "):
                yield self._cut(line, "red")

    def _notes(self, one: Timeline) -> Iterator[str]:
        for lane in one.lanes:
            label, error, outlived = _label(lane), lane.exchange.error, one.outlived_ms(lane)
            for stall in lane.stalls:
                where = f"after chunk {stall.after}" if stall.after else "before the first chunk"
                since = milliseconds((stall.start - lane.start) * 1000)
                by = f", by the {stall.arose}" if stall.arose is not None else ""
                yield f"{label}: stalled {milliseconds(stall.ms)} {where} (+{since}){by}"
            if error is not None:
                yield f"{label}: {error_text(error)}"
            if outlived >= _OUTLIVED_MS:
                yield f"{label}: went on for {milliseconds(outlived)} after the client had left"

    def _row(self, label: str, facts: str, style: str, cells: Sequence[str], used: set[str]) -> Iterator[str]:
        used.update(cells)
        bar = self._coloured(cells)
        label = cut(label, self._label)
        label += " " * (self._label - width_of(label))
        if self._is_wide:
            yield f"{label}  {bar}  {self._style(facts, style)}".rstrip()
            return
        yield f"{label}  {self._cut(facts, style, self._width - self._label - 2)}".rstrip()
        yield f"  {bar}".rstrip()

    def _lane(self, lane: Lane) -> list[str]:
        cells = [" "] * self._bar
        for span in lane.spans:
            self._fill(cells, span.start, span.end, _WAIT if span.what == WAITING else _RECEIVE)
        for stall in lane.stalls:
            self._fill(cells, stall.start, stall.end, _STALL)
        for chunk in lane.chunks:
            cells[self._cell(chunk.moment)] = _CHUNK
        one = lane.exchange
        if one.outcome is None:
            end = _OPEN
        elif one.failed:
            end = _FAIL
        else:
            end = _LEFT if one.outcome == "client_disconnect" else _END
        cells[self._cell(lane.end)] = end
        return cells

    def _fill(self, cells: list[str], start: float, end: float, sign: str) -> None:
        first, last = self._cell(start), self._cell(end)
        cells[first : last + 1] = [sign] * (last + 1 - first)

    def _cell(self, moment: float) -> int:
        return max(0, min(int((moment - self._start) / self._seconds * self._bar), self._bar - 1))

    def _coloured(self, cells: Sequence[str]) -> str:
        return "".join(
            self._style("".join(run).translate(self._translate), _STYLES.get(sign, ""))
            for sign, run in itertools.groupby(cells)
        )

    def _ruler(self) -> str:
        """Returns the ruler above the bars, with round steps."""
        step = _step(self._seconds * 1000, self._bar)
        cells = [" "] * self._bar
        at, free = 0.0, 0
        while at <= self._seconds * 1000:
            place, text = self._cell(self._start + at / 1000), _round(at)
            if place >= free and place + 1 + len(text) <= self._bar:
                cells[place : place + 1 + len(text)] = ["·", *text]
                free = place + len(text) + 2
            at += step
        indent = self._label + 2 if self._is_wide else 2
        return " " * indent + self._style("".join(cells).rstrip().translate(self._translate), "dim")

    def _legend(self, used: Iterable[str]) -> Iterator[str]:
        line = ""
        for sign, meaning in _LEGEND:
            if sign not in used:
                continue
            part = f"{sign} {meaning}"
            if line and width_of(line) + 2 + width_of(part) > self._width:
                yield self._cut(line, "dim")
                line = ""
            line += ("  " if line else "") + part
        if line:
            yield self._cut(line, "dim")

    def _cut(self, text: str, style: str, width: int | None = None) -> str:
        return self._style(cut(text, width or self._width).translate(self._translate), style)


def _label(lane: Lane) -> str:
    one = lane.exchange
    return "client" if one.leg == CLIENT else printable(f"{one.backend or '?'} {one.attempt or 1}")


def _facts(lane: Lane) -> str:
    one = lane.exchange
    told = ["-" if one.status_code is None else str(one.status_code), milliseconds((lane.end - lane.start) * 1000)]
    if one.ttfb_ms is not None:
        told.append(f"first {milliseconds(one.ttfb_ms)}")
    if lane.chunks:
        told.append(f"{len(lane.chunks)} {'chunk' if len(lane.chunks) == 1 else 'chunks'}")
    elif one.response_bytes:
        told.append(size(one.response_bytes))
    names_error = one.error_type is not None and one.error_type != f"HTTP {one.status_code}"
    end = printable(str(one.error_type)) if names_error else ended(one)
    if end != "complete":
        told.append(end)
    if lane.reason is not None:
        told.append(f"({lane.reason})")
    return " ".join(told)


def _own_told(one: Timeline) -> str:
    if one.lanes and one.lanes[0].exchange.leg != CLIENT:
        return ""
    parts = [
        f"{milliseconds(sum(span.ms for span in spans))} {what}"
        for what, spans in itertools.groupby(one.own, lambda span: span.what)
    ]
    if one.passed_on_ms is not None:
        parts.append(f"pass {milliseconds(one.passed_on_ms)}")
    return " ".join(parts)


def _step(length_ms: float, columns: int) -> float:
    """Returns the milliseconds between two ruler marks: a round number, with room for each label."""
    least = length_ms / max(columns // 10, 1)
    power = 0.001
    while True:
        for step in _STEPS:
            if step * power >= least:
                return step * power
        power *= 10


def _round(ms: float) -> str:
    return f"{ms:.3g}ms" if ms < 1000 else f"{ms / 1000:.6g}s"


def _translation(encoding: str) -> dict[int, int]:
    try:
        "".join(sign for sign, _ in _LEGEND).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return _PLAIN
    return {}
