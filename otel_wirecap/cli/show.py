"""``otel-wirecap show FLOW [FILE …]``: one flow on all four legs, its bytes, or a command that resends it."""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import TYPE_CHECKING, Any

import orjson

from otel_wirecap.capture.formats.text import indented
from otel_wirecap.cli.captures import add_reading_parser, opened, tell, write, write_json, write_table
from otel_wirecap.cli.flow_text import clock, dollars, ended, error_text, outcome_style
from otel_wirecap.cli.text import (
    Cell,
    Column,
    Style,
    columns_of,
    cut,
    milliseconds,
    printable,
    printable_lines,
    size,
)
from otel_wirecap.errors import FlowNotFoundError
from otel_wirecap.reading.legs import Leg, events_of, legs_of
from otel_wirecap.reading.prices import cost_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_wirecap.reading.flows import Flow

EXAMPLES = """
otel-wirecap show req_2b9cd61f
otel-wirecap show req_2b9cd61f logs/wire_capture.log --headers --full
otel-wirecap show req_2b9cd61f --chunks --leg backend
otel-wirecap show req_2b9cd61f --raw response > body.txt
otel-wirecap show req_2b9cd61f --curl | sh
"""

_BODY_LINES = 40
_LINE_COLUMNS = 160
_STANDS_OUT, _MIN_GAP_MS = 5, 100
"""A gap is marked that is so many times the stream's median, and not short."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = add_reading_parser(
        subparsers,
        "show",
        "show one flow on all four legs",
        "Shows one flow: the client's request, each attempt with its answer, and what the client got.",
        EXAMPLES,
        subject=("FLOW", "id of a flow or of one of its exchanges, or the beginning of it"),
    )
    parser.add_argument("--headers", action="store_true", help="include headers")
    parser.add_argument("--full", action="store_true", help="print whole bodies")
    parser.add_argument(
        "--events", action="store_true", help="print the events of streams, besides the assembled message"
    )
    parser.add_argument("--leg", choices=("client", "backend"), help="only this leg")
    parser.add_argument("--attempt", metavar="N", type=int, help="only this attempt of the backend leg")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--chunks", action="store_true", help="print the chunks of streams and the gaps between them")
    instead.add_argument(
        "--raw",
        choices=("request", "response"),
        help="print the bytes of one body and nothing else (default leg: backend)",
    )
    instead.add_argument(
        "--curl", action="store_true", help="print a curl command that resends the request, with $KEY_NAME for the key"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    with opened(arguments) as captures:
        flow = captures.flow(arguments.flow)
        legs = [leg for leg in legs_of(captures, flow) if _is_wanted(leg, arguments)]
    if not legs:
        raise FlowNotFoundError(f"{flow.request_id} has no such leg: {_legs_told(flow)}")
    if arguments.raw:
        return _write_raw(_one_of(legs, arguments), arguments.raw)
    if arguments.curl:
        from otel_wirecap.cli.curl import curl_command  # knows what redaction writes, which is much to import

        write(curl_command(_one_of(legs, arguments)))
    elif arguments.json:
        from otel_wirecap.reading.summaries import document

        write_json(document(flow) | {"legs": [_leg_document(leg, chunks=arguments.chunks) for leg in legs]})
    elif arguments.chunks:
        _show_chunks(legs)
    else:
        _FlowPage(arguments).show(flow, legs)
    return 0


def _is_wanted(leg: Leg, arguments: argparse.Namespace) -> bool:
    if arguments.attempt is not None:
        return bool(leg.exchange.attempt == arguments.attempt)
    return arguments.leg is None or leg.exchange.leg == arguments.leg


def _one_of(legs: list[Leg], arguments: argparse.Namespace) -> Leg:
    """Returns the default leg where only one can be shown: the last attempt, else the client's."""
    chosen = [leg for leg in legs if leg.exchange.leg == "backend"] or legs
    if len(chosen) > 1 and arguments.attempt is None:
        tell(f"of {len(chosen)} attempts the last; --attempt N chooses another")
    return chosen[-1]


def _legs_told(flow: Flow) -> str:
    told = [] if flow.client is None else ["the client's"]
    told += [f"attempt {one.attempt}" for one in flow.attempts]
    return "it has " + ", ".join(told)


def _write_raw(leg: Leg, which: str) -> int:
    body = leg.request_body if which == "request" else leg.response_body
    if sys.stdout.isatty():
        write("\n".join(printable_lines(body.decode("utf-8", "backslashreplace"))))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(body)
    record = leg.request if which == "request" else leg.response
    reasons = [name for name in ("truncated", "incomplete", "redactions") if leg.metadata(which).get(name)]
    if record is None:
        tell(f"the capture has no record of this {which}")
    elif reasons:
        tell(f"these are not the bytes of the wire: {', '.join(reasons)}")
    return 0 if record is not None else 1


class _FlowPage:
    """A flow, to be read by a person."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._style = Style(sys.stdout)
        self._width = columns_of(sys.stdout)
        self._arguments = arguments

    def show(self, flow: Flow, legs: list[Leg]) -> None:
        for line in self._summary(flow):
            write(line)
        client = [leg for leg in legs if leg.exchange.leg == "client"]
        attempts = [leg for leg in legs if leg.exchange.leg != "client"]
        for leg in client:
            self._request(leg, "client → proxy")
        for leg in attempts:
            number = leg.exchange.attempt or 1
            self._request(leg, f"proxy → {leg.exchange.backend}, attempt {number}", same=client)
            self._response(leg, f"{leg.exchange.backend} → proxy, attempt {number}")
        for leg in client:
            self._response(leg, "proxy → client", same=attempts)

    def _summary(self, flow: Flow) -> Iterator[str]:
        usage, outer = flow.usage, flow.outer
        yield self._style(printable(flow.request_id), "bold", "cyan")
        told = {
            "session": flow.session_id,
            "client": flow.client_name,
            "model": flow.model,
            "began": f"{clock(flow.started_unix)} UTC",
            "took": f"{milliseconds(outer.duration_ms)}, first byte after {milliseconds(outer.ttfb_ms)}",
        }
        if usage is not None:
            told["tokens"] = (
                f"{usage.input} in ({usage.cached} cached), {usage.output} out ({usage.reasoning} reasoning)"
            )
        cost = cost_of(flow)
        if cost.dollars is not None or cost.missing:
            told["cost"] = " ".join((dollars(cost), *(f"({why})" for why in cost.missing)))
        if flow.error_type is not None:
            told["error"] = flow.error_type
        for name, value in told.items():
            if value:
                yield f"  {self._style(name.ljust(8), 'dim')} {printable(str(value))}"

    def _request(self, leg: Leg, title: str, same: list[Leg] | None = None) -> None:
        one = leg.exchange
        facts = f"{one.method} {one.url}  {size(one.request_bytes)}"
        if one.key_name:
            facts += f"  key {one.key_name}"
        self._title(title, facts)
        if leg.request is None:
            write("  (no record: rotated away, or lost)")
            return
        self._headers(leg, "request")
        if same and same[0].request is not None and leg.request_body == same[0].request_body:
            write(self._style("  (the same bytes as the client's)", "dim"))
            return
        self._body(leg.request_body.decode("utf-8", "replace"), leg.request)

    def _response(self, leg: Leg, title: str, same: list[Leg] | None = None) -> None:
        one = leg.exchange
        status = "-" if one.status_code is None else str(one.status_code)
        facts = f"{status}  {milliseconds(one.duration_ms)}  {size(one.response_bytes)}"
        if one.streamed:
            facts += f"  {one.chunk_count} {'chunk' if one.chunk_count == 1 else 'chunks'}"
        self._title(title, facts, ended(one), outcome_style(one))
        if one.error is not None:
            write(self._style(f"  ! {error_text(one.error)}", "red"))
        if leg.response is None and not leg.chunks:
            write("  (no record of a response)")
            return
        self._headers(leg, "response")
        if same and leg.response_body and leg.response_body == same[-1].response_body:
            write(self._style("  (the same bytes as the backend's)", "dim"))
            return
        answer = leg.answer
        is_spelt = leg.response_body and not leg.chunks  # as it came; a message that was added up has no spelling
        body = leg.response_body if is_spelt or answer is None else orjson.dumps(answer)
        self._body(body.decode("utf-8", "replace"), leg.end or leg.response)
        if one.streamed and self._arguments.events:
            for number, event in enumerate(events_of(leg), 1):
                name = f" {event.name}" if event.name else ""
                self._line(
                    self._style(f"  event {number}{name}:", "dim")
                    + f" {printable(event.data.decode(errors='replace'))}"
                )

    def _title(self, title: str, facts: str, end: str = "", style: str = "") -> None:
        write("")
        write(
            f"{self._style(f'── {printable(title)}', 'bold')}  {printable(facts)}  {self._style(end, style)}".rstrip()
        )

    def _headers(self, leg: Leg, of: str) -> None:
        if self._arguments.headers:
            for name, value in leg.headers(of):
                self._line(f"  {printable(name)}: {printable(value)}")

    def _body(self, body: str, record: dict[str, Any] | None) -> None:
        metadata = (record or {}).get("metadata", {})
        if metadata.get("incomplete"):
            write(self._style(f"  (not all there: {printable(str(metadata['incomplete']))})", "yellow"))
        if not body:
            return
        is_json = body.startswith(("{", "["))
        lines = [printable(line) for line in indented(body)] if is_json else printable_lines(body)
        most = len(lines) if self._arguments.full else _BODY_LINES
        for line in lines[:most]:
            self._line(f"  {line}")
        if len(lines) > most:
            write(self._style(f"  … {len(lines) - most} more lines; --full shows them", "dim"))

    def _line(self, line: str) -> None:
        write(line if self._arguments.full else cut(line, self._limit))

    @property
    def _limit(self) -> int:
        return self._width or _LINE_COLUMNS


def _show_chunks(legs: list[Leg]) -> None:
    import statistics

    width = columns_of(sys.stdout)
    columns = [
        Column("leg"), Column("chunk", right=True), Column("after", right=True), Column("gap", right=True),
        Column("bytes", right=True), Column("", least=1), Column("begins", rank=1),
    ]  # fmt: skip
    rows = []
    for leg in legs:
        gaps = chunk_gaps(leg)
        usual = statistics.median(gaps) if gaps else 0.0
        name = "client" if leg.exchange.leg == "client" else f"{leg.exchange.backend} {leg.exchange.attempt or 1}"
        began = leg.exchange.started_unix
        for chunk, gap in zip(leg.chunks, [None, *gaps], strict=True):
            is_long = gap is not None and gap > max(usual * _STANDS_OUT, _MIN_GAP_MS)
            after = None if began is None else (chunk.timestamp_unix - began) * 1000
            start = printable(chunk.data[:200].decode(errors="replace"))
            rows.append([
                Cell(printable(name)), Cell(str(chunk.number)), Cell(milliseconds(after)),
                Cell(milliseconds(gap), "red" if is_long else ""), Cell(str(len(chunk.data))),
                Cell("<- gap" if is_long else "", "red"), Cell(start if width else cut(start, 80)),
            ])  # fmt: skip
    if not rows:
        tell("no leg of this flow is a stream")
        return
    write_table(columns, rows)


def chunk_gaps(leg: Leg) -> list[float]:
    """Returns the milliseconds between a stream's chunks."""
    moments = [chunk.timestamp_unix for chunk in leg.chunks]
    return [(after - before) * 1000 for before, after in itertools.pairwise(moments)]


def _leg_document(leg: Leg, *, chunks: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "exchange_id": leg.exchange.exchange_id,
        "leg": leg.exchange.leg,
        "attempt": leg.exchange.attempt,
        "request": leg.question,
        "request_headers": leg.headers("request"),
        "response_headers": leg.headers("response"),
        "response": leg.answer,
    }
    if chunks:
        told["chunks"] = [
            {
                "number": one.number,
                "timestamp_unix": one.timestamp_unix,
                "bytes": len(one.data),
                "text": one.data.decode(errors="replace"),
            }
            for one in leg.chunks
        ]
    return told
