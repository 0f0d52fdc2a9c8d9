import itertools
import re
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_wirecap.llm.events import Event
from otel_wirecap.llm.sse import SSEParser


def parse(*pieces: bytes, max_event_bytes: int = 1 << 24) -> list[Event]:
    parser = SSEParser(max_event_bytes=max_event_bytes)
    return [event for piece in pieces for event in parser.feed(piece)] + parser.close()


def reference(stream: bytes) -> list[Event]:
    """The standard's rules on the whole text, an unterminated event included."""
    events, name, data = [], "", []
    for line in [*re.split(rb"\r\n|\r|\n", stream.removeprefix(b"\xef\xbb\xbf")), b""]:
        if not line:
            if data:
                events.append(Event(name, b"\n".join(data)))
            name, data = "", []
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return events


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


PIECES = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"data",
        b"event: ",
        b"event",
        b"id: 7",
        b"retry: 10",
        b": comment",
        b":",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b'{"a":1}',
        b"error",
        "é🙂".encode(),
        b"\xef\xbb\xbf",
        b"\xff",
        b"data: x\n\n",
        b"event: y\ndata: z\n\n",
    ]
)
STREAMS = st.lists(PIECES, max_size=30).map(b"".join)


@given(stream=STREAMS, places=st.lists(st.integers(0, 10_000), max_size=12))
@example(stream=b"data: a\r\n\r\ndata: b\r\n\r\n", places=[8, 9, 10])
@example(stream=b"\xef\xbb\xbfdata: a\n\n", places=[1, 2])
@example(stream=b"\xef\xbb", places=[1])
@example(stream=b"data: a\r\rdata: b\n\n", places=[9])
@example(stream=b"data: a\n\ndata: \n\n", places=[9])
@example(stream=b"data: a\n\nevent: b\ndata: c\n\n", places=[9])
@example(stream=b"data: a\n\nevent: b\rdata: c\ndata: d\n\n", places=[9])
def test_any_cutting_gives_the_events_of_the_whole_text(stream: bytes, places: list[int]) -> None:
    expected = reference(stream)
    assert parse(stream) == expected
    assert parse(*cut(stream, places)) == expected
    assert parse(*(stream[i : i + 1] for i in range(len(stream)))) == expected


@given(st.lists(st.sampled_from([b"data: one\n\n", b"event: e\ndata: two\n\n", b"data: a\ndata: b\n\n"])))
def test_chunks_that_are_whole_events_give_their_events(chunks: list[bytes]) -> None:
    assert parse(*chunks) == reference(b"".join(chunks))


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: hello\n\n", [("", b"hello")]),
        (b"data:hello\n\n", [("", b"hello")]),
        (b"data:  two spaces\n\n", [("", b" two spaces")]),
        (b"data\n\n", [("", b"")]),
        (b"data\ndata\n\n", [("", b"\n")]),
        (b"event: error\ndata: {}\n\n", [("error", b"{}")]),
        (b"event: lonely\n\ndata: x\n\n", [("", b"x")]),
        (b": ping\n\n: ping\n\ndata: x\n\n", [("", b"x")]),
        (b"id: 1\nretry: 5\ndata: x\n\n", [("", b"x")]),
        (b"data: cut", [("", b"cut")]),
        (b"event: e\ndata: cut\r\n", [("e", b"cut")]),
        (b"dataset: x\n\n", []),
        (b"", []),
    ],
)
def test_fields_are_read_as_the_standard_says(stream: bytes, events: list[tuple[str, bytes]]) -> None:
    assert parse(stream) == events


def test_an_event_comes_out_with_the_piece_that_completes_it() -> None:
    parser = SSEParser()
    assert parser.feed(b"data: a\r\n\r") == [("", b"a")]
    assert parser.feed(b"\ndata: b\n\n") == [("", b"b")]
    assert parser.feed(b"data: c\n") == []
    assert parser.feed(b"\n") == [("", b"c")]
    assert parser.close() == []


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    places=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_an_event_over_the_limit_is_dropped_wherever_it_is_cut(sizes: list[int], places: list[int]) -> None:
    stream = b"".join(b"data: " + b"x" * size + b"\n\n" for size in sizes)
    kept = [("", b"x" * size) for size in sizes if size + len("data: ") <= 40]
    for pieces in ([stream], cut(stream, places), [stream[i : i + 1] for i in range(len(stream))]):
        parser = SSEParser(max_event_bytes=40)
        events = [event for piece in pieces for event in parser.feed(piece)] + parser.close()
        assert events == kept
        assert parser.overflowed == (len(kept) < len(sizes))


def test_an_event_of_many_lines_is_held_to_the_limit_and_the_next_one_comes_through() -> None:
    parser = SSEParser(max_event_bytes=1000)
    for _ in range(100):
        assert parser.feed(b"data: 0123456789\n") == []
    assert parser.feed(b"\ndata: next\n\n") == [("", b"next")]
    assert parser.overflowed


def test_memory_stays_bounded_on_an_endless_line() -> None:
    parser = SSEParser(max_event_bytes=10_000)
    piece = b"x" * 1000
    parser.feed(b"data: ")
    tracemalloc.start()
    for _ in range(5000):
        parser.feed(piece)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20_000
    assert peak < 60_000
    assert parser.feed(b"\n\ndata: after\n\n") == [("", b"after")]
    assert parser.overflowed


def test_a_huge_event_in_small_pieces_is_not_copied_again_for_each_piece() -> None:
    # Joining what is held at every piece would copy 400 GB here: the test's time limit is the assertion.
    piece = b"x" * 20
    count = 200_000
    parser = SSEParser()
    parser.feed(b"data: ")
    for _ in range(count):
        parser.feed(piece)
    (event,) = parser.feed(b"\n\n")
    assert event.data == piece * count
