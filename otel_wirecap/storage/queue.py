"""The way from the host to the writer: a queue bounded in bytes that never makes the host wait.

Invariants:

- ``put`` never blocks on input or output, never raises, and may be called from any thread, from a garbage-collection
  callback and from a signal handler (the lock is re-entrant, and nothing is called while it is held).
- Over the bound, new exchanges (BEGIN), bytes of bodies, messages and annotations are refused and counted; everything
  else of an exchange that was accepted is accepted too, so that it always ends. What that may add is bounded by the
  open exchanges.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import NamedTuple

from otel_wirecap import native
from otel_wirecap.capture.events import Event, EventKind, Value
from otel_wirecap.capture.exchange import Exchange, Flow

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
_EVENT_SIZE = 150
"""Bytes that an event weighs beside its payload: the tuple, its place in the deque."""


class Refused(NamedTuple):
    """What found no room: events, bytes of their payloads and exchanges, since a monotonic moment."""

    events: int
    bytes: int
    exchanges: int
    since_ns: int

    def and_later(self, later: Refused | None) -> Refused:
        """This and what was refused after it."""
        if later is None:
            return self
        events, size, exchanges, _ = later
        return Refused(self.events + events, self.bytes + size, self.exchanges + exchanges, self.since_ns)


class Request:
    """Somebody waits for the file to hold everything that was put; ``stop``: and for a ``system_stop``."""

    def __init__(self, *, stop: bool) -> None:
        self.stop = stop
        self._written = False
        self._finished = native.Event()

    def finish(self, *, written: bool) -> None:
        """It is done; ``written``: and all is in the file."""
        self._written = written
        self._finished.set()

    def wait(self, seconds: float) -> bool:
        """Whether all was in the file within so many seconds."""
        return self._finished.wait(seconds) and self._written


class EventQueue:
    """A queue of payload events.

    Args:
        max_bytes: bytes that may wait, those the writer holds for unfinished records included.

    Attributes:
        closed: whether everything is refused, uncounted: the capture has ended.
        killed: False; see ``record_writer.EventSource``.
        requests: of those who wait for the file to hold everything that was put before.
    """

    killed = False

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._wake_bytes = self._wake_events = 0
        self.reset(on_first_put=None)

    def reset(self, on_first_put: Callable[[], None] | None) -> None:
        """Empties the queue and renews its locks: after a fork, in the child.

        Args:
            on_first_put: called once, after the next event has been put.
        """
        self._events: collections.deque[tuple[Event, int]] = collections.deque()
        self._lock = native.RLock()
        self._put_bytes = 0  # under the lock
        self._taken_bytes = 0  # under the lock, too
        self._refused: Refused | None = None
        self._on_first_put = on_first_put
        self.closed = False
        self.requests: collections.deque[Request] = collections.deque()
        self._held_bytes = 0
        self._got_bytes = 0  # whoever calls ``get`` alone
        self._is_idle = False
        self._wake = native.Event()

    def put(self, kind: EventKind, subject: Exchange | Flow | None, now_ns: int, value: Value, size: int) -> bool:
        """Adds an event that holds ``size`` bytes; False where there is no room for it."""
        size += _EVENT_SIZE
        with self._lock:
            if self.closed:
                return False
            waiting = self._put_bytes - self._taken_bytes + size
            if waiting + self._held_bytes > self._max_bytes and kind in _REFUSED_WHEN_FULL:
                self._refuse(kind, now_ns, size)
                return False
            self._put_bytes += size
            self._events.append(((kind, subject, now_ns, value), size))
        if self._is_idle or (
            (self._put_bytes - self._got_bytes >= self._wake_bytes or len(self._events) >= self._wake_events)
            and not self._wake.is_set
        ):
            self._is_idle = False
            self._wake.set()
        if self._on_first_put is not None:
            self._start()
        return True

    def get(self) -> tuple[Event, int] | None:
        """The oldest event and what it weighs; None when there is none. It counts as waiting until it is counted."""
        try:
            got = self._events.popleft()
        except IndexError:
            return None
        self._got_bytes += got[1]
        return got

    def take(self, most: int) -> list[tuple[Event, int]]:
        """As ``get``, so many of the oldest events at most."""
        popleft = self._events.popleft
        taken = [popleft() for _ in range(min(most, len(self._events)))]
        self._got_bytes += sum([weight for _, weight in taken])
        return taken

    def put_back(self, taken: Sequence[tuple[Event, int]]) -> None:
        """Puts back, to the front, what was taken last and not counted."""
        self._events.extendleft(reversed(taken))
        self._got_bytes -= sum([weight for _, weight in taken])

    def count(self, events: int, weight: int, held_bytes: int) -> None:
        """Counts events that were taken no longer as waiting, but the bytes that are still held of all that was."""
        with self._lock:  # or who puts something meanwhile would count both
            self._held_bytes = held_bytes
            self._taken_bytes += weight

    def wake_at(self, weight: int, events: int) -> None:
        """Has whoever waits woken when so much waits, by weight or number."""
        self._wake_bytes, self._wake_events = weight, events

    def wait(self, seconds: float) -> None:
        """Waits until there is a batch to be taken, or something else to do, for so many seconds at most."""
        self._wake.wait(seconds)
        self._wake.clear()

    def wait_for_first(self) -> None:
        """Waits until there is anything at all."""
        self._is_idle = True
        if not (self._events or self.requests or self.closed):
            self._wake.wait()
        self._is_idle = False
        self._wake.clear()

    def wake(self) -> None:
        """Has whoever takes events look for what there is to do."""
        self._wake.set()

    def request(self, request: Request) -> None:
        """Has ``request`` finished when everything that is put by now is in the file."""
        self.requests.append(request)
        self._wake.set()

    def end(self) -> None:
        """From now on everything is refused; what is there is taken, and then no more."""
        with self._lock:  # or what is put just now would come after the last that is taken
            self.closed = True
        self._wake.set()

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait, those the writer holds included."""
        return self._put_bytes - self._taken_bytes + self._held_bytes

    @property
    def refused_events(self) -> int:
        """Events that found no room since the last ``take_refused``."""
        refused = self._refused
        return refused.events if refused is not None else 0

    def take_refused(self) -> Refused | None:
        """What found no room since the last call."""
        with self._lock:
            refused, self._refused = self._refused, None
        return refused

    def put_back_refused(self, refused: Refused) -> None:
        """Has ``take_refused`` give once more what it gave last."""
        with self._lock:
            self._refused = refused.and_later(self._refused)

    def __len__(self) -> int:
        return len(self._events)

    def _start(self) -> None:
        start, self._on_first_put = self._on_first_put, None
        if start is None:  # another thread has done it
            return
        try:
            start()
        except RuntimeError:  # there can be no thread at the moment: with the next event, perhaps
            self._on_first_put = start

    def _refuse(self, kind: EventKind, now_ns: int, size: int) -> None:
        before = self._refused or Refused(0, 0, 0, now_ns)
        self._refused = Refused(
            before.events + 1,
            before.bytes + size - _EVENT_SIZE,
            before.exchanges + (kind is EventKind.BEGIN),
            before.since_ns,
        )
