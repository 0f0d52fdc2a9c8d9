"""Nobody can go on writing: what waits is told as lost, and whoever waits for an answer has one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import Gateway, open_writer, record_writer_of, wait_until, writers_of
from waiting import MAX_SECONDS

from otel_wirecap.storage.channel import Close, Message
from otel_wirecap.storage.writer import CaptureWriter


def check_the_end(writer: CaptureWriter, gateway: Gateway, lost_at_least: int) -> None:
    """All ends are answered, all that was put is accounted for, and nobody is kept waiting."""
    wait_until(lambda: writer._queue.closed and not writer._home.is_alive())
    before = time.monotonic()
    assert not writer.flush(MAX_SECONDS)
    assert not writer.close(MAX_SECONDS)
    assert time.monotonic() - before < MAX_SECONDS / 2
    late = gateway.exchange("late", wants_end=True)
    late.end(time.monotonic_ns(), "complete")
    assert set(gateway.facts) == gateway.wanted
    stats = writer.stats()
    assert (stats.waiting_events, stats.waiting_bytes) == (0, 0)
    assert stats.lost_events["writer_died"] >= lost_at_least


def test_ends_are_answered_where_no_thread_can_take_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = open_writer(tmp_path / "capture.log", capture_writer="process", capture_flush_interval=0.05)
    gateway = Gateway.observing(writer)
    sent, queued, still_open = (gateway.exchange(name, wants_end=True) for name in ("sent", "queued", "open"))
    assert writer.flush()
    (pid,) = writers_of()

    def no_thread() -> None:
        queued.end(time.monotonic_ns(), "cancelled")
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(writer, "_in_a_thread", no_thread)
    os.kill(pid, signal.SIGSTOP)
    sent.end(time.monotonic_ns(), "complete")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: writer._queue.closed)
    still_open.end(time.monotonic_ns(), "complete")
    check_the_end(writer, gateway, lost_at_least=1)
    assert gateway.facts["queued"].outcome == "cancelled"
    assert "the capture ends: RuntimeError" in caplog.text


@pytest.mark.parametrize("where", ["receive", "settle"])
def test_ends_are_answered_where_the_thread_that_writes_fails(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = open_writer(tmp_path / "capture.log", capture_writer="thread", capture_flush_interval=0.05)
    gateway = Gateway.observing(writer)
    exchanges = [gateway.exchange(f"one{number}", wants_end=True) for number in range(3)]
    assert writer.flush()
    record_writer = record_writer_of(writer)
    fails = threading.Event()

    def no_memory(*_arguments: object) -> None:
        for exchange in exchanges:
            exchange.end(time.monotonic_ns(), "complete")
        fails.set()
        raise MemoryError

    if where == "receive":
        monkeypatch.setattr(record_writer._channel, "receive", no_memory)
    else:
        monkeypatch.setattr(record_writer, "_settle", no_memory)
    another = gateway.exchange("another", wants_end=True)
    assert fails.wait(MAX_SECONDS)
    another.end(time.monotonic_ns(), "complete")
    check_the_end(writer, gateway, lost_at_least=3)
    assert "the capture ends: MemoryError" in caplog.text


@pytest.mark.parametrize("home", ["process", "thread"])
def test_a_flush_that_comes_too_late_to_be_asked_for_is_answered_at_the_end(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(tmp_path / "capture.log", capture_writer=home)
    assert writer.flush()
    messages = writer._pump.messages
    written: list[bool] = []
    waits = threading.Thread(target=lambda: written.append(writer.flush(MAX_SECONDS)))

    def too_late() -> Iterator[Message]:
        for message in messages():
            if isinstance(message, Close):
                waits.start()
                wait_until(lambda: writer._pump._waiting)
            yield message

    monkeypatch.setattr(writer._pump, "messages", too_late)
    assert writer.close()
    waits.join(MAX_SECONDS / 2)
    assert written == [True]
