"""A real writer, driven as hooks drive it, and what its capture says of what was put."""

from __future__ import annotations

import json
import os
import select
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from waiting import (
    MAX_SECONDS,
    wait_until as wait_until,  # who drives a writer waits for it
)
from writer_processes import (
    command_of,
    writers_of as writers_of,  # and looks for it
)

from otel_wirecap.capture.events import ExchangeHead, Outcome, RequestHead, ResponseHead
from otel_wirecap.capture.exchange import LiveExchange, LiveFlow
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.capture.record import CaptureRecord
from otel_wirecap.config import load_config
from otel_wirecap.storage.record_writer import RecordWriter
from otel_wirecap.storage.writer import CaptureWriter
from otel_wirecap.storage.writer_process import WriterProcess
from otel_wirecap.storage.writer_thread import WriterThread

HERE = Path(__file__).parent
CHILD_PATH = os.pathsep.join(map(str, (HERE, HERE.parent, HERE.parents[1])))
"""PYTHONPATH of a program of a test that imports the tests' modules."""
SSE = [(b"content-type", b"text/event-stream")]


class PatientWriter(CaptureWriter):
    """Waits as long as a slow machine needs, unless a test says otherwise."""

    def flush(self, timeout: float = MAX_SECONDS) -> bool:
        return super().flush(timeout)

    def close(self, timeout: float = MAX_SECONDS) -> bool:
        return super().close(timeout)


def open_writer(path: Path, **settings: Any) -> CaptureWriter:
    writer = PatientWriter(load_config({"capture_file": path, **settings}, os.environ), str(path))
    writer.open()
    return writer


def record_writer_of(writer: CaptureWriter) -> RecordWriter:
    """What runs in a thread."""
    home = writer._home
    assert isinstance(home, WriterThread)
    return home.writer


class Gateway:
    """What stands between exchanges and a writer: their host; and, where it observes that, told what comes of them."""

    def __init__(self, writer: CaptureWriter) -> None:
        self.put = writer.put
        self.flow_gone = writer.flow_gone
        self.failures: list[Exception] = []
        self.facts: dict[str, ExchangeFacts] = {}
        self.records: list[tuple[str, CaptureRecord]] = []
        self.moments: dict[str, int] = {}
        self.wanted: set[str] = set()

    @classmethod
    def observing(cls, writer: CaptureWriter) -> Gateway:
        gateway = cls(writer)
        writer.observe_exchanges(gateway)
        return gateway

    def failed(self, _exchange_id: str | None, error: Exception) -> None:
        self.failures.append(error)

    def ended_unrecorded(self, exchange_id: str, now_ns: int, outcome: Outcome) -> None:
        self.ended(exchange_id, now_ns, ExchangeFacts(outcome=outcome))

    def ended(self, exchange_id: str, now_ns: int, facts: ExchangeFacts) -> None:
        assert exchange_id not in self.facts, "it has ended before"
        self.facts[exchange_id] = facts
        self.moments[exchange_id] = now_ns

    def record(self, exchange_id: str, record: CaptureRecord) -> None:
        self.records.append((exchange_id, record))

    def exchange(self, name: str, *, websocket: bool = False, body: bytes | None = b"{}", **head: Any) -> LiveExchange:
        flow = LiveFlow("req_" + name)
        began = time.time_ns(), time.monotonic_ns()
        about = ExchangeHead("backend", flow.id, 1, "0" * 32, "0" * 16, *began, **head)
        exchange = LiveExchange(name, about, flow, self)
        if about.wants_end:
            self.wanted.add(name)
        url = "https://api.openai.com/v1/chat/completions"
        exchange.begin(RequestHead("POST", url, [], body=body, websocket=websocket))
        return exchange


def exchange_on(writer: CaptureWriter, name: str, *, websocket: bool = False) -> LiveExchange:
    return Gateway(writer).exchange(name, websocket=websocket)


def stream(writer: CaptureWriter, name: str, chunks: int, size: int = 50) -> None:
    exchange = exchange_on(writer, name)
    exchange.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
    for _ in range(chunks):
        exchange.chunk(time.monotonic_ns(), b"x" * size)
    exchange.end(time.monotonic_ns(), "complete")


def records(path: Path) -> list[dict[str, Any]]:
    """All records of a capture, the oldest file first; a torn line is an error."""
    numbered = sorted(path.parent.glob(path.name + ".*"), key=lambda file: -int(file.suffix[1:]))
    return [json.loads(line) for file in [*numbered, path] if file.exists() for line in file.read_text().splitlines()]


def check_numbers(found: list[dict[str, Any]]) -> None:
    last: dict[str, int] = {}
    for record in found:
        process = record["metadata"]["process"]
        assert record["metadata"]["seq"] == last.get(process, 0) + 1
        last[process] = record["metadata"]["seq"]


class Account(NamedTuple):
    """What became of the chunks that were put: ``put == kept + told`` always."""

    kept: int
    told: int


def account(path: Path) -> Account:
    """Counts the chunks in a capture, and those that it says are lost; holds its numbers against each other."""
    found = records(path)
    check_numbers(found)
    gaps = [record["payload"] for record in found if record["direction"] == "system_gap"]
    return Account(
        sum(record["direction"] == "stream_chunk" for record in found),
        # A refused exchange is an event, its beginning; one that was open when its writer died is none.
        sum(
            gap.get("lost_events", 0) - (gap.get("lost_exchanges", 0) if gap["reason"] == "queue_full" else 0)
            for gap in gaps
        ),
    )


class Books(NamedTuple):
    """What a capture has, and what it says is lost.

    Attributes:
        chunks, exchanges: that have records.
        lost: by unit, ``events``, ``records``, ``exchanges`` and ``bytes``.
        reasons: the number of gaps for each.
    """

    chunks: int
    exchanges: int
    lost: Counter[str]
    reasons: dict[str, int]


def books(path: Path) -> Books:
    """Reads a capture's own account; holds its numbers against each other."""
    found = records(path)
    check_numbers(found)
    gaps = [record["payload"] for record in found if record["direction"] == "system_gap"]
    lost: Counter[str] = Counter()
    for gap in gaps:
        lost.update({unit: gap.get(f"lost_{unit}", 0) for unit in ("events", "records", "exchanges", "bytes")})
    directions = Counter(record["direction"] for record in found)
    reasons = Counter(gap["reason"] for gap in gaps)
    return Books(directions["stream_chunk"], directions["outbound_request"], lost, dict(reasons))


def is_sent(writer: CaptureWriter) -> bool:
    """Whether all that was put has been sent to a writer in a process of its own."""
    home = writer._home
    assert isinstance(home, WriterProcess)
    return home.events_sent == writer._ledger.accepted


def chunks_safe(writer: CaptureWriter) -> int:
    """How many chunks of its one open stream would stay if this process were killed now.

    They are in the file, or with a writer in a process of its own.
    """
    home = writer._home
    if isinstance(home, WriterProcess):
        put_before = ("begin", "response")
        return home.events_sent - len(put_before)
    written_before = ("system_start", "outbound_request", "stream_start")
    return writer.stats().records - len(written_before)


def is_stuck(writer: CaptureWriter) -> bool:
    """Whether a writer in a process of its own does not take all that is being sent to it."""
    home = writer._home
    assert isinstance(home, WriterProcess)
    assert home._connection is not None
    is_sending = home.events_sent + writer._ledger.waiting < writer._ledger.accepted
    return is_sending and not select.select([], [home._connection], [], 0)[1]


def is_gone(pid: int) -> bool:
    return "writer_process_start" not in command_of(pid)
