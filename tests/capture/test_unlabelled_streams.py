"""Streams that nothing but their first bytes says they are: recorded, redacted and masked like those with a type."""

from __future__ import annotations

import base64
import itertools
import json
import secrets
from typing import Any

import pytest
from growth import assert_linear
from test_recorder import NS, Desk

from otel_wirecap.capture.events import RequestHead, ResponseHead
from otel_wirecap.capture.streams import StreamBeginning
from otel_wirecap.frames.framing import JSON_LINES_TYPES

TYPES = (None, "text/plain", "text/html; charset=utf-8", "application/json", "application/octet-stream")
MARK = "[REDACTED]"


def said(text: str) -> dict[str, Any]:
    return {"model": "m-1", "choices": [{"index": 0, "delta": {"content": text}}]}


def sse(text: str) -> bytes:
    return b"data: " + json.dumps(said(text)).encode() + b"\n\n"


def line(text: str) -> bytes:
    return json.dumps(said(text)).encode() + b"\n"


SPELLINGS = {"events": sse, "lines": line}


def answered(
    content_type: str | None, chunks: list[bytes], leg: str = "backend", *, body: bytes = b"{}", **options: Any
) -> list[dict[str, Any]]:
    desk = Desk(**options)
    exchange = desk.exchange(leg)
    headers = [(b"content-type", content_type.encode())] if content_type is not None else []
    exchange.begin(RequestHead("POST", "https://api.openai.com/v1/chat/completions", [], body=body))
    exchange.response(2 * NS, ResponseHead(200, None, headers))
    for number, chunk in enumerate(chunks):
        exchange.chunk(3 * NS + number * NS, chunk)
    exchange.end(99 * NS, "complete")
    assert not desk.failures
    return desk.records()[1:]


def texts(record: dict[str, Any]) -> str:
    payload = record["payload"]
    if isinstance(payload, dict) and payload.get("encoding") == "base64":
        payload = base64.b64decode(payload["data"]).decode()
    return payload if isinstance(payload, str) else json.dumps(payload)


@pytest.mark.parametrize("leg", ["backend", "client"])
@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_body_that_begins_as_a_stream_is_recorded_as_one(spelling: str, content_type: str | None, leg: str) -> None:
    spell = SPELLINGS[spelling]
    stream = b"".join(map(spell, ("one ", "two ", "three")))
    first = len(spell("one "))
    for cuts in ([first], [5, first, first + 9], [first - 1, first + len(spell("two "))]):
        chunks = [stream[a:b] for a, b in itertools.pairwise([0, *cuts, len(stream)])]
        records = answered(content_type, chunks, leg)
        prefix = "" if leg == "backend" else "outbound_"
        kinds = [f"{prefix}stream_start", *[f"{prefix}stream_chunk"] * len(chunks), f"{prefix}stream_end"]
        assert [record["direction"] for record in records[: len(kinds)]] == kinds
        assert "".join(map(texts, records[1 : 1 + len(chunks)])).encode() == stream
        moments = [record["timestamp_unix"] for record in records[: 1 + len(chunks)]]
        assert [round(moment - moments[0]) for moment in moments] == list(range(len(moments)))
        if leg == "backend":
            assert records[-1]["metadata"]["assembled"] is True
            assert records[-1]["payload"]["choices"][0]["message"]["content"] == "one two three"


@pytest.mark.parametrize(
    "chunks",
    [
        [json.dumps(said("a" * 99)).encode()[at : at + 40] for at in range(0, 200, 40)],
        [b'{\n  "a": 1,\n', b'  "b": {"c": 2}\n}\n'],
        [b'{"a": 1}\n', b"and more\n", b"and more\n"],
        [b'[{"a": 1},\n', b'{"a": 2}]\n'],
        [b"1\n", b"2\n", b"3\n"],
        [b"date: today\n\n", b"ordinary text\n"],
        [b"id: 5\n\n", b"name: x\n\n"],
        [b"<html>", b"</html>"],
        [sse("all of it")],
        [line("a") + line("b")],
        [b"", sse("all of it"), b""],
    ],
)
def test_any_other_body_is_one_record(chunks: list[bytes]) -> None:
    (record,) = answered(None, chunks)
    assert record["direction"] == "inbound_response"


@pytest.mark.parametrize("content_type", sorted(JSON_LINES_TYPES))
def test_every_type_of_json_on_lines_is_a_stream_s(content_type: str) -> None:
    records = answered(content_type, [line("a")])
    assert [record["direction"] for record in records][:3] == ["stream_start", "stream_chunk", "stream_end"]


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_that_its_events_add_up_to_is_masked(spelling: str, content_type: str | None) -> None:
    spell, key = SPELLINGS[spelling], "sk-proj-" + secrets.token_hex(20)
    chunks = [spell(part) for part in ("It is ", key[:11], key[11:30], key[30:], " he said")]
    for body in (b"{}", b'{"stream": true}'):
        for pieces in (chunks, [b"".join(chunks)]):
            records = answered(content_type, pieces, body=body)
            written = "".join(map(texts, records))
            assert not any(part in written for part in (key[:11], key[11:30], key[30:]))
            assert MARK in written


@pytest.mark.parametrize("content_type", TYPES)
def test_a_secret_that_the_elements_of_an_array_add_up_to_is_masked(content_type: str | None) -> None:
    key = "sk-proj-" + secrets.token_hex(20)
    body = json.dumps([said(part) for part in ("It is ", key[:11], key[11:30], key[30:], " he said")]).encode()
    for pieces in ([body], [body[at : at + 40] for at in range(0, len(body), 40)]):
        (record,) = answered(content_type, pieces)
        assert not any(part in texts(record) for part in (key[:11], key[11:30], key[30:]))
        (redacted,) = [record["metadata"]["redactions"]]
        assert sum(redacted.values()) == 1


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_prompts_are_masked_in_it_and_its_structure_stays(spelling: str, content_type: str | None) -> None:
    spell = SPELLINGS[spelling]
    records = answered(content_type, [spell("QXZK"), spell("VWJQ")], capture_redact_prompts=True)
    assert [texts(record) for record in records[1:3]] == [spell(MARK).decode()] * 2


def test_a_body_that_could_be_either_for_long_is_no_stream() -> None:
    assert StreamBeginning().is_stream(b"data: " + b"x" * 1000) is None
    assert StreamBeginning().is_stream(b'{"a": "' + b"x" * 1000) is None
    (record,) = answered(None, [b'{"a": "', *[b"x" * 10_000] * 8, b'"}\n{"b": 1}\n'])
    assert record["direction"] == "inbound_response"


@pytest.mark.parametrize("line", [b":\r", b"id: 1\n\n", b": ping\n\n", b"data: x\n", b"{},", b'"a",'])
def test_what_may_begin_a_stream_is_looked_at_in_time_in_proportion_to_it(line: bytes) -> None:
    def look(size: int) -> None:
        body = b"[" * line.startswith((b"{", b'"')) + line * (size // len(line))
        beginning = StreamBeginning()
        assert all(beginning.is_stream(body[:end]) is None for end in range(0, len(body), 16))

    assert_linear(look, 1 << 11)


def test_a_stream_is_known_by_its_first_event_wherever_it_is_cut() -> None:
    for stream in (b": ping\r\n\r\nid: 1\n\n" + sse("a"), line("a") + line("b")):
        for size in (1, 2, 3, 7):
            beginning = StreamBeginning()
            known = [beginning.is_stream(stream[:end]) for end in range(size, len(stream) + size, size)]
            assert known[-1] is True
            assert False not in known
