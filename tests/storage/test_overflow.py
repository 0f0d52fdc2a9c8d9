"""What happens when events come faster than they can be written: they are left out and counted, and nobody waits."""

from __future__ import annotations

import asyncio
import fcntl
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from driving import account, open_writer
from test_faults import Feed, show

from otel_wirecap.capture.events import EventKind
from otel_wirecap.storage.ledger import Ledger
from otel_wirecap.storage.queue import EventQueue

pytestmark = pytest.mark.usefixtures("writer_home")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The file's lock is somebody else's: the writer cannot write."""
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def on_a_thread(feed: Feed) -> None:
    thread = threading.Thread(target=feed.put, args=(200,))
    thread.start()
    thread.join()


def on_asyncio(feed: Feed) -> None:
    async def put() -> None:
        await asyncio.sleep(0)
        feed.put(200)

    asyncio.run(put())


def on_trio(feed: Feed) -> None:
    async def put() -> None:
        await trio.lowlevel.checkpoint()
        feed.put(200)

    trio.run(put)


@pytest.mark.parametrize("run", [on_a_thread, on_asyncio, on_trio])
@pytest.mark.both_homes
def test_nobody_waits_for_room(run: Callable[[Feed], None], tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_max_queue_bytes=50_000)
    assert writer.flush()
    feed = Feed(writer)
    with locked(path):
        run(feed)  # as long as the lock is held, nothing can be written: who waited for room would wait for ever
        assert writer.stats().waiting_bytes < 60_000
    feed.end()
    assert writer.close()
    kept, told = account(path)
    assert told > 100
    show(run.__name__, 200, kept, told)


@pytest.mark.both_homes
def test_a_signal_handler_within_put_can_put(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path)
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
        while inner.count <= 10 and outer.count < 100_000:
            outer.put(300)
            assert writer.flush(60)  # nothing is to be refused here
    finally:
        is_over.set()
        interrupting.join()
        signal.signal(signal.SIGUSR2, before)
    outer.end()
    inner.end()
    assert writer.close(60)
    assert inner.count > 10
    show("a signal handler within put", outer.count + inner.count, *account(path))


def test_an_event_larger_than_the_bound_is_refused(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "capture.log", capture_max_queue_bytes=20_000)
    assert not writer.put(EventKind.DOCUMENT, None, 0, "x" * 30_000, 30_000)
    assert writer.close()


def test_what_is_put_while_the_queue_ends_is_there_when_it_has_ended() -> None:
    is_inside, goes_on = threading.Event(), threading.Event()

    class Bound(int):
        def __lt__(self, other: int) -> bool:
            is_inside.set()
            goes_on.wait(5)
            return False

    waiting = EventQueue(Ledger(), max_bytes=Bound(1000))
    accepted: list[bool] = []
    putting = threading.Thread(target=lambda: accepted.append(waiting.put(EventKind.CHUNK, None, 0, b"", 0)))
    putting.start()
    assert is_inside.wait(5)
    threading.Timer(0.1, goes_on.set).start()
    waiting.end()
    assert waiting._ledger.waiting == 1
    putting.join()
    assert accepted == [True]
