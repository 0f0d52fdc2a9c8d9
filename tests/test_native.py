"""The interpreter's own threads and locks."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from otel_wirecap import native

LONG = 60.0
"""Seconds after which something is taken not to happen."""


def test_all_who_wait_for_an_event_go_on_when_it_happens() -> None:
    event, waiting, went_on = native.Event(), native.SimpleQueue[None](), native.SimpleQueue[bool]()

    def wait() -> None:
        waiting.put(None)
        went_on.put(event.wait(LONG))

    threads = [native.start_thread("otel-wirecap-test", wait) for _ in range(5)]
    for _ in threads:
        waiting.get(timeout=LONG)
    assert went_on.empty()
    event.set()
    assert all(went_on.get(timeout=LONG) for _ in threads)
    assert all(thread.join(LONG) for thread in threads)
    assert event.wait(0), "it has happened, until it is cleared"
    event.clear()
    assert not event.wait(0.01)
    assert not event._waiting


def test_no_event_is_missed_however_the_two_sides_meet() -> None:
    there, back = native.Event(), native.Event()

    def answer() -> None:
        for _ in range(2000):
            assert there.wait(LONG)
            there.clear()
            back.set()

    thread = native.start_thread("otel-wirecap-test", answer)
    for _ in range(2000):
        there.set()
        assert back.wait(LONG)
        back.clear()
    assert thread.join(LONG)


def test_an_event_may_happen_in_a_signal_handler_while_it_happens() -> None:
    # With threading.Event, the handler waits for ever for a lock of the very code that it has interrupted.
    program = """
import signal, sys, time
from otel_wirecap import native

event, handled = native.Event(), 0

def handle(number, frame):
    global handled
    handled += 1
    event.set()
    signal.setitimer(signal.ITIMER_REAL, 0.0001)  # the next one comes when this one is done

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0001)
while handled < 2000:
    event.set()
print("done")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LONG)
    assert done.stdout == "done\n", done.stderr


def test_a_thread_has_its_name_in_the_log_and_none_in_threading(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[object] = []

    def work() -> None:
        with native.known_to_threading():
            logging.getLogger("otel_wirecap").warning("said")
        seen.append(native.current_thread())
        seen.append([thread.name for thread in threading.enumerate() if thread.ident == native.get_ident()])

    thread = native.start_thread("otel-wirecap-test", work)
    assert thread.join(LONG)
    assert not thread.is_alive()
    assert seen == [thread, []]
    assert [record.threadName for record in caplog.records] == ["otel-wirecap-test"]
    assert native.current_thread() is None


def test_a_thread_that_ends_leaves_nothing_in_threading() -> None:
    known: list[str] = []
    thread = native.start_thread("otel-wirecap-test", lambda: known.append(threading.current_thread().name))
    assert thread.join(LONG)
    assert len(known) == 1
    assert known[0] not in {other.name for other in threading.enumerate()}


def test_a_forked_child_has_none_of_the_threads() -> None:
    release = native.Event()
    thread = native.start_thread("otel-wirecap-test", release.wait, LONG)
    deadline = time.monotonic() + LONG
    while not native._threads and time.monotonic() < deadline:
        time.sleep(0.001)
    child = os.fork()
    if not child:
        os._exit(len(native._threads))
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert thread.is_alive()
    finally:
        release.set()
    assert thread.join(LONG)


def test_what_eventlet_has_replaced_is_asked_of_eventlet() -> None:
    program = """
import importlib, select, sys, types
patcher = types.ModuleType("eventlet.patcher")
asked = set()

def original(name):
    asked.add(name)
    return apart if name == "select" else importlib.import_module(name)

apart = types.SimpleNamespace(poll=select.poll)
patcher.original = original
sys.modules["eventlet.patcher"] = patcher
del select.poll  # as eventlet does
from otel_wirecap import native
assert native.poll is apart.poll
print(sorted(asked))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LONG)
    assert done.stdout == "['_queue', '_socket', '_thread', 'os', 'select', 'socket', 'time']\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="looks for threads in /proc")
def test_the_system_shows_what_of_a_name_it_has_room_for() -> None:
    release = native.Event()
    thread = native.start_thread("otel-wirecap-with-a-long-name", release.wait, LONG)
    deadline = time.monotonic() + LONG
    try:
        while "wirecap-with-a-" not in system_names():
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        release.set()
    assert thread.join(LONG)


def system_names() -> list[str]:
    names = []
    for file in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # the thread has ended
            names.append(file.read_text().strip())
    return names
