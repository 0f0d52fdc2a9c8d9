"""Calls what ends spans and emits log records, which may wait for a collector, in a thread of its own.

Invariants:

- Nobody waits for a processor: not the application, and not the writer, whose records would be lost meanwhile.
- ``put`` may be called from any thread, from the garbage collector and from a signal handler, in the middle of any call
  here: the only lock is re-entrant, and it is held for a single addition. Nothing of OpenTelemetry's is called by it.
- What waits is bounded; what finds no room is left out, which is told once.
- All is handed over in the order in which it came: at once what comes after a pause, the rest of it many at a time.
- At most one thread takes what waits. Where there can be none, it waits for the next ``put`` or for ``close``.
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

MAX_WAITING_BYTES = 1 << 26
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
        self.begin()
        _handovers.add(self)

    def begin(self) -> None:
        """Begins with nothing that waits: in a forked child, what waits is the parent's."""
        self._lock = native.RLock()
        self._waiting_bytes = 0  # under the lock
        self._items: native.SimpleQueue[_Item] = native.SimpleQueue()
        self._hurry = native.Event()
        self._free = [None]  # popped by who takes what waits, put back at the end of that: list.pop is atomic

    def put(self, action: Callable[[], object], size: int = 0) -> None:
        """Has ``action`` called soon, which holds ``size`` bytes of payloads; whatever it raises is told."""
        size += ITEM_SIZE
        waiting = self._waiting_bytes
        if waiting > 0 and waiting + size > MAX_WAITING_BYTES:
            warn_once("spans, measurements or log records are left out: %s", _SLOW)
            return
        self._count(size)
        self._items.put((size, action))
        if waiting + size > MAX_WAITING_BYTES // 2:
            self._hurry.set()
        if self._free:
            self._start()

    def close(self) -> None:
        """Waits until all is handed over, for some seconds at most; what then is left is told."""
        done = native.Event()
        if self._free:
            if self._items.empty():
                return
            self._start()
        self._items.put((0, done.set))
        self._items.put(_LAST)
        self._hurry.set()
        if self._free and self._take_charge():  # there can be no thread
            self._run()
        if not done.wait(CLOSE_SECONDS):
            warn_once("spans, measurements or log records are lost at the end: %s", _SLOW)

    def _count(self, size: int) -> None:
        with self._lock:
            self._waiting_bytes += size

    def _take_charge(self) -> bool:
        try:
            self._free.pop()
        except IndexError:  # somebody else has it
            return False
        return True

    def _start(self) -> None:
        if not self._take_charge():
            return
        try:
            native.start_thread("otel-wirecap-handover", self._run)
        except RuntimeError:  # no more threads, or the interpreter ends
            self._free.append(None)
            return
        multiprocessing_util = sys.modules.get("multiprocessing.util")
        if multiprocessing_util is not None:  # after the writer; see there
            multiprocessing_util.Finalize(None, _close, args=(weakref.ref(self),), exitpriority=-1)

    def _run(self) -> None:
        while True:
            self._hand_over_until_last()
            self._free.append(None)
            # What comes after the last is from somebody who saw this thread still at work.
            if self._items.empty() or not self._take_charge():
                return

    def _hand_over_until_last(self) -> None:
        items, hurry = self._items, self._hurry
        while (item := items.get()) is not _LAST:
            size, action = item
            _call(action)
            del item, action
            self._count(-size)
            if items.empty():
                hurry.wait(REST_SECONDS)
                hurry.clear()


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
        handover.begin()


os.register_at_fork(after_in_child=_begin_child)
