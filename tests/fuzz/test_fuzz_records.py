"""Records of other tools on their way through the gate, whatever stands where the schema says something else."""

from __future__ import annotations

import copy
import itertools
import json
import secrets
from typing import Any

import pytest
from damage import fuzz
from hypothesis import given, strategies as st

from otel_wirecap.capture.formats import FORMATS, JSONLines
from otel_wirecap.capture.imported import record_of
from otel_wirecap.capture.record import DIRECTIONS, METADATA_KEYS, CaptureRecord
from otel_wirecap.capture.redaction.gate import Gate, Rules
from otel_wirecap.reading.outgoing import outgoing

SECRET = "sk-proj-" + secrets.token_hex(24)
WORD = "".join(secrets.choice("bdfghjkmpqvwxz") for _ in range(20))
PROMPT = f"our secret plan {WORD} is ready"
FIELDS = ("source", "destination", "session_id", "backend", "model", "key_name", "content_length", "direction")

names = st.sampled_from(["a", "b", "id", "message", "headers", "exchange_id", SECRET])
scalars = st.sampled_from([None, True, 0, -1, 1.5, 1 << 60, "", "x", "content-type", "ex_1", SECRET])
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)
directions = st.sampled_from([*sorted(DIRECTIONS), "system_gap", "", "stream_", SECRET])
pieces = st.sampled_from(
    ["", "data: ", f'data: {{"a":"{SECRET[:20]}', SECRET[20:], '"}\n\n', SECRET, f"{PROMPT} {SECRET}"]
)


def base(direction: str) -> dict[str, Any]:
    """A record as the schema has it."""
    return {
        "timestamp_iso": "2026-01-01T00:00:00.000000+00:00", "timestamp_unix": 1767225600.0, "direction": direction,
        "source": "client", "destination": "proxy", "session_id": None, "backend": "openai", "model": "m",
        "key_name": None, "content_type": "text", "content_length": 3, "payload": "",
        "metadata": {"exchange_id": "ex_1", "request_id": "req_1", "leg": "backend", "headers": [], "url": "/v1"},
    }  # fmt: skip


@st.composite
def records(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> dict[str, Any]:
    """A record with up to four of its members replaced."""
    record = base(draw(directions))
    record["payload"] = draw(pieces)
    if record["direction"].endswith("_chunk"):
        record["metadata"]["chunk_number"] = draw(st.integers(1, 3))
    for name in draw(st.lists(st.sampled_from(sorted(METADATA_KEYS - {"seq", "pid", "process"})), max_size=3)):
        record["metadata"][name] = draw(values)
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from(FIELDS))
        record[name] = draw(values)
    if draw(st.integers(0, 3)) == 0:
        record["content_type"], record["payload"] = draw(st.sampled_from(["json", "text", "empty"])), draw(values)
    return record


def passed(gate: Gate, told: list[dict[str, Any]], way: str, then: list[dict[str, Any]]) -> list[CaptureRecord]:
    """What comes out of records that go through the gate one after another, and of those after them."""
    lines = [json.dumps(record, separators=(",", ":")).encode() for record in [*copy.deepcopy(told), *then]]
    if way == "exported":
        return list(outgoing(lines, gate))
    decoded = []
    for line in lines:
        try:
            decoded.append(record_of(line.decode()))
        except ValueError:
            continue
    if way == "each by itself":
        for record in decoded:
            gate.record(record)
        return decoded
    redaction = gate.records(2000, by_flow=True)
    came = [one for now, record in enumerate(decoded) for one in redaction.feed(record, 500, now)]
    came += redaction.let_go(len(decoded) // 2)
    came += redaction.close()
    assert len(came) == len(decoded)
    return came


def in_all_formats(records: list[CaptureRecord]) -> bytes:
    """The records' bytes as a writer makes them, what is in base64 decoded too."""
    for record in records:
        record.metadata["process"] = "0123456789ab"
    told = [form().encode(record) for form in FORMATS.values() for record in records]
    payloads = [record.payload for record in records if isinstance(record.payload, bytes)]
    return b"\n".join([*told, *payloads])


WAYS = ("exported", "imported", "each by itself")
AFTER = [base("stream_chunk") | {"payload": "x"}, base("stream_end"), base("outbound_request")]


@pytest.mark.parametrize("way", WAYS)
@given(told=st.lists(records(json_values), min_size=1, max_size=5), prompts=st.booleans())
@fuzz
def test_no_secret_leaves_whatever_a_record_has_wherever(way: str, told: list[dict[str, Any]], prompts: bool) -> None:
    gate = Gate(Rules(prompts=prompts))
    left = in_all_formats(passed(gate, told, way, AFTER))
    assert SECRET.encode() not in left


@pytest.mark.parametrize("way", WAYS)
@given(told=st.lists(records(st.just([PROMPT]) | st.just({"a": [{"b": PROMPT}]})), min_size=1, max_size=5))
@fuzz
def test_no_prompt_leaves_whatever_a_record_has_wherever(way: str, told: list[dict[str, Any]]) -> None:
    told = [one for one in told if not str(one["direction"]).startswith("system_")]  # there prompts are not said
    left = in_all_formats(passed(Gate(Rules(prompts=True)), told, way, AFTER))
    assert WORD.encode() not in left


@pytest.mark.parametrize(
    "headers", [[["x"]], [1, 2], "x", {"a": [1]}, [[]], [["a", "b", "c"]], [None], [[[], {}]], 5, [{}]]
)
@pytest.mark.parametrize("direction", sorted(DIRECTIONS))
def test_headers_that_are_none_let_nothing_leave(direction: str, headers: object) -> None:
    record = base(direction) | {"payload": SECRET}
    for name in ("headers", "request_headers", "response_headers"):
        record["metadata"][name] = headers
    redaction = Gate().records()
    came: list[CaptureRecord] = []
    for one in (record, *AFTER):
        came += redaction.feed(JSONLines().decode(json.dumps(one, separators=(",", ":")).encode()), 9)
    came += redaction.close()
    assert len(came) == 1 + len(AFTER)
    assert SECRET.encode() not in in_all_formats(came)


@pytest.mark.parametrize("by_flow", [True, False])
@given(
    places=st.lists(st.integers(1, len(SECRET) - 1), min_size=1, max_size=5, unique=True),
    cut_after=st.sets(st.integers(0, 5)),
    is_event=st.booleans(),
    room=st.sampled_from([0, 10_000]),
)
@fuzz
def test_no_part_of_a_secret_leaves_where_its_stream_cannot_wait(
    by_flow: bool, places: list[int], cut_after: set[int], is_event: bool, room: int
) -> None:
    ends = [0, *sorted(places), len(SECRET)]
    redaction = Gate().records(room, by_flow=by_flow)
    came: list[CaptureRecord] = []
    for number, (start, end) in enumerate(itertools.pairwise(ends)):
        text = (
            f'data: {{"choices":[{{"delta":{{"content":"{SECRET[start:end]}"}}}}]}}\n\n'
            if is_event
            else SECRET[start:end]
        )
        record = record_of(json.dumps(base("stream_chunk") | {"payload": text}))
        record.metadata["chunk_number"] = number + 1
        came += redaction.feed(record, 100)
        if number in cut_after:
            came += redaction.let_go()
            assert redaction.held_records == 0
    came += redaction.close()
    assert len(came) == len(ends) - 1
    left = "".join(part for record in came for part in [str(record.payload or "")])
    assert not any(SECRET[at : at + 16] in left for at in range(8, len(SECRET) - 16))
