from __future__ import annotations

import base64

import orjson
import pytest
from hypothesis import given, strategies as st
from records import read_records

from otel_wirecap.errors import CaptureFileError
from otel_wirecap.reading.flows import FlowCollector
from otel_wirecap.reading.library import open_capture
from otel_wirecap.reading.packing import packed, unpacked
from otel_wirecap.reading.sources import capture_files

START = 1_767_225_600.0


def record(direction, exchange_id, at_ms, *, flow="req_1", leg="backend", attempt=1, **fields):
    """A record as the schema has it; unknown keywords go into the metadata."""
    envelope = {key: fields.pop(key) for key in ("model", "payload", "content_length", "backend") if key in fields}
    metadata = {"leg": leg, "request_id": flow, "exchange_id": exchange_id}
    if leg == "backend":
        metadata["attempt"] = attempt
    return {
        "timestamp_iso": "",
        "timestamp_unix": START + at_ms / 1000,
        "direction": direction,
        "source": "",
        "destination": "",
        "session_id": "session",
        "backend": "openai",
        "model": "asked",
        "key_name": None,
        "content_type": "empty",
        "content_length": 0,
        "payload": None,
        **envelope,
        "metadata": {**metadata, **fields},
    }


def streamed_flow():
    """A client's streamed request that got 503 at first, then a stream of two chunks."""
    client = {"leg": "client"}
    return [
        record(
            "inbound_request", "c", 0, **client, backend="client", content_length=40,
            method="POST", url="http://p/openai/v1/x?key=%5BREDACTED%5D",
        ),
        record("outbound_request", "b1", 2, method="POST", url="http://up/v1/x"),
        record(
            "inbound_response", "b1", 5, content_length=9,
            status_code=503, ttfb_ms=2.5, duration_ms=3.0, outcome="complete",
        ),
        record("outbound_request", "b2", 10, attempt=2, method="POST", url="http://up/v1/x"),
        record("stream_start", "b2", 30, attempt=2, status_code=200, ttfb_ms=20.0),
        record("outbound_stream_start", "c", 31, **client, status_code=200, ttfb_ms=31.0),
        record("stream_chunk", "b2", 32, attempt=2, chunk_number=1, chunk_bytes=10),
        record("stream_chunk", "b2", 40, attempt=2, chunk_number=2, chunk_bytes=5),
        record(
            "stream_end", "b2", 50, attempt=2, model="answered",
            payload={"total_bytes": 15, "total_chunks": 2}, ttfb_ms=20.0, duration_ms=40.0,
            outcome="complete",
        ),
        record(
            "inbound_response", "b2", 50, attempt=2, model="answered", content_length=700, payload={"id": 1},
            status_code=200, assembled=True, duration_ms=40.0, outcome="complete",
        ),
        record(
            "outbound_stream_end", "c", 51, **client, model="answered",
            payload={"total_bytes": 15, "total_chunks": 2}, ttfb_ms=31.0, duration_ms=51.0,
            outcome="client_disconnect",
        ),
    ]  # fmt: skip


def flows_of(records):
    collector = FlowCollector()
    for record in records:
        collector.add(record)
    return collector.flows


def without_gaps(flows):
    for flow in flows:
        for exchange in flow.exchanges:
            exchange.gaps = None
    return flows


# -- flows -------------------------------------------------------------------------------------------


def test_a_flow_is_the_clients_exchange_with_its_attempts_in_order():
    (flow,) = flows_of(streamed_flow())
    assert flow.request_id == "req_1"
    assert flow.session_id == "session"
    assert [one.exchange_id for one in flow.exchanges] == ["c", "b1", "b2"]
    assert [one.attempt for one in flow.attempts] == [1, 2]
    assert flow.model == "answered"
    assert flow.started_unix == START
    assert flow.ended_unix == pytest.approx(START + 0.051)


def test_an_exchange_tells_what_its_records_tell():
    (flow,) = flows_of(streamed_flow())
    assert flow.client is not None
    refused, stream = flow.attempts
    assert (flow.client.method, flow.client.path, flow.client.backend) == ("POST", "/openai/v1/x", "openai")
    assert (flow.client.request_bytes, flow.client.outcome) == (40, "client_disconnect")
    assert (refused.status_code, refused.response_bytes, refused.streamed, refused.chunk_count) == (503, 9, False, 0)
    assert (stream.status_code, stream.response_bytes, stream.streamed, stream.chunk_count) == (200, 15, True, 2)
    assert (stream.ttfb_ms, stream.duration_ms) == (20.0, 40.0)
    assert (stream.requested_model, stream.answered_model) == ("asked", "answered")


@given(st.permutations(streamed_flow()))
def test_the_order_of_records_does_not_matter(records):
    assert without_gaps(flows_of(records)) == without_gaps(flows_of(streamed_flow()))


@given(st.sets(st.integers(0, len(streamed_flow()) - 1)))
def test_any_record_may_be_missing(missing):
    kept = [one for number, one in enumerate(streamed_flow()) if number not in missing]
    flows = flows_of(kept)
    assert len(flows) == bool(kept)
    seen = {one["metadata"]["exchange_id"] for one in kept}
    assert {exchange.exchange_id for flow in flows for exchange in flow.exchanges} == seen


def test_a_stream_that_has_not_ended_is_told_as_far_as_it_came():
    (flow,) = flows_of(streamed_flow()[:7])
    stream = flow.attempts[1]
    assert (stream.chunk_count, stream.response_bytes, stream.outcome, stream.duration_ms) == (1, 10, None, None)


def test_a_request_whose_record_was_rotated_away_began_its_duration_before_its_end():
    (flow,) = flows_of([one for one in streamed_flow() if one["direction"] == "inbound_response"][:1])
    assert flow.attempts[0].started_unix == pytest.approx(START + 0.002)


def test_an_error_stands_with_its_exchange():
    error = {"type": "ReadTimeout", "message": "too slow"}
    (flow,) = flows_of(
        [
            record("outbound_request", "b", 0, url="http://up/"),
            record("inbound_response", "b", 9, duration_ms=9.0, outcome="error", error=error),
        ]
    )
    assert flow.client is None
    assert flow.attempts[0].error == error
    assert flow.attempts[0].status_code is None


def test_flows_stand_in_the_order_they_began():
    flows = flows_of(
        [
            record("outbound_request", "late", 20, flow="req_a"),
            record("outbound_request", "early", 10, flow="req_b"),
        ]
    )
    assert [flow.request_id for flow in flows] == ["req_b", "req_a"]


def test_gaps_and_strange_records_are_counted_and_do_no_harm():
    collector = FlowCollector()
    gap = {"direction": "system_gap", "payload": {"lost_events": 3, "reason": "queue_full"}, "metadata": {}}
    strange = [
        {},
        {"metadata": 1},
        {"direction": "stream_chunk", "timestamp_unix": 1, "metadata": {"request_id": 1}},
    ]
    for one in [gap, *strange, *streamed_flow()]:
        collector.add(one)
    assert collector.records == 15
    assert collector.gaps == 1
    assert len(collector.flows) == 1


# -- reading -----------------------------------------------------------------------------------------


def lines(*numbers):
    return b"".join(orjson.dumps({"n": number}) + b"\n" for number in numbers)


def test_a_capture_is_read_from_its_oldest_rotated_file_on(tmp_path):
    live = tmp_path / "capture.log"
    live.write_bytes(lines(5, 6))
    (tmp_path / "capture.log.1").write_bytes(lines(4))
    (tmp_path / "capture.log.2").write_bytes(lines(2, 3))
    (tmp_path / "capture.log.10").write_bytes(lines(1))
    for name in (
        "capture.log.01",
        "capture.log.1.bz2",
        "capture.log.20250110",
        "capture.log.lock",
        "other.log.3",
    ):
        (tmp_path / name).write_bytes(lines(99))
    assert [file.name for file in capture_files(live)] == [
        "capture.log.10",
        "capture.log.2",
        "capture.log.1",
        "capture.log",
    ]
    assert [one["n"] for one in read_records(live)] == [1, 2, 3, 4, 5, 6]


def test_a_capture_without_its_live_file_is_read_too(tmp_path):
    (tmp_path / "capture.log.1").write_bytes(lines(1))
    assert [one["n"] for one in read_records(tmp_path / "capture.log")] == [1]


@given(cut=st.integers(1, 40))
def test_a_torn_last_line_is_left_out_and_told(cut, tmp_path_factory):
    live = tmp_path_factory.mktemp("torn") / "capture.log"
    last = orjson.dumps({"n": 3, "payload": "Zażółć gęślą jaźń 漢字"})
    live.write_bytes(lines(1, 2) + last[: -min(cut, len(last) - 1)])
    damaged = []
    read = read_records(live, on_damage=lambda file, number: damaged.append((file.name, number)))
    assert [one["n"] for one in read] == [1, 2]
    assert damaged == [("capture.log", 3)]


def test_a_whole_last_line_without_its_newline_is_a_record(tmp_path):
    live = tmp_path / "capture.log"
    live.write_bytes(lines(1, 2).rstrip())
    assert [one["n"] for one in read_records(live)] == [1, 2]


def test_lines_that_are_no_records_are_left_out(tmp_path):
    live = tmp_path / "capture.log"
    live.write_bytes(lines(1) + b"\xff\xfe\n\n[1]\nnull\n{\n" + lines(2))
    assert [one["n"] for one in read_records(live)] == [1, 2]


def test_a_rotation_while_reading_loses_and_repeats_nothing(tmp_path):
    live = tmp_path / "capture.log"
    live.write_bytes(lines(3, 4))
    (tmp_path / "capture.log.1").write_bytes(lines(1, 2))
    records = read_records(live)
    assert next(records) == {"n": 1}
    (tmp_path / "capture.log.1").rename(tmp_path / "capture.log.2")
    live.rename(tmp_path / "capture.log.1")
    live.write_bytes(lines(5))
    assert [one["n"] for one in records] == [2, 3, 4]


def test_a_capture_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CaptureFileError, match=r"nothing\.log.*no such file"):
        list(read_records(tmp_path / "nothing.log"))
    with pytest.raises(CaptureFileError, match=r"no.where"):
        list(read_records(tmp_path / "no" / "where"))


def answers(*asked, at_ms=0):
    """A flow for each (method, URL's path, answer)."""
    records = []
    for number, (method, path, answer) in enumerate(asked):
        flow = {"flow": f"req_{number}"}
        begin = at_ms + 10 * number
        records.append(record("outbound_request", f"b{number}", begin, **flow, method=method, url=f"http://up{path}"))
        records.append(
            record("inbound_response", f"b{number}", begin + 5, **flow, payload=answer, status_code=200,
                   duration_ms=5.0, outcome="complete")
        )  # fmt: skip
    return records


def a_response(tokens=None, name="resp_1"):
    usage = None if tokens is None else {"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
    return {"id": name, "object": "response", "output": [], "usage": usage}


MADE, READ = ("POST", "/v1/responses"), ("GET", "/v1/responses/resp_1")
READ_AGAIN = {
    "in the background": ([(*MADE, a_response()), *[(*READ, a_response(100))] * 3], [None, 100, None, None]),
    "after a stream": ([(*MADE, a_response(100)), (*READ, a_response(100))], [100, None]),
    "as far as a batch came": (
        [("GET", "/v1/batches/resp_1", a_response(tokens)) for tokens in (0, 40, 90, 90)], [None, None, 90, None],
    ),
    "when it is cancelled": ([(*READ, a_response(100)), ("POST", "/v1/responses/resp_1/cancel", a_response(100))],
                             [100, None]),
    "another answer of the same name, as from a backend that gives all of them one": (
        [(*MADE, a_response(100)), (*MADE, a_response(100))], [100, 100],
    ),
    "another one that has a name that is a part of the path": (
        [(*MADE, a_response(100, "r")), (*MADE, a_response(100, "r"))], [100, 100],
    ),
    "others": ([(*READ, a_response(100)), ("GET", "/v1/responses/resp_2", a_response(50, "resp_2"))], [100, 50]),
}  # fmt: skip


@pytest.mark.parametrize("name", READ_AGAIN)
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_an_answer_that_is_read_again_counts_once(name, parts):
    asked, counted = READ_AGAIN[name]
    collectors = [FlowCollector() for _ in range(parts)]
    for number, one in enumerate(answers(*asked)):
        collectors[number * parts // (2 * len(asked))].add(one)
    first, *others = collectors
    for later in others:
        assert later.flows is not None
        first.merge(later)
    for _ in range(2):
        assert [flow.usage and flow.usage.input for flow in first.flows] == counted


def test_the_answers_of_a_websocket_add_up_and_each_keeps_its_model(tmp_path):
    def message(number, payload, **more):
        return record("websocket_message", "b1", number, payload=orjson.dumps(payload).decode(), message_number=number,
                      **more)  # fmt: skip

    def done(model, tokens):
        return {"type": "response.done", "response": {"model": model, "usage": {"input_tokens": tokens}}}

    records = [
        record("websocket_start", "b1", 0, method="GET", url="ws://up/v1/realtime", status_code=101),
        message(1, {"type": "response.create", "response": {"metadata": {"usage": "no"}}}),
        message(2, {"type": "response.created", "response": {"usage": None}}),
        message(3, done("one", 30)),
        message(4, done("two", 12)),
        record("websocket_message", "b1", 5, payload="usage: 7", message_number=5),
        record(
            "websocket_message",
            "b1",
            6,
            message_number=6,
            payload={
                "encoding": "base64",
                "data": base64.b64encode(b'{"usageMetadata": {"promptTokenCount": 8}}').decode(),
            },
        ),
        record("websocket_message", "b1", 7, message_number=7, payload={"encoding": "base64", "data": "eyI/"}),
        record("websocket_end", "b1", 9, outcome="complete", duration_ms=9.0),
    ]
    path = tmp_path / "capture.log"
    path.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in records))
    with open_capture(path) as capture:
        (flow,) = capture.flows()
    for usage in (flow.usage, flows_of(records)[0].attempts[0].usage):
        assert (usage.input, usage.output) == (50, 0)
    assert [(one.model, one.input) for one in flow.attempts[0].usage.billed] == [("one", 30), ("two", 12), (None, 8)]
    assert unpacked(packed(flow)).attempts[0].usage == flow.attempts[0].usage
    halves = FlowCollector(), FlowCollector()
    for number, one in enumerate(records):
        halves[number > 3].add(one)
    halves[0].merge(halves[1])
    assert halves[0].flows[0].attempts[0].usage == flow.attempts[0].usage
