"""Warnings reach the application's log once, and nothing of the log's trouble reaches the application."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import otel_wirecap
from otel_wirecap.instrumentation.runtime import active
from otel_wirecap.log import MAX_REFUSED, WarnOnce, warn


class Handler(logging.Handler):
    """A handler of the application's: keeps what it gets, and calls ``on_record`` before, which may raise."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[str] = []
        self.on_record: Callable[[], None] = lambda: None

    def emit(self, record: logging.LogRecord) -> None:
        self.on_record()
        self.got.append(record.getMessage())


@pytest.fixture
def handler() -> Iterator[Handler]:
    added = Handler()
    logging.getLogger("otel_wirecap").addHandler(added)
    yield added
    logging.getLogger("otel_wirecap").removeHandler(added)


def refuse() -> None:
    raise RuntimeError("the log is not to be had")


def test_a_warning_comes_once_for_each_message_with_its_arguments(handler: Handler) -> None:
    warn_once = WarnOnce()
    for _ in range(3):
        warn_once("%s is missing", "one")
        warn_once("%s is missing", "another")
    assert handler.got == ["otel-wirecap: one is missing", "otel-wirecap: another is missing"]
    warn_once.forget()
    warn_once("%s is missing", "one")
    assert handler.got[2:] == ["otel-wirecap: one is missing"]


def test_a_warning_that_the_log_refused_comes_again_and_nobody_hears_of_the_refusal(handler: Handler) -> None:
    warn_once = WarnOnce()
    handler.on_record = refuse
    warn_once("lost")
    warn_once("lost")
    assert handler.got == []
    handler.on_record = lambda: None
    warn_once("lost")
    warn_once("lost")
    assert handler.got == ["otel-wirecap: lost"]


def test_what_the_log_refused_is_given_once_more_before_the_next_message_or_at_the_end(
    capture_file: Path, handler: Handler
) -> None:
    handler.on_record = refuse
    for number in range(MAX_REFUSED + 3):
        warn("number %d", number)
    handler.on_record = lambda: None
    warn("the next")
    # Each of the first ones was refused twice: once more, when the one behind it came.
    assert handler.got == [f"otel-wirecap: number {MAX_REFUSED + 2}", "otel-wirecap: the next"]

    otel_wirecap.instrument(capture_file=capture_file)
    handler.on_record = refuse
    warn("the last")
    handler.on_record = lambda: None
    otel_wirecap.uninstrument()
    assert handler.got[2:] == ["otel-wirecap: the last"]


def test_of_many_threads_one_warns(handler: Handler) -> None:
    warn_once, begin = WarnOnce(), threading.Barrier(8)

    def run() -> None:
        begin.wait(30)
        for number in range(200):
            warn_once("number %d", number)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(handler.got) == sorted(f"otel-wirecap: number {number}" for number in range(200))


def test_a_handler_may_cause_the_same_warning_and_others_by_itself_and_in_other_threads(handler: Handler) -> None:
    warn_once = WarnOnce()

    def warn_from_elsewhere() -> None:
        handler.on_record = lambda: None
        warn_once("first")
        warn_once("second")

    def cause() -> None:
        handler.release()  # logging's own lock, which the other thread needs
        thread = threading.Thread(target=warn_from_elsewhere, daemon=True)
        thread.start()
        thread.join(30)
        handler.acquire()
        assert not thread.is_alive(), "it waits for a lock of ours"
        warn_from_elsewhere()

    handler.on_record = cause
    warn_once("first")
    assert handler.got == ["otel-wirecap: second", "otel-wirecap: first"]


def test_an_error_in_a_hook_is_told_again_where_the_log_refused_it(capture_file: Path, handler: Handler) -> None:
    otel_wirecap.instrument(capture_file=capture_file)
    try:
        runtime = active()
        assert runtime is not None

        handler.on_record = refuse
        runtime.failed(None, KeyError("a payload"))
        handler.on_record = lambda: None
        runtime.failed(None, KeyError("a payload"))
        runtime.failed(None, KeyError("a payload"))
    finally:
        otel_wirecap.uninstrument()
    assert handler.got == ["otel-wirecap: an exchange is not captured: KeyError in ?"]
