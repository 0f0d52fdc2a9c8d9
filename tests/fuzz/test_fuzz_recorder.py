"""The recorder as a whole, whatever a client and a backend send: every exchange has one end, and all can be written."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import marshal
import time
from typing import Any

import pytest
from damage import NASTY, cuts, damaged, fuzz, in_pieces
from hypothesis import given, strategies as st

from otel_wirecap.capture.events import Event, ExchangeHead, RequestHead, ResponseHead
from otel_wirecap.capture.exchange import LiveExchange, LiveFlow
from otel_wirecap.capture.formats import CBOR, FORMATS, JSONLines
from otel_wirecap.capture.record import CaptureRecord
from otel_wirecap.config import load_config
from otel_wirecap.reading.lines import json_record
from otel_wirecap.storage.recording import ProcessRecording

NS = 1_000_000_000
TYPES = (
    b"application/json", b"text/event-stream", b"application/x-ndjson", b"application/vnd.amazon.eventstream",
    b"text/plain", b"application/octet-stream", b"application/x-www-form-urlencoded",
    b"multipart/form-data; boundary=b", b"", b"\xff;;=",
)  # fmt: skip
ENCODINGS = (b"", b"identity", b"gzip", b"deflate", b"br", b"zstd", b"gzip, br", b"\xff", b",,", b"GZIP ,")
BODIES = (
    b'{"model":"m","stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"n":1.50}',
    b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n',
    b'{"response":"a"}\n{"response":"b","done":true}\n',
    b"--b\r\nContent-Disposition: form-data; name=\"api_key\"\r\n\r\nx\r\n--b--\r\n",
    b"grant_type=x&client_secret=a%20b+c&=&a",
    gzip.compress(b'{"error":{"message":"no"}}'),
    b"\0\0\0\x10\0\0\0\0\x05\xc2\x48\xeb\x7d\x98\xc8\xff",
)  # fmt: skip


def records_of(
    head: RequestHead, answer: ResponseHead, pieces: list[bytes], outcome: Any, **options: Any
) -> list[CaptureRecord]:
    """What is recorded of one exchange."""
    written: list[CaptureRecord] = []
    failures: list[Exception] = []
    events: list[Event] = []
    process = ProcessRecording(
        load_config({"capture_file": "unused", **options}, {}),
        "/unused",
        write=written.append,
        write_run=lambda run: written.extend(run.records()),
        on_failure=lambda _exchange, error: failures.append(error),
    )

    class Host:
        def failed(self, _exchange_id: str | None, error: Exception) -> None:
            failures.append(error)

        def put(self, *event: Any) -> bool:
            assert marshal.loads(marshal.dumps(event)) == event
            events.append(event)
            return True

        def flow_gone(self, flow_id: str) -> None:
            pass

        def ended_unrecorded(self, *end: Any) -> None:
            pass

    about = ExchangeHead("backend", "req_1", 1, "0" * 32, "0" * 16, time.time_ns(), NS)
    exchange = LiveExchange("ex_1", about, LiveFlow("req_1"), Host())
    exchange.begin(head)
    exchange.response(2 * NS, answer)
    for piece in pieces:
        exchange.chunk(3 * NS, piece)
    exchange.end(4 * NS, outcome)
    for event in events:
        process.recorder.feed(event)
    process.recorder.close(9 * NS)
    assert failures == []
    assert process.recorder.open_exchanges == 0
    return [record for record in written if not record.direction.startswith("system_")]


def check(records: list[CaptureRecord]) -> None:
    """One request first, one end last, and every format can write all of them."""
    directions = [record.direction for record in records]
    assert directions.count("outbound_request") == 1 == directions.index("outbound_request") + 1
    ends = [record for record in records if "outcome" in record.metadata and not record.metadata.get("assembled")]
    assert len(ends) == 1
    assert directions.count("stream_end") == directions.count("stream_start") <= 1
    lines: list[bytes] = []
    for make in sorted(FORMATS.values(), key=lambda make: make is CBOR):
        form = make()
        for number, record in enumerate(records, 1):
            metadata = {**record.metadata, "seq": number, "process": "0123456789abcdef"}
            encoded = form.encode(dataclasses.replace(record, metadata=metadata))
            assert encoded.startswith(form.beginning)
            assert encoded.index(form.terminator) == len(encoded) - len(form.terminator)
            if isinstance(form, CBOR):
                assert JSONLines().encode(form.decode(encoded)) == lines[number - 1]
            elif isinstance(form, JSONLines):
                assert isinstance(json_record(encoded), dict)
                lines.append(encoded)


header_values = st.sampled_from(TYPES + ENCODINGS + NASTY) | st.binary(max_size=12)
bodies = damaged(st.sampled_from(BODIES))


@fuzz
@given(
    st.data(), bodies, bodies, cuts, st.sampled_from(TYPES), st.sampled_from(TYPES), st.sampled_from(ENCODINGS),
    st.sampled_from(("complete", "client_disconnect", "error", "cancelled", "closed")),
    st.sampled_from((1, 60, 1 << 20)),
)  # fmt: skip
def test_every_exchange_is_recorded_whatever_was_sent(
    data: st.DataObject, sent: bytes, answered: bytes, places: list[int], asked_type: bytes, type_: bytes,
    encoding: bytes, outcome: str, most: int,
) -> None:  # fmt: skip
    names = st.sampled_from(
        (b"authorization", b"cookie", b"baggage", b"x-session-id", b"sec-websocket-protocol", b"\xff")
    )
    extra = data.draw(st.lists(st.tuples(names, header_values), max_size=3))
    url = "https://h" + data.draw(st.sampled_from(NASTY) | st.binary(max_size=9)).decode("latin-1")
    head = RequestHead("POST", url, [(b"content-type", asked_type), *extra], body=sent)
    status = data.draw(st.sampled_from((200, 204, 304, 429, 500)))
    answer = ResponseHead(status, "OK", [(b"content-type", type_), (b"content-encoding", encoding), *extra])
    check(records_of(head, answer, in_pieces(answered, places), outcome, capture_max_payload_bytes=max(most, 1)))


DEEP = {
    "content": b'{"choices":[{"delta":{"content":%s}}]}',
    "tool_calls": b'{"choices":[{"delta":{"tool_calls":[%s]}}]}',
    "logprobs": b'{"choices":[{"logprobs":{"content":[%s]}}]}',
    "extra": b'{"choices":[],"usage":%s}',
    "error": b'{"choices":[],"error":%s}',
    "anthropic": b'{"type":"content_block_start","content_block":{"input":%s}}',
    "gemini": b'{"candidates":[{"content":{"parts":[%s]}}]}',
    "responses": b'{"type":"response.created","response":{"model":"m","metadata":%s}}',
    "request": b'{"messages":[{"role":"user","content":%s}]}',
}


@pytest.mark.parametrize("depth", [240, 300, 1_000, 100_000])
@pytest.mark.parametrize(("where", "is_stream"), [*itertools.product(DEEP, (True, False))])
def test_what_nests_deep_is_recorded_too(where: str, is_stream: bool, depth: int) -> None:
    document = DEEP[where] % (b'{"a":' * depth + b"1" + b"}" * depth)
    body = b"data: " + document + b"\n\n" if is_stream else document
    type_ = b"text/event-stream" if is_stream else b"application/json"
    head = RequestHead("POST", "https://api.openai.com/v1", [(b"content-type", b"application/json")], body=document)
    records = records_of(head, ResponseHead(200, "OK", [(b"content-type", type_)]), [body], "complete")
    check(records)
    told = next(record for record in records if record.direction in {"stream_chunk", "inbound_response"})
    payload = told.payload if isinstance(told.payload, str) else told.payload.data.decode()
    assert payload == body.decode()
    assert json.dumps(records[0].metadata)


@pytest.mark.parametrize("depth", range(1_018, 1_027))
def test_a_line_can_be_read_by_what_read_the_body(depth: int) -> None:
    body = b"[" * depth + b"]" * depth
    head = RequestHead("POST", "https://api.openai.com/v1", [(b"content-type", b"application/json")], body=body)
    check(records_of(head, ResponseHead(200, "OK", []), [body], "complete"))


@pytest.mark.parametrize(
    "body", [b"", b" ", b"1,2", b"1],[2", b"]", b"[1][2]", b"[1],[2]", b'{"a":1}}', b"[", b'{"a":1']
)
def test_what_is_no_json_is_text(body: bytes) -> None:
    head = RequestHead("POST", "https://api.openai.com/v1", [(b"content-type", b"application/json")], body=body)
    records = records_of(head, ResponseHead(200, "OK", []), [], "complete")
    check(records)
    assert records[0].payload == (body.decode() or None)
