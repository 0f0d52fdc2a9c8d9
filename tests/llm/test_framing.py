"""The events of streams that are no server-sent events, and the choice of the framing."""

import itertools
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import AWS, aws_chunk, aws_event, frame, ndjson, sse

from otel_wirecap.llm.events import Event, EventParser
from otel_wirecap.llm.framing import event_parser

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


def read(parser: EventParser, *pieces: bytes) -> list[Event]:
    return [event for piece in pieces for event in parser.feed(piece)] + parser.close()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("framing", FRAMINGS)
@given(events=OBJECTS, places=CUTS, is_known=st.booleans())
def test_every_framing_gives_its_events_wherever_it_is_cut_and_whether_or_not_its_type_is_known(
    framing: str, events: list[Any], places: list[int], is_known: bool
) -> None:
    content_type, spell = FRAMINGS[framing]
    stream = spell(events)
    found = read(event_parser(content_type if is_known else None), *cut(stream, places))
    wanted = [{"e": event} for event in events] if framing == "server-sent events" else events
    assert [json.loads(event.data) for event in found] == wanted


@pytest.mark.parametrize("framing", FRAMINGS)
@given(events=OBJECTS, end=st.integers(0, 2000))
def test_a_stream_cut_off_anywhere_gives_the_events_that_were_whole(framing: str, events: list[Any], end: int) -> None:
    content_type, spell = FRAMINGS[framing]
    stream = spell(events)[:end]
    whole = read(event_parser(content_type), spell(events))
    found = read(event_parser(content_type), stream)
    assert found[:-1] == whole[: len(found[:-1])]
    assert not found or found[-1] in whole or whole[len(found) - 1].data.startswith(found[-1].data)


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json", AWS])
def test_an_event_over_the_bound_is_dropped_and_told_and_the_next_one_is_read(content_type: str) -> None:
    large, small = {"x": "y" * 2000}, {"x": "z"}
    stream = b"".join(map(aws_chunk, [large, small])) if content_type == AWS else ndjson(large, small)
    for size in (1, 100, len(stream)):
        parser = event_parser(content_type, max_event_bytes=500)
        pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
        assert [json.loads(event.data) for event in read(parser, *pieces)] == [small]
        assert parser.overflowed


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json", AWS])
def test_what_is_held_is_bounded(content_type: str) -> None:
    parser = event_parser(content_type, max_event_bytes=10_000)
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
    assert Event("", b'{"error": "y"}') in read(event_parser("application/x-ndjson"), stream)
    assert Event("", b'{"c": 1}') in read(event_parser("application/x-ndjson"), stream)
    assert Event("", b'{"error": "y"}') in read(event_parser(None), stream)


def test_an_event_of_converse_says_its_type_itself() -> None:
    stream = aws_event("messageStart", {"role": "assistant", "p": "ab"}) + aws_event("contentBlockStop", {})
    assert read(event_parser(AWS), stream) == [
        Event("messageStart", b'{"messageStart":{"role": "assistant", "p": "ab"}}'),
        Event("contentBlockStop", b'{"contentBlockStop":{}}'),
    ]


def test_an_exception_of_aws_is_an_error_with_its_type() -> None:
    thrown = frame({":message-type": "exception", ":exception-type": "throttlingException"}, b'{"message":"slow"}')
    bare = frame({":message-type": "exception", ":exception-type": "x"}, b"no JSON")
    empty = frame({":message-type": "exception", ":exception-type": "y"}, b" {} ")
    error = frame({":message-type": "error", ":error-code": "InternalFailure", ":error-message": "oops"}, b"")
    told = read(event_parser(AWS), thrown + bare + empty + error)
    assert [event.name for event in told] == ["error"] * 4
    assert [json.loads(event.data) for event in told] == [
        {"type": "throttlingException", "message": "slow"},
        {"type": "x", "message": "no JSON"},
        {"type": "y"},
        {"type": "InternalFailure", "message": "oops"},
    ]


def test_an_exception_nested_beyond_reason_is_read() -> None:
    deep = b'{"message":"no","x":' + b"[" * 500 + b"]" * 500 + b"}"
    (event,) = read(event_parser(AWS), frame({":message-type": "exception", ":exception-type": "x"}, deep))
    assert json.loads(event.data)["message"] == "no"


def test_headers_that_are_no_strings_are_passed_over() -> None:
    kinds = b"".join(
        b"\x01a" + bytes([kind]) + b"\0" * size for kind, size in [(0, 0), (2, 1), (4, 4), (8, 8), (9, 16)]
    )
    odd = kinds + b"\x01b\x06\0\x03xyz"
    stream = frame({":message-type": "event", ":event-type": "messageStop"}, b"{}", before=odd)
    assert read(event_parser(AWS), stream) == [Event("messageStop", b'{"messageStop":{}}')]


def test_after_a_damaged_frame_nothing_more_is_told() -> None:
    first, second = aws_chunk({"a": 1}), aws_chunk({"b": 2})
    damaged = bytes([second[0] ^ 1]) + second[1:]
    assert read(event_parser(AWS), first + damaged + first) == [Event("", b'{"a": 1}')]


@pytest.mark.parametrize(
    "stream", [b"", b"plain text, as it comes", b"<html>", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"12345"]
)
def test_what_is_no_stream_of_events_gives_none(stream: bytes) -> None:
    assert read(event_parser("text/plain"), stream) == []
    assert read(event_parser(None), *(stream[i : i + 1] for i in range(len(stream)))) == []
