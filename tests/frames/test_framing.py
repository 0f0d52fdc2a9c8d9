"""The events of streams that are no server-sent events, and the choice of the framing."""

import itertools
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, strategies as st

from otel_wirecap.frames.aws_message import AWSMessage
from otel_wirecap.frames.framing import FrameReader
from otel_wirecap.frames.lexer import Frame
from tests.frames.reading import cut, read
from tests.llm.streams import AWS, aws_chunk, aws_event, frame, ndjson, sse

STRINGS = st.text(max_size=8) | st.sampled_from(['"', "\\", "{", "}]", "\n", "é🙂"])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=3), JSON_VALUES, max_size=3), max_size=5)
CUTS = st.lists(st.integers(0, 2000), max_size=10)

FRAMINGS: dict[str, tuple[str, Any]] = {
    "lines": ("application/x-ndjson", lambda events: ndjson(*events)),
    "lines, CRLF": ("application/jsonl; charset=utf-8", lambda events: ndjson(*events).replace(b"\n", b"\r\n\r\n")),
    "last line without an end": ("application/x-ndjson", lambda events: ndjson(*events).removesuffix(b"\n")),
    "text sequence": ("application/json-seq", lambda es: b"".join(b"\x1e" + ndjson(e) for e in es)),
    "array": ("application/json; charset=UTF-8", lambda events: json.dumps(events).encode()),
    "array on many lines": ("application/json", lambda events: json.dumps(events, indent=2).encode()),
    "side by side": ("application/stream+json", lambda events: b"".join(json.dumps(e).encode() for e in events)),
    "frames": (AWS, lambda events: b"".join(map(aws_chunk, events))),
    "server-sent events": ("Text/Event-Stream; charset=utf-8", lambda events: sse(*({"e": e} for e in events))),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@given(events=OBJECTS, places=CUTS, is_known=st.booleans())
def test_every_framing_gives_its_events_wherever_it_is_cut_and_whether_or_not_its_type_is_known(
    framing: str, events: list[Any], places: list[int], is_known: bool
) -> None:
    content_type, spell = FRAMINGS[framing]
    stream = spell(events)
    found = read(FrameReader(content_type if is_known else None), *cut(stream, places))
    wanted = [{"e": event} for event in events] if framing == "server-sent events" else events
    assert [json.loads(data) for _, data in found] == wanted


@pytest.mark.parametrize("framing", FRAMINGS)
@given(events=OBJECTS, end=st.integers(0, 2000))
def test_a_stream_cut_off_anywhere_gives_the_events_that_were_whole(framing: str, events: list[Any], end: int) -> None:
    content_type, spell = FRAMINGS[framing]
    stream = spell(events)[:end]
    whole = read(FrameReader(content_type), spell(events))
    found = read(FrameReader(content_type), stream)
    assert found[:-1] == whole[: len(found[:-1])]
    assert not found or found[-1] in whole or whole[len(found) - 1][1].startswith(found[-1][1])


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json", AWS])
def test_an_event_over_the_bound_is_dropped_and_told_and_the_next_one_is_read(content_type: str) -> None:
    large, small = {"x": "y" * 2000}, {"x": "z"}
    stream = b"".join(map(aws_chunk, [large, small])) if content_type == AWS else ndjson(large, small)
    for size in (1, 100, len(stream)):
        parser = FrameReader(content_type, max_frame_bytes=500)
        pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
        assert [json.loads(data) for _, data in read(parser, *pieces)] == [small]
        assert parser.overflowed


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json", AWS])
def test_what_is_held_is_bounded(content_type: str) -> None:
    parser = FrameReader(content_type, max_frame_bytes=10_000)
    parser.feed(frame({}, b"x" * 50_000_000)[:100] if content_type == AWS else b'{"x": "')
    piece = b"y" * 1000
    tracemalloc.start()
    for _ in range(5000):
        parser.feed(piece)
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20_000
    assert most < 40_000
    assert parser.overflowed


def test_a_line_that_broke_off_does_not_take_the_next_one_with_it() -> None:
    stream = b'{"a": "x\n{"error": "y"}\n{"b": [\n{"c": 1}\n'
    assert ("", b'{"error": "y"}') in read(FrameReader("application/x-ndjson"), stream)
    assert ("", b'{"c": 1}') in read(FrameReader("application/x-ndjson"), stream)
    assert ("", b'{"error": "y"}') in read(FrameReader(None), stream)


def test_an_event_of_converse_says_its_type_itself() -> None:
    stream = aws_event("messageStart", {"role": "assistant", "p": "ab"}) + aws_event("contentBlockStop", {})
    assert read(FrameReader(AWS), stream) == [
        ("messageStart", b'{"messageStart":{"role": "assistant", "p": "ab"}}'),
        ("contentBlockStop", b'{"contentBlockStop":{}}'),
    ]


def test_an_exception_of_aws_is_an_error_with_its_type() -> None:
    thrown = frame({":message-type": "exception", ":exception-type": "throttlingException"}, b'{"message":"slow"}')
    bare = frame({":message-type": "exception", ":exception-type": "x"}, b"no JSON")
    empty = frame({":message-type": "exception", ":exception-type": "y"}, b" {} ")
    error = frame({":message-type": "error", ":error-code": "InternalFailure", ":error-message": "oops"}, b"")
    told = read(FrameReader(AWS), thrown + bare + empty + error)
    assert [name for name, _ in told] == ["error"] * 4
    assert [json.loads(data) for _, data in told] == [
        {"type": "throttlingException", "message": "slow"},
        {"type": "x", "message": "no JSON"},
        {"type": "y"},
        {"type": "InternalFailure", "message": "oops"},
    ]


def test_an_exception_nested_beyond_reason_is_read() -> None:
    deep = b'{"message":"no","x":' + b"[" * 500 + b"]" * 500 + b"}"
    (event,) = read(FrameReader(AWS), frame({":message-type": "exception", ":exception-type": "x"}, deep))
    assert json.loads(event[1])["message"] == "no"


def test_headers_that_are_no_strings_are_passed_over() -> None:
    kinds = b"".join(
        b"\x01a" + bytes([kind]) + b"\0" * size for kind, size in [(0, 0), (2, 1), (4, 4), (8, 8), (9, 16)]
    )
    odd = kinds + b"\x01b\x06\0\x03xyz"
    stream = frame({":message-type": "event", ":event-type": "messageStop"}, b"{}", before=odd)
    assert read(FrameReader(AWS), stream) == [("messageStop", b'{"messageStop":{}}')]


def test_after_a_damaged_frame_nothing_more_is_told() -> None:
    first, second = aws_chunk({"a": 1}), aws_chunk({"b": 2})
    damaged = bytes([second[0] ^ 1]) + second[1:]
    assert read(FrameReader(AWS), first + damaged + first) == [("", b'{"a": 1}')]


@pytest.mark.parametrize(
    "stream", [b"", b"plain text, as it comes", b"<html>", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"12345"]
)
def test_what_is_no_stream_of_events_gives_none(stream: bytes) -> None:
    assert read(FrameReader("text/plain"), stream) == []
    assert read(FrameReader(None), *(stream[i : i + 1] for i in range(len(stream)))) == []


@pytest.mark.parametrize("framing", FRAMINGS)
@given(events=OBJECTS, places=CUTS, most=st.sampled_from([20, 1 << 20]))
def test_frames_stand_where_they_say_wherever_the_stream_is_cut(
    framing: str, events: list[Any], places: list[int], most: int
) -> None:
    content_type, spell = FRAMINGS[framing]
    stream = spell(events)

    def found(pieces: list[bytes]) -> list[Frame]:
        reader = FrameReader(content_type, max_frame_bytes=most)
        return [frame for piece in pieces for frame in reader.feed(piece)] + reader.close()

    frames = found([stream])
    assert found(cut(stream, places)) == frames
    assert len(frames) == len(events) or most == 20
    end = 0
    for one in frames:
        assert end <= one.start <= one.end <= len(stream)
        end = one.end
        if one.message is not None:
            assert AWSMessage.decoded(stream[one.start : one.end]) == one.message
            assert one.message.encoded() == stream[one.start : one.end]
            continue
        for (at, place), (stop, _) in itertools.pairwise([*one.parts, (len(one.data) + 1, 0)]):
            assert stream[place : place + stop - 1 - at] == one.data[at : stop - 1]
            assert list(one.places(at, stop - 1)) == [(place, place + stop - 1 - at)]


def test_a_range_that_runs_over_lines_is_one_place_in_each() -> None:
    stream = b'data: {"a":\r\ndata:\r\n: no data\r\ndata:"bc"}\r\n\r\n'
    (event,) = FrameReader("text/event-stream").feed(stream)
    assert event.data == b'{"a":\n\n"bc"}'
    assert [stream[a:b] for a, b in event.places(1, 10)] == [b'"a":', b"", b'"bc']


@pytest.mark.parametrize("content_type", [None, "text/plain", "text/html; charset=utf-8", "application/json",
                                          "application/octet-stream", "text/event-stream"])  # fmt: skip
def test_the_first_bytes_decide_whatever_the_type_says(content_type: str | None) -> None:
    for stream, data in (
        (b'data: {"a": 1}\n\ndata: {"a": 2}\n\n', [b'{"a": 1}', b'{"a": 2}']),
        (b"\xef\xbb\xbf\n: ping\n\ndata: x\n\n", [b"x"]),
        (b'\r\n {"a": 1}\n{"a": 2}', [b'{"a": 1}', b'{"a": 2}']),
        (b'[{"a": 1},\n{"a": [2]}]', [b'{"a": 1}', b'{"a": [2]}']),
        (aws_chunk(1) + aws_chunk(2), [b"1", b"2"]),
    ):
        for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
            assert [found for _, found in read(FrameReader(content_type), *pieces)] == data


@pytest.mark.parametrize("blanks", range(1018, 1026))
@pytest.mark.parametrize("rest", [b"data: x\n\n", b'{"a": 1}', b"text"])
def test_how_much_is_looked_at_does_not_depend_on_the_cuts(blanks: int, rest: bytes) -> None:
    stream = b"\n" * blanks + rest
    whole = read(FrameReader(""), stream)
    for at in range(blanks, len(stream)):
        assert read(FrameReader(""), stream[:at], stream[at:]) == whole


@pytest.mark.parametrize("kind", ["application/x-ndjson", "application/jsonl"])
@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_an_array_on_lines_is_one_whatever_the_type_says_of_lines(kind: str, cut: int) -> None:
    array = b'[{"a": 1},\n{"b": 2}\n,\n{"c": 3}]'
    for data, found in (
        (array, [b'{"a": 1}', b'{"b": 2}', b'{"c": 3}']),
        (b"[\n" + array[1:], [b'{"a": 1}', b'{"b": 2}', b'{"c": 3}']),
        (b'[1]\n[{"x": 2}]\n', [b"[1]", b'[{"x": 2}]']),
    ):
        reader = FrameReader(kind)
        frames = [frame for at in range(0, len(data), cut) for frame in reader.feed(data[at : at + cut])]
        frames += reader.close()
        assert [bytes(frame.data) for frame in frames] == found
