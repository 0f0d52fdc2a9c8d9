"""Captures read from Python through the names that ``otel_wirecap.reading`` makes public."""

from __future__ import annotations

import ast
import contextlib
import copy
import dataclasses
import gzip
import logging
import pickle
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings, strategies as st
from selection import examples

import otel_wirecap.reading
from otel_wirecap.capture.formats import CBOR, JSONLines, Structured
from otel_wirecap.cli import main
from otel_wirecap.errors import CaptureFileError, CaptureFormatError, FlowNotFoundError
from otel_wirecap.reading import Capture, Chunk, Exchange, Flow, Message, Record, flow_store, open_capture
from otel_wirecap.reading.captures import Captures

PUBLIC = ["Capture", "Chunk", "Exchange", "Flow", "Message", "Record", "Usage", "open_capture"]


def summaries(flows):
    """What flows are, but for where their records stand, and how their chunks came one after the other."""
    return [
        (
            flow.request_id,
            flow.started,
            flow.client_name,
            flow.usage,
            [dataclasses.replace(one, gaps=None) for one in flow.exchanges],
        )
        for flow in flows
    ]


def contents(capture):
    """All that the exchanges of a capture carried."""
    return {
        one.exchange_id: (
            None if one.request is None else one.request.body,
            None if one.response is None else one.response.body,
            [chunk.data for chunk in one.chunks()],
            one.answer(),
        )
        for one in capture.exchanges()
    }


def converted(lines, form):
    decode = JSONLines().decode
    return b"".join(form.encode(decode(line)) for line in lines)


# -- the names ---------------------------------------------------------------------------------------


def test_these_names_are_public_and_can_be_imported():
    assert otel_wirecap.reading.__all__ == PUBLIC == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(otel_wirecap.reading))
    program = "".join(f"from otel_wirecap.reading import {name}\n" for name in PUBLIC)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_type_checkers_see_the_same_names_from_the_same_modules():
    tree = ast.parse(Path(otel_wirecap.reading.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    shown = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert shown == {name: f"otel_wirecap.{home}" for name, home in otel_wirecap.reading._HOMES.items()}


def test_importing_the_package_imports_nothing_of_it():
    program = "import otel_wirecap.reading, sys; print(sum(name.startswith('otel_wirecap.') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert int(done.stdout) == 2  # reading, version


# -- flows, exchanges, records -----------------------------------------------------------------------


def test_flows_are_those_that_commands_show_with_moments_in_utc(demo):
    with open_capture(demo) as capture, Captures([demo], use_index=False) as captures:
        flows = list(capture.flows())
        assert summaries(flows) == summaries(captures.flows())
    assert all(isinstance(flow, Flow) for flow in flows)
    assert [flow.started for flow in flows] == sorted(flow.started for flow in flows)
    first = flows[0]
    assert first.started == datetime.fromtimestamp(first.started_unix, UTC)
    assert (first.status_code, first.outcome, first.failed) == (200, "complete", False)
    assert first.duration_ms >= first.outer.ttfb_ms > 0
    assert first.client.flow is first


def test_an_exchange_has_its_bodies_as_bytes_text_and_json(demo):
    with open_capture(demo) as capture:
        exchange = next(one for one in capture.exchanges() if one.leg == "client" and not one.streamed)
        assert isinstance(exchange, Exchange)
        assert isinstance(exchange.request, Message)
        assert exchange.request.json()["model"] == exchange.requested_model
        assert orjson.loads(exchange.request.text()) == orjson.loads(exchange.request.body)
        assert exchange.request.header("CONTENT-TYPE").startswith("application/json")
        assert exchange.request.header("x-not-there") is None
        assert exchange.request.incomplete is None
        assert exchange.answer() == exchange.response.json()
        assert len(exchange.response.body) == exchange.response_bytes
        assert exchange.response.record.direction == "outbound_response"
        assert not exchange.chunks()


def test_a_streamed_response_has_its_chunks_and_the_message_that_they_add_up_to(demo):
    with open_capture(demo) as capture:
        streams = [
            one for one in capture.exchanges() if one.leg == "backend" and one.streamed and one.outcome == "complete"
        ]
        assert {one.backend for one in streams} >= {"openai", "anthropic"}
        for one in streams:
            chunks = one.chunks()
            assert all(isinstance(chunk, Chunk) for chunk in chunks)
            assert len(chunks) == one.chunk_count > 1
            assert b"".join(chunk.data for chunk in chunks) == one.response.body
            assert [chunk.timestamp for chunk in chunks] == sorted(chunk.timestamp for chunk in chunks)
            assert one.started < chunks[0].timestamp
            with pytest.raises(ValueError, match=r"unexpected"):
                one.response.json()
        recorded = {
            record.exchange_id: record.payload for record in capture.records() if record.metadata.get("assembled")
        }
        assert recorded
        assert {name: recorded[name] for name in recorded} == {
            one.exchange_id: one.answer() for one in capture.exchanges() if one.exchange_id in recorded
        }


def test_records_have_the_schemas_fields_and_all_others(demo, demo_lines):
    record = orjson.loads(demo_lines[3])
    record["metadata"]["tenant"] = "blue"
    demo.write_bytes(b"".join(demo_lines[:3]) + orjson.dumps(record | {"extra": [1]}) + b"\n")
    with open_capture(demo) as capture:
        records = list(capture.records())
    assert [one.fields for one in records[:3]] == [orjson.loads(line) for line in demo_lines[:3]]
    last = records[-1]
    assert isinstance(last, Record)
    assert (last.fields["extra"], last.metadata["tenant"]) == ([1], "blue")
    for name in ("direction", "source", "session_id", "backend", "model", "key_name", "content_length", "payload"):
        assert getattr(last, name) == record[name], name
    assert (last.timestamp.isoformat(timespec="microseconds"), last.timestamp.tzinfo) == (record["timestamp_iso"], UTC)
    assert (last.request_id, last.exchange_id) == (record["metadata"]["request_id"], record["metadata"]["exchange_id"])


def test_one_flow_is_found_by_how_its_id_begins_and_has_its_records(demo):
    with open_capture(demo) as capture:
        flows = list(capture.flows())
        wanted = flows[4]
        assert capture.flow(wanted.request_id[:14]).request_id == wanted.request_id
        assert capture.flow(wanted.attempts[0].exchange_id).request_id == wanted.request_id
        expected = [one for one in capture.records() if one.request_id == wanted.request_id]
        assert list(capture.records(wanted)) == expected
        with pytest.raises(FlowNotFoundError, match="13 flows begin with 'req_'"):
            capture.flow("req_")
        with pytest.raises(FlowNotFoundError, match="no flow"):
            capture.flow("nope")


def test_the_capture_of_the_environment_is_read_where_none_is_named(demo, monkeypatch, tmp_path):
    monkeypatch.setenv("WIRE_CAPTURE_FILE", str(demo))
    with open_capture() as capture:
        assert len(list(capture.flows())) == 13
    monkeypatch.delenv("WIRE_CAPTURE_FILE")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CaptureFileError, match=r"wire_capture\.log.*no such file"):
        open_capture()


# -- every kind of capture ---------------------------------------------------------------------------


@pytest.fixture
def captures(demo_lines, tmp_path, demo):
    """The demonstration's capture as files of every kind."""
    half = len(demo_lines) // 2
    made = {
        "gzip.log": gzip.compress(b"".join(demo_lines)),
        "structured.log": converted(demo_lines, Structured()),
        "capture.cbor": converted(demo_lines, CBOR()),
        "rotated.log.1": gzip.compress(b"".join(demo_lines[:half])),
        "rotated.log": b"".join(demo_lines[half:]),
        "blank.log": gzip.compress((b"\n" + b" " * 3000 + b"\n").join(demo_lines)),
        "first.log": b"".join(demo_lines[::2]),
        "second.log": b"".join(demo_lines[1::2]),
    }
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.mark.parametrize("names", ["gzip.log", "capture.cbor", "structured.log", "rotated.log", "blank.log",
                                   "first.log second.log"])  # fmt: skip
def test_captures_of_every_kind_hold_the_same(names, captures, demo):
    with open_capture(demo) as plain, open_capture(*(captures / name for name in names.split())) as capture:
        assert summaries(capture.flows()) == summaries(plain.flows())
        assert contents(capture) == contents(plain)
        assert capture.unreadable == 0
        assert Counter(one.direction for one in capture.records()) == Counter(one.direction for one in plain.records())
        assert capture.unreadable == 0


def test_bodies_of_records_that_name_no_exchange_are_found_in_the_copy_as_in_the_capture(demo_lines, tmp_path, demo):
    """What others write names no exchange; its flows are inferred, from a copy as from the file."""
    path, lines = tmp_path / "theirs.log", []
    for line in demo_lines:
        record = orjson.loads(line)
        if record["direction"] in {"inbound_request", "outbound_request", "inbound_response", "outbound_response"}:
            record["session_id"] = record["metadata"].pop("request_id")
            del record["metadata"]["exchange_id"]
            lines.append(orjson.dumps(record) + b"\n")
    path.write_bytes(b"".join(lines))
    with open_capture(path) as capture:
        flows = list(capture.flows())
        assert len(flows) == 13
        for flow in flows:
            with open_capture(path) as fresh:  # the first flow is read from the file itself
                assert [one.request for one in fresh.flow(flow.request_id).exchanges] == [
                    one.request for one in flow.exchanges
                ]
        assert sum(one.request is not None for flow in flows for one in flow.exchanges) > 20


def test_a_flow_that_was_exported_for_a_bug_report_can_be_read(demo, tmp_path):
    bundle = tmp_path / "flow.json"
    with open_capture(demo) as capture:
        wanted = next(flow for flow in capture.flows() if flow.outer.streamed)
        answer = wanted.outer.answer()
    assert main(["export", "--to", "bundle", "--flow", wanted.request_id, "-o", str(bundle), str(demo)]) == 0
    with open_capture(bundle) as capture:
        (flow,) = capture.flows()
        assert (flow.request_id, flow.outer.answer()) == (wanted.request_id, answer)


def test_encrypted_files_are_left_out_and_reported(demo_lines, tmp_path, caplog):
    path = tmp_path / "live.log"
    path.write_bytes(b"".join(demo_lines))
    (tmp_path / "live.log.1").write_bytes(b"age-encryption.org/v1\n-> X25519 x\n")
    with caplog.at_level(logging.WARNING), open_capture(path) as capture:
        assert capture.encrypted == [tmp_path / "live.log.1"]
        assert len(list(capture.flows())) == 13
        assert capture.unreadable == 0
    assert "is encrypted, and left out" in caplog.text


def test_a_live_capture_is_read_as_far_as_it_went_when_it_was_opened(demo_lines, tmp_path):
    path = tmp_path / "live.log"
    path.write_bytes(b"".join(demo_lines[:50]))
    with open_capture(path) as capture, path.open("ab") as live:
        records = capture.records()
        next(records)
        live.write(b"".join(demo_lines[50:]))
        live.flush()
        assert len(list(records)) == 49
    with open_capture(path) as capture:
        assert len(list(capture.records())) == len(demo_lines)


# -- what goes wrong ---------------------------------------------------------------------------------


def test_damaged_lines_are_left_out_counted_and_reported(demo, demo_lines, caplog):
    demo.write_bytes(b"".join([*demo_lines[:5], b"{torn\n", b"[1]\n", b"{}\n", *demo_lines[5:], demo_lines[0][:99]]))
    with open_capture(demo) as capture:
        places = []
        with caplog.at_level(logging.WARNING):
            assert len(list(capture.records(on_unreadable=lambda path, line: places.append((path, line))))) == len(
                demo_lines
            )
        assert (capture.unreadable, places) == (4, [(demo, 6), (demo, 7), (demo, 8), (demo, len(demo_lines) + 4)])
        assert "4 lines are damaged and were left out" in caplog.text
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert len(list(capture.flows())) == 13
        assert capture.unreadable == 4
        assert "4 lines are damaged" in caplog.text


def test_a_closed_capture_says_so_whatever_is_asked_of_it(demo):
    with open_capture(demo) as capture:
        flow = next(capture.flows())
    for ask in (capture.flows, capture.records, capture.exchanges):
        with pytest.raises(CaptureFileError, match=r"demo\.log' is closed"):
            next(ask())
    with pytest.raises(CaptureFileError, match=r"demo\.log' is closed"):
        _ = flow.outer.request


def test_what_is_no_capture_is_refused_at_once(tmp_path):
    path = tmp_path / "something.txt"
    path.write_text("something")
    with pytest.raises(CaptureFormatError, match=r"something\.txt"):
        open_capture(path)


def test_flows_can_be_copied_and_pickled_without_the_capture(demo):
    with open_capture(demo) as capture:
        flow = next(capture.flows())
        for other in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
            assert other == flow
            assert other.client.flow is other
            with pytest.raises(CaptureFileError, match="no open capture"):
                _ = other.client.request


NASTY = ["", "x", "5", "client", "backend", "text/event-stream", "[DONE]", "\x00\ufffd", 1e300, -1e18]
VALUES = st.none() | st.booleans() | st.integers(-5, 2**40) | st.floats(allow_nan=False) | st.sampled_from(NASTY)
ANYTHING = st.recursive(VALUES, lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=3), some))
KEYS = ("leg", "attempt", "status_code", "ttfb_ms", "duration_ms", "outcome", "error", "chunk_bytes", "chunk_number",
        "headers", "method", "url", "websocket", "assembled", "truncated", "request_headers")  # fmt: skip
FIELDS = ("timestamp_iso", "timestamp_unix", "source", "session_id", "backend", "model", "key_name", "content_type",
          "content_length", "payload")  # fmt: skip
DIRECTIONS = ("inbound_request", "outbound_request", "inbound_response", "outbound_response", "stream_start",
              "stream_chunk", "stream_end", "websocket_start", "websocket_message", "websocket_end")  # fmt: skip


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "direction": st.sampled_from(DIRECTIONS),
                "changes": st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=3),
                "metadata": st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=4),
                "exchange": st.sampled_from(["ex_1", "ex_2"]),
            }
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=examples(200), deadline=None)
def test_whatever_stands_in_records_can_be_read_to_the_end(made):
    lines = []
    for one in made:
        record = {"timestamp_iso": "2026-01-01T00:00:00+00:00", "timestamp_unix": 1767225600.0}
        record |= {"direction": one["direction"], "source": "a", "payload": {"a": 1}} | one["changes"]
        record["metadata"] = {"request_id": "req_1", "exchange_id": one["exchange"]} | one["metadata"]
        lines.append(orjson.dumps(record))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.log"
        path.write_bytes(b"\n".join(lines))
        with open_capture(path) as capture:
            seen = sum(1 for record in capture.records() if use(record, Record))
            assert seen + capture.unreadable == len(lines)
            for flow in capture.flows():
                use(flow, Flow)
                for exchange in flow.exchanges:
                    use(exchange, Exchange)
                    exchange.answer()
                    for chunk in exchange.chunks():
                        use(chunk, Chunk)
                    for message in filter(None, (exchange.request, exchange.response)):
                        use(message, Message)
                        message.text()
                        with contextlib.suppress(ValueError):
                            message.json()


def use(thing, kind):
    """Reads all that a public object has."""
    return [getattr(thing, name) for name in dir(kind) if not name.startswith("_")]


# -- any size ----------------------------------------------------------------------------------------


def test_flows_that_were_sorted_on_disk_are_the_same(demo_lines, tmp_path, monkeypatch):
    path, lines = tmp_path / "many.log", []
    for number in range(5):
        for line in demo_lines:
            name = orjson.loads(line)["metadata"].get("request_id")
            lines.append(line if name is None else line.replace(b'"req_', b'"req_%d' % number).replace(
                b'"exchange_id":"ex_', b'"exchange_id":"ex_%d' % number))  # fmt: skip
    path.write_bytes(b"".join(lines))
    with open_capture(path) as capture:
        expected = summaries(capture.flows())
        assert len(expected) == 65
        monkeypatch.setattr(flow_store, "MAX_FLOWS_IN_MEMORY", 7)
        monkeypatch.setattr("otel_wirecap.reading.capture_files._MAX_FLOWS_A_PART", 1)
        monkeypatch.setattr("otel_wirecap.reading.sources.BLOCK", 4096)
        spilled = []
        original = flow_store.FlowStore._spill
        monkeypatch.setattr(flow_store.FlowStore, "_spill", lambda store: spilled.append(1) or original(store))
        assert summaries(capture.flows()) == expected
        assert len(spilled) > 4


def test_a_full_disk_is_explained(demo, monkeypatch):
    monkeypatch.setattr(flow_store, "MAX_FLOWS_IN_MEMORY", 3)
    monkeypatch.setattr(flow_store, "_TABLES", flow_store._TABLES + "PRAGMA max_page_count = 4;")
    with open_capture(demo) as capture, pytest.raises(CaptureFileError, match=r"disk is full; TMPDIR"):
        next(capture.flows())


MEMORY = """
import re, sys
from pathlib import Path
def peak_kib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
from otel_wirecap.reading import open_capture
with open_capture(sys.argv[1]) as capture:
    count = sum(1 for _ in capture.flows())  # all that is imported is
    before = peak_kib()
with open_capture(sys.argv[2]) as capture:
    flows = sum(1 for flow in capture.flows())
    exchanges = sum(len(one.request.body) > 900 for one in capture.exchanges())
    records = sum(1 for _ in capture.records())
print(flows, exchanges, records, peak_kib() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from there")
def test_tens_of_thousands_of_exchanges_are_read_in_bounded_memory(tmp_path):
    small, large = tmp_path / "small.log", tmp_path / "large.log"
    write_exchanges(small, 50)
    write_exchanges(large, 30_000)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(small), str(large)], check=True, capture_output=True, text=True, timeout=300
    )
    flows, exchanges, records, more_kib = map(int, done.stdout.split())
    assert (flows, exchanges, records) == (30_000, 30_000, 60_000)
    assert large.stat().st_size > 80_000_000
    assert more_kib < 30_000


def write_exchanges(path, count):
    padding = "x" * 1000
    with path.open("wb") as file:
        for number in range(count):
            began = 1767225600 + number / 100
            metadata = {
                "leg": "backend",
                "request_id": f"req_{number:08}",
                "exchange_id": f"ex_{number:08}",
                "attempt": 1,
            }
            for direction, more in (
                (
                    "outbound_request",
                    {"method": "POST", "url": f"https://api.example.com/v1/chat/completions?n={number}"},
                ),
                ("inbound_response", {"status_code": 200, "ttfb_ms": 1.5, "duration_ms": 2.5, "outcome": "complete"}),
            ):
                record = {
                    "timestamp_iso": datetime.fromtimestamp(began, UTC).isoformat(timespec="microseconds"),
                    "timestamp_unix": began, "direction": direction, "source": "proxy", "destination": "openai",
                    "session_id": f"session-{number}", "backend": "openai", "model": "gpt-5-mini", "key_name": None,
                    "content_type": "json", "content_length": 1000, "payload": {"padding": padding},
                    "metadata": metadata | more,
                }  # fmt: skip
                file.write(orjson.dumps(record) + b"\n")


def test_bodies_are_kept_of_few_flows_only(demo):
    capture = Capture(demo)
    try:
        for flow in list(capture.flows()):
            assert flow.exchanges[0].request is not None
        assert len(capture._bodies._read) == 2
    finally:
        capture.close()
