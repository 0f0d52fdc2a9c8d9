"""The writer on real files, in real processes: nothing lost silently, nobody kept waiting."""

from __future__ import annotations

import fcntl
import json
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from driving import CHILD_PATH, SSE, check_numbers, exchange_on, open_writer, records, stream, wait_until, writers_of
from waiting import MAX_SECONDS

from otel_wirecap.capture.events import EventKind, ResponseHead, WebsocketMessage
from otel_wirecap.storage.writer import CaptureWriter

pytestmark = pytest.mark.usefixtures("writer_home")


@pytest.mark.both_homes
def test_a_capture_begins_with_its_settings_and_ends_with_its_totals(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path)
    stream(writer, "one", 10)
    assert writer.flush()
    assert len(records(path)) == 1 + 1 + 1 + 10 + 1
    assert writer.close()
    found = records(path)
    check_numbers(found)
    start, stop = found[0], found[-1]
    assert start["payload"]["settings"]["capture_file"] == str(path)
    assert start["payload"]["versions"]["otel-wirecap"]
    assert start["payload"]["host"]
    assert stop["payload"] == {"records": len(found), "bytes": stop["payload"]["bytes"], "lost_events": 0}
    assert (start["source"], start["destination"], start["backend"], start["model"]) == (
        "wirecap", "capture", "system", None,
    )  # fmt: skip
    assert path.stat().st_mode & 0o777 == 0o600


def test_records_reach_the_file_within_the_flush_interval_without_being_asked(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_flush_interval=0.1)
    stream(writer, "one", 3)
    wait_until(lambda: path.exists() and len(records(path)) == 7)
    writer.close()


@pytest.mark.both_homes
def test_an_exchange_that_is_open_at_the_end_is_told_as_abandoned(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path)
    exchange_on(writer, "open")
    writer.close()
    assert [(r["direction"], r["metadata"].get("outcome")) for r in records(path)] == [
        ("system_start", None), ("outbound_request", None), ("inbound_response", "abandoned"), ("system_stop", None),
    ]  # fmt: skip


@pytest.mark.both_homes
def test_what_finds_no_room_is_counted_told_and_the_exchange_still_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_max_queue_bytes=300_000)
    assert writer.flush()
    with path.open() as held:  # another process that keeps the lock: the writer cannot work its queue off
        fcntl.flock(held, fcntl.LOCK_EX)
        for number in range(20):  # who waited for room would wait for ever
            stream(writer, f"stream{number}", 100, size=1000)
        assert not writer.flush(timeout=0.1)
        fcntl.flock(held, fcntl.LOCK_UN)
    assert writer.close()
    found = records(path)
    check_numbers(found)
    gaps = [record["payload"] for record in found if record["direction"] == "system_gap"]
    assert {gap["reason"] for gap in gaps} == {"queue_full"}
    lost, exchanges = (sum(gap[name] for gap in gaps) for name in ("lost_events", "lost_exchanges"))
    begun = sum(record["direction"] == "outbound_request" for record in found)
    assert begun + exchanges == 20
    ends = [record for record in found if record["direction"] == "stream_end"]
    assert len(ends) == begun
    missing = sum(end["metadata"].get("lost_chunks", 0) for end in ends)
    assert lost == missing + exchanges
    assert all(end["metadata"]["incomplete"] == "dropped" for end in ends if "lost_chunks" in end["metadata"])
    assert sum("are left out" in record.getMessage() for record in caplog.records) == 1


def test_a_file_that_cannot_be_written_for_a_while_loses_nothing_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_flush_interval=0.05)
    assert writer.flush()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 700, limits[1]))
        with caplog.at_level(logging.WARNING, "otel_wirecap"):
            stream(writer, "one", 100)
            wait_until(lambda: writer.stats().write_errors >= 5)  # it tries again and again
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert writer.close()
    check_numbers(records(path))
    assert sum(record["direction"] == "stream_chunk" for record in records(path)) == 100
    told = [record.getMessage() for record in caplog.records if "cannot be written" in record.getMessage()]
    assert len(told) == 1


def test_who_waits_for_a_file_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path)
    assert writer.flush()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limits[1]))
        stream(writer, "one", 10)
        assert not writer.pause(timeout=3600)  # a server that shuts down: the test would time out
        assert not writer.flush(timeout=3600)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert writer.close()
    check_numbers(records(path))


def test_what_was_put_is_kept_or_told_lost_at_every_moment(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_max_queue_bytes=300_000, capture_flush_interval=0.05)
    assert writer.flush()
    assert (writer.stats().records, writer.stats().lost_events, writer.stats().failing) == (1, {}, None)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limits[1]))
        exchange = exchange_on(writer, "one")
        exchange.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
        for _ in range(100):
            exchange.chunk(time.monotonic_ns(), b"x" * 10_000)
        assert not writer.flush()
        while_full = writer.stats()
        exchange.end(time.monotonic_ns(), "complete")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert while_full.failing == "EFBIG"
    assert while_full.write_errors >= 1
    assert while_full.open_exchanges == 1
    assert 200_000 < while_full.waiting_bytes < 330_000
    assert while_full.lost_events["queue_full"] > 50
    assert writer.close()
    after = writer.stats()
    found = records(path)
    chunks = sum(record["direction"] == "stream_chunk" for record in found)
    assert chunks + after.lost_events["queue_full"] == 100
    assert (after.records, after.bytes) == (len(found), path.stat().st_size)
    assert (after.waiting_events, after.open_exchanges, after.failing) == (0, 0, None)
    assert after.write_seconds > 0


def test_messages_and_annotations_find_no_more_room_than_chunks(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_max_queue_bytes=100_000)
    assert writer.flush()
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        socket = exchange_on(writer, "websocket", websocket=True)
        socket.response(time.monotonic_ns(), ResponseHead(101, None, []))
        for _ in range(100):
            socket.message(time.monotonic_ns(), WebsocketMessage(True, 2, b"x" * 10_000))
        refused = not writer.put(EventKind.ANNOTATE, socket.flow.id, 0, b"{}", 100_000)
        socket.end(time.monotonic_ns(), "complete")
        fcntl.flock(held, fcntl.LOCK_UN)
    assert refused
    assert writer.close()
    found = records(path)
    (end,) = [record for record in found if record["direction"] == "websocket_end"]
    written = [record for record in found if record["direction"] == "websocket_message"]
    assert 0 < len(written) < 20
    assert end["metadata"]["lost_messages"] == 100 - len(written)
    assert end["metadata"]["incomplete"] == "dropped"


def test_a_record_longer_than_a_file_is_shortened_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_max_bytes=20_000, capture_max_files=2)
    exchange = exchange_on(writer, "long")
    exchange.response(time.monotonic_ns(), ResponseHead(200, None, [(b"content-type", b"text/plain")]))
    exchange.chunk(time.monotonic_ns(), b"\x01" * 50_000)
    exchange.end(time.monotonic_ns(), "complete")
    writer.close()
    answer = next(record for record in records(path) if record["direction"] == "inbound_response")
    assert answer["metadata"]["truncated"]["original_length"] == 50_000
    assert answer["content_length"] == 50_000
    assert set(answer["payload"]) == {"\x01"}


def test_what_is_flushed_is_in_the_file_though_a_stream_from_elsewhere_has_not_ended(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path)
    try:
        for number in range(50):
            metadata = {"exchange_id": f"ex_{number:x}", "request_id": f"req_{number:x}", "chunk_number": 1}
            record = {
                "timestamp_unix": 1767225600.0, "direction": "stream_chunk", "source": "proxy", "destination": "openai",
                "session_id": None, "backend": "openai", "model": "m", "key_name": None, "content_type": "text",
                "content_length": 3, "payload": "sk-" if number == 0 else "a. ", "metadata": metadata,
            }  # fmt: skip
            assert writer.put_document(json.dumps(record))
        assert writer.flush()
        assert sum(record["direction"] == "stream_chunk" for record in records(path)) == 50
        assert writer.stats().waiting_events == 0
    finally:
        writer.close()


def test_a_broken_event_costs_one_gap_and_no_other_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path)
    writer.put(EventKind.DOCUMENT, None, 0, '{"no": "record of private text"}', 10)
    stream(writer, "one", 2)
    writer.close()
    found = records(path)
    check_numbers(found)
    (gap,) = [record["payload"] for record in found if record["direction"] == "system_gap"]
    assert (gap["reason"], gap["lost_events"]) == ("capture_failure", 1)
    assert "lost_exchanges" not in gap
    assert sum(record["direction"] == "stream_chunk" for record in found) == 2
    assert "private" not in caplog.text


def test_a_beginning_that_cannot_be_told_costs_one_gap_and_no_other_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def service_name() -> str:
        raise ModuleNotFoundError("a module that this user may not read")

    monkeypatch.setattr("otel_wirecap.config.service_name", service_name)
    path = tmp_path / "capture.log"
    writer = open_writer(path)
    stream(writer, "one", 2)
    assert writer.close()
    found = records(path)
    check_numbers(found)
    assert found[0]["payload"] == {"reason": "capture_failure", "error": "ModuleNotFoundError"}
    assert sum(record["direction"] == "stream_chunk" for record in found) == 2
    assert found[-1]["direction"] == "system_stop"


@pytest.mark.both_homes
def test_close_gives_up_on_a_hung_lock_and_tells(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, writer_home: str
) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path)
    assert writer.flush()
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        stream(writer, "one", 2)
        assert not writer.close(timeout=0.3)  # as long as the lock is held, who waited for it would wait for ever
    assert ("lost at the end", "still writes what it was sent")[writer_home == "process"] in caplog.text
    assert not writer.put(EventKind.END, None, 0, None, 0)


def capture_in_child(path: str) -> None:
    writer = next(iter(_kept))
    stream(writer, "child", 5)


_kept: list[CaptureWriter] = []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["os.fork", "multiprocessing"])
@pytest.mark.both_homes
def test_a_forked_child_captures_as_a_process_of_its_own(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_flush_interval=30)
    _kept[:] = [writer]
    stream(writer, "parent", 5)  # still in the parent's queue when the child begins
    if kind == "os.fork":
        child = os.fork()
        if child == 0:
            code = 1
            try:
                stream(writer, "child", 5)
                code = 0 if writer.close() else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    else:
        process = multiprocessing.get_context("fork").Process(target=capture_in_child, args=(str(path),))
        process.start()
        process.join(MAX_SECONDS)
        assert process.exitcode == 0
    writer.close()
    found = records(path)
    check_numbers(found)
    by_process: dict[str, set[str]] = {}
    for record in found:
        if record["direction"] == "stream_chunk":
            by_process.setdefault(record["metadata"]["process"], set()).add(record["metadata"]["exchange_id"])
    assert sorted(map(sorted, by_process.values())) == [["child"], ["parent"]]
    assert sum(record["direction"] == "stream_chunk" for record in found) == 10


@pytest.mark.both_homes
def test_a_killed_process_loses_only_what_was_put_last(tmp_path: Path) -> None:
    """What was put before reaches the file without being asked for, and stays there."""
    path = tmp_path / "capture.log"
    code = f"""
        import sys
        sys.path[:0] = {CHILD_PATH!r}.split({os.pathsep!r})
        from pathlib import Path
        from driving import open_writer, stream
        writer = open_writer(Path({str(path)!r}), capture_flush_interval=0.2)
        for number in range(50):
            stream(writer, f"s{{number}}", 1)
        print("put", flush=True)
        sys.stdin.readline()
        stream(writer, "last", 1)
        print("put", flush=True)
        sys.stdin.readline()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "put\n"
            wait_until(lambda: ended(path) >= {f"s{number}" for number in range(50)})
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "put\n"
        finally:
            process.kill()
    wait_until(lambda: not writers_of(process.pid))
    check_numbers(records(path))
    assert ended(path) >= {f"s{number}" for number in range(50)}


def ended(path: Path) -> set[str]:
    """The exchanges of whose ends a capture tells."""
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""  # a line may be half written at this moment
    found = map(json.loads, whole.splitlines())
    return {record["metadata"]["exchange_id"] for record in found if record["direction"] == "stream_end"}
