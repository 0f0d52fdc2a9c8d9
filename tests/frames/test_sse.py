import re
import tracemalloc

import pytest
from hypothesis import example, given, strategies as st

from otel_wirecap.frames.framing import FrameReader
from otel_wirecap.frames.sse import SSELexer
from tests.frames.reading import cut, events, feed, frames_of, read


def parse(*pieces: bytes) -> list[tuple[str, bytes]]:
    return events(frames_of(SSELexer(1 << 24), *pieces))


def reference(stream: bytes) -> list[tuple[str, bytes]]:
    """The standard's rules on the whole text, an unterminated event and errors that are no data included."""
    found, name, data, errors, unframed = list[tuple[str, bytes]](), "", list[bytes](), list[bytes](), b""
    for line in [*re.split(rb"(?<=\r\n)|(?<=\r)(?!\n)|(?<=\n)(?<!\r\n)", stream), b""]:
        whole, line = line, line.rstrip(b"\r\n")
        if not line:
            if data:
                found.append((name, b"\n".join(data)))
            elif errors:
                found.append(("error", b"\n".join(errors)))
            elif unframed.startswith(b"{"):
                found.append(("", unframed.rstrip(b"\r\n")))
            name, data, errors, unframed = "", [], [], b""
            continue
        if unframed or not line.startswith(b":"):
            unframed += whole
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"data":
            data.append(value)
        elif field == b"error" and value:
            errors.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return found


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
        b"error: ",
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
    ("stream", "expected"),
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
        (b'data: x\n\nerror: {"code":400}\n\n', [("", b"x"), ("error", b'{"code":400}')]),
        (b"event: e\nerror: a\nerror: b\n\n", [("error", b"a\nb")]),
        (b"error: says less than\ndata: x\n\n", [("", b"x")]),
        (b"error\n\nerror:\n\n", []),
        (b': ping\n\n{"error": "no"}', [("", b'{"error": "no"}')]),
        (b'data: x\n\n{\r\n "error": "no"\r\n}\r\n\r\n', [("", b"x"), ("", b'{\r\n "error": "no"\r\n}')]),
        (b"", []),
    ],
)
def test_fields_are_read_as_the_standard_says(stream: bytes, expected: list[tuple[str, bytes]]) -> None:
    assert parse(stream) == expected


@given(
    STREAMS.filter(lambda stream: stream.lstrip()[:1] not in (b"{", b"[")),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_a_byte_order_mark_before_the_first_event_says_nothing(stream: bytes, places: list[int]) -> None:
    pieces = cut(b"\xef\xbb\xbf" + stream, places)
    assert read(FrameReader("text/event-stream"), *pieces) == reference(stream)


def test_an_event_comes_out_with_the_piece_that_completes_it() -> None:
    reader = FrameReader("text/event-stream")

    def fed(piece: bytes) -> list[tuple[str, bytes]]:
        return events(reader.feed(piece))

    assert fed(b"data: a\r\n\r") == [("", b"a")]
    assert fed(b"\ndata: b\n\n") == [("", b"b")]
    assert fed(b"data: c\n") == []
    assert fed(b"\n") == [("", b"c")]
    assert reader.close() == []


def test_comments_wait_for_no_event() -> None:
    lexer, held = SSELexer(100), bytearray()
    for piece in (b":\n", b": ping\r\n", b"\n", b"\r\n\r\n"):
        assert feed(lexer, held, piece) == []
        assert not held


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    places=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_an_event_over_the_limit_is_dropped_wherever_it_is_cut(sizes: list[int], places: list[int]) -> None:
    stream = b"".join(b"data: " + b"x" * size + b"\n\n" for size in sizes)
    kept = [("", b"x" * size) for size in sizes if size + len("data: ") <= 40]
    for pieces in ([stream], cut(stream, places), [stream[i : i + 1] for i in range(len(stream))]):
        reader = FrameReader("text/event-stream", max_frame_bytes=40)
        assert read(reader, *pieces) == kept
        assert reader.overflowed == (len(kept) < len(sizes))


def test_an_event_of_many_lines_is_held_to_the_limit_and_the_next_one_comes_through() -> None:
    reader = FrameReader("text/event-stream", max_frame_bytes=1000)
    for _ in range(100):
        assert reader.feed(b"data: 0123456789\n") == []
    assert events(reader.feed(b"\ndata: next\n\n")) == [("", b"next")]
    assert reader.overflowed


def test_memory_stays_bounded_on_an_endless_line() -> None:
    reader = FrameReader("text/event-stream", max_frame_bytes=10_000)
    piece = b"x" * 1000
    reader.feed(b"data: ")
    tracemalloc.start()
    for _ in range(5000):
        reader.feed(piece)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20_000
    assert peak < 60_000
    assert events(reader.feed(b"\n\ndata: after\n\n")) == [("", b"after")]
    assert reader.overflowed


def test_a_huge_event_in_small_pieces_is_not_copied_again_for_each_piece() -> None:
    # Joining what is held at every piece would copy 400 GB here: the test's time limit is the assertion.
    piece = b"x" * 20
    count = 200_000
    reader = FrameReader("text/event-stream")
    reader.feed(b"data: ")
    for _ in range(count):
        reader.feed(piece)
    (event,) = reader.feed(b"\n\n")
    assert event.data == piece * count
