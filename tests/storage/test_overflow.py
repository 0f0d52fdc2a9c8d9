"""What happens when events come faster than they can be written: they are left out, or their thread waits."""

from __future__ import annotations

import asyncio
import fcntl
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from driving import account, open_writer, wait_until
from test_faults import Feed, show

from otel_wirecap.capture.events import EventKind
from otel_wirecap.storage import queue

pytestmark = pytest.mark.usefixtures("writer_home")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The file's lock is somebody else's: the writer cannot write."""
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def test_a_thread_that_would_rather_wait_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_overflow="block", capture_max_queue_bytes=50_000)
    feeds = [Feed(writer) for _ in range(4)]

    def run(feed: Feed) -> None:
        feed.put(2000)
        feed.end()

    threads = [threading.Thread(target=run, args=(feed,)) for feed in feeds]
    for thread in threads:
        thread.start()
    highest = 0
    while any(thread.is_alive() for thread in threads):
        highest = max(highest, writer.stats().waiting_bytes)
        time.sleep(0.001)
    assert writer.close()
    assert highest < 70_000
    assert account(path).told == 0
    show("threads that wait", 8000, *account(path))


def test_it_waits_while_the_file_is_locked_for_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_overflow="block", capture_max_queue_bytes=50_000)
    assert writer.flush()
    feed = Feed(writer)
    with locked(path):
        thread = threading.Thread(target=feed.put, args=(100,))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        assert 20 < feed.count < 60
    thread.join(10)
    feed.end()
    assert writer.close()
    assert account(path) == (100, 0)


def test_nobody_waits_for_a_writer_that_is_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "GIVE_UP_SECONDS", 0.5)
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_overflow="block", capture_max_queue_bytes=50_000, capture_flush_interval=0.05)
    assert writer.flush()
    feed = Feed(writer)
    with locked(path):
        began = time.monotonic()
        feed.put(500)
        assert 0.4 < time.monotonic() - began < 2, "it waits once, not for every event"
        other = threading.Thread(target=feed.put, args=(10,))
        other.start()
        other.join(0.3)
        assert not other.is_alive(), "and nobody else does"
    wait_until(lambda: writer.stats().waiting_bytes < 10_000)
    feed.put(500)  # it gets on again, and is waited for again
    feed.end()
    assert writer.close()
    kept, told = account(path)
    assert kept > 500
    show("a stuck writer", 1010, kept, told)


async def on_asyncio(feed: Feed) -> None:
    await asyncio.sleep(0)
    feed.put(200)


async def on_trio(feed: Feed) -> None:
    await trio.lowlevel.checkpoint()
    feed.put(200)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_an_event_loop_never_waits(loop: str, tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_overflow="block", capture_max_queue_bytes=50_000)
    assert writer.flush()
    feed = Feed(writer)
    with locked(path):
        began = time.monotonic()
        if loop == "asyncio":
            asyncio.run(on_asyncio(feed))
        else:
            trio.run(on_trio, feed)
        assert time.monotonic() - began < 0.5
    feed.end()
    assert writer.close()
    kept, told = account(path)
    assert told > 100
    show(f"an event loop of {loop}", 200, kept, told)


def test_a_signal_handler_within_put_does_not_wait_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_overflow="block", capture_max_queue_bytes=30_000)
    outer, inner = Feed(writer), Feed(writer)

    def handler(_number: int, _frame: object) -> None:
        inner.put(1)

    before = signal.signal(signal.SIGUSR2, handler)
    is_over = threading.Event()

    def interrupt() -> None:
        while not is_over.wait(0.002):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    try:
        outer.put(3000)
    finally:
        is_over.set()
        interrupting.join()
        signal.signal(signal.SIGUSR2, before)
    outer.end()
    inner.end()
    assert writer.close()
    assert inner.count > 10
    show("a signal handler within put", outer.count + inner.count, *account(path))


def test_an_event_larger_than_the_bound_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_overflow="block", capture_max_queue_bytes=20_000)
    began = time.monotonic()
    assert not writer.put(EventKind.DOCUMENT, None, 0, "x" * 30_000, 30_000)
    assert time.monotonic() - began < 1
    assert writer.close()


def test_what_is_put_while_the_queue_ends_is_there_when_it_has_ended() -> None:
    is_inside, goes_on = threading.Event(), threading.Event()

    class Bound(int):
        def __lt__(self, other: int) -> bool:
            is_inside.set()
            goes_on.wait(5)
            return False

    waiting = queue.EventQueue(max_bytes=Bound(1000))
    accepted: list[bool] = []
    putting = threading.Thread(target=lambda: accepted.append(waiting.put(EventKind.CHUNK, None, 0, b"", 0)))
    putting.start()
    assert is_inside.wait(5)
    threading.Timer(0.1, goes_on.set).start()
    waiting.end()
    assert len(waiting) == 1
    putting.join()
    assert accepted == [True]
