"""What passes between the application's process and its writer's comes out as it went in, however it is cut."""

from __future__ import annotations

import marshal
import socket
import threading
from typing import Any

from hypothesis import given, settings, strategies as st
from selection import examples

from otel_wirecap.capture.events import (
    ErrorInfo,
    Event,
    EventKind,
    ExchangeHead,
    Outcome,
    RequestHead,
    ResponseHead,
    WebsocketClose,
    WebsocketMessage,
    plain,
)
from otel_wirecap.capture.exchange import LiveExchange, LiveFlow
from otel_wirecap.storage.channel import MessageReader, send_events


class Text(str):
    """As some frameworks have them."""

    __slots__ = ()


class Data(bytes):
    """As some frameworks have them."""

    __slots__ = ()


texts = st.one_of(st.text(max_size=20), st.text(max_size=20).map(Text))
some_bytes = st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(Data))
bodies = st.one_of(some_bytes, st.sampled_from([b"x" * 40_000, b"y" * 200_000, Data(b"z" * 33_000)]))
headers = st.lists(st.tuples(some_bytes, some_bytes), max_size=4).map(tuple)
maybe = st.none() | texts
request_heads = st.builds(
    RequestHead, texts, texts, headers, maybe, maybe, maybe, st.booleans(), st.booleans(), st.none() | bodies
)
outcomes: st.SearchStrategy[Outcome] = st.sampled_from(["complete", "error", "cancelled"])
errors = st.none() | st.builds(ErrorInfo, texts, texts)
closes = st.none() | st.builds(WebsocketClose, st.integers(1000, 4999), texts, st.none() | st.booleans())
happenings = st.one_of(
    st.tuples(st.just("request_chunk"), bodies),
    st.tuples(st.just("request_restart")),
    st.tuples(st.just("request_end"), st.none() | st.sampled_from(["cut", "dropped"])),
    st.tuples(
        st.just("response"),
        st.builds(ResponseHead, st.integers(100, 599), maybe, headers, maybe, st.none() | headers, st.booleans()),
    ),
    st.tuples(st.just("chunk"), bodies),
    st.tuples(
        st.just("message"),
        st.builds(WebsocketMessage, st.booleans(), st.integers(1, 2), texts | bodies, st.integers(1, 9), st.booleans()),
    ),
)
turns = st.lists(st.tuples(st.integers(0, 3), happenings), max_size=25)


class Host:
    """Takes all events, and has been told of nothing else in the end."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.failures: list[Exception] = []

    def put(self, kind: int, subject_id: str | None, now_ns: int, value: Any, size: int, /) -> bool:
        self.events.append((kind, subject_id, now_ns, value, 150 + size))
        return True

    def flow_gone(self, flow_id: str, /) -> None:
        self.events.append((EventKind.FLOW_GONE, flow_id, 0, None, 0))

    def ended_unrecorded(self, *end: Any) -> None:
        raise AssertionError(end)

    def failed(self, _exchange_id: str | None, error: Exception, /) -> None:
        self.failures.append(error)


def received(sent: list[list[Event]], cut: int) -> list[list[Event]]:
    """Sends events over a socket, and takes apart what comes out of it, so many bytes at a time."""
    ours, theirs = socket.socketpair()
    out = bytearray()

    def read() -> None:
        while data := theirs.recv(1 << 20):
            out.extend(data)

    reading = threading.Thread(target=read)
    reading.start()
    for events in sent:
        send_events(ours, events)
    ours.close()
    reading.join()
    theirs.close()
    frames = MessageReader()
    found = []
    for at in range(0, len(out), cut):
        for frame in frames.feed(bytes(out[at : at + cut])):
            assert frame.is_events
            found.append(frame.message())
            assert frame.events == sum(event[4] > 0 for event in found[-1])
    return found


def exact(value: Any) -> Any:
    """To be compared, types and all."""
    if isinstance(value, (tuple, list)):
        return type(value).__name__, [*map(exact, value)]
    return type(value).__name__, value


@settings(max_examples=examples(150))
@given(
    heads=st.lists(request_heads, min_size=4, max_size=4), turns=turns, end=st.tuples(outcomes, errors, closes),
    a_frame=st.integers(1, 12), cut=st.sampled_from([1000, 4096, 70_001, 1 << 20]),
)  # fmt: skip
def test_whatever_a_hook_gives_crosses_as_it_is_and_comes_out_as_it_went_in(
    heads: list[RequestHead], turns: list[tuple[int, tuple[Any, ...]]], end: tuple[Any, ...], a_frame: int, cut: int
) -> None:
    host = Host()
    flows = [LiveFlow("req_0"), LiveFlow("req_1")]
    exchanges = [
        LiveExchange(
            f"ex_{number}",
            ExchangeHead("backend", flows[number // 2].id, number, "1" * 32, "2" * 16, 10**18, number),
            flows[number // 2],
            host,
        )
        for number in range(4)
    ]
    for exchange, head in zip(exchanges, heads, strict=True):
        exchange.begin(head)
    for moment, (number, (name, *values)) in enumerate(turns):
        getattr(exchanges[number], name)(moment, *values)
    for exchange in exchanges:
        exchange.end(1000, *end)
    del exchange, exchanges, flows
    assert not host.failures
    begun = [event for event in host.events if event[0] == EventKind.BEGIN]
    assert [(*marshal.loads(event[3][1]), event[3][-1]) for event in begun] == [plain(head) for head in heads]
    assert [event[0] for event in host.events[-2:]] == [EventKind.FLOW_GONE] * 2
    for event in host.events:
        assert exact(marshal.loads(marshal.dumps(event))) == exact(event)
    frames = [host.events[at : at + a_frame] for at in range(0, len(host.events), a_frame)]
    found = received(frames, cut)
    assert [[*map(exact, events)] for events in found] == [[*map(exact, events)] for events in frames]


def test_a_body_that_is_handed_on_as_it_is_is_sent_once() -> None:
    host, flow = Host(), LiveFlow("req_0")
    about = ExchangeHead("client", flow.id, None, "1" * 32, "2" * 16, 0, 0)
    exchange, other = LiveExchange("ex_0", about, flow, host), LiveExchange("ex_1", about, flow, host)
    body = b"x" * 1_000_000
    exchange.begin(RequestHead("POST", "http://a/", (), body=body))
    other.begin(RequestHead("POST", "http://a/", ()))
    other.request_chunk(0, body)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sending = threading.Thread(target=send_events, args=(ours, [host.events[0], host.events[2]]))
        sending.start()
        size, frames = 0, MessageReader()
        found: list[Event] = []
        while not found:
            data = theirs.recv(1 << 20)
            size += len(data)
            for frame in frames.feed(data):
                found += frame.message()
        sending.join()
    assert size < 1_010_000
    begin, chunk = found[0][3], found[1][3]
    assert isinstance(begin, tuple)
    assert begin[-1] == chunk == body
    assert begin[-1] is chunk
