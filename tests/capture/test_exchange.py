"""An exchange has one end, at its moment and with its losses, and whoever wants an answer to it gets one."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from test_recorder import NS, SSE, Desk, post

from otel_wirecap.capture.events import CAPTURE_FAILURE, EventKind, RequestHead, ResponseHead
from otel_wirecap.capture.exchange import LiveFlow


class Full(Desk):
    """Has no room for events of some kinds, and breaks on some."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[int] = set()
        self.breaks: set[int] = set()

    def put(self, kind: int, subject_id: str | None, now: int, value: Any, size: int, /) -> bool:
        if kind in self.breaks:
            raise ValueError("broken")
        return kind not in self.refused and super().put(kind, subject_id, now, value, size)


def ends(desk: Desk) -> list[Any]:
    return [event for event in desk.events if event[0] == EventKind.END]


def test_a_failure_ends_an_exchange_when_it_happens_with_what_was_lost() -> None:
    desk = Full()
    exchange = desk.exchange(wants_end=True)
    exchange.begin(post())
    exchange.response(2 * NS, ResponseHead(200, None, [SSE]))
    desk.refused = {EventKind.CHUNK}
    exchange.chunk(3 * NS, b"data: 1\n\n")
    desk.breaks = {EventKind.CHUNK}
    exchange.chunk(9 * NS, b"data: 2\n\n")
    exchange.chunk(10 * NS, b"data: 3\n\n")
    exchange.end(11 * NS, "complete")
    (end,) = ends(desk)
    assert end[2:4] == (9 * NS, ("error", tuple(CAPTURE_FAILURE), 1, None, True))
    assert [type(error) for error in desk.failures] == [ValueError]
    desk.failures.clear()
    last = desk.records()[-1]["metadata"]
    assert (last["duration_ms"], last["lost_chunks"], last["error"]["type"]) == (8000.0, 1, "CaptureFailure")
    assert [(name, moment) for name, moment, _ in desk.ends] == [(exchange.id, 9 * NS)]


def test_a_failure_cuts_a_request_that_is_half_sent() -> None:
    desk = Full()
    exchange = desk.exchange()
    exchange.begin(post()._replace(body=None))
    exchange.request_chunk(2 * NS, b'{"model":')
    desk.breaks = {EventKind.REQUEST_CHUNK}
    exchange.request_chunk(3 * NS, b'"m"}')
    exchange.request_end(4 * NS)
    desk.failures.clear()
    assert [event[0] for event in desk.events[-2:]] == [EventKind.REQUEST_END, EventKind.END]
    (request,) = [record for record in desk.records() if record["direction"].endswith("_request")]
    assert request["metadata"]["incomplete"] == "cut"


@pytest.mark.parametrize("wants_end", [True, False])
def test_an_exchange_whose_beginning_found_no_room_ends_on_the_hosts_side(wants_end: bool) -> None:
    desk = Full()
    desk.refused = {EventKind.BEGIN}
    exchange = desk.exchange(wants_end=wants_end)
    exchange.begin(post())
    exchange.response(2 * NS, ResponseHead(200, None, [SSE]))
    exchange.end(3 * NS, "complete")
    exchange.end(4 * NS, "error")
    assert not desk.events
    assert desk.unrecorded == ([(exchange.id, 3 * NS, "complete")] if wants_end else [])


@pytest.mark.parametrize("how", ["refused", "breaks"])
def test_an_end_that_no_writer_takes_is_answered_by_the_host(how: str) -> None:
    desk = Full()
    exchange = desk.exchange(wants_end=True)
    exchange.begin(post())
    setattr(desk, how, {EventKind.END})  # the capture has ended meanwhile
    exchange.end(3 * NS, "cancelled")
    assert desk.unrecorded == [(exchange.id, 3 * NS, "cancelled")]


def test_every_end_that_wants_it_is_answered_also_of_exchanges_that_did_not_begin_here() -> None:
    desk = Desk()
    begun, unknown, silent, left = (desk.exchange(wants_end=number != 2) for number in range(4))
    for exchange in (begun, unknown, silent, left):
        exchange.begin(post(b'{"model": "m"}'))
    desk.events = [event for event in desk.events if event[1] != unknown.id]  # another writer had that
    for exchange in (begun, unknown, silent):
        exchange.end(4 * NS, "complete")
    desk.records()
    assert [(name, moment, facts.outcome, facts.requested_model) for name, moment, facts in desk.ends] == [
        (begun.id, 4 * NS, "complete", "m"),
        (unknown.id, 4 * NS, "complete", None),
        (left.id, 9 * NS, "abandoned", "m"),
    ]


def test_an_exchange_whose_recording_fails_is_answered_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    recorder = desk.process.recorder
    exchange, left = desk.exchange(wants_end=True, wants_records=True), desk.exchange(wants_end=True)

    def broken(*_record: Any) -> None:
        raise ValueError("broken")

    exchange.begin(post())
    desk.send_back = broken
    left.begin(post())
    exchange.end(4 * NS, "complete")
    for event in desk.events:
        recorder.feed(event)
    recorder.close(5 * NS)
    assert desk.failures
    assert sorted((name, facts.outcome) for name, _, facts in desk.ends) == [
        (exchange.id, "complete"), (left.id, "abandoned"),
    ]  # fmt: skip


def test_what_is_remembered_of_a_flow_goes_when_the_flow_is_gone() -> None:
    desk = Desk()
    recorder = desk.process.recorder
    kept = LiveFlow("req_kept")
    kept.annotate(NS, b"{}", desk)
    for number in range(50):
        flow = LiveFlow(f"req_{number}")
        flow.annotate(NS, b'{"tenant": "one"}', desk)
        exchange = desk.exchange("client", flow)
        exchange.begin(post())
        exchange.end(4 * NS, "complete")
    unheard_of = LiveFlow("req_unheard_of")
    del flow, exchange, unheard_of
    gc.collect()
    gone = [event[1] for event in desk.events if event[0] == EventKind.FLOW_GONE]
    assert gone == [f"req_{number}" for number in range(50)]
    for event in desk.events:
        recorder.feed(event)
    assert set(recorder._flows) == {"req_kept"}


def test_long_headers_weigh_what_they_are() -> None:
    desk = Desk()
    weights: list[int] = []
    put = desk.put

    def weighing(*event: Any) -> bool:
        weights.append(event[4])
        return put(*event)

    desk.put = weighing  # type: ignore[method-assign]
    long = [(b"x-long", b"x" * 100_000)]
    for body in (b"{}", b"x" * 50_000):
        exchange = desk.exchange()
        exchange.begin(RequestHead("POST", "https://host/", long, body=body))
        exchange.response(2, ResponseHead(200, "OK", long))
        exchange.end(3, "complete")
    assert [weight >= 100_000 for weight in weights] == [True, True, False] * 2
