"""The way from the host to the writer: a queue bounded in bytes that never makes the host wait.

Invariants:

- ``put`` never blocks on input or output, never raises, and may be called from any thread, from a garbage-collection
  callback and from a signal handler (the lock is re-entrant, and nothing that waits is called while it is held).
- Over the bound, new exchanges (BEGIN), bytes of bodies, messages and annotations are refused and counted; everything
  else of an exchange that was accepted is accepted too, so that it always ends. What that may add is bounded by the
  open exchanges.
- A piece of a body that is longer than what a record holds is shortened to that, and its rest told as a number, where
  the whole finds no room.
- A refusal, too, has whoever takes events woken or started where nothing else would: it is told soon.
- What was put is in the ledger from then on; the queue knows only what is in it.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from otel_wirecap import native
from otel_wirecap.capture.events import LOOK_AHEAD, Event, EventKind, Value

if TYPE_CHECKING:
    from otel_wirecap.storage.ledger import Ledger

_REFUSED_WHEN_FULL = frozenset(
    {
        EventKind.BEGIN,
        EventKind.REQUEST_CHUNK,
        EventKind.CHUNK,
        EventKind.MESSAGE,
        EventKind.ANNOTATE,
        EventKind.DOCUMENT,
    }
)
_BODIES = frozenset({EventKind.BEGIN, EventKind.REQUEST_CHUNK, EventKind.CHUNK})
_EVENT_SIZE = 150
"""Bytes that an event weighs beside its payload: the tuple, its place in the deque."""


def counted(events: Sequence[Event]) -> tuple[int, int]:
    """How many events these are in the ledger, and what they weigh: one that weighs nothing is none."""
    weights = [event[4] for event in events]
    return len(weights) - weights.count(0), sum(weights)


class EventQueue:
    """A queue of events.

    Args:
        ledger: where all is counted.
        max_bytes: bytes that may wait, those under way and held by the writer included.
        max_body_bytes: of a body that is recorded.

    Attributes:
        closed: whether everything is refused, uncounted: the capture has ended.
        waiting_bytes: of the events in it; changed under the lock.
    """

    def __init__(self, ledger: Ledger, *, max_bytes: int, max_body_bytes: int = sys.maxsize) -> None:
        self._ledger = ledger
        self._max_bytes = max_bytes
        self._max_piece = min(max_body_bytes, max_bytes // 4) + LOOK_AHEAD
        self._wake_bytes = self._wake_events = 0
        self.reset(on_first_put=None)

    def reset(self, on_first_put: Callable[[], None] | None) -> None:
        """Empties the queue and the ledger and renews their lock: after a fork, in the child.

        Args:
            on_first_put: called once, after the next event has been put or refused.
        """
        self._ledger.reset()
        self._lock = self._ledger.lock
        self._events: collections.deque[Event] = collections.deque()
        self.waiting_bytes = 0
        self._on_first_put = on_first_put
        self.closed = False
        self._is_idle = on_first_put is not None  # nobody looks before the next event, or loss
        self._wake = native.Event()

    def put(self, kind: int, subject_id: str | None, now_ns: int, value: Value, size: int, /) -> bool:
        """Adds an event that holds ``size`` bytes; False where there is no room for it."""
        weight = size + _EVENT_SIZE
        ledger = self._ledger
        with self._lock:
            if self.closed:
                return False
            waiting = self.waiting_bytes + weight
            if waiting + ledger.elsewhere_bytes > self._max_bytes and kind in _REFUSED_WHEN_FULL:
                is_taken = size > self._max_piece and self._put_shortened(kind, subject_id, now_ns, value, weight)
                if not is_taken:
                    ledger.refuse(now_ns, size, kind == EventKind.BEGIN)
            else:
                self.waiting_bytes = waiting
                ledger.accepted += 1
                self._events.append((kind, subject_id, now_ns, value, weight))
                is_taken = True
        if not self._wake.is_set and (
            self._is_idle or waiting >= self._wake_bytes or len(self._events) >= self._wake_events
        ):
            self._is_idle = False
            self.wake()
        return is_taken

    def _put_shortened(self, kind: int, subject_id: str | None, now_ns: int, value: Value, weight: int) -> bool:
        """Puts what a record holds of a body that finds no room; False where there is none for that, either."""
        head = value[:-1] if isinstance(value, tuple) else None
        body = value[-1] if isinstance(value, tuple) else value
        if kind not in _BODIES or not isinstance(body, bytes) or len(body) <= self._max_piece:
            return False
        kept, left_out = body[: self._max_piece], len(body) - self._max_piece
        weight -= left_out
        if self.waiting_bytes + weight + self._ledger.elsewhere_bytes > self._max_bytes:
            return False
        rest = EventKind.REST, subject_id, now_ns, (kind != EventKind.CHUNK, left_out), 0
        if head is not None:  # its request is complete after the rest
            self.waiting_bytes += _EVENT_SIZE
            self._ledger.accepted += 1
            self._events.append((kind, subject_id, now_ns, (*head, None), weight - len(kept)))
            self._events.append((EventKind.REQUEST_CHUNK, subject_id, now_ns, kept, len(kept) + _EVENT_SIZE))
            self._events.append(rest)
            self._events.append((EventKind.REQUEST_END, subject_id, now_ns, None, 0))
        else:
            self._events.append((kind, subject_id, now_ns, kept, weight))
            self._events.append(rest)
        self.waiting_bytes += weight
        self._ledger.accepted += 1
        return True

    def flow_gone(self, flow_id: str) -> None:
        """Adds that nothing follows of a flow. It weighs nothing, wakes nobody and starts nothing."""
        if not self.closed and self._on_first_put is None:
            self._events.append((EventKind.FLOW_GONE, flow_id, 0, None, 0))

    def take(self, most: int) -> list[Event]:
        """So many of the oldest events at most. They are under way from now on."""
        popleft = self._events.popleft
        taken = [popleft() for _ in range(min(most, len(self._events)))]
        number, weight = counted(taken)
        with self._lock:  # for no longer than that: a host that puts would wait
            self.waiting_bytes -= weight
            self._ledger.sent(number, weight)
        return taken

    def put_back(self, taken: Sequence[Event]) -> None:
        """Puts back, to the front, what was taken last."""
        with self._lock:
            number, weight = counted(taken)
            self._events.extendleft(reversed(taken))
            self.waiting_bytes += weight
            self._ledger.taken_back(number, weight)

    def wake_at(self, weight: int, events: int) -> None:
        """Has whoever waits woken when so much waits, by weight or number."""
        self._wake_bytes, self._wake_events = weight, events

    def wait(self, seconds: float) -> None:
        """Waits until there is a batch to be taken, or something else to do, for so many seconds at most."""
        self._wake.wait(seconds)
        self._wake.clear()

    def wait_for_first(self) -> None:
        """Waits until there is anything at all: an event, or a loss to be told."""
        self._is_idle = True
        if not (self._events or self.closed or self._ledger.has_untold):
            self._wake.wait()
        self._is_idle = False
        self._wake.clear()

    def wake(self) -> None:
        """Has whoever takes events look for what there is to do; where nobody does yet, this is the first put."""
        self._wake.set()
        if self._on_first_put is not None:
            self._start()

    def end(self) -> None:
        """From now on everything is refused; what is there is taken, and then no more."""
        with self._lock:  # or what is put just now would come after the last that is taken
            self.closed = True
        self._wake.set()

    def _start(self) -> None:
        start, self._on_first_put = self._on_first_put, None
        if start is None:  # another thread has done it
            return
        try:
            start()
        except RuntimeError:  # there can be no thread at the moment: with the next event, perhaps
            self._on_first_put = start
            self._is_idle = True
            self._wake.clear()
