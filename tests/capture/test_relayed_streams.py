"""What a client's stream becomes does not depend on whether it is found out together with the backend's."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import secrets
from typing import Any

import pytest
from test_recorder import NS, Desk, post

from otel_wirecap.capture.events import ResponseHead
from otel_wirecap.capture.exchange import LiveExchange, LiveFlow
from otel_wirecap.capture.redaction.stream import StreamRedactor
from otel_wirecap.capture.response_stream import ResponseStream
from otel_wirecap.capture.streams import StreamReader

SSE, NDJSON, PLAIN = "text/event-stream", "application/x-ndjson", "text/plain"


def delta(text: str, *, content_type: str) -> bytes:
    data = json.dumps(
        {"model": "m", "choices": [{"index": 0, "delta": {"content": text}}]}, ensure_ascii=False
    ).encode()
    return {SSE: b"data: %s\n\n", NDJSON: b"%s\n", PLAIN: b"%s"}[content_type] % (
        data if content_type != PLAIN else text.encode()
    )


def stream(rng: random.Random, content_type: str, secret: str) -> bytes:
    parts: list[str] = []
    for _ in range(rng.randrange(1, 40)):
        parts += rng.choice(([secret[:9], secret[9:20], secret[20:]], [" wörd "], ["🔑 ", "of "], ["a\n"], [secret]))
    return b"".join(delta(part, content_type=content_type) for part in parts)


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    edges = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 60)))})
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def sent_on(rng: random.Random, chunks: list[bytes]) -> list[bytes]:
    """What a proxy makes of chunks."""
    at = rng.randrange(len(chunks) + 1)
    kind = rng.randrange(8)
    if kind == 0:
        return [*chunks[:at], b"data: [ERROR]\n\n", *chunks[at:]]
    if kind == 1:
        return chunks[:at]
    if kind == 2:
        return [*chunks[:at], *chunks[at + 1 :]]
    if kind == 3:
        return [*chunks[:at], b"".join(chunks[at:])]
    if kind == 4:
        return [*chunks, b"data: more\n\n"]
    return [bytes(bytearray(chunk)) for chunk in chunks] if kind == 5 else chunks


def told(records: list[dict[str, Any]], direction: str) -> list[tuple[Any, ...]]:
    def facts(record: dict[str, Any]) -> dict[str, Any]:
        known = ("chunk_bytes", "chunk_number", "wire_length", "incomplete", "redactions", "error", "outcome")
        return {name: record["metadata"][name] for name in known if name in record["metadata"]}

    return [
        (record["content_type"], record["content_length"], record["payload"], record["model"], facts(record))
        for record in records
        if record["direction"].startswith(direction)
    ]


def begun(desk: Desk, flow: LiveFlow, leg: str, headers: list[tuple[bytes, bytes]], **head: Any) -> LiveExchange:
    exchange = desk.exchange(leg, flow, **head)
    exchange.begin(post(b'{"stream":true}'))
    exchange.response(2 * NS, ResponseHead(200, None, headers))
    return exchange


def play(
    seed: int, content_type: str, options: dict[str, Any], *, apart: bool
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Has a proxy relay a stream, its legs in flows of their own where ``apart``; what the legs' records tell."""
    rng = random.Random(seed)
    secret = "sk-proj-" + "".join(rng.choices("abcdefABCDEF0123456789", k=48))
    desk = Desk(capture_redact_values=[secret[::-1]], **options)
    data = stream(rng, content_type, rng.choice((secret, secret[::-1])))
    headers = [(b"content-type", content_type.encode())]
    if rng.random() < 0.2:
        data = gzip.compress(data)
        headers.append((b"content-encoding", b"gzip"))
    chunks = cut(rng, data)
    answers = sent_on(rng, chunks)
    flow = LiveFlow("flow")
    backend = begun(desk, flow, "backend", headers)
    client = begun(desk, LiveFlow("other") if apart else flow, "client", headers)
    lag = rng.choice((0, 0, 0, 1, 20))
    now = 3 * NS
    ends_early = rng.random() < 0.2
    for number in range(max(len(chunks), len(answers) + lag) + 1):
        now += rng.choice((1000, NS // 10, NS))
        if number < len(chunks):
            backend.chunk(now, chunks[number])
        elif number == len(chunks) or ends_early:
            backend.end(now, "complete")
        if 0 <= number - lag < len(answers):
            client.chunk(now + 1, answers[number - lag])
        if rng.random() < 0.3:
            for event in desk.events:
                desk.process.recorder.feed(event)
            desk.events.clear()
            desk.process.recorder.tick(now + 2, everything=rng.random() < 0.1)
    client.end(now + 3, "complete")
    backend.end(now + 4, "complete")
    records = desk.records()
    assert secret[::-1] not in str(records)  # a word may run into the other one where a chunk is left out
    return told(records, "outbound_stream"), told(records, "stream_") + told(records, "inbound_response")


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("content_type", [SSE, NDJSON, PLAIN])
@pytest.mark.sampled(45, rest="thorough")
def test_a_relayed_stream_is_told_as_one_that_is_not(content_type: str, seed: int) -> None:
    options = {"capture_redact_prompts": True} if seed % 5 == 4 else {}
    assert play(seed, content_type, options, apart=False) == play(seed, content_type, options, apart=True)


def test_the_same_bytes_are_redacted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []
    feed = StreamRedactor.feed

    def counted(self: StreamRedactor, pieces: Any, credentials: Any = ()) -> Any:
        fed.append(len(pieces))
        return feed(self, pieces, credentials)

    monkeypatch.setattr(StreamRedactor, "feed", counted)
    desk, flow = Desk(), LiveFlow("flow")
    headers = [(b"content-type", SSE.encode())]
    backend, client = begun(desk, flow, "backend", headers), begun(desk, flow, "client", headers)
    for number in range(50):
        chunk = delta(f"word {number}", content_type=SSE)
        backend.chunk(3 * NS + number, chunk)
        client.chunk(3 * NS + number, chunk)
    backend.end(4 * NS, "complete")
    client.end(4 * NS, "complete")
    records = desk.records()
    assert len(told(records, "outbound_stream_chunk")) == len(told(records, "stream_chunk")) == 50
    assert sum(fed) == 50


def test_a_failure_on_one_leg_leaves_the_other_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, flow = Desk(), LiveFlow("flow")
    headers = [(b"content-type", SSE.encode())]
    backend = begun(desk, flow, "backend", headers, wants_records=True)
    client = begun(desk, flow, "client", headers)
    secret = "sk-proj-" + secrets.token_hex(24)

    def fail(*_arguments: Any) -> None:
        raise ValueError("broken")

    for number, text in enumerate(("one ", secret[:9], secret[9:], " two")):
        chunk = delta(text, content_type=SSE)
        backend.chunk(3 * NS + number, chunk)
        client.chunk(3 * NS + number, chunk)
        if number == 1:
            for event in desk.events:
                desk.process.recorder.feed(event)
            desk.events.clear()
            desk.process.recorder.tick(4 * NS, everything=True)
            desk.send_back = fail
    backend.end(5 * NS, "complete")
    for event in desk.events:
        desk.process.recorder.feed(event)
    desk.events.clear()
    assert desk.failures
    desk.failures.clear()
    client.end(5 * NS, "complete")
    chunks = told(desk.records(), "outbound_stream_chunk")
    assert [json.loads(chunk[2][6:])["choices"][0]["delta"]["content"] for chunk in chunks] == [
        "one ", "[REDACTED]", "", " two",
    ]  # fmt: skip


@pytest.mark.parametrize("content_type", [SSE, NDJSON, PLAIN, "application/vnd.amazon.eventstream"])
def test_parting_takes_along_all_that_was_known(content_type: str) -> None:
    """However a stream is redacted, there can be a second one of it."""
    desk, flow = Desk(), LiveFlow("flow")
    headers = [(b"content-type", content_type.encode())]
    backend, client = begun(desk, flow, "backend", headers), begun(desk, flow, "client", headers)
    parted: list[ResponseStream] = []
    part = ResponseStream._part

    for number in range(9):
        backend.chunk(3 * NS + number, b"some bytes ")
        client.chunk(3 * NS + number, b"some bytes ")
    client.chunk(4 * NS, b"others")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResponseStream, "_part", lambda self: (parted.append(self), part(self)))
        for event in desk.events:
            desk.process.recorder.feed(event)
        desk.events.clear()
        desk.process.recorder.tick(5 * NS, everything=True)
    assert parted
    client.end(6 * NS, "complete")
    backend.end(6 * NS, "complete")
    records = desk.records()
    assert not any("withheld" in str(record) for record in records)


def feed(desk: Desk) -> None:
    for event in desk.events:
        desk.process.recorder.feed(event)
    desk.events.clear()


def test_a_failure_while_both_are_read_is_that_of_one_leg(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, flow = Desk(), LiveFlow("flow")
    headers = [(b"content-type", SSE.encode())]
    backend, client = begun(desk, flow, "backend", headers), begun(desk, flow, "client", headers)
    feed(desk)

    def fail(*_arguments: Any) -> None:
        raise ValueError("broken")

    for number in range(5):
        chunk = delta("a word ", content_type=SSE)
        backend.chunk(3 * NS + number, chunk)
        client.chunk(3 * NS + number, chunk)
    feed(desk)
    with monkeypatch.context() as patch:
        patch.setattr(StreamReader, "feed", fail)
        desk.process.recorder.tick(4 * NS, everything=True)
    assert len(desk.failures) == 1  # the leg whose turn it was
    desk.failures.clear()
    for exchange in (backend, client):
        exchange.chunk(5 * NS, b"data: [DONE]\n\n")
        exchange.end(5 * NS, "complete")
    records = desk.records()
    chunks = [record for record in records if record["direction"].endswith("stream_chunk")]
    assert [record["payload"] for record in chunks] == [
        *[delta("a word ", content_type=SSE).decode()] * 5,
        "data: [DONE]\n\n",
    ]
    ends = [record for record in records if record["direction"].endswith("stream_end")]
    assert sorted(record["metadata"]["outcome"] for record in ends) == ["complete", "error"]


@pytest.mark.parametrize("is_handed_on", [True, False])
def test_a_body_is_kept_for_the_other_leg_and_no_longer(is_handed_on: bool) -> None:
    desk, flow = Desk(), LiveFlow("flow")
    recorder = desk.process.recorder
    body = b'{"messages":[{"role":"user","content":"%s"}]}' % (b"word " * 2000)
    client, backend = desk.exchange("client", flow), desk.exchange("backend", flow)
    client.begin(post(body))
    feed(desk)
    recorder.tick(2 * NS, everything=True)
    assert recorder.held()[0] == len(body)
    backend.begin(post(body if is_handed_on else body.replace(b"user", b"system")))
    feed(desk)
    assert recorder.held()[0] == 0
    headers = [(b"content-type", b"application/json")]
    backend.response(2 * NS, ResponseHead(200, None, headers))
    backend.chunk(2 * NS, body)
    backend.end(2 * NS, "complete")
    feed(desk)
    assert recorder.held()[0] == len(body)
    client.response(3 * NS, ResponseHead(200, None, headers))
    client.chunk(3 * NS, body)
    client.end(3 * NS, "complete")
    feed(desk)
    assert recorder.held()[0] == 0
    assert recorder._flows["flow"].body is None
    requests = [record["payload"] for record in desk.records() if record["direction"].endswith("bound_request")]
    assert (requests[0] == requests[1]) is is_handed_on
