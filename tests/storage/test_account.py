"""What was put is kept or told, over the real thing: writers and applications that are killed at any moment."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from driving import (
    CHILD_PATH,
    SSE,
    Books,
    Gateway,
    books,
    check_numbers,
    is_gone,
    open_writer,
    records,
    stream,
    wait_until,
    writers_of,
)
from waiting import MAX_SECONDS

from otel_wirecap.capture.events import EventKind, ResponseHead, Value, WebsocketMessage
from otel_wirecap.capture.exchange import LiveExchange
from otel_wirecap.storage.writer import CaptureWriter


def traffic(gateway: Gateway, seed: int, put: Counter[str]) -> None:
    """Streams, one after the other, some with their end wanted."""
    rng = random.Random(seed)
    for number in range(rng.randint(5, 25)):
        exchange = gateway.exchange(f"{seed}_{number}", wants_end=rng.random() < 0.5)
        put["exchanges"] += 1
        exchange.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
        for _ in range(rng.randint(0, 40)):
            exchange.chunk(time.monotonic_ns(), b"data: %d\n\n" % rng.randrange(10**6) * rng.choice((1, 1, 50)))
            put["chunks"] += 1
            put[exchange.id] += 1
        exchange.end(time.monotonic_ns(), "complete")
        time.sleep(rng.choice((0, 0, 0.001, 0.01)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.sampled(1, rest="faults")
def test_a_writer_that_is_killed_at_any_moment_loses_nothing_silently(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_flush_interval=0.1)
    gateway = Gateway.observing(writer)
    assert writer.flush(60)
    (pid,) = writers_of()
    counts = [Counter[str]() for _ in range(3)]
    threads = [
        threading.Thread(target=traffic, args=(gateway, seed * 10 + number, counts[number])) for number in range(3)
    ]
    for thread in threads:
        thread.start()
    time.sleep(random.Random(seed).random() * 0.15)
    os.kill(pid, signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert writer.flush(60)
    assert writer.close(60)
    put = sum(counts, Counter())
    found = books(path)
    kept = Counter(r["metadata"]["exchange_id"] for r in records(path) if r["direction"] == "stream_chunk")
    missing = sorted(put[name] - kept[name] for name in put if name not in ("chunks", "exchanges"))
    # Nothing more is recorded of exchanges that were open when it died: how much that would have been, nobody knows.
    known = missing[: len(missing) - found.lost["exchanges"]]
    assert sum(known) <= found.lost["events"] + found.lost["records"]
    assert found.exchanges + found.lost["exchanges"] + found.lost["events"] + found.lost["records"] >= put["exchanges"]
    assert found.chunks <= put["chunks"]
    assert set(gateway.facts) == gateway.wanted, "every end that wants an answer has one"
    stats = writer.stats()
    assert found.reasons == {"writer_died": 1}
    assert stats.lost_events.get("writer_died", 0) == found.lost["events"]
    assert stats.lost_records.get("writer_died", 0) == found.lost["records"]
    assert (stats.waiting_events, stats.waiting_bytes, stats.open_exchanges) == (0, 0, 0)


def test_what_a_writer_held_when_it_was_killed_is_told(tmp_path: Path) -> None:
    """Chunks that it had taken up, and of which it had made no record yet: no event, and no record, is lost unseen."""
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_flush_interval=60, capture_max_entries_per_flush=1000)
    exchange = Gateway(writer).exchange("one")
    exchange.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
    assert writer.flush(60)
    for _ in range(50):
        exchange.chunk(time.monotonic_ns(), b"data: 1\n\n")
    wait_until(lambda: writer.stats().waiting_events == 0)  # they are the writer's by now
    first = writer.process
    (pid,) = writers_of()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: writer.process != first)
    assert writer.close(60)
    found = books(path)
    assert (found.chunks, found.lost["events"]) == (0, 50)


def test_every_exchange_that_was_open_when_its_writer_was_killed_is_told(tmp_path: Path) -> None:
    """However old the writer's last numbers are: nothing more of these exchanges is recorded."""
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_flush_interval=60)
    gateway = Gateway(writer)
    assert writer.flush(60)
    (pid,) = writers_of()
    over, *still_open = [gateway.exchange(f"ex_{number}") for number in range(8)]
    for exchange in (over, *still_open):
        exchange.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
    over.end(time.monotonic_ns(), "complete")
    wait_until(lambda: writer.stats().waiting_events == 0)
    first = writer.process
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: writer.process != first)
    for exchange in still_open:
        exchange.chunk(time.monotonic_ns(), b"data: 1\n\n")
        exchange.end(time.monotonic_ns(), "complete")
    assert writer.close(60)
    assert books(path).lost["exchanges"] == len(still_open)
    assert writer.stats().lost_exchanges == {"writer_died": len(still_open)}


def json_exchange(exchange: LiveExchange) -> None:
    exchange.request_end(time.monotonic_ns())
    exchange.response(time.monotonic_ns(), ResponseHead(200, None, [(b"content-type", b"application/json")]))
    for _ in range(50):
        exchange.chunk(time.monotonic_ns(), b"[1]")


def request_of_chunks(exchange: LiveExchange) -> None:
    for _ in range(50):
        exchange.request_chunk(time.monotonic_ns(), b"[1]")


def parts_of_messages(exchange: LiveExchange) -> None:
    exchange.response(time.monotonic_ns(), ResponseHead(101, None, []))
    for number in range(50):  # three whole ones, and the beginning of a fourth
        part = number % 15 + 1
        exchange.message(time.monotonic_ns(), WebsocketMessage(True, 1, "x", part, part == 15))


@pytest.mark.parametrize("put", [json_exchange, request_of_chunks, parts_of_messages])
def test_bodies_that_a_writer_collected_when_it_was_killed_are_told(
    put: Callable[[LiveExchange], None], tmp_path: Path
) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_flush_interval=60, capture_max_entries_per_flush=1000)
    exchange = Gateway(writer).exchange("one", body=None, websocket=put is parts_of_messages)
    assert writer.flush(60)
    put(exchange)
    wait_until(lambda: writer.stats().waiting_events == 0)  # they are the writer's by now
    first = writer.process
    (pid,) = writers_of()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: writer.process != first)
    assert writer.close(60)
    found, stats = books(path), writer.stats()
    assert (found.lost["events"], found.lost["exchanges"]) == (50, 1)
    assert (stats.lost_events, stats.lost_exchanges) == ({"writer_died": 50}, {"writer_died": 1})


class CountingGateway(Gateway):
    """Counts by kind what a writer takes and what it refuses."""

    def __init__(self, writer: CaptureWriter) -> None:
        super().__init__(writer)
        self.taken: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()

        def put(kind: int, subject_id: str | None, now_ns: int, value: Value, size: int, /) -> bool:
            is_taken = writer.put(kind, subject_id, now_ns, value, size)
            (self.taken if is_taken else self.refused)[kind] += 1
            return is_taken

        self.put = put


@pytest.mark.parametrize("home", ["process", "thread"])
def test_refusals_and_what_is_kept_add_up_to_what_was_put(home: str, tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_writer=home, capture_max_queue_bytes=60_000, capture_flush_interval=0.05)
    gateway = CountingGateway(writer)
    for seed in range(3):
        traffic(gateway, seed, Counter())
        for number in range(3):
            exchange = gateway.exchange(f"x{seed}{number}")
            exchange.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
            for _ in range(400):
                exchange.chunk(time.monotonic_ns(), b"x" * 500)
            exchange.end(time.monotonic_ns(), "complete")
    assert writer.close(60)
    found, stats, refused = books(path), writer.stats(), gateway.refused
    assert refused[EventKind.CHUNK], "that was too much at once"
    assert found.chunks == gateway.taken[EventKind.CHUNK]
    assert found.exchanges == gateway.taken[EventKind.BEGIN]
    assert found.lost["events"] == refused.total()
    assert found.lost["exchanges"] == refused[EventKind.BEGIN]
    assert stats.lost_events == {"queue_full": refused.total()}
    assert stats.lost_exchanges.get("queue_full", 0) == refused[EventKind.BEGIN]
    (stop,) = [record["payload"] for record in records(path) if record["direction"] == "system_stop"]
    assert (stop["lost_events"], stop.get("lost_exchanges", 0)) == (refused.total(), refused[EventKind.BEGIN])


APPLICATION = """
    import random, sys, time
    from collections import Counter
    from pathlib import Path
    from driving import Gateway, open_writer
    from test_account import traffic

    writer = open_writer(Path(sys.argv[1]), capture_flush_interval=0.1)
    put = Counter()
    for seed in range(int(sys.argv[2]), int(sys.argv[2]) + 1000):
        traffic(Gateway(writer), seed, put)
        assert writer.flush(60)
        print(put["chunks"], put["exchanges"], flush=True)
"""


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.sampled(1, rest="faults")
def test_an_application_that_is_killed_at_any_moment_keeps_what_was_flushed_and_tells_the_rest(
    seed: int, tmp_path: Path
) -> None:
    path = tmp_path / "capture.log"
    command = [sys.executable, "-c", textwrap.dedent(APPLICATION), str(path), str(seed * 1000)]
    environ = {**os.environ, "PYTHONPATH": CHILD_PATH}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as application:
        assert application.stdout is not None
        chunks, exchanges = map(int, application.stdout.readline().split())
        (pid,) = writers_of(application.pid)
        time.sleep(random.Random(seed).random() * 0.2)
        application.kill()
        for line in application.stdout:
            chunks, exchanges = map(int, line.split())
    wait_until(lambda: is_gone(pid))
    found: Books = books(path)
    check_numbers(records(path))
    assert found.chunks >= chunks
    assert found.exchanges >= exchanges
    assert set(found.reasons) <= {"application_gone"}
    assert not [record for record in records(path) if record["direction"] == "system_stop"]


def test_refusals_are_counted_while_no_writer_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a writer's death and the moment that another goes on."""
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_flush_interval=0.05, capture_max_queue_bytes=50_000)
    assert writer.flush(60)
    (pid,) = writers_of()
    is_dying, may_go_on = threading.Event(), threading.Event()
    in_a_thread = writer._in_a_thread

    def slowly() -> object:
        is_dying.set()
        may_go_on.wait(60)
        return in_a_thread()

    monkeypatch.setattr(writer, "_in_a_thread", slowly)
    os.kill(pid, signal.SIGKILL)
    assert is_dying.wait(60)
    stream(writer, "one", 200, size=1000)
    refused = writer.stats().lost_events["queue_full"]
    may_go_on.set()
    assert refused > 100
    assert writer.close(60)
    assert writer.stats().lost_events["queue_full"] == books(path).lost["events"] == refused


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_flow_that_goes_in_a_forked_child_starts_no_writer_there(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "capture.log")
    exchange = Gateway(writer).exchange("one")
    child = os.fork()
    if not child:
        del exchange
        gc.collect()
        os._exit(len(writer._queue._events) + writer._started)
    assert os.waitpid(child, 0)[1] == 0
    exchange.end(time.monotonic_ns(), "complete")
    assert writer.close(60)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_finaliser_may_put_a_forked_childs_first_event_while_its_capture_is_closed(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "capture.log")
    child = os.fork()
    if not child:
        signal.alarm(int(MAX_SECONDS))  # kills it where it waits for itself
        end = writer._pump.end

        def collect_garbage(seconds: float) -> None:
            writer.put_document('{"direction": "x"}')
            end(seconds)

        writer._pump.end = collect_garbage  # type: ignore[method-assign]
        os._exit(not writer.close())
    assert os.waitpid(child, 0)[1] == 0
    assert writer.close()


def test_flows_that_are_collected_late_are_no_waiting_events(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "capture.log", capture_writer="process")
    gateway = Gateway(writer)
    exchanges = [gateway.exchange(f"one{number}") for number in range(5)]
    for exchange in exchanges:
        exchange.end(time.monotonic_ns(), "complete")
    assert writer.flush()
    wait_until(lambda: writer._queue._is_idle)  # nobody takes them until something else comes
    del exchange
    exchanges.clear()
    gc.collect()
    assert len(writer._queue._events) == 5, "they are not there to be counted"
    assert writer.stats().waiting_events == 0
    assert writer.close()


@pytest.mark.parametrize("home", ["process", "thread"])
def test_refusals_are_told_although_nothing_follows_them(home: str, tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_writer=home, capture_flush_interval=0.05, capture_max_queue_bytes=50_000)
    assert writer.flush()
    for round_ in range(1, 4):
        for _ in range(5):
            assert not writer.put_document("x" * 60_000)
        wait_until(lambda: path.exists() and books(path).lost["events"] == 5 * round_)  # noqa: B023  # called here
    assert writer.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_refusal_is_told_where_it_is_all_that_happens_in_a_forked_child(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_max_queue_bytes=50_000)
    child = os.fork()
    if not child:
        os._exit(writer.put_document("x" * 60_000) or not writer.close())
    assert os.waitpid(child, 0)[1] == 0
    assert writer.close()
    assert books(path).lost["events"] == 1
