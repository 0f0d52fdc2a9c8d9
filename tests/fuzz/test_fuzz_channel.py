"""What passes between the application's process and its writer's comes out as it went in, however it is cut."""

from __future__ import annotations

import gc
import socket
import threading
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from selection import examples

from otel_wirecap.capture.events import (
    End,
    ErrorInfo,
    Event,
    EventKind,
    RequestHead,
    ResponseHead,
    SystemTold,
    WebsocketClose,
    WebsocketMessage,
)
from otel_wirecap.capture.exchange import Exchange, Flow
from otel_wirecap.storage.channel import Frames, Sender, Unpacker


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
    RequestHead, texts, texts, headers, maybe, maybe, st.none() | bodies, maybe, st.booleans(), st.booleans()
)
ends = st.builds(
    End,
    st.sampled_from(["complete", "error", "cancelled"]),
    st.none() | st.builds(ErrorInfo, texts, texts),
    st.integers(0, 1 << 40),
    st.none() | st.builds(WebsocketClose, st.integers(1000, 4999), texts, st.none() | st.booleans()),
)
happenings = st.one_of(
    st.tuples(st.just(EventKind.REQUEST_CHUNK), bodies),
    st.tuples(st.just(EventKind.REQUEST_RESTART), st.none()),
    st.tuples(st.just(EventKind.REQUEST_END), st.none() | st.sampled_from(["cut", "dropped"])),
    st.tuples(
        st.just(EventKind.RESPONSE),
        st.builds(ResponseHead, st.integers(100, 599), maybe, headers, maybe, st.none() | headers, st.booleans()),
    ),
    st.tuples(st.just(EventKind.CHUNK), bodies),
    st.tuples(
        st.just(EventKind.MESSAGE),
        st.builds(WebsocketMessage, st.booleans(), st.integers(1, 2), texts | bodies, st.integers(1, 9), st.booleans()),
    ),
    st.tuples(st.just(EventKind.ANNOTATE), some_bytes),
    st.tuples(st.just(EventKind.DOCUMENT), texts),
    st.tuples(
        st.just(EventKind.SYSTEM),
        st.builds(
            SystemTold, texts, st.dictionaries(st.text(max_size=5), st.integers() | texts | st.none(), max_size=3)
        ),
    ),
)
turns = st.lists(st.tuples(st.integers(0, 3), happenings), max_size=25)


def exchange_of(number: int, flow: Flow) -> Exchange:
    return Exchange(
        f"ex_{number}", "client" if number % 2 else "backend", flow, attempt=number or None, trace_id="1" * 32,
        span_id="2" * 16, began_unix_ns=10**18 + number, began_ns=number, emit=lambda *_: True,
        on_failure=lambda _error: None, on_end=(lambda _moment, _facts: None) if number % 2 else None,
    )  # fmt: skip


def received(sent: list[list[tuple[Event, int]]], cut: int) -> tuple[list[tuple[list[Event], int]], Sender]:
    """Sends frames over a socket, and takes apart what comes out of it, so many bytes at a time."""
    ours, theirs = socket.socketpair()
    out = bytearray()

    def read() -> None:
        while data := theirs.recv(1 << 20):
            out.extend(data)

    reading = threading.Thread(target=read)
    reading.start()
    sender = Sender(ours)
    for taken in sent:
        sender.send(taken)
    ours.close()
    reading.join()
    theirs.close()
    frames, unpacker = Frames(), Unpacker(on_end=lambda *_: None, on_record=lambda *_: None)
    found = []
    for at in range(0, len(out), cut):
        for frame in frames.feed(bytes(out[at : at + cut])):
            assert frame.is_events
            found.append(unpacker.unpack(frame))
    return found, sender


def plain(value: Any) -> Any:
    """In built-in classes, to be compared, types and all."""
    if isinstance(value, tuple):
        return type(value).__name__, tuple(map(plain, value))
    return (type(value).__mro__[-2].__name__ if isinstance(value, (Text, Data)) else type(value).__name__, value)


def described(event: Event) -> Any:
    kind, subject, now_ns, value = event
    about: Any = None
    if isinstance(subject, Exchange):
        about = (
            subject.id, subject.leg, subject.flow.id, subject.attempt, subject.trace_id, subject.span_id,
            subject.began_unix_ns, subject.began_ns, subject.on_end is None, subject.on_record is None,
        )  # fmt: skip
    elif subject is not None:
        about = subject.id
    return kind, about, now_ns, plain(value)


@settings(max_examples=examples(150))
@given(
    heads=st.lists(request_heads, min_size=4, max_size=4), turns=turns, end=ends,
    a_frame=st.integers(1, 12), cut=st.sampled_from([1000, 4096, 70_001, 1 << 20]),
)  # fmt: skip
def test_events_come_out_as_they_went_in(
    heads: list[RequestHead], turns: list[tuple[int, tuple[EventKind, Any]]], end: End, a_frame: int, cut: int
) -> None:
    flows = [Flow("req_0"), Flow("req_1")]
    exchanges = [exchange_of(number, flows[number // 2]) for number in range(4)]
    events: list[tuple[Event, int]] = []

    def put(event: Event) -> None:
        value = event[3]
        events.append((event, 150 + (len(value) if isinstance(value, (bytes, str)) else 0)))

    for exchange, head in zip(exchanges, heads, strict=True):
        put((EventKind.BEGIN, exchange, exchange.began_ns, head))
    for moment, (number, (kind, value)) in enumerate(turns):
        subject: Exchange | Flow | None = exchanges[number]
        if kind is EventKind.ANNOTATE:
            subject = flows[number // 2]
        elif kind in {EventKind.DOCUMENT, EventKind.SYSTEM}:
            subject = None
        put((kind, subject, moment, value))
    for exchange in exchanges:
        put((EventKind.END, exchange, 1000, end))
    frames = [events[at : at + a_frame] for at in range(0, len(events), a_frame)]
    found, sender = received(frames, cut)
    assert [described(event) for unpacked, _ in found for event in unpacked] == [
        described(event) for event, _ in events
    ]
    assert [weight for _, weight in found] == [sum(weight for _, weight in frame) for frame in frames]
    assert (sender.events, sender.weight) == (len(events), sum(weight for _, weight in events))
    assert set(sender.exchanges) == set(sender.ends) == {"ex_1", "ex_3"}


def test_a_body_that_is_handed_on_as_it_is_is_sent_once() -> None:
    flow = Flow("req_0")
    exchange, other = exchange_of(0, flow), exchange_of(1, flow)
    body = b"x" * 1_000_000
    sent = [
        [
            ((EventKind.BEGIN, exchange, 0, RequestHead("POST", "http://a/", (), body=body)), 1),
            ((EventKind.BEGIN, other, 0, RequestHead("POST", "http://a/", ())), 1),
            ((EventKind.REQUEST_CHUNK, other, 0, body), len(body)),
        ]
    ]
    ((unpacked, _),), _ = received(sent, 1 << 20)
    head = unpacked[0][3]
    assert isinstance(head, RequestHead)
    assert head.body == body
    assert unpacked[2][3] is head.body


def test_events_of_an_exchange_that_did_not_begin_are_left_out_and_weigh() -> None:
    stranger = exchange_of(2, Flow("req_9"))
    known = exchange_of(1, Flow("req_0"))
    sent = [
        [
            ((EventKind.BEGIN, known, 0, RequestHead("GET", "http://a/", ())), 10),
            ((EventKind.CHUNK, stranger, 0, b"x" * 50_000), 50_000),
            ((EventKind.CHUNK, known, 0, b"y" * 50_000), 50_000),
            ((EventKind.END, stranger, 0, End("complete")), 10),
        ]
    ]
    ((unpacked, weight),), _ = received(sent, 1 << 20)
    assert [event[3] for event in unpacked[1:]] == [b"y" * 50_000]
    assert weight == 100_020


def test_what_is_remembered_of_a_flow_goes_when_the_flow_is_gone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender, frames = Sender(ours), Frames()
        unpacker = Unpacker(on_end=lambda *_: None, on_record=lambda *_: None)

        def passed(event: Event) -> None:
            sender.send([(event, 1)])
            for frame in frames.feed(theirs.recv(1 << 20)):
                unpacker.unpack(frame)

        kept = Flow("req_kept")
        for number in range(50):
            flow = Flow(f"req_{number}")
            passed((EventKind.ANNOTATE, flow, 0, b"{}"))
            passed((EventKind.ANNOTATE, kept, 0, b"{}"))
        del flow
        gc.collect()
        passed((EventKind.ANNOTATE, kept, 0, b"{}"))
        assert set(unpacker._flows) == set(sender._flows) == {"req_kept"}
