"""Payload events in, records out: whatever the order, the cuts and the endings."""

from __future__ import annotations

import base64
import itertools
import json
import marshal
import secrets
import struct
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any

import orjson
import pytest
from hypothesis import given, settings, strategies as st

from otel_wirecap.capture.events import (
    ErrorInfo,
    Event,
    EventKind,
    ExchangeHead,
    Outcome,
    RequestHead,
    ResponseHead,
)
from otel_wirecap.capture.exchange import LiveExchange, LiveFlow
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.capture.formats import JSONLines
from otel_wirecap.capture.imported import record_of
from otel_wirecap.capture.record import DIRECTIONS, METADATA_KEYS, CaptureRecord
from otel_wirecap.capture.redaction.gate import Gate
from otel_wirecap.capture.redaction.passing import MAX_STREAMS
from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.search import SecretSearch
from otel_wirecap.config import load_config
from otel_wirecap.storage.recording import ProcessRecording

NS = 1_000_000_000
JSON = (b"content-type", b"application/json")
SSE = (b"content-type", b"text/event-stream")


class Desk:
    """A recorder with its exchanges and the lines that came of them."""

    def __init__(self, **options: Any) -> None:
        self.lines: list[bytes] = []
        self.failures: list[Exception] = []
        form = JSONLines()
        config = load_config({"capture_file": "unused", **options}, {})
        self.process = ProcessRecording(
            config,
            "/unused",
            write=lambda record: self.lines.append(form.encode(record)),
            write_run=lambda run: self.lines.extend(map(form.encode, run.records())),
            on_end=lambda *end: self.ends.append(end),
            on_failure=lambda _exchange, error: self.failures.append(error),
            send_back=lambda *record: self.send_back(*record),
        )
        self.ends: list[tuple[str, int, ExchangeFacts]] = []
        self.unrecorded: list[tuple[str, int, Outcome]] = []
        self.send_back: Callable[[str, CaptureRecord], None] = lambda *_record: None
        self.events: list[Event] = []
        self.count = 0

    def put(self, kind: int, subject_id: str | None, now: int, value: Any, size: int, /) -> bool:
        event = kind, subject_id, now, value, size
        assert marshal.loads(marshal.dumps(event)) == event, "it can cross to a writer as it is"
        self.events.append(event)
        return True

    def flow_gone(self, flow_id: str, /) -> None:
        self.events.append((EventKind.FLOW_GONE, flow_id, 0, None, 0))

    def ended_unrecorded(self, *end: Any) -> None:
        self.unrecorded.append(end)

    def failed(self, _exchange_id: str | None, error: Exception, /) -> None:
        self.failures.append(error)

    def exchange(
        self, leg: Any = "backend", flow: LiveFlow | None = None, *, began_unix_ns: int | None = None, **head: Any
    ) -> LiveExchange:
        self.count += 1
        flow = flow or LiveFlow(f"req_{self.count}")
        attempt = next(flow.attempts) if leg == "backend" else None
        began = began_unix_ns or time.time_ns(), NS
        return LiveExchange(
            f"ex_{self.count}", ExchangeHead(leg, flow.id, attempt, "0" * 32, "0" * 16, *began, **head), flow, self
        )

    def records(self) -> list[dict[str, Any]]:
        for event in self.events:
            self.process.recorder.feed(event)
        self.events.clear()
        self.process.recorder.close(9 * NS)
        assert not self.failures
        assert self.process.recorder.open_exchanges == 0
        return [json.loads(line) for line in self.lines]


def post(body: bytes | None = b"{}", *headers: tuple[bytes, bytes], path: str = "/v1/chat/completions") -> RequestHead:
    return RequestHead("POST", "https://api.openai.com" + path, [JSON, *headers], body=body)


def whole(
    desk: Desk, head: RequestHead, answer: bytes, *headers: tuple[bytes, bytes], status: int = 200
) -> LiveExchange:
    exchange = desk.exchange()
    exchange.begin(head)
    exchange.response(2 * NS, ResponseHead(status, "OK", list(headers or [JSON])))
    exchange.chunk(3 * NS, answer)
    exchange.end(4 * NS, "complete")
    return exchange


def payload_bytes(record: dict[str, Any]) -> bytes:
    payload = record["payload"]
    return base64.b64decode(payload["data"]) if record["content_type"] == "bytes" else (payload or "").encode()


cuts = st.lists(st.integers(0, 400), max_size=12)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place for place in places if place <= len(data)), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(text=st.text(max_size=80), tail=st.sampled_from([b"", b"\xc5", b"\xf0\x9f", b"\xff"]), places=cuts)
@settings(deadline=None)
def test_chunk_payloads_joined_are_the_stream_wherever_it_is_cut(text: str, tail: bytes, places: list[int]) -> None:
    data = text.encode() + tail
    desk = Desk()
    exchange = desk.exchange()
    exchange.begin(post())
    exchange.response(2 * NS, ResponseHead(200, None, [SSE]))
    parts = cut(data, places)
    for number, part in enumerate(parts):
        exchange.chunk(3 * NS + number, part)
    exchange.end(5 * NS, "complete")
    records = [record for record in desk.records() if not record["metadata"].get("assembled")]
    chunks = [record for record in records if record["direction"] == "stream_chunk"]
    assert b"".join(map(payload_bytes, chunks)) == data
    assert [chunk["metadata"]["chunk_number"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert sum(chunk["metadata"]["chunk_bytes"] for chunk in chunks) == len(data)
    assert sum(chunk["content_length"] for chunk in chunks) == len(data)
    assert len(parts) <= len(chunks) <= len(parts) + 1
    assert records[-1]["payload"] == {"total_bytes": len(data), "total_chunks": len(chunks)}


@given(st.data())
@settings(deadline=None)
def test_every_exchange_has_one_request_first_and_one_end_last_in_any_interleaving(data: st.DataObject) -> None:
    desk = Desk()
    flow = LiveFlow("req_shared")
    scripts = []
    for leg in ("client", "backend", "backend"):
        exchange = desk.exchange(leg, flow)
        streamed = data.draw(st.booleans())
        outcome: Outcome = data.draw(st.sampled_from(["complete", "closed", "cancelled", "error", "client_disconnect"]))
        script: list[Any] = [
            lambda now, e=exchange: e.begin(post(None)),
            lambda now, e=exchange: e.request_chunk(now, b'{"model"'),
            lambda now, e=exchange: e.request_chunk(now, b': "m"}'),
            lambda now, e=exchange: e.request_end(now),
            lambda now, e=exchange, s=streamed: e.response(now, ResponseHead(200, None, [SSE if s else JSON])),
            lambda now, e=exchange: e.chunk(now, b"data: 1\n\n"),
            lambda now, e=exchange, o=outcome: e.end(now, o, ErrorInfo("E", "m") if o == "error" else None),
            lambda now, e=exchange: e.chunk(now, b"too late"),
            lambda now, e=exchange: e.end(now, "abandoned"),
        ]
        skipped = data.draw(st.sets(st.integers(1, 6)))
        scripts.append([step for number, step in enumerate(script) if number not in skipped])
    now = NS
    while any(scripts):
        script = data.draw(st.sampled_from([left for left in scripts if left]))
        now += 1
        script.pop(0)(now)
    by_exchange = defaultdict(list)
    for record in desk.records():
        if not record["metadata"].get("assembled"):
            by_exchange[record["metadata"]["exchange_id"]].append(record)
    assert len(by_exchange) == 3
    for records in by_exchange.values():
        kinds = [record["direction"] for record in records]
        assert kinds[0].endswith("_request")
        assert sum(kind.endswith("_request") for kind in kinds) == 1
        assert kinds[-1].endswith(("_response", "stream_end"))
        assert sum(kind.endswith(("_response", "stream_end")) for kind in kinds) == 1
        assert records[-1]["metadata"]["outcome"]
        stamps = [record["timestamp_unix"] for record in records]
        assert stamps == sorted(stamps)


@pytest.mark.parametrize(
    "document",
    [
        b'{"big": 123456789012345678901234567890, "float": 1.0, "exponent": 1E5, "zero": -0.0}',
        b'{\r\n  "b": [1,\n 2],\t"a": "x\\ny"\n}\n',
        b'{"a": 1, "a": 2}',
        b'{"a": NaN, "b": [-Infinity,\n Infinity]}',
        b'{"half \\ude00": "\\ud83d"}',
        b'"text"',
        b"null",
    ],
)
def test_a_json_body_keeps_its_order_and_the_text_of_its_numbers(document: bytes) -> None:
    desk = Desk()
    whole(desk, post(document), document)
    desk.records()
    for line in desk.lines:
        assert line.count(b"\n") == 1
        spliced = line[line.index(b'"payload":') + 10 : line.rindex(b',"metadata":')]
        assert spliced == document.replace(b"\r", b"").replace(b"\n", b"")
        assert b'"content_length":%d,' % len(document) in line


@pytest.mark.parametrize("body", [b"\xef\xbb\xbf{}", b"[" * 3000, b"{'a': 1}", b'{"a": nan}', b'{"a": "\t"}'])
def test_what_is_no_json_is_kept_as_text(body: bytes) -> None:
    desk = Desk()
    whole(desk, post(body), body)
    assert [record["content_type"] for record in desk.records()] == ["text", "text"]
    assert json.loads(desk.lines[0])["payload"].encode() == body


@pytest.mark.parametrize("around", [rb'"n": NaN', rb'"half": "\ud83d"', rb'"\ud83d": -Infinity'])
@pytest.mark.parametrize("form", [b"%s", b"cut \\ude00 %s \\ud83d", b"[%s]"])
def test_secrets_are_masked_in_json_that_strict_parsers_refuse(around: bytes, form: bytes) -> None:
    secret = "sk-" + secrets.token_hex(24)
    spelled = "".join(f"\\u{ord(one):04x}" for one in secret)
    for said in (secret, spelled):
        body = b'{%s, "text": "%s"}' % (around, form % said.encode())
        for document in (body, b"[%s]" % body):
            desk = Desk()
            whole(desk, post(document), document)
            records = desk.records()
            assert [record["content_type"] for record in records] == ["json", "json"]
            for line in desk.lines:
                assert secret not in line.decode()
                assert spelled not in line.decode()
                payload = json.loads(line)["payload"]
                text = (payload[0] if isinstance(payload, list) else payload)["text"]
                assert text == json.loads(b'"%s"' % (form % b"[REDACTED]"))


def test_redaction_keeps_the_text_of_the_numbers_too() -> None:
    secret = "sk-" + secrets.token_hex(24)
    body = b'{"n": 12345678901234567890123, "f": 1.50, "key": "%s"}' % secret.encode()
    desk = Desk()
    whole(desk, post(body), b"{}")
    (request, _) = desk.records()
    assert secret.encode() not in desk.lines[0]
    assert b'"n": 12345678901234567890123, "f": 1.50, "key": "[REDACTED]"' in desk.lines[0]
    assert request["metadata"]["redactions"] == {"openai": 1}


def test_the_credential_of_a_request_stands_nowhere_in_its_flow() -> None:
    word = "plain" + secrets.token_hex(4)
    desk = Desk()
    exchange = desk.exchange()
    body = orjson.dumps({"model": word, "note": f"my key is {word}"})
    exchange.begin(
        RequestHead(
            word, f"https://u:{word}@host/p?key={word}", [(b"authorization", b"Bearer " + word.encode())], body=body
        )
    )
    exchange.response(2 * NS, ResponseHead(200, word, [SSE, (b"x-echo", word.encode())]))
    exchange.chunk(3 * NS, b'data: {"error": {"message": "bad key %s"}}\n\n' % word.encode())
    exchange.end(4 * NS, "error", ErrorInfo("ReadError", f"lost {word}"))
    desk.records()
    assert word.encode() not in b"".join(desk.lines)


def streamed(desk: Desk, *chunks: bytes, directions: Collection[str] = ("stream_chunk",)) -> list[dict[str, Any]]:
    exchange = desk.exchange()
    exchange.begin(post())
    exchange.response(2 * NS, ResponseHead(200, None, [SSE]))
    for number, chunk in enumerate(chunks):
        exchange.chunk(3 * NS + number * 1_000_000, chunk)
    exchange.end(5 * NS, "complete")
    return [record for record in desk.records() if record["direction"] in directions]


def test_a_secret_that_comes_in_deltas_is_masked_and_each_chunk_keeps_its_time_and_number() -> None:
    key = "sk-" + secrets.token_hex(24)
    deltas = ["Your key: ", key[:2], key[2:20], key[20:], ". Done."]
    chunks = [b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % text.encode() for text in deltas]
    records = streamed(Desk(), *chunks)
    shown = [json.loads(record["payload"][6:])["choices"][0]["delta"]["content"] for record in records]
    assert shown == ["Your key: ", "[REDACTED]", "", "", ". Done."]
    assert [record["metadata"].get("redactions") for record in records] == [None, {"openai": 1}, None, None, None]
    assert [record["metadata"]["chunk_number"] for record in records] == [1, 2, 3, 4, 5]
    times = [record["timestamp_unix"] - records[0]["timestamp_unix"] for record in records]
    assert times == pytest.approx([0, 0.001, 0.002, 0.003, 0.004], abs=1e-5)
    assert [record["content_length"] for record in records] == list(map(len, chunks))


def test_a_stream_that_cannot_be_redacted_is_withheld_from_there_on() -> None:
    key = "sk-" + secrets.token_hex(24)
    twice = b'data: {"text":"other","text":"%s"}\n\n' % key[:20].encode()
    rest = b'data: {"text":"%s. "}\n\n' % key[20:].encode()
    records = streamed(Desk(), twice, rest, b"data: {}\n\n")
    assert [record["payload"] for record in records] == [None, None, None]
    assert [record["metadata"]["redactions"] for record in records] == [{"withheld": 1}] * 3
    assert {record["metadata"]["incomplete"] for record in records} == {"withheld"}


def test_a_message_of_which_an_event_cannot_be_read_says_so() -> None:
    events = [b'{"choices": [{"index": 0, "delta": {"content": "%s"}}]}' % text for text in (b"Hel", b"lo")]
    for middle, reason in ((b"", None), (b'data: {"choices": [{"del\n\n', "undecodable")):
        chunks = b"data: %b\n\n" % events[0], middle, b"data: %b\n\ndata: [DONE]\n\n" % events[1]
        records = streamed(Desk(), *chunks, directions=DIRECTIONS)
        (assembled,) = (record for record in records if record["metadata"].get("assembled"))
        assert assembled["payload"]["choices"][0]["message"]["content"] == "Hello"
        assert assembled["metadata"].get("incomplete") == reason
        assert all("incomplete" not in one["metadata"] for one in records if one is not assembled)


def form(*fields: tuple[str, bytes], end: bytes = b"\r\n") -> bytes:
    parts = (
        b"--B\r\nContent-Disposition: form-data; name=%s\r\n%b\r\n%b" % (name.encode(), more, value)
        for name, value in fields
        for more in (b"Content-Type: text/plain\r\n" if name == '"file"; filename="a"' else b"",)
    )
    return end.join(parts) + end + b"--B--" + end


FORMS = {
    "before a file": (form(('"model"', b"whisper-1"), ('"file"; filename="a"', bytes(range(256)) * 4000)), "whisper-1"),
    "after a file": (form(('"file"; filename="a"', bytes(range(256)) * 100), ('"model"', b"whisper-1")), "whisper-1"),
    "without quotes": (form(("model", b"whisper-1")), "whisper-1"),
    "with a type of its own": (
        b'--B\r\ncontent-disposition: form-data; name="model"\r\nContent-Type: text/plain; charset=utf-8\r\n'
        b"Content-Length: 9\r\n\r\nwhisper-1\r\n--B--\r\n",
        "whisper-1",
    ),
    "another field": (form(('"model_size"', b"large"), ('"prompt"', b'name="model"')), None),
    "the first": (form(('"model"', b"one"), ('"file"; filename="a"', form(('"model"', b"two")))), "one"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_the_model_of_a_multipart_form_is_known(name: str) -> None:
    body, model = FORMS[name]
    desk = Desk()
    exchange = desk.exchange()
    head = [(b"content-type", b"Multipart/Form-Data; boundary=B")]
    exchange.begin(RequestHead("POST", "https://api.openai.com/v1/audio/transcriptions", head, body=body))
    exchange.response(2 * NS, ResponseHead(200, "OK", [JSON]))
    exchange.chunk(3 * NS, b'{"text": "hi"}')
    exchange.end(4 * NS, "complete")
    request, answer = desk.records()
    assert (request["model"], answer["model"]) == (model, model)


def test_chunks_wait_for_others_but_not_for_long() -> None:
    desk = Desk()
    exchange = desk.exchange()
    exchange.begin(post())
    exchange.response(2 * NS, ResponseHead(200, None, [SSE]))

    def written(now: int) -> int:
        exchange.chunk(now, b'data: {"text":"Hello. "}\n\n')
        for event in desk.events:
            desk.process.recorder.feed(event)
        desk.events.clear()
        desk.process.recorder.tick(now)
        return sum(json.loads(line)["direction"] == "stream_chunk" for line in desk.lines)

    assert written(3 * NS) == 1  # nothing was written for long
    hold_ns = desk.process.hold_ns
    assert written(3 * NS + hold_ns // 2) == 1
    assert written(3 * NS + hold_ns - 1) == 1
    assert written(3 * NS + hold_ns) == 4
    for number in range(99):
        assert written(3 * NS + hold_ns + number) == 4
    assert written(3 * NS + hold_ns + 99) == 104  # there are enough of them
    exchange.end(5 * NS, "complete")
    chunks = [record for record in desk.records() if record["direction"] == "stream_chunk"]
    assert [record["metadata"]["chunk_number"] for record in chunks] == list(range(1, 105))


def test_chunks_are_written_as_they_come_but_for_what_may_begin_a_secret() -> None:
    desk = Desk()
    exchange = desk.exchange()
    exchange.begin(post())
    exchange.response(2 * NS, ResponseHead(200, None, [SSE]))

    def written(text: str) -> int:
        exchange.chunk(3 * NS, b'data: {"text":"%s"}\n\n' % text.encode())
        for event in desk.events:
            desk.process.recorder.feed(event)
        desk.events.clear()
        desk.process.recorder.tick(3 * NS, everything=True)
        return sum(json.loads(line)["direction"] == "stream_chunk" for line in desk.lines)

    assert written("Hello, ") == 1
    assert written("this is s") == 1
    assert desk.process.recorder.held()[0] > 0
    assert written("imple. ") == 3
    assert desk.process.recorder.held()[0] == 0
    exchange.end(5 * NS, "complete")
    desk.records()


def test_a_failing_redactor_withholds_the_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any, **_options: Any) -> Any:
        raise ValueError("broken")

    for method in ("json", "text", "bytes_"):
        monkeypatch.setattr(Redactor, method, fail)
    monkeypatch.setattr(SecretSearch, "stream", fail)
    desk = Desk()
    whole(desk, post(b'{"prompt": "private"}'), b'{"answer": "private"}')
    stream = desk.exchange()
    stream.begin(post(b"{}"))
    stream.response(2 * NS, ResponseHead(200, None, [SSE]))
    stream.chunk(3 * NS, b"data: private\n\n")
    stream.end(4 * NS, "complete")
    desk.events, events = [], desk.events
    for event in events:
        desk.process.recorder.feed(event)
    assert b"private" not in b"".join(desk.lines)
    requests = [record for record in map(json.loads, desk.lines) if record["direction"] == "outbound_request"]
    assert len(requests) == 2
    assert {record["metadata"]["incomplete"] for record in requests} == {"withheld"}


@given(size=st.integers(1, 60), limit=st.integers(1, 60))
@settings(deadline=None)
def test_a_body_over_the_limit_is_truncated_and_says_so(size: int, limit: int) -> None:
    body = ("ż" * size).encode()
    desk = Desk(capture_max_payload_bytes=limit)
    whole(desk, post(b""), body, (b"content-type", b"text/plain"))
    answer = desk.records()[1]
    assert answer["content_length"] == len(body)
    if len(body) <= limit:
        assert answer["payload"] == "ż" * size
    else:
        assert answer["payload"] == "ż" * (limit // 2)
        assert answer["metadata"]["truncated"]["original_length"] == len(body)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("error", "cut"),
        ("cancelled", "cut"),
        ("client_disconnect", "cut"),
        ("closed", "not_read"),
        ("abandoned", "not_read"),
    ],
)
def test_a_body_that_is_not_all_there_keeps_what_arrived_and_why(outcome: Outcome, reason: str) -> None:
    desk = Desk()
    exchange = desk.exchange()
    exchange.begin(post())
    exchange.response(2 * NS, ResponseHead(200, None, [JSON, (b"content-length", b"99")]))
    exchange.chunk(3 * NS, b'{"half": ')
    exchange.end(4 * NS, outcome)
    answer = desk.records()[1]
    assert (answer["payload"], answer["metadata"]["incomplete"]) == ('{"half": ', reason)


def test_a_damaged_encoding_is_told_and_not_guessed() -> None:
    desk = Desk()
    whole(desk, post(), b"no gzip", JSON, (b"content-encoding", b"gzip"))
    answer = desk.records()[1]
    assert answer["payload"] is None
    assert answer["metadata"]["incomplete"] == "undecodable"
    assert answer["metadata"]["wire_length"] == 7


def test_annotations_made_at_once_stand_on_the_clients_request_too() -> None:
    desk = Desk()
    flow = LiveFlow("req_1")
    client = desk.exchange("client", flow)
    client.begin(post(b'{"model": "asked"}'))
    note = {"session_id": "chosen", "backend": "named", "model": "routed", "key_name": "MAIN", "tenant": {"id": 7}}
    flow.annotate(NS, orjson.dumps(note), desk)
    backend = desk.exchange("backend", flow)
    backend.begin(post(b'{"model": "sent"}'))
    backend.end(2 * NS, "error", ErrorInfo("ConnectError", "refused"))
    client.response(3 * NS, ResponseHead(502, None, [JSON]))
    client.end(4 * NS, "complete")
    records = desk.records()
    assert [record["direction"] for record in records] == [
        "inbound_request", "outbound_request", "inbound_response", "outbound_response",
    ]  # fmt: skip
    assert {record["session_id"] for record in records} == {"chosen"}
    assert {record["metadata"]["session_source"] for record in records} == {"annotation"}
    assert {record["backend"] for record in records} == {"named"}
    assert {record["key_name"] for record in records} == {"MAIN"}
    assert all(record["metadata"]["tenant"] == {"id": 7} for record in records)


def test_annotations_never_take_the_schema_s_place() -> None:
    desk = Desk()
    flow = LiveFlow("req_1")
    flow.annotate(NS, orjson.dumps(dict.fromkeys([*METADATA_KEYS, "tenant"], "mine")), desk)
    backend = desk.exchange("backend", flow)
    backend.begin(post(b'{"model": "sent"}'))
    backend.end(2 * NS, "complete")
    for record in desk.records():
        assert [key for key, value in record["metadata"].items() if value == "mine"] == ["tenant"]


@pytest.mark.parametrize("length", [200, 240, 255])
def test_a_session_id_is_redacted_before_it_is_cut(length: int) -> None:
    secret = secrets.token_hex(30)
    desk = Desk(capture_redact_values=[secret])
    whole(desk, post(b"{}", (b"x-session-id", b"s" * length + secret.encode())), b"{}")
    for record in desk.records():
        assert secret[:8] not in json.dumps(record)
        assert len(record["session_id"]) <= 256


def test_what_a_name_says_is_secret_is_masked_wherever_it_turns_up_again() -> None:
    header, parameter, cookie = (secrets.token_hex(10) for _ in range(3))
    desk = Desk()
    flow = LiveFlow("req_1")
    client = desk.exchange("client", flow)
    client.begin(post(b"{}"))
    backend = desk.exchange("backend", flow)
    head = post(b"{}", (b"x-service-secret", header.encode()), (b"cookie", b"a=1; s=" + cookie.encode()))
    backend.begin(head._replace(url=f"https://api.example/v1?code={parameter}"))
    backend.response(2 * NS, ResponseHead(401, None, [JSON]))
    backend.chunk(2 * NS, f'{{"error": "no such key: {header} {cookie} {parameter}"}}'.encode())
    backend.end(2 * NS, "complete")
    message = f"Client error '401' for url 'https://api.example/v1?code={parameter}&client_secret=another-one-1'"
    client.end(3 * NS, "error", ErrorInfo("HTTPStatusError", message))
    written = json.dumps(desk.records())
    for secret in (header, parameter, cookie, "another-one-1"):
        assert secret not in written
    assert "Client error '401' for url 'https://api.example/v1?code=[REDACTED]" in written


def test_the_provider_s_own_error_in_a_stream_is_told_on_both_legs() -> None:
    desk = Desk()
    flow = LiveFlow("req_1")
    for leg in ("client", "backend"):
        exchange = desk.exchange(leg, flow)
        exchange.begin(post(b'{"stream": true}'))
        exchange.response(2 * NS, ResponseHead(200, None, [SSE]))
        exchange.chunk(3 * NS, b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error",')
        exchange.chunk(4 * NS, b'"message":"Overloaded"}}\n\n')
        exchange.end(5 * NS, "complete")
    ends = [record for record in desk.records() if record["direction"].endswith("stream_end")]
    assert len(ends) == 2
    for end in ends:
        assert end["metadata"]["outcome"] == "complete"
        assert end["metadata"]["error"] == {
            "type": "provider", "message": "Overloaded", "provider_type": "overloaded_error",
        }  # fmt: skip


def aws_frame(headers: dict[str, str], payload: bytes) -> bytes:
    spelled = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(spelled) + len(payload), len(spelled))
    body = prelude + struct.pack("!I", zlib.crc32(prelude)) + spelled + payload
    return body + struct.pack("!I", zlib.crc32(body))


def converse(kind: str, payload: bytes) -> bytes:
    return aws_frame({":event-type": kind, ":message-type": "event"}, payload)


GENERATED = {"candidates": [{"content": {"parts": [{"text": "ab"}]}}], "modelVersion": "gem"}
STREAMS_IN_OTHER_FRAMINGS: dict[str, tuple[bytes, bytes, str | None, Any]] = {
    "lines": (
        b"application/x-ndjson",
        b'{"model":"lla","message":{"content":"a"},"done":false}\n{"model":"lla","message":{"content":"b"},"done":true}\n',
        "lla",
        {"model": "lla", "message": {"content": "ab"}, "done": True},
    ),
    "an array": (
        b"application/json; charset=UTF-8",
        json.dumps([GENERATED], indent=1).replace("ab", "a").encode()[:-1]
        + b",\n"
        + json.dumps([GENERATED], indent=1).replace("ab", "b").encode()[1:],
        "gem",
        GENERATED,
    ),
    "frames": (
        b"application/vnd.amazon.eventstream",
        converse("messageStart", b'{"role":"assistant"}')
        + converse("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"ab"}}'),
        None,
        {"output": {"message": {"role": "assistant", "content": [{"text": "ab"}]}}},
    ),
    "lines that no content type tells": (
        b"",
        b'{"event_type":"text-generation","is_finished":false,"text":"ab"}\n',
        None,
        {"text": "ab"},
    ),
    "an answer that is not streamed": (
        b"application/json",
        b'{"type":"message","role":"assistant","model":"cla","content":[{"type":"text","text":"ab"}]}',
        "cla",
        {"type": "message", "role": "assistant", "model": "cla", "content": [{"type": "text", "text": "ab"}]},
    ),
}


@pytest.mark.parametrize("framing", STREAMS_IN_OTHER_FRAMINGS)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_stream_in_any_framing_is_assembled_and_its_model_known_on_both_legs(framing: str, size: int) -> None:
    content_type, stream, model, message = STREAMS_IN_OTHER_FRAMINGS[framing]
    desk = Desk()
    flow = LiveFlow("req_1")
    for leg in ("client", "backend"):
        exchange = desk.exchange(leg, flow)
        exchange.begin(post(b'{"stream": true}'))
        exchange.response(2 * NS, ResponseHead(200, None, [(b"content-type", content_type)] if content_type else []))
        for place in range(0, len(stream), size):
            exchange.chunk(3 * NS, stream[place : place + size])
        exchange.end(5 * NS, "complete")
    records = desk.records()
    (assembled,) = [record for record in records if record["metadata"].get("assembled")]
    assert (assembled["direction"], assembled["payload"]) == ("inbound_response", message)
    ends = [record for record in records if record["direction"].endswith("stream_end")]
    assert [end["model"] for end in ends] == [model, model]
    for chunk_direction in ("stream_chunk", "outbound_stream_chunk"):
        chunks = [record for record in records if record["direction"] == chunk_direction]
        assert b"".join(map(payload_bytes, chunks)) == stream


def test_an_exception_of_aws_within_a_stream_is_told_on_both_legs() -> None:
    desk = Desk()
    flow = LiveFlow("req_1")
    thrown = {":message-type": "exception", ":exception-type": "throttlingException"}
    for leg in ("client", "backend"):
        exchange = desk.exchange(leg, flow)
        exchange.begin(post(path="/model/m/converse-stream"))
        headers = [(b"content-type", b"application/vnd.amazon.eventstream")]
        exchange.response(2 * NS, ResponseHead(200, None, headers))
        exchange.chunk(
            3 * NS, converse("messageStart", b'{"role":"assistant"}') + aws_frame(thrown, b'{"message":"no"}')
        )
        exchange.end(5 * NS, "complete")
    ends = [record for record in desk.records() if record["direction"].endswith("stream_end")]
    told = {"type": "provider", "message": "no", "provider_type": "throttlingException"}
    assert [end["metadata"]["error"] for end in ends] == [told, told]


def chunk_from_elsewhere(exchange: str, number: int, text: str, flow: str = "req_9") -> str:
    """A chunk's record, as a finished span carries it."""
    return json.dumps({
        "timestamp_iso": "2026-01-01T00:00:00.000000+00:00", "timestamp_unix": 1767225600.0,
        "direction": "stream_chunk", "source": "proxy", "destination": "openai", "session_id": None,
        "backend": "openai", "model": "m", "key_name": None, "content_type": "text", "content_length": len(text),
        "payload": text,
        "metadata": {"leg": "backend", "exchange_id": exchange, "request_id": flow, "chunk_number": number},
    })  # fmt: skip


class FromElsewhere:
    """A recorder that takes records from elsewhere, and what it wrote."""

    def __init__(self, **options: Any) -> None:
        self._desk = Desk(**options)
        self.recorder = self._desk.process.recorder

    def take(self, now: int, exchange: str, number: int, text: str, flow: str = "req_9") -> None:
        document = chunk_from_elsewhere(exchange, number, text, flow)
        self.recorder.feed((EventKind.DOCUMENT, None, now, document, len(document)))

    @property
    def written(self) -> list[tuple[str, Any, str | None]]:
        """Of each record the exchange, the payload and why it is incomplete."""
        found = [json.loads(line) for line in self._desk.lines]
        return [(one["metadata"]["exchange_id"], one["payload"], one["metadata"].get("incomplete")) for one in found]


REST = "Ab1" * 12


def test_a_stream_from_elsewhere_is_written_though_its_end_is_missing() -> None:
    desk = FromElsewhere()
    desk.take(10 * NS, "ex_9", 1, "sk-")
    desk.take(10 * NS, "ex_9", 2, "proj-" + REST)
    assert desk.written == []
    assert desk.recorder.held()[1] == 2
    desk.recorder.close(11 * NS)
    assert desk.written == [("ex_9", "[REDACTED]", None), ("ex_9", "", None)]
    assert desk.recorder.held() == (0, 0)


@pytest.mark.parametrize("is_flushed", [True, False])
def test_a_piece_from_elsewhere_that_cannot_wait_is_withheld_and_the_search_goes_on(is_flushed: bool) -> None:
    desk = FromElsewhere()
    desk.take(10 * NS, "ex_9", 1, "sk-proj-" + REST[:9])
    size, number = desk.recorder.held()
    assert (size > 300, number) == (True, 1)
    if is_flushed:
        desk.recorder.tick(11 * NS, everything=True)
    else:
        desk.recorder.tick(14 * NS)
        assert desk.written == []
        desk.recorder.tick(16 * NS)
    assert desk.written == [("ex_9", None, "withheld")]
    assert desk.recorder.held() == (0, 0)
    desk.take(17 * NS, "ex_9", 2, REST[9:] + " and so on. ")
    desk.recorder.close(18 * NS)
    assert desk.written[1:] == [("ex_9", " and so on. ", None)]


def test_records_from_elsewhere_wait_no_longer_while_others_come() -> None:
    desk = FromElsewhere()
    for number in range(1, 16):
        desk.take(number * NS, "ex_9", number, "sk-" if number == 1 else "a")
        desk.recorder.tick(number * NS)
    assert len(desk.written) >= 9


def test_records_of_other_flows_do_not_wait_for_an_open_stream() -> None:
    desk = FromElsewhere()
    desk.take(NS, "ex_9", 1, "sk-")
    for number in range(1, 4):
        desk.take(NS, "ex_8", number, "one. ", "req_8")
    desk.take(NS, "ex_7", 1, "two. ")  # of the flow that waits: its order stays
    assert [exchange for exchange, _, _ in desk.written] == ["ex_8"] * 3
    desk.recorder.close(2 * NS)
    assert desk.written[3:] == [("ex_9", "sk-", None), ("ex_7", "two. ", None)]


def test_what_waits_of_records_from_elsewhere_is_bounded() -> None:
    desk = FromElsewhere(capture_max_queue_bytes=1 << 18)
    for number in range(1000):
        desk.take(NS, f"ex_{number:x}", 1, "sk-", f"req_{number:x}")
        assert desk.recorder.held()[0] <= 1 << 16
    assert len(desk.written) > 500


def test_streams_that_never_have_a_piece_leave_nothing_behind() -> None:
    redaction = Gate().records()
    for number in range(2000):
        record = record_of(chunk_from_elsewhere(f"ex_{number:x}", 1, "sk-"))
        record.direction = "stream_start" if number % 2 else "stream_chunk"
        redaction.feed(record, 9)
        assert len(redaction._types) <= MAX_STREAMS
        assert len(redaction._streams) <= MAX_STREAMS
    redaction.close()
    assert (redaction._types, redaction._streams, redaction.held_records) == ({}, {}, 0)
