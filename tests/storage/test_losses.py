"""What is lost while a file cannot be written: counted at once, told as soon as any file can tell it."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import books, exchange_on, open_writer, record_writer_of, records, wait_until, writers_of
from test_faults import Feed

from otel_wirecap.storage.channel import Message
from otel_wirecap.storage.ledger import Loss
from otel_wirecap.storage.writer import CaptureWriter
from otel_wirecap.storage.writer_thread import WriterThread

pytestmark = pytest.mark.usefixtures("writer_home")


def fill(disk: Path) -> Path:
    """Leaves no byte on a file system; returns what takes the room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return ballast


@pytest.mark.both_homes
def test_refusals_cost_no_memory_however_long_a_disk_is_full(make_disk: Callable[[str], Path]) -> None:
    disk = make_disk("1m")
    path = disk / "capture.log"
    writer = open_writer(path, capture_max_queue_bytes=60_000, capture_flush_interval=0.02)
    assert writer.flush()
    ballast = fill(disk)
    rounds = 0
    messages = writer._pump.messages

    def counting() -> Iterator[Message]:
        nonlocal rounds
        rounds += 1
        return messages()

    writer._pump.messages = counting  # type: ignore[method-assign]
    feed = Feed(writer)
    wait_until(lambda: feed.put(10) or bool(writer.stats().failing and writer.stats().lost_events))
    before = rounds
    wait_until(lambda: feed.put(10) or writer._queue.wake() or rounds > before + 30)
    ledger, home = writer._ledger, writer._home
    assert len(ledger._being_told) + len(ledger._untold) <= 3
    if isinstance(home, WriterThread):
        assert len(home.writer._host_losses) <= 3
    ballast.unlink()
    feed.end()
    assert writer.close()
    found = books(path)
    assert found.reasons["queue_full"] <= 5
    assert found.chunks + found.lost["events"] == feed.count
    assert writer.stats().lost_events == {"queue_full": found.lost["events"]}


def two_files(disk: Path, path: Path, **settings: Any) -> tuple[CaptureWriter, Path]:
    """A writer of two files, whose second one cannot be written for want of room."""
    settings = {"capture_max_queue_bytes": 100_000, "capture_flush_interval": 0.02, **settings}
    writer = open_writer(path, cbor_capture_file=disk / "capture.cbor", **settings)
    assert writer.flush()
    return writer, fill(disk)


def is_failing(writer: CaptureWriter) -> bool:
    cbor = writer.stats().cbor
    return cbor is not None and cbor.failing == "ENOSPC"


def test_a_loss_that_one_of_two_files_tells_is_told(make_disk: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer, _ = two_files(make_disk("64k"), path, capture_writer="process")
    feed = Feed(writer)
    wait_until(lambda: feed.put(1) or is_failing(writer))
    for number in range(100):
        writer.lose(Loss("capture_failure", exchanges=1, error="KeyError", exchange_id=f"ex_{number}"))
    wait_until(lambda: not writer._ledger._being_told and not writer._ledger._untold)
    (pid,) = writers_of()
    os.kill(pid, signal.SIGKILL)
    assert writer.flush() is False
    writer.close(1)
    found = Counter(
        record["payload"].get("exchange_id") for record in records(path) if record["direction"] == "system_gap"
    )
    del found[None]
    assert found == {f"ex_{number}": 1 for number in range(100)}


def test_records_that_a_file_misses_are_counted_at_once_and_told_whoever_dies(
    make_disk: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "capture.log"
    writer, ballast = two_files(make_disk("64k"), path, capture_writer="process")
    feed = Feed(writer)

    def put() -> None:
        """No faster than the writer takes it."""
        feed.put(10)
        wait_until(lambda: writer.stats().waiting_events == 0)

    wait_until(lambda: put() or writer.stats().lost_records.get("ENOSPC", 0) > 20)
    assert is_failing(writer), "they are counted while that lasts"
    assert not [record for record in records(path) if record["direction"] == "system_gap"]
    first = writer.process
    (pid,) = writers_of()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: writer.process != first)
    ballast.unlink()
    feed.end()
    assert writer.close()
    gaps = [record["payload"] for record in records(path) if record["direction"] == "system_gap"]
    (left_out,) = [gap for gap in gaps if gap["reason"] == "ENOSPC"]
    assert left_out["lost_records"] == writer.stats().lost_records["ENOSPC"]
    assert left_out["capture_file"] == str(ballast.parent / "capture.cbor")
    assert "first_seq" not in left_out, "the numbers were another process's"


def test_a_writer_with_nothing_to_do_answers_nothing(tmp_path: Path) -> None:
    """Over a socket each answer wakes the application's process."""
    writer = open_writer(tmp_path / "capture.log", capture_flush_interval=0.02)
    exchange = exchange_on(writer, "one")
    assert writer.flush()
    record_writer = record_writer_of(writer)
    answers: Counter[str] = Counter()
    rounds = 0
    work = record_writer._round

    class Answers:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_: answers.update([name])

    def counting() -> None:
        nonlocal rounds
        work()
        rounds += 1

    host = record_writer._answers
    wait_until(lambda: writer.stats().waiting_bytes == 0)
    record_writer._round = counting  # type: ignore[method-assign,assignment]
    wait_until(lambda: rounds > 2)
    record_writer._answers = Answers()  # type: ignore[assignment]
    seen = rounds
    wait_until(lambda: rounds > seen + 10)
    record_writer._answers = host
    record_writer._round = work  # type: ignore[method-assign]
    exchange.end(time.monotonic_ns(), "complete")
    assert writer.close()
    assert not answers
