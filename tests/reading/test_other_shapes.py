"""Captures that name no exchanges: flows are inferred from session, order and direction."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.legs import legs_of
from otel_wirecap.reading.other_shapes import OtherShapes

START = 1_767_225_600.0


class Origin:
    """Writes records as the specification's origin does: no exchange ids, no legs; a number of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[bytes] = []
        self.now = START
        self.write("system_init", "system", {"version": 1}, session=None)

    def write(self, direction, backend, payload, *, session="s-1", request_id=None, **metadata) -> None:
        self.now += 0.1
        record = {
            "timestamp_iso": datetime.fromtimestamp(self.now, UTC).isoformat(), "timestamp_unix": self.now,
            "sequence": len(self.lines) + 1, "direction": direction, "source": "127.0.0.1(Cline/1.0)",
            "destination": "d", "session_id": session, "backend": backend, "model": "qwen3-coder-plus",
            "key_name": "primary", "content_type": "json", "content_length": 9, "payload": payload,
            "metadata": {"client_host": "127.0.0.1", "user_agent": "Cline/1.0", "request_id": request_id, **metadata},
        }  # fmt: skip
        self.lines.append(orjson.dumps(record) + b"\n")
        self.path.write_bytes(b"".join(self.lines))

    def stream(self, name, backend, texts, session="s-1"):
        """Gives the records of one stream, one a call."""
        self.write(f"{name}_start", backend, {"stream_type": "x"}, session=session)
        yield
        for number, text in enumerate(texts, 1):
            self.write(f"{name}_chunk", backend, text, session=session, chunk_number=number, chunk_bytes=len(text))
            yield
        totals = {"total_bytes": sum(map(len, texts)), "total_chunks": len(texts)}
        self.write(f"{name}_end", backend, totals, session=session)


@pytest.fixture
def origin(tmp_path) -> Origin:
    return Origin(tmp_path / "origin.log")


def ask(origin, text, session="s-1"):
    body = {"messages": [{"role": "user", "content": text}]}
    raw = {"length": 321, "preview": "{", "truncated": True}
    origin.write("inbound_request", "client", {"parsed": body, "raw": raw}, session=session)
    origin.write("outbound_request", "qwen", body, session=session)


def test_a_streamed_flow_is_inferred_with_its_times_its_tokens_and_its_bytes(origin):
    ask(origin, "hello")
    inner = origin.stream("stream", "qwen", ["data: a\n\n", "data: b\n\n"])
    outer = origin.stream("outbound_stream", "qwen", ["data: a\n\n", "data: b\n\n"])
    for both in (inner, outer):
        for _ in both:
            pass
    usage = {"prompt_tokens": 12, "completion_tokens": 3}
    origin.write("stream_completion", "qwen", {}, canonical_usage=usage)
    with Captures([origin.path]) as captures:
        (flow,) = captures.flows()
        assert captures.collect().records == len(origin.lines)
        client, backend = legs_of(captures, captures.flow(flow.request_id[:8]))
    assert (flow.client.leg, [one.attempt for one in flow.attempts]) == ("client", [1])
    assert flow.client.request_bytes == 321
    assert client.question == {"messages": [{"role": "user", "content": "hello"}]}
    assert client.request["metadata"]["raw"]["truncated"] is True
    assert backend.response_body == client.response_body == b"data: a\n\ndata: b\n\n"
    assert (flow.attempts[0].chunk_count, flow.attempts[0].outcome) == (2, "complete")
    assert flow.attempts[0].ttfb_ms == pytest.approx(100)
    assert flow.client.duration_ms == pytest.approx(900)
    assert (flow.usage.input, flow.usage.output) == (12, 3)
    assert not flow.failed


def test_a_second_attempt_and_the_next_turn_of_a_session_stand_apart(origin):
    ask(origin, "one")
    origin.write("inbound_response", "qwen", {"error": {"type": "overloaded"}})
    origin.write("outbound_request", "qwen", {})
    origin.write("inbound_response", "qwen", {"usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    origin.write("outbound_response", "qwen", {"choices": []})
    ask(origin, "two")
    origin.write("inbound_response", "qwen", {"choices": []})
    origin.write("outbound_response", "qwen", {"choices": []})
    with Captures([origin.path]) as captures:
        first, second = captures.flows()
    assert [one.error_type for one in first.attempts] == ["overloaded", None]
    assert not first.failed
    assert (len(second.attempts), second.outer.outcome) == (1, "complete")


def test_streams_of_one_session_at_the_same_time_are_told_apart_by_their_numbers(origin):
    ask(origin, "one")
    ask(origin, "two")
    long = origin.stream("stream", "qwen", [f"data: long {n}\n\n" for n in range(4)])
    short = origin.stream("stream", "qwen", ["data: short\n\n"])
    next(long)
    next(long)
    next(long)
    next(short)
    for both in (long, short):
        for _ in both:
            pass
    with Captures([origin.path]) as captures:
        flows = captures.flows()
        bodies = [legs_of(captures, flow)[1].response_body for flow in flows]
    assert bodies == [b"".join(b"data: long %d\n\n" % n for n in range(4)), b"data: short\n\n"]
    assert [flow.attempts[0].chunk_count for flow in flows] == [4, 1]


def test_request_ids_are_kept_where_a_record_has_one(origin):
    for name in ("req_a", "req_b"):
        origin.write("inbound_request", "client", {}, request_id=name)
    for name in ("req_b", "req_a"):
        origin.write("outbound_request", "qwen", {"for": name}, request_id=name)
        origin.write("inbound_response", "qwen", {"to": name}, request_id=name)
    with Captures([origin.path]) as captures:
        assert {flow.request_id: legs_of(captures, flow)[1].answer for flow in captures.flows()} == {
            "req_a": {"to": "req_a"}, "req_b": {"to": "req_b"},
        }  # fmt: skip


def test_an_answer_whose_request_was_rotated_away_is_a_flow_of_its_own(origin):
    origin.write("stream_chunk", "qwen", "data: x\n\n", chunk_number=7, chunk_bytes=9)
    origin.write("outbound_response", "qwen", {"choices": []}, session="s-2")
    with Captures([origin.path]) as captures:
        assert [(len(flow.attempts), flow.client is None) for flow in captures.flows()] == [(1, True), (0, False)]


def test_the_same_capture_gives_the_same_ids_every_time(origin):
    ask(origin, "one")
    ask(origin, "two", session="s-2")
    with Captures([origin.path]) as one, Captures([origin.path]) as other:
        names = [flow.request_id for flow in one.flows()]
        assert names == [flow.request_id for flow in other.flows()]
        assert len(set(names)) == 2


def test_records_that_name_their_exchange_come_back_as_they_are(demo_lines):
    shapes = OtherShapes()
    for line in demo_lines:
        record = orjson.loads(line)
        assert shapes.normal(record) == orjson.loads(line)


@pytest.mark.parametrize("totals", [None, [], "all of it", 7, {"total_chunks": "2"}, {"total_chunks": None}])
def test_the_end_of_a_stream_is_read_whatever_it_says_of_its_totals(origin, totals):
    ask(origin, "hello")
    origin.write("stream_start", "qwen", {"stream_type": "x"})
    origin.write("stream_chunk", "qwen", "data: x\n\n", chunk_number=1, chunk_bytes=9)
    origin.write("stream_end", "qwen", totals)
    with Captures([origin.path]) as captures:
        (flow,) = captures.flows()
    (attempt,) = flow.attempts
    assert (attempt.outcome, attempt.seen_chunks) == ("complete", 1)
