"""The host's end of a channel: messages made of what waits, and what is done with the answers.

It is the same whatever the channel is, and goes on with another one when a writer dies.

Invariants:

- Whatever was taken from the queue is under way in the ledger until a writer has settled it.
- Every end that wants an answer gets one: of the writer, or here, where the writer that had it died or none is left.
- Whoever waits for a flush is answered by the writer that there is then, or here, where it has ended or none is left.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from otel_wirecap import native
from otel_wirecap.capture.events import EventKind, Outcome
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.storage.channel import Close, FlushRequest, Message
from otel_wirecap.storage.ledger import MAX_BEING_TOLD

if TYPE_CHECKING:
    from otel_wirecap.capture.events import Event
    from otel_wirecap.capture.record import CaptureRecord
    from otel_wirecap.storage.channel import Observer, Owner
    from otel_wirecap.storage.ledger import Ledger
    from otel_wirecap.storage.queue import EventQueue

MAX_BATCH_EVENTS = 512
_END = EventKind.END
_BORDERS = frozenset((EventKind.BEGIN, _END))

SHARE_OF_CLOSE = 0.9
"""Of the time that somebody waits for the end, what the writer has of it: the rest is for its answer."""


class Pump:
    """Makes messages of what waits, and knows who waits for an answer.

    ``messages`` is called by one thread at a time: the one that sends to the writer's process, or the writer's own.
    ``flush`` and ``end`` are called by the application's threads, ``flushed``, ``ended`` and ``answer_flushes`` by the
    one that takes the answers, ``begin_anew`` by that one or the sender, when nobody else sends or answers any more.

    Args:
        queue: where the events are.
        ledger: what was lost, and is to be told.
    """

    def __init__(self, queue: EventQueue, ledger: Ledger) -> None:
        self._queue = queue
        self._ledger = ledger
        self._numbers = itertools.count(1)
        self._unasked: collections.deque[FlushRequest] = collections.deque()
        self._waiting: dict[int, tuple[FlushRequest, native.Event, list[bool]]] = {}
        self._unanswered: dict[str, tuple[int, Outcome]] = {}
        self._open: set[str] = set()  # with this writer
        self._close_seconds = 0.0
        self._is_over = False  # no writer answers any more
        self._is_written = False  # what is answered then

    @property
    def has_hurry(self) -> bool:
        """Whether somebody waits for what is there."""
        return bool(self._unasked) or self._queue.closed

    def messages(self) -> Iterator[Message]:
        """All that is to be sent now."""
        is_closed = self._queue.closed  # nothing is put, or refused, after that
        requests = [self._unasked.popleft() for _ in range(len(self._unasked))]
        if self._ledger.has_untold:
            # A writer that cannot write would be sent more and more for ever.
            most = sys.maxsize if is_closed else MAX_BEING_TOLD if requests else 0
            yield from self._ledger.take_untold(max_being_told=most)
        while events := self._queue.take(MAX_BATCH_EVENTS):
            for event in events:
                if event[0] in _BORDERS:
                    self._remember(event)
            yield events
        yield from requests
        if is_closed:
            yield Close(self._close_seconds * SHARE_OF_CLOSE)

    def _remember(self, event: Event) -> None:
        kind, exchange_id, now_ns, value, _ = event
        if exchange_id is None or not isinstance(value, tuple):
            return
        if kind != _END:
            self._open.add(exchange_id)
            return
        self._open.discard(exchange_id)
        if value[4]:  # wants_end
            self._unanswered[exchange_id] = now_ns, value[0]

    def flush(self, seconds: float, *, stop: bool = False, sent: bool = False) -> bool:
        """Waits until a writer has worked off everything that is put by now; whether all is in the files in time.

        ``stop`` and ``sent``: see ``FlushRequest``.
        """
        request, answered, written = FlushRequest(next(self._numbers), stop, sent), native.Event(), [False]
        self._waiting[request.number] = request, answered, written
        self._unasked.append(request)
        self._queue.wake()
        if self._is_over:  # perhaps before this was there to be answered
            self.flushed(request.number, written=self._is_written)
        return answered.wait(seconds) and written[0]

    def end(self, seconds: float) -> None:
        """Nothing more is put; the writer has so long to end."""
        self._close_seconds = seconds
        self._queue.end()

    # -- what is answered ----------------------------------------------------------------------------------------

    def flushed(self, number: int, *, written: bool) -> None:
        """See ``Answers``."""
        entry = self._waiting.pop(number, None)
        if entry is not None:
            entry[2][0] = written
            entry[1].set()

    def told(self, losses: int) -> None:
        """See ``Answers``."""
        self._ledger.gaps_written(losses)
        if self._ledger.has_untold:
            self._queue.wake()

    def answer_flushes(self, *, written: bool) -> None:
        """No writer answers any more: answers whoever waits for a flush, now and later."""
        self._is_written, self._is_over = written, True
        for number in list(self._waiting):
            self.flushed(number, written=written)

    def ended(self, exchange_id: str) -> None:
        """The end of an exchange is answered."""
        self._unanswered.pop(exchange_id, None)

    def begin_anew(self) -> tuple[list[tuple[str, int, Outcome]], int]:
        """Another writer goes on: asks it what is not answered.

        Returns:
            The ends that no writer will answer any more; and how many exchanges were open with the one before, of which
            nothing more is recorded.
        """
        open_exchanges = len(self._open)
        self._open.clear()
        self._unasked.clear()
        self._unasked.extend(request for request, _, _ in list(self._waiting.values()))
        unanswered, self._unanswered = self._unanswered, {}
        return [(exchange_id, *end) for exchange_id, end in unanswered.items()], open_exchanges


class HostAnswers:
    """Takes the answers of whatever writer there is. Implements ``channel.Answers``.

    Args:
        ledger, pump: of the capture.
        owner: is told of the capture itself.

    Attributes:
        observer: is told of the exchanges; None where nobody is.
        pid: the writer's process, where it is not this one; None before it is ready.
        is_ready: happens when the writer is there.
        is_closed, is_written: whether a writer has ended, and whether everything is in the files.
    """

    def __init__(self, ledger: Ledger, pump: Pump, owner: Owner) -> None:
        self._ledger = ledger
        self._pump = pump
        self.observer: Observer | None = None
        self.settled = ledger.settled
        self.told = pump.told
        self.lost = ledger.add_writer_loss
        self.stats = ledger.take_stats
        self.system_record = owner.system_record
        self.wrote = owner.wrote
        self.log = owner.log
        self.log_once = owner.log_once
        self.begin_anew()

    def begin_anew(self) -> None:
        """Another writer goes on."""
        self.pid: int | None = None
        self.is_ready = native.Event()
        self.is_closed = self.is_written = False

    def ready(self, pid: int) -> None:
        """See ``Answers``, as for all that follow."""
        self.pid = pid
        self.is_ready.set()

    def ended(self, exchange_id: str, now_ns: int, facts: ExchangeFacts) -> None:  # noqa: D102
        self._pump.ended(exchange_id)
        if self.observer is not None:
            with contextlib.suppress(Exception):
                self.observer.ended(exchange_id, now_ns, facts)

    def record(self, exchange_id: str, record: CaptureRecord) -> None:  # noqa: D102
        if self.observer is not None:
            with contextlib.suppress(Exception):
                self.observer.record(exchange_id, record)

    def flushed(self, number: int, written: bool, /) -> None:  # noqa: FBT001, D102
        self._pump.flushed(number, written=written)

    def closed(self, written: bool, /) -> None:  # noqa: FBT001, D102
        self.is_written, self.is_closed = written, True
        self._pump.answer_flushes(written=written)  # who asked too late for the writer to be asked

    def writer_gone(self, reason: str | None) -> None:
        """The writer is no more; ``reason`` as in ``Ledger.writer_gone``. What it leaves unanswered is answered."""
        unanswered, open_exchanges = self._pump.begin_anew()
        self._ledger.writer_gone(reason, open_exchanges)
        for exchange_id, now_ns, outcome in unanswered:
            if reason is not None:
                self.ended(exchange_id, now_ns, ExchangeFacts(outcome=outcome))
        self.begin_anew()

    def no_writer_left(self, reason: str) -> None:
        """No writer goes on, and the queue has ended: what waits there is lost, and whoever waits is answered."""
        for _ in self._pump.messages():
            pass  # taken by nobody: from here on it is as if a writer had died with it
        self.writer_gone(reason)
        self._pump.answer_flushes(written=False)
