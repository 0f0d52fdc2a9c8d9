"""Captures of every kind come out the same: quickly, in parts, by several processes, from an index."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import gzip
import io
import itertools
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from selection import examples

from otel_wirecap.capture.formats import CBOR, JSONLines, Structured, Text
from otel_wirecap.cli import main
from otel_wirecap.errors import CaptureFileError, CaptureFormatError, FlowNotFoundError
from otel_wirecap.reading import flow_parts, index
from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.flows import Exchange, Flow, FlowCollector
from otel_wirecap.reading.legs import legs_of
from otel_wirecap.reading.lines import body_of, envelope_of, payload_text
from otel_wirecap.reading.packing import has_all_texts, packed, unpacked
from otel_wirecap.reading.quick import QuickCollector
from otel_wirecap.reading.sources import open_sources

KEY = "file"


def counted(gaps):
    """A distribution, but for its mean: that depends on the order in which numbers were added."""
    return {**gaps.document(), "mean": None, "histogram": gaps.histogram(50)}


def told(flows):
    """Flows without the places where they stand."""
    found = []
    for flow in flows:
        known = dataclasses.asdict(flow)
        del known["spans"]
        for exchange in filter(None, [known["client"], *known["attempts"]]):
            gaps = exchange["gaps"]
            exchange["gaps"] = None if gaps is None else counted(gaps.ms)
        found.append(known)
    return found


def slow(lines):
    collector = FlowCollector()
    for line in lines:
        collector.add(orjson.loads(line))
    return told(collector.flows)


def quick(*blocks):
    """The flows of blocks of lines, each read on its own and merged."""
    whole = FlowCollector()
    for block in blocks:
        collector = QuickCollector(KEY)
        collector.take(0, block)
        whole.merge(collector.finish())
    return whole


def converted(lines, form):
    decode = JSONLines().decode
    return b"".join(form.encode(decode(line)) for line in lines)


# -- the quick pass ----------------------------------------------------------------------------------


@given(cuts=st.lists(st.integers(0, 400), max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(30), deadline=None)
def test_parts_of_a_capture_tell_together_what_parsing_every_line_tells(cuts, demo_lines):
    places = [0, *sorted(min(cut, len(demo_lines)) for cut in cuts), len(demo_lines)]
    blocks = [b"".join(demo_lines[a:b]) for a, b in itertools.pairwise(places)]
    collector = quick(*blocks)
    assert told(collector.flows) == slow(demo_lines)
    assert collector.records == len(demo_lines)


@given(kept=st.sets(st.integers(0, 400)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(30), deadline=None)
def test_the_quick_pass_tells_the_same_where_records_are_missing(kept, demo_lines):
    lines = [line for number, line in enumerate(demo_lines) if number in kept]
    assert told(quick(b"".join(lines)).flows) == slow(lines)


def test_marks_within_a_payload_and_fields_in_another_order_do_not_mislead_the_quick_pass():
    metadata = {
        "leg": "backend",
        "request_id": "req_1",
        "exchange_id": "ex_1",
        "attempt": 1,
        "chunk_bytes": 5,
        "pid": 1,
    }
    tricky = 'data: {"exchange_id":"ex_9","metadata":{"a":1},"payload":2,"chunk_bytes":77}\n\n'
    record = {
        "timestamp_iso": "2026-01-01T00:00:01.000000+00:00", "timestamp_unix": 1767225601.0,
        "direction": "stream_chunk", "source": "s", "destination": "d", "session_id": "s", "backend": "b",
        "model": "m", "key_name": None, "content_type": "text", "content_length": 5, "payload": tricky,
        "metadata": metadata,
    }  # fmt: skip
    nested = record | {"payload": {"metadata": {"exchange_id": "ex_9"}, "x": tricky}, "direction": "inbound_response"}
    annotated = record | {"metadata": metadata | {"mine": {"metadata": {"exchange_id": "ex_8"}, "payload": 1}}}
    turned = dict(reversed(record.items()))
    lines = [orjson.dumps(one) for one in (record, record, nested, annotated, turned, json.loads(json.dumps(record)))]
    assert told(quick(b"\n".join(lines)).flows) == slow(lines)
    spaced = json.dumps(record).encode()
    assert told(quick(spaced).flows) == slow([spaced])
    assert payload_text(lines[0]) == orjson.dumps(tricky)
    assert "payload" not in envelope_of(lines[0])


def test_lines_that_are_no_records_are_counted():
    collector = quick(b'{"direction":\n\n\xff\n[1]\n')
    assert (collector.damaged, collector.records) == (3, 0)


def test_several_processes_tell_what_one_tells(demo_lines, tmp_path):
    path = tmp_path / "large.log"
    path.write_bytes(b"".join(demo_lines) * 3)
    program = """
import sys
from otel_wirecap.reading import captures, flow_parts
processes = []
if sys.argv[2] == "many":
    flow_parts.MANY_BYTES, flow_parts.PART_BYTES = 1, 50_000
    original = flow_parts._run_in_processes
    def counted(sources, jobs, workers):
        processes.append(workers)
        return original(sources, jobs, 2)
    flow_parts._run_in_processes = counted
    flow_parts.os.sched_getaffinity = lambda _: {0, 1}
with captures.Captures([sys.argv[1]], use_index=False) as opened:
    flows = opened.collect()
    print(processes != [] if sys.argv[2] == "many" else True, flows.records, flows.flows)
"""
    run = [subprocess.run([sys.executable, "-c", program, str(path), how], capture_output=True, text=True, check=True)
           for how in ("one", "many")]  # fmt: skip
    assert run[0].stdout == run[1].stdout
    assert run[0].stdout.startswith(f"True {3 * len(demo_lines)} ")


# -- every kind of capture ---------------------------------------------------------------------------


def test_compressed_cbor_and_structured_captures_tell_the_same_flows(demo_lines, tmp_path):
    content = {
        "plain.log": b"".join(demo_lines),
        "packed.log": gzip.compress(b"".join(demo_lines)),
        "binary.log": converted(demo_lines, CBOR()),
        "grouped.log": converted(demo_lines, Structured()),
    }
    expected = slow(demo_lines)
    for name, data in content.items():
        path = tmp_path / name
        path.write_bytes(data)
        with Captures([path]) as captures:
            assert told(captures.flows()) == expected, name
            flow = captures.flow(expected[3]["request_id"])
            records = list(captures.records_of(flow))
            assert records == [
                one for one, _ in captures.lines() if one["metadata"].get("request_id") == flow.request_id
            ]
            assert [one["payload"] for one in records] == [
                line["payload"] for line in map(orjson.loads, demo_lines)
                if line["metadata"].get("request_id") == flow.request_id
            ]  # fmt: skip


def test_rotated_files_are_read_with_the_live_one_and_an_encrypted_one_is_left_out(demo_lines, tmp_path):
    live = tmp_path / "capture.log"
    live.write_bytes(b"".join(demo_lines[200:]))
    (tmp_path / "capture.log.1").write_bytes(b"".join(demo_lines[100:200]))
    (tmp_path / "capture.log.2.gz").write_bytes(gzip.compress(b"".join(demo_lines[:100])))
    (tmp_path / "capture.log.3.age").write_bytes(b"age-encryption.org/v1\n-> X25519 x\n")
    with Captures([live]) as captures:
        assert told(captures.flows()) == slow(demo_lines)
        for flow in captures.flows()[:3]:
            wanted = [
                one for one in map(orjson.loads, demo_lines) if one["metadata"].get("request_id") == flow.request_id
            ]
            assert list(captures.records_of(flow)) == wanted
        damaged = []
        list(captures.lines(lambda path, number: damaged.append((path.name, number))))
        assert damaged == [("capture.log.3.age", 0)]


def test_several_captures_are_merged_by_time(demo_lines, tmp_path):
    legs = {"client": [], "backend": []}
    for line in demo_lines:
        legs.get(orjson.loads(line)["metadata"].get("leg"), legs["client"]).append(line)
    paths = [tmp_path / "client.log", tmp_path / "backend.log"]
    for path, lines in zip(paths, legs.values(), strict=True):
        path.write_bytes(b"".join(sorted(lines, key=lambda line: orjson.loads(line)["timestamp_unix"])))
    with Captures(paths) as captures:
        moments = [one["timestamp_unix"] for one, _ in captures.lines()]
        assert moments == sorted(moments)
        assert told(captures.flows()) == slow(demo_lines)
        flow = captures.flows()[4]
        assert {one["metadata"]["leg"] for one in captures.records_of(flow)} == {"client", "backend"}


def test_standard_input_is_read_whether_it_is_a_pipe_or_a_file(demo, demo_lines):
    command = [sys.executable, "-m", "otel_wirecap", "ls", "--json", "-"]
    piped = subprocess.run(command, input=b"".join(demo_lines), capture_output=True, check=True)
    with demo.open("rb") as file:
        given = subprocess.run(command, stdin=file, capture_output=True, check=True)
    assert piped.stdout == given.stdout
    assert len(piped.stdout.splitlines()) == 13


def test_a_torn_last_line_is_counted_and_the_rest_is_read(demo, demo_lines):
    demo.write_bytes(b"".join(demo_lines)[:-20])
    with Captures([demo]) as captures:
        assert told(captures.flows()) == slow(demo_lines[:-1])
        assert captures.collect().damaged == 1


# -- what is no capture ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty: nothing has been captured"),
        (bytes(range(255, 100, -1)) * 9, "neither JSON nor CBOR"),
        (b"hello\nworld\n", "neither JSON nor CBOR"),
        (b'{"event": 1}\n', "no field 'direction'"),
        (b"[1, 2]\n", "no field 'direction'"),
        (b"age-encryption.org/v1\n-> X25519 x\n", "is encrypted; decrypt it first"),
    ],
)
def test_what_is_no_capture_gets_one_sentence_that_says_so(content, text, tmp_path):
    path = tmp_path / "strange.log"
    path.write_bytes(content)
    with pytest.raises(CaptureFormatError, match=re.escape(text)) as raised, Captures([path]):
        pass
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_format_for_people_is_refused_with_what_to_do(demo_lines, tmp_path):
    path = tmp_path / "people.log"
    path.write_bytes(converted(demo_lines, Text()))
    with (
        pytest.raises(CaptureFormatError, match="format text, which is for people; capture in jsonl"),
        Captures([path]),
    ):
        pass


def test_a_capture_that_is_not_there_or_a_directory_is_named(tmp_path):
    with pytest.raises(CaptureFileError, match=r"nothing\.log.*no such file"), Captures([tmp_path / "nothing.log"]):
        pass
    with pytest.raises(CaptureFileError, match="directory"), Captures([tmp_path]):
        pass


# -- finding and reading one flow --------------------------------------------------------------------


def test_a_flow_is_found_by_the_beginning_of_its_id_or_of_an_exchanges_id(demo):
    with Captures([demo]) as captures:
        flows = captures.flows()
        assert captures.flow(flows[2].request_id[:12]) is flows[2]
        assert captures.flow(flows[2].attempts[0].exchange_id) is flows[2]
        with pytest.raises(FlowNotFoundError, match=r"13 flows begin with 'req_': req_.*, …"):
            captures.flow("req_")
        with pytest.raises(FlowNotFoundError, match="no flow begins with 'nope'"):
            captures.flow("nope")
        assert captures.session("demo-con") == flows
        with pytest.raises(FlowNotFoundError, match="no session begins with 'nope'"):
            captures.session("nope")


def test_a_flow_in_full_has_the_bytes_of_both_legs_and_the_message_of_a_stream(demo):
    with Captures([demo]) as captures:
        flow = next(
            one for one in captures.flows() if one.outer.streamed and one.backend == "anthropic" and not one.failed
        )
        client, backend = legs_of(captures, flow)
    assert client.response_body == backend.response_body
    assert len(backend.response_body) == backend.exchange.response_bytes
    assert [chunk.number for chunk in backend.chunks] == list(range(1, backend.exchange.chunk_count + 1))
    assert backend.answer["content"] == client.answer["content"]  # the recorder's, and ours from the client's bytes
    assert orjson.loads(backend.request_body) == backend.question
    assert dict(backend.headers("request"))["x-api-key"] == "[REDACTED]"


def test_bytes_that_are_no_text_come_out_as_they_went_in():
    data = bytes(range(256))
    payload = {"encoding": "base64", "data": base64.b64encode(data).decode()}
    record = {"content_type": "bytes", "payload": payload, "metadata": {}}
    assert body_of(record, orjson.dumps(record)) == data


def test_a_body_keeps_the_spelling_of_its_line():
    line = b'{"timestamp_iso":"","content_type":"json","payload":{"b":1.10,"a":1e5},"metadata":{}}'
    assert body_of(orjson.loads(line), line) == b'{"b":1.10,"a":1e5}'


def test_flows_are_found_by_what_their_payloads_hold(demo):
    with Captures([demo]) as captures:
        found = captures.flows_with(re.compile(rb"(?i)OVERLOADED_ERROR"))
        assert found == {one.request_id for one in captures.flows() if one.error_type == "overloaded_error"}
        assert len(found) == 1


# -- the index ---------------------------------------------------------------------------------------


@pytest.fixture
def small_index(monkeypatch):
    monkeypatch.setattr(index, "MIN_BYTES", 1000)


@pytest.fixture
def bytes_read(monkeypatch):
    """How many bytes of captures each pass has read."""
    read = []
    original = flow_parts._run

    def run(sources, jobs, progress):
        read.append(sum(job.end - job.start for job in jobs))
        return original(sources, jobs, progress)

    monkeypatch.setattr(flow_parts, "_run", run)
    return read


def bare(flows):
    """Flows as told, less what no index holds."""
    for flow in flows:
        for exchange in filter(None, [flow["client"], *flow["attempts"]]):
            exchange["url"] = exchange["url"].partition("?")[0]
            exchange["error"] = exchange["error"] and exchange["error"]["type"]
    return flows


def flows_of(path):
    with Captures([path]) as captures:
        return bare(told(captures.flows()))


@pytest.mark.usefixtures("small_index")
def test_a_second_run_reads_the_index_in_the_captures_place(demo, demo_lines, bytes_read, cache_folder):
    assert flows_of(demo) == flows_of(demo) == bare(slow(demo_lines))
    assert bytes_read == [demo.stat().st_size, 0]
    with Captures([demo]) as captures:
        wanted = flows_of(demo)[5]["request_id"]
        assert told([captures.flow(wanted[:14])]) == [slow(demo_lines)[5]]
        assert captures._collected is None  # only that flow's line was parsed
        records = list(captures.records_of(captures.flow(wanted)))
    assert records == [one for one in map(orjson.loads, demo_lines) if one["metadata"].get("request_id") == wanted]
    (written,) = cache_folder.iterdir()
    assert written.stat().st_mode & 0o777 == 0o600
    assert cache_folder.stat().st_mode & 0o077 == 0
    assert [entry.name for entry in demo.parent.iterdir() if entry.is_file()] == [demo.name]


@pytest.mark.usefixtures("small_index")
def test_an_index_holds_nothing_of_a_payload(demo, demo_lines, cache_folder):
    flows_of(demo)
    (written,) = cache_folder.iterdir()
    text = written.read_text()
    assert "Zażółć" in b"".join(demo_lines).decode()
    assert "Zażółć" not in text
    assert "every byte" not in text


def with_secrets(lines, *found):
    """Lines whose requests have a secret in their URL's query, and whose ends name an error that quotes one."""
    parameter, quoted = found
    for line in lines:
        record = orjson.loads(line)
        metadata = record["metadata"]
        if "url" in metadata:
            metadata["url"] = metadata["url"].partition("?")[0] + f"?alt=sse&session={parameter}#{parameter}"
        if "outcome" in metadata:
            metadata["error"] = {"type": "ConnectError", "message": f"no way to {quoted}", "detail": quoted}
        if record["direction"] == "system_gap":
            record["payload"]["error"] = quoted
        yield orjson.dumps(record) + b"\n"


@pytest.mark.usefixtures("small_index")
def test_an_index_holds_no_query_and_no_text_of_an_error(demo, demo_lines, tmp_path, cache_folder):
    found = secrets.token_hex(20), secrets.token_hex(20)
    path = tmp_path / "capture.log"
    lines = list(with_secrets(demo_lines, *found))
    path.write_bytes(b"".join(lines))
    assert all(one in path.read_text() for one in found)
    flows_of(path)
    flows_of(path)
    (written,) = cache_folder.iterdir()
    assert not [one for one in found if one in written.read_text()]
    expected = slow(lines)
    with Captures([path]) as captures:
        assert told([captures.flow(expected[0]["request_id"])]) == expected[:1]
        session = expected[0]["session_id"]
        assert told(captures.session(session)) == [flow for flow in expected if flow["session_id"] == session]


@pytest.mark.usefixtures("small_index")
@pytest.mark.parametrize(
    "command",
    [
        "ls", "ls --json", "ls --by error", "stats", "stats --json", "show FLOW", "show FLOW --json",
        "show FLOW --curl",
        "timeline FLOW", "timeline SESSION", "timeline SESSION --json", "diff FLOW", "cache SESSION --json",
        "export --to har", "export --to jsonl --flow FLOW", "export --to har --flow FLOW",
        "sql --json SELECT_*_FROM_exchanges", "sql --json SELECT_*_FROM_flows",
    ],
)  # fmt: skip
def test_a_command_prints_the_same_from_an_index(command, demo_lines, tmp_path, capfdbinary):
    if command.startswith("sql"):
        pytest.importorskip("duckdb")
    path = tmp_path / "capture.log"
    lines = list(with_secrets(demo_lines, "f0rty-two", "the answer"))
    path.write_bytes(b"".join(lines))
    flow = slow(lines)[4]
    line = [
        {"FLOW": flow["request_id"], "SESSION": flow["session_id"]}.get(word, word.replace("_", " "))
        for word in command.split()
    ]
    printed = []
    for more in ([], [], ["--no-index"]):
        assert main([*line, *more, str(path)]) in (0, 1)
        printed.append(capfdbinary.readouterr().out)
    assert printed[0] == printed[1] == printed[2] != b""


def test_of_a_url_with_a_user_and_password_an_index_holds_nothing():
    password = secrets.token_hex(10)
    for url in (f"https://me:{password}@host/v1/chat", f"//{password}@host/", f"https://me:{password}@host?x=1"):
        exchange = Exchange("ex_1", "backend", url=url)
        line = packed(Flow("req_1", attempts=[exchange]), with_texts=False)
        assert password.encode() not in line
        assert not has_all_texts(unpacked(line).attempts[0])
    url = "https://host/v1/models/claude@20250101:predict"
    (kept,) = unpacked(
        packed(Flow("req_1", attempts=[Exchange("ex_1", "backend", url=url)]), with_texts=False)
    ).attempts
    assert kept.url == url


@pytest.mark.usefixtures("small_index")
@pytest.mark.parametrize("how", ["removed", "removed with its folder", "another in its place", "an older version's"])
def test_an_index_goes_with_its_capture(how, demo, demo_lines, tmp_path, cache_folder, monkeypatch):
    (tmp_path / "gone").mkdir()
    path = tmp_path / "gone" / "capture.log"
    path.write_bytes(b"".join(demo_lines))
    flows_of(path)
    (written,) = cache_folder.iterdir()
    flows_of(demo)
    assert written.exists()
    if how == "removed":
        path.unlink()
    elif how == "removed with its folder":
        shutil.rmtree(path.parent)
    elif how == "another in its place":  # of the same number
        path.write_bytes(demo_lines[3])
    else:
        monkeypatch.setattr(index, "VERSION", index.VERSION + 1)
    flows_of(demo)
    assert not written.exists()
    assert len(list(cache_folder.iterdir())) == 1


@pytest.mark.usefixtures("small_index")
def test_a_capture_that_grew_is_read_on_from_where_the_index_ends(tmp_path, demo_lines, bytes_read):
    path = tmp_path / "growing.log"
    half = b"".join(demo_lines[:150])
    path.write_bytes(half + demo_lines[150][:40])
    assert flows_of(path) == bare(slow(demo_lines[:150]))
    path.write_bytes(half + b"".join(demo_lines[150:]))
    assert flows_of(path) == bare(slow(demo_lines))
    assert flows_of(path) == bare(slow(demo_lines))
    assert bytes_read == [len(half) + 40, len(b"".join(demo_lines)) - len(half), 0]


def test_what_an_index_lacks_is_added_from_the_file_whole_flows_and_single_ones(
    tmp_path, demo_lines, monkeypatch, cache_folder
):
    monkeypatch.setattr(index, "MIN_BYTES", 50_000)
    path = tmp_path / "growing.log"
    path.write_bytes(b"".join(demo_lines[:-30]))
    flows_of(path)
    (written,) = cache_folder.iterdir()
    before = written.read_bytes()
    path.write_bytes(b"".join(demo_lines))
    expected = {flow["request_id"]: flow for flow in slow(demo_lines)}
    for name, flow in expected.items():
        with Captures([path]) as captures:
            assert told([captures.flow(name[:14])]) == [flow]
            assert told([captures.flow(flow["attempts"][0]["exchange_id"])]) == [flow]
            wanted = [one for one in map(orjson.loads, demo_lines) if one["metadata"].get("request_id") == name]
            assert list(captures.records_of(captures.flow(name))) == wanted
            assert bare(told(captures.flows())) == bare(slow(demo_lines))
    assert written.read_bytes() == before  # so little is not worth a new one


@pytest.mark.usefixtures("small_index")
def test_a_rotated_file_keeps_its_index(tmp_path, demo_lines, bytes_read):
    path = tmp_path / "capture.log"
    path.write_bytes(b"".join(demo_lines[:150]))
    flows_of(path)
    path.rename(tmp_path / "capture.log.1")
    path.write_bytes(b"".join(demo_lines[150:]))
    assert flows_of(path) == bare(slow(demo_lines))
    assert bytes_read[1] == path.stat().st_size


@pytest.mark.usefixtures("small_index")
@pytest.mark.parametrize("how", ["shorter", "other end", "same size", "damaged index", "emptied index", "version"])
def test_an_index_that_does_not_hold_is_not_believed(how, demo, demo_lines, cache_folder, monkeypatch):
    flows_of(demo)
    (written,) = cache_folder.iterdir()
    lines = list(demo_lines)
    if how == "shorter":
        lines = lines[:200]
    elif how == "other end":
        lines[-1] = lines[-1].replace(b"cancelled", b"completed").replace(b"client_disconnect", b"client_disappears")
        lines.append(lines[0])
    elif how == "same size":
        lines[40] = lines[40].replace(b'"stream_chunk"', b'"stream_chunx"')
    elif how == "damaged index":
        written.write_bytes(written.read_bytes()[:-30])
    elif how == "emptied index":
        written.write_bytes(b"")
    else:
        monkeypatch.setattr(index, "VERSION", index.VERSION + 1)
    demo.write_bytes(b"".join(lines))
    os.utime(demo)
    assert flows_of(demo) == bare(slow(lines))


@pytest.mark.usefixtures("small_index")
def test_a_cache_folder_that_cannot_be_written_does_no_harm(demo, demo_lines, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert flows_of(demo) == bare(slow(demo_lines))


def test_a_relative_cache_folder_does_not_count(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", "/home/somebody")
    from otel_wirecap.environment import cache_folder

    assert cache_folder() == Path("/home/somebody/.cache/otel-wirecap")


def test_progress_is_told_to_the_end(demo):
    seen = []
    with Captures([demo], progress=lambda done, total: seen.append((done, total))) as captures:
        captures.flows()
    assert seen[-1] == (demo.stat().st_size, demo.stat().st_size)


def test_a_line_longer_than_a_block_is_one_line(tmp_path, demo_lines):
    long = orjson.loads(demo_lines[1])
    long["payload"] = {"text": "x" * (3 * 1024 * 1024)}
    path = tmp_path / "long.log"
    path.write_bytes(b"".join(demo_lines[:1]) + orjson.dumps(long) + b"\n" + b"".join(demo_lines[2:]))
    with Captures([path], use_index=False) as captures:
        assert told(captures.flows()) == slow(demo_lines)
        (source,) = captures.sources
        for cut in (10, len(demo_lines[0]) + 5, 2 * 1024 * 1024, source.size - 5):
            parts = [line.data for part in (source.lines(0, cut), source.lines(cut)) for line in part]
            assert io.BytesIO(b"\n".join(parts) + b"\n").getvalue() == path.read_bytes()


def test_a_capture_is_found_while_its_only_file_is_being_renamed(tmp_path: Path) -> None:
    live = tmp_path / "wire_capture.log"
    live.write_bytes(b'{"seq":0}\n')
    renaming = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time\n"
            "live = sys.argv[1]\n"
            "end = time.monotonic() + 60\n"
            "while time.monotonic() < end:\n"
            "    os.rename(live, live + '.1')\n"
            "    time.sleep(0.0005)\n"
            "    os.rename(live + '.1', live)\n",
            str(live),
        ]
    )
    try:
        for _ in range(300):
            with contextlib.ExitStack() as stack:
                assert len(open_sources(live, stack)) == 1
    finally:
        renaming.kill()
        renaming.wait(60)
