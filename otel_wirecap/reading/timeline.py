"""When a flow did what: each leg's waiting, receiving, chunks and stalls, and the proxy's own time, on one clock.

The clock is the capture's: moments are seconds since the epoch, lengths milliseconds.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_wirecap.reading.flows import CLIENT
from otel_wirecap.reading.legs import legs_of
from otel_wirecap.reading.summaries import exchange_facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_wirecap.reading.captures import Captures
    from otel_wirecap.reading.flows import Exchange, Flow
    from otel_wirecap.reading.legs import Leg
    from otel_wirecap.reading.lines import RawRecord

WAITING, RECEIVING = "waiting", "receiving"
"""What a leg did: it waited for the response's headers; it received the response."""

BEFORE, BETWEEN, AFTER = "before", "between", "after"
"""When the proxy itself took time: before its first attempt, between two, after the last."""

FOLLOWED_REDIRECT, TRIED_AGAIN, AT_ONCE = "redirect", "retry", "parallel"
"""Why there is a further attempt: it follows a redirect, comes after another, or beside one that goes on."""

GAP_MS = 1000.0


class Phase(NamedTuple):
    """A stretch of time: what happened in it, and the moments of its beginning and its end."""

    what: str
    start: float
    end: float

    @property
    def ms(self) -> float:
        """Its length in milliseconds."""
        return (self.end - self.start) * 1000


class Mark(NamedTuple):
    """A chunk of a stream, or a message of a websocket: its number, its moment, its bytes, who sent a message."""

    number: int
    moment: float
    size: int
    sender: str | None


class Stall(NamedTuple):
    """A time in which a stream stood still.

    Attributes:
        start: the moment of what came last before.
        end: the moment of what came next, or of the end.
        after: the number of the chunk before; 0 for the response's headers.
        arose: ``backend``, ``proxy`` or ``client``: where, as far as the other leg tells; None where it does not.
    """

    start: float
    end: float
    after: int
    arose: str | None = None

    @property
    def ms(self) -> float:
        """Its length in milliseconds."""
        return (self.end - self.start) * 1000


@dataclasses.dataclass(slots=True)
class Lane:
    """One exchange in time.

    Attributes:
        exchange: its summary.
        start: the moment of its request, or of the first thing that is known of it.
        end: the moment of its end, or of the last thing that is known of it.
        spans: what it did, in order; without a gap or an overlap.
        chunks: of its stream.
        stalls: of its stream.
        reason: of a further attempt why there is one.
    """

    exchange: Exchange
    start: float
    end: float
    spans: list[Phase]
    chunks: list[Mark]
    stalls: list[Stall] = dataclasses.field(default_factory=list)
    reason: str | None = None


@dataclasses.dataclass(slots=True)
class Timeline:
    """A flow in time.

    Attributes:
        flow: the flow.
        lanes: its exchanges, the client's first.
        own: when no attempt was under way while the client waited: the proxy's own time, in order.
        passed_on_ms: from the headers of the attempt that answered to those that the client got; None if not known.
    """

    flow: Flow
    lanes: list[Lane]
    own: list[Phase]
    passed_on_ms: float | None

    @property
    def start(self) -> float:
        """The moment of its first event."""
        return min((lane.start for lane in self.lanes), default=self.flow.started_unix)

    @property
    def end(self) -> float:
        """The moment of its last event."""
        return max((lane.end for lane in self.lanes), default=self.start)

    def outlived_ms(self, lane: Lane) -> float:
        """How many milliseconds an attempt went on after its client had left; 0 where none did."""
        client = self.lanes[0]
        if client.exchange.leg != CLIENT or client.exchange.outcome != "client_disconnect":
            return 0.0
        return max(0.0, (lane.end - client.end) * 1000)

    def document(self) -> dict[str, Any]:
        """Ready for JSON: moments in milliseconds since ``started``."""
        began, flow = self.start, self.flow

        def since(moment: float) -> float:
            return round((moment - began) * 1000, 3)

        def span(one: Phase) -> dict[str, Any]:
            return {"what": one.what, "start_ms": since(one.start), "ms": round(one.ms, 3)}

        lanes = []
        for lane in self.lanes:
            one = lane.exchange
            told = exchange_facts(one, "id", "leg", "attempt", "backend", "model", "status", "outcome", "error_type")
            told |= {
                "reason": lane.reason,
                "start_ms": since(lane.start),
                "ms": round((lane.end - lane.start) * 1000, 3),
            }
            told["outlived_client_ms"] = round(self.outlived_ms(lane), 3)
            told["spans"] = [span(each) for each in lane.spans]
            told["stalls"] = [
                {"start_ms": since(each.start), "ms": round(each.ms, 3), "after_chunk": each.after, "arose": each.arose}
                for each in lane.stalls
            ]
            told["chunks"] = [
                {"number": each.number, "at_ms": since(each.moment), "bytes": each.size, "from": each.sender}
                for each in lane.chunks
            ]
            lanes.append(told)
        return {
            "request_id": flow.request_id,
            "session_id": flow.session_id,
            "started": began,
            "duration_ms": since(self.end),
            "error": flow.error_type,
            "lanes": lanes,
            "proxy": [span(each) for each in self.own],
            "passed_on_ms": self.passed_on_ms,
        }


def timeline_of(captures: Captures, flow: Flow, *, gap_ms: float = GAP_MS) -> Timeline:
    """A flow in time.

    Args:
        captures: what it stands in.
        flow: the flow.
        gap_ms: from how many milliseconds without a chunk on a stream stands still.
    """
    lanes: list[Lane] = []
    for leg in legs_of(captures, flow):
        lane = _lane(leg, gap_ms)
        if lane is not None:
            lane.reason = _reason(leg, lane, lanes)
            lanes.append(lane)
    client = next((lane for lane in lanes if lane.exchange.leg == CLIENT), None)
    attempts = [lane for lane in lanes if lane is not client]
    if client is None:
        return Timeline(flow, lanes, [], None)
    if attempts:
        client.stalls = [one._replace(arose=_origin(one, client, attempts)) for one in client.stalls]
    for lane in attempts:
        lane.stalls = [one._replace(arose=_origin_behind(one, client)) for one in lane.stalls]
    busy = [(lane.start, lane.end) for lane in attempts]
    return Timeline(flow, lanes, _own_time(client.start, client.end, busy), _passed_on_ms(client, attempts))


def added_ms(flow: Flow) -> float | None:
    """What the proxy itself took of the time that a client waited for its response to begin; None if not known.

    Milliseconds in which no attempt was under way: the one that was passed on is until its headers, others until they
    end.
    """
    client = flow.client
    headers = None if client is None else _headers_moment(client)
    if client is None or client.started_unix is None or headers is None or not flow.attempts:
        return None
    busy = []
    for one in flow.attempts:
        if one.started_unix is None:
            return None
        its_headers = _headers_moment(one)
        end = headers if one.duration_ms is None else one.started_unix + one.duration_ms / 1000
        is_passed_on = its_headers is not None and its_headers <= headers <= end
        busy.append((one.started_unix, its_headers if is_passed_on and its_headers is not None else end))
    return sum(span.ms for span in _own_time(client.started_unix, headers, busy))


def _lane(leg: Leg, gap_ms: float) -> Lane | None:
    one = leg.exchange
    records: tuple[RawRecord | None, ...] = (leg.request, leg.response, leg.end, leg.assembled)
    moments = [record["timestamp_unix"] for record in records if record is not None]
    moments += [chunk.timestamp_unix for chunk in leg.chunks]
    if one.started_unix is not None:
        moments.append(one.started_unix)
    if not moments:
        return None
    start = min(moments) if one.started_unix is None else one.started_unix
    chunks = [Mark(chunk.number, chunk.timestamp_unix, len(chunk.data), chunk.sender) for chunk in leg.chunks]
    if one.started_unix is None or one.duration_ms is None:
        end = max(moments)
    else:
        end = max(start + one.duration_ms / 1000, *(mark.moment for mark in chunks), start)
    headers = _headers_moment(one)
    if headers is None and chunks:
        headers = chunks[0].moment if one.started_unix is not None else start  # before, nobody knows
    if headers is None:
        spans = [Phase(WAITING, start, end)]
    else:
        headers = min(max(headers, start), end)
        spans = [Phase(WAITING, start, headers), Phase(RECEIVING, headers, end)]
    known = [span for span in spans if span.end > span.start] or spans[:1]
    lane = Lane(one, start, end, known, chunks)
    if headers is not None and one.streamed:
        lane.stalls = list(_stalls(headers, chunks, end if one.outcome is not None else None, gap_ms))
    return lane


def _headers_moment(one: Exchange) -> float | None:
    return None if one.started_unix is None or one.ttfb_ms is None else one.started_unix + one.ttfb_ms / 1000


def _stalls(headers: float, chunks: Sequence[Mark], end: float | None, gap_ms: float) -> Iterable[Stall]:
    points = [(0, headers), *((mark.number, mark.moment) for mark in chunks)]
    if end is not None:
        points.append((0, end))
    for (number, before), (_, after) in itertools.pairwise(points):
        if (after - before) * 1000 >= gap_ms:
            yield Stall(before, after, number)


def _reason(leg: Leg, lane: Lane, before: Sequence[Lane]) -> str | None:
    earlier = [one for one in before if one.exchange.leg != CLIENT]
    if lane.exchange.leg == CLIENT or not earlier:
        return None
    if leg.metadata("request").get("redirect_of"):
        return FOLLOWED_REDIRECT
    return AT_ONCE if any(one.end > lane.start for one in earlier) else TRIED_AGAIN


def _origin(stall: Stall, client: Lane, attempts: Sequence[Lane]) -> str:
    """Where a stall of the client's leg arose: at the backend if that had nothing to give for most of the time."""
    if stall.end == client.end and client.exchange.outcome == "client_disconnect" and not attempts[-1].stalls:
        return CLIENT
    arrived = (moment for lane in attempts for moment in (*(mark.moment for mark in lane.chunks), lane.end))
    next_one = min((moment for moment in arrived if moment > stall.start), default=stall.start)
    return "backend" if (next_one - stall.start) * 2 >= stall.end - stall.start else "proxy"


def _origin_behind(stall: Stall, client: Lane) -> str:
    """Where a stall of an attempt arose: at a proxy that did not read on, or else at the backend."""
    held = (min(one.end, stall.end) - max(one.start, stall.start) for one in client.stalls if one.arose == "proxy")
    return "proxy" if max(held, default=0.0) * 2 >= stall.end - stall.start else "backend"


def _own_time(start: float, end: float, attempts: Sequence[tuple[float, float]]) -> list[Phase]:
    """When, between two moments, no attempt was under way; each attempt is its beginning and its end."""
    own, now = list[Phase](), start
    for number, (began, ended) in enumerate(sorted(attempts)):
        if began > now:
            own.append(Phase(BETWEEN if number else BEFORE, now, min(began, end)))
        now = max(now, ended)
    own.append(Phase(AFTER if attempts else BEFORE, now, end))
    return [span for span in own if span.end > span.start]


def _passed_on_ms(client: Lane, attempts: Sequence[Lane]) -> float | None:
    answered = _headers_moment(client.exchange)
    if answered is None:
        return None
    got = [moment for moment in (_headers_moment(lane.exchange) for lane in attempts) if moment is not None]
    before = [moment for moment in got if moment <= answered]
    return round((answered - max(before)) * 1000, 3) if before else None
