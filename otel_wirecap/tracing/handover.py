"""Hands spans and log records to the user's processors, which may wait for a collector, in a thread of its own.

Invariants:

- Nobody waits for a processor: not the application, and not the writer, whose records would be lost meanwhile.
- What waits is bounded; what finds no room is left out, which is told once.
- All is handed over in the order in which it came: at once what comes after a pause, the rest of it many at a time.
- After a fork the child starts anew; what waits is the parent's.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from typing import TypeAlias

from otel_wirecap import native
from otel_wirecap.log import warn_once

MOST_WAITING_BYTES = 1 << 26
ITEM_SIZE = 4096
"""Bytes that a span or a log record is counted with, besides its payloads."""

REST_SECONDS = 0.02
"""How long the thread rests when all is handed over: to wake it for each span would cost more than the span itself."""

CLOSE_SECONDS = 5.0
_SLOW = "OpenTelemetry's processors take too long"

_Item: TypeAlias = tuple[int, Callable[[], object]]
_LAST: _Item = (0, lambda: None)
"""What the thread ends with."""


class Handover:
    """What waits to be handed over, and the thread that does it, which lasts until ``close``."""

    def __init__(self) -> None:
        self._begin()
        _handovers.add(self)

    def _begin(self) -> None:
        self._lock = native.Lock()
        self._waiting_bytes = 0
        self._items: native.SimpleQueue[_Item] = native.SimpleQueue()
        self._hurry = native.Event()
        self._thread: native.Thread | None = None

    def put(self, action: Callable[[], object], size: int = 0) -> None:
        """Has ``action`` called soon, which holds ``size`` bytes of payloads; whatever it raises is told."""
        size += ITEM_SIZE
        with self._lock:
            is_full = self._waiting_bytes > 0 and self._waiting_bytes + size > MOST_WAITING_BYTES
            is_taken = not is_full and (self._thread is not None or self._start())
            if is_taken:
                self._waiting_bytes += size
                self._items.put((size, action))
                if self._waiting_bytes > MOST_WAITING_BYTES // 2:
                    self._hurry.set()
        if is_full:
            warn_once("spans or log records are left out: %s", _SLOW)
        elif not is_taken:
            _call(action)

    def close(self) -> None:
        """Waits until all is handed over, for some seconds at most; what then is left is told."""
        done = native.Event()
        with self._lock:
            if self._thread is None:
                return
            self._thread = None  # it ends with this; what comes later has another one
            self._items.put((0, done.set))
            self._items.put(_LAST)
            self._hurry.set()
            self._items, self._hurry = native.SimpleQueue(), native.Event()
        if not done.wait(CLOSE_SECONDS):
            warn_once("spans or log records are lost at the end: %s", _SLOW)

    def _start(self) -> bool:
        try:
            self._thread = native.start_thread("otel-wirecap-handover", self._run, self._items, self._hurry)
        except RuntimeError:  # no more threads, or the interpreter ends
            return False
        multiprocessing_util = sys.modules.get("multiprocessing.util")
        if multiprocessing_util is not None:  # after the writer; see there
            multiprocessing_util.Finalize(None, _close, args=(weakref.ref(self),), exitpriority=-1)
        return True

    def _run(self, items: native.SimpleQueue[_Item], hurry: native.Event) -> None:
        while True:
            size, action = item = items.get()
            if item is _LAST:
                return
            _call(action)
            del action
            with self._lock:
                self._waiting_bytes -= size
            if items.empty():
                hurry.wait(REST_SECONDS)
                hurry.clear()

    def begin_child(self) -> None:
        """In a forked child: leaves what waits to the parent."""
        self._begin()


def _call(action: Callable[[], object]) -> None:
    try:
        action()
    except BaseException as error:  # a cancellation or an exit, too: a thread of ours is not theirs to end
        if not isinstance(error, Exception) and native.current_thread() is None:
            raise
        warn_once("a span or a log record was not handed to OpenTelemetry: %s", type(error).__name__)


_handovers: weakref.WeakSet[Handover] = weakref.WeakSet()


def _close(reference: weakref.ref[Handover]) -> None:
    handover = reference()
    if handover is not None:
        handover.close()


def _begin_child() -> None:
    for handover in list(_handovers):
        handover.begin_child()


os.register_at_fork(after_in_child=_begin_child)
