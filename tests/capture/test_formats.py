"""The capture formats: what stands in them, and that a record's end can always be found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import httpx
import orjson
import pytest
from hypothesis import given, strategies as st

import otel_wirecap
from otel_wirecap.capture.formats import CBOR, FORMATS, JSONLines, Structured, Text
from otel_wirecap.capture.formats.text import indented
from otel_wirecap.capture.record import CaptureRecord, ChunkRun, RawJSON
from otel_wirecap.config import FORMATS as NAMES
from otel_wirecap.storage.capture_file import Boundaries, CaptureFile

MOMENT = 1_768_060_721_039_145_999


def record(direction: str = "outbound_request", payload: Any = None, **changes: Any) -> CaptureRecord:
    metadata = {
        "leg": "backend", "request_id": "req_1", "attempt": 1, "client_host": "127.0.0.1",
        "user_agent": "Cline/1.0 (test)", "seq": 12, "process": "0123456789abcdef",
    }  # fmt: skip
    known = {
        "time_ns": MOMENT, "direction": direction, "source": "127.0.0.1(Cline/1.0)", "destination": "openai",
        "session_id": "session-123", "backend": "openai", "model": "gpt-5-mini", "key_name": "OPENAI_API_KEY",
        "content_length": 73, "payload": payload, "metadata": metadata,
    }  # fmt: skip
    return CaptureRecord(**(known | changes))


def test_the_setting_s_formats_are_the_formats() -> None:
    assert set(NAMES) == set(FORMATS)


BODY = b'{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}],"n":1.50,"x":{},"y":[]}'


def test_text_is_for_people() -> None:
    assert Text().encode(record(payload=RawJSON(BODY))).decode() == (
        "----- REQUEST 2026-01-10T15:58:41Z -----\n"
        'client=127.0.0.1 agent="Cline/1.0 (test)" session=session-123 -> backend=openai model=gpt-5-mini '
        "key=OPENAI_API_KEY\n"
        "bytes=73 leg=backend request_id=req_1 attempt=1 seq=12 process=0123456789abcdef\n"
        "    {\n"
        '      "messages": [\n'
        "        {\n"
        '          "role": "system",\n'
        '          "content": "Be brief."\n'
        "        },\n"
        "        {\n"
        '          "role": "user",\n'
        '          "content": "Hi"\n'
        "        }\n"
        "      ],\n"
        '      "n": 1.50,\n'
        '      "x": {},\n'
        '      "y": []\n'
        "    }\n"
        "\n"
    )


@pytest.mark.parametrize(
    ("direction", "title"),
    [
        ("inbound_request", "INBOUND_REQUEST"),
        ("outbound_request", "REQUEST"),
        ("inbound_response", "REPLY"),
        ("stream_chunk", "REPLY-STREAM"),
        ("outbound_response", "REPLY-TO-CLIENT"),
        ("outbound_stream_end", "REPLY-STREAM-TO-CLIENT"),
        ("websocket_message", "WEBSOCKET_MESSAGE"),
        ("system_gap", "SYSTEM_GAP"),
    ],
)
def test_text_names_each_direction(direction: str, title: str) -> None:
    written = Text().encode(record(direction, "data: 1\n\ndata: 2\n\n")).decode()
    assert written.startswith(f"----- {title} 2026-01-10T15:58:41Z -----\n")
    assert written.endswith("\n    data: 1\n    \n    data: 2\n    \n    \n\n")


def test_structured_groups_what_belongs_together() -> None:
    written = json.loads(Structured().encode(record(payload=RawJSON(BODY))))
    assert written == {
        "timestamp": {"iso": "2026-01-10T15:58:41.039145+00:00", "human_readable": "2026-01-10 15:58:41.039 UTC"},
        "communication": {
            "flow": "frontend_to_backend", "direction": "request", "source": "127.0.0.1(Cline/1.0)",
            "destination": "openai",
        },
        "metadata": {
            "session_id": "session-123", "agent": "Cline/1.0 (test)", "backend": "openai", "model": "gpt-5-mini",
            "key_name": "OPENAI_API_KEY", "byte_count": 73, "system_prompt": "Be brief.", "leg": "backend",
            "request_id": "req_1", "attempt": 1, "client_host": "127.0.0.1", "user_agent": "Cline/1.0 (test)",
            "seq": 12, "process": "0123456789abcdef",
        },
        "payload": json.loads(BODY),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("direction", "leg", "sender", "flow", "told"),
    [
        ("inbound_request", "client", None, "frontend_to_backend", "request"),
        ("inbound_response", "backend", None, "backend_to_frontend", "response"),
        ("stream_start", "backend", None, "backend_to_frontend", "response_stream_start"),
        ("outbound_stream_chunk", "client", None, "backend_to_frontend", "response_stream_chunk"),
        ("websocket_message", "client", "client", "frontend_to_backend", "websocket_message"),
        ("websocket_message", "client", "proxy", "backend_to_frontend", "websocket_message"),
        ("websocket_message", "backend", "proxy", "frontend_to_backend", "websocket_message"),
        ("websocket_message", "backend", "backend", "backend_to_frontend", "websocket_message"),
        ("system_stop", None, None, None, "system_stop"),
    ],
)
def test_structured_tells_which_way(direction: str, leg: Any, sender: Any, flow: Any, told: str) -> None:
    metadata = {"leg": leg} | ({"websocket": {"from": sender}} if sender else {})
    communication = json.loads(Structured().encode(record(direction, metadata=metadata)))["communication"]
    assert (communication["flow"], communication["direction"]) == (flow, told)


texts = st.text(max_size=30)
unicode = st.text(st.characters(codec="utf-8"), max_size=9)
words = texts | st.none()
payloads = st.none() | texts | st.binary(max_size=300) | st.builds(
    lambda value: RawJSON(orjson.dumps(value)),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | unicode,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(unicode, inner, max_size=3),
        max_leaves=8,
    ),
)  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@given(payload=payloads, session=words, model=words, agent=words, cut=st.integers(1, 60))
def test_a_record_ends_where_its_terminator_is_and_nowhere_before(
    name: str, payload: Any, session: Any, model: Any, agent: Any, cut: int
) -> None:
    form = FORMATS[name]()
    metadata = {"leg": "client", "user_agent": agent, "request_id": session, "process": "0123456789abcdef"}
    try:
        written = form.encode(record(payload=payload, session_id=session, model=model, metadata=metadata))
    except (TypeError, ValueError):  # a lone surrogate, which the writer counts as unserialisable
        return
    assert written.startswith(form.beginning)
    assert written.index(form.terminator) == len(written) - len(form.terminator)


@pytest.mark.parametrize("name", FORMATS)
def test_a_torn_record_is_cut_away_whole(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]()
    first, second, third = (form.encode(record(payload=f"line\n\nline {n}\n" * n)) for n in (2, 5000, 1))
    for length in (1, 20, len(second) // 2, len(second) - 1):
        path = tmp_path / f"{name}{length}"
        path.write_bytes(first + second[:length])
        file = CaptureFile(
            path, max_bytes=1 << 20, max_files=1, total_max_bytes=1 << 21,
            boundaries=Boundaries(form.beginning, form.terminator),
        )  # fmt: skip
        assert file.append([third])[:2] == (1, length)
        assert path.read_bytes() == first + third


@given(st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=20,
))  # fmt: skip
def test_indenting_changes_nothing_but_the_space_between(value: Any) -> None:
    document = json.dumps(value)
    lines = indented(document)
    assert json.loads("\n".join(lines)) == value
    assert not any(line.strip() == "" for line in lines)


@pytest.mark.parametrize("name", FORMATS)
def test_a_capture_in_every_format(name: str, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    otel_wirecap.instrument(capture_file=path, capture_format=name)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"model": "answered"}))
    with httpx.Client(transport=transport) as client:
        client.post("http://backend.example/v1/chat/completions", json={"model": "asked"})
    otel_wirecap.uninstrument()
    written = path.read_bytes()
    form = FORMATS[name]
    assert written.startswith(form.beginning)
    assert len(written.split(form.terminator)) == 4 + 1
    assert b"asked" in written
    assert b"answered" in written


def test_one_file_takes_one_format(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, captured: Callable[[], Any]
) -> None:
    captured()
    path = tmp_path / "capture.log"
    before = path.read_bytes()
    assert before.startswith(JSONLines.beginning)
    otel_wirecap.instrument(capture_file=path, capture_format="structured")
    otel_wirecap.uninstrument()
    assert path.read_bytes() == before
    assert "holds something that is no capture of this format" in caplog.text


IDENTITY = {
    "leg": "client",
    "ttfb_ms": 1.25,
    "headers": [["a", "b"]],
    "pid": 7,
    "seq": 3,
    "process": "0123456789abcdef",
}

numbers = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["-0", "1.10", "1e5", "1E+2", "0.0", "-0.0", "123456789012345678901234567890", "1.0"]),
)
texts_of_json = st.recursive(
    numbers | st.sampled_from(["null", "true", '""', '"\\u00e9\\n"', '"```"']) | unicode.map(json.dumps),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: "[" + ", ".join(items) + "]")
        | st.lists(st.tuples(st.sampled_from('abc"'), inner), max_size=4).map(
            lambda pairs: "{" + ",".join(f"{json.dumps(name)}: {value}" for name, value in pairs) + "}"
        )
    ),
    max_leaves=10,
)


def spelt(document: bytes) -> object:
    """A JSON document with the text of its numbers, and all of its names in their order."""
    return json.loads(document, parse_int=lambda n: ("n", n), parse_float=lambda n: ("n", n), object_pairs_hook=list)


@given(document=texts_of_json)
def test_json_becomes_cbor_and_json_again_with_values_order_and_the_text_of_numbers(document: str) -> None:
    line = JSONLines().encode(record(payload=RawJSON(document.encode()), metadata=dict(IDENTITY)))
    told = CBOR().decode(CBOR().encode(JSONLines().decode(line)))
    again = JSONLines().encode(told)
    assert spelt(again) == spelt(line)
    assert isinstance(told.payload, RawJSON)
    assert CBOR().encode(JSONLines().decode(again)) == CBOR().encode(told)


@given(payload=payloads)
def test_cbor_becomes_json_and_cbor_again_byte_by_byte(payload: Any) -> None:
    item = CBOR().encode(record(payload=payload, metadata=dict(IDENTITY)))
    line = JSONLines().encode(CBOR().decode(item))
    assert line == JSONLines().encode(record(payload=payload, metadata=dict(IDENTITY)))
    assert CBOR().encode(JSONLines().decode(line)) == item


def test_any_cbor_decoder_reads_the_same_thirteen_fields() -> None:
    payload = b"\x00\xff" + CBOR.terminator * 3 + b"tail"
    item = CBOR().encode(record("stream_chunk", payload, metadata=dict(IDENTITY)))
    line = json.loads(JSONLines().encode(record("stream_chunk", payload, metadata=dict(IDENTITY))))
    told = cbor2.loads(item)
    assert list(told) == list(line)
    assert told["payload"] == payload
    assert {**told, "payload": None} == {**line, "payload": None}
    body = cbor2.loads(CBOR().encode(record(payload=RawJSON(BODY), metadata=dict(IDENTITY))))["payload"]
    assert body["messages"] == json.loads(BODY)["messages"]
    assert body["n"] == cbor2.CBORTag(262, b"1.50")


@pytest.mark.parametrize("size", range(85, 110))
def test_no_payload_can_forge_the_end_of_a_cbor_record(size: int) -> None:
    """The length of the byte string before it may look like a part of the terminator, too."""
    payload = CBOR.terminator[1:].ljust(size, b"\x60")
    item = CBOR().encode(record("stream_chunk", payload, metadata=dict(IDENTITY)))
    assert item.index(CBOR.terminator) == len(item) - len(CBOR.terminator)
    assert CBOR().decode(item).payload == payload


@pytest.mark.parametrize("damage", [b"", b"\xbf", b"rubbish", cbor2.dumps({"a": 1}), cbor2.dumps([1])])
def test_what_is_no_record_is_told(damage: bytes) -> None:
    with pytest.raises(ValueError, match="no capture record"):
        CBOR().decode(damage)
    with pytest.raises(ValueError, match="no capture record"):
        JSONLines().decode(damage)


@given(
    st.lists(st.tuples(st.integers(10**18, 3 * 10**18), st.text(), st.integers(0, 10**9)), min_size=1, max_size=5),
    st.text(st.characters(codec="utf-8")),
    st.integers(0, 10**12),
)
def test_the_lines_of_a_run_of_chunks_are_those_of_its_records(chunks: Any, text: str, first: int) -> None:
    common = record("stream_chunk", source=text, metadata={"leg": text, "chunk_bytes": 0, "chunk_number": 0, "seq": 0})
    times, payloads, lengths = zip(*chunks, strict=True)
    run = ChunkRun(common, list(times), list(payloads), list(lengths), first)
    try:
        expected = [JSONLines().encode(one) for one in run.records(first + 7)]
    except orjson.JSONEncodeError:  # half a surrogate pair
        with pytest.raises(orjson.JSONEncodeError):
            JSONLines().encode_run(run, first + 7)
        return
    assert JSONLines().encode_run(run, first + 7) == expected
