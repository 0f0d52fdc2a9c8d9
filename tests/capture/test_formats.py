"""The capture formats: what stands in them, and that a record's end can always be found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_wirecap
from otel_wirecap.capture.formats import FORMATS, JSONLines, Structured, Text
from otel_wirecap.capture.formats.text import indented
from otel_wirecap.capture.record import RawJSON, Record
from otel_wirecap.config import FORMATS as NAMES
from otel_wirecap.storage.capture_file import CaptureFile

MOMENT = 1_768_060_721_039_145_999


def record(direction: str = "outbound_request", payload: Any = None, **changes: Any) -> Record:
    metadata = {
        "leg": "backend", "request_id": "req_1", "attempt": 1, "client_host": "127.0.0.1",
        "user_agent": "Cline/1.0 (test)", "seq": 12,
    }  # fmt: skip
    known = {
        "time_ns": MOMENT, "direction": direction, "source": "127.0.0.1(Cline/1.0)", "destination": "openai",
        "session_id": "session-123", "backend": "openai", "model": "gpt-5-mini", "key_name": "OPENAI_API_KEY",
        "content_length": 73, "payload": payload, "metadata": metadata,
    }  # fmt: skip
    return Record(**(known | changes))


def test_the_setting_s_formats_are_the_formats() -> None:
    assert set(NAMES) == set(FORMATS)


BODY = b'{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}],"n":1.50,"x":{},"y":[]}'


def test_text_is_for_people() -> None:
    assert Text().encode(record(payload=RawJSON(BODY))).decode() == (
        "----- REQUEST 2026-01-10T15:58:41Z -----\n"
        'client=127.0.0.1 agent="Cline/1.0 (test)" session=session-123 -> backend=openai model=gpt-5-mini '
        "key=OPENAI_API_KEY\n"
        "bytes=73 leg=backend request_id=req_1 attempt=1 seq=12\n"
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
            "seq": 12,
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
    metadata = {"leg": "client", "user_agent": agent, "request_id": session}
    try:
        written = form.encode(record(payload=payload, session_id=session, model=model, metadata=metadata))
    except TypeError:  # a lone surrogate, which the writer counts as unserialisable
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
            path, max_bytes=1 << 20, max_files=1, total_max_bytes=1 << 21, beginning=form.beginning,
            terminator=form.terminator,
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
