"""The one account of what was put: refused, waiting, under way, settled, lost.

Invariants, whenever no call is under way, and however often a writer dies:

- put = accepted + refused.
- accepted = waiting in the queue + under way + settled + lost with a writer that died.
- A loss is counted once, when it happens, and told by a ``system_gap`` once a writer has brought that to a file: one
  that dies before leaves it to the next.
- However long no file can be written, what is kept of losses is bounded: those of one kind become one, and no more go
  to the writer before it has told the last ones, unless somebody waits for them.
- Events, records, bytes and exchanges are never added to each other.

A signal handler or the garbage collector may put an event in the middle of anything here, and the lock lets it in. So
numbers are changed by a plain ``+=`` of one field, with no call between its reading and its writing.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import operator
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

from otel_wirecap import native
from otel_wirecap.storage.stats import CaptureStats, FileStats, WriterStats

MAX_UNTOLD = 256
"""Losses that wait here to be told. Beyond it they become one for each kind, whatever exchange they are about."""

MAX_BEING_TOLD = 1024
"""Losses that a writer was sent and has not told, those included that somebody waited for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """Something that is lost. A unit that says nothing of it is None.

    Attributes:
        reason: why, as in the schema of ``system_gap``; an ``errno`` name where a file could not be written.
        events: what was put by the application, and is not in the capture.
        bytes: of these, or of a file.
        exchanges: of which nothing more is recorded.
        records: finished ones.
        first_seq, last_seq: the numbers of the records.
        since_ns: the moment of the first one, on the monotonic clock.
        error: what went wrong, in one word or sentence without any payload.
        exchange_id: the exchange that it is about.
        capture_file: the file that misses it, where a capture has two.
    """

    reason: str
    events: int | None = None
    bytes: int | None = None
    exchanges: int | None = None
    records: int | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    since_ns: int | None = None
    error: str | None = None
    exchange_id: str | None = None
    capture_file: str | None = None

    @property
    def kind(self) -> tuple[str | None, ...]:
        """What losses have in common that can be told as one."""
        return self.reason, self.error, self.exchange_id, self.capture_file

    def __add__(self, later: Loss) -> Loss:
        """This and a later one of the same kind."""
        return dataclasses.replace(
            self,
            events=_sum(self.events, later.events),
            bytes=_sum(self.bytes, later.bytes),
            exchanges=_sum(self.exchanges, later.exchanges),
            records=_sum(self.records, later.records),
            first_seq=later.first_seq if self.first_seq is None else self.first_seq,
            last_seq=self.last_seq if later.last_seq is None else later.last_seq,
            since_ns=later.since_ns if self.since_ns is None else self.since_ns,
        )

    def gap(self, now_ns: int = 0) -> dict[str, object]:
        """The payload of the ``system_gap`` that tells it; ``now_ns`` is the end of a loss that lasted."""
        told = {
            "lost_events": self.events,
            "lost_bytes": self.bytes,
            "lost_exchanges": self.exchanges,
            "lost_records": self.records,
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "seconds": None if self.since_ns is None else round(max(0, now_ns - self.since_ns) / 1e9, 3),
            "reason": self.reason,
            "error": self.error,
            "exchange_id": self.exchange_id,
            "capture_file": self.capture_file,
        }
        return {name: value for name, value in told.items() if value is not None}


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)


def merged(losses: Iterable[Loss]) -> list[Loss]:
    """One for each kind, in the order of the first ones."""
    by_kind: dict[tuple[str | None, ...], Loss] = {}
    for loss in losses:
        earlier = by_kind.get(loss.kind)
        by_kind[loss.kind] = loss if earlier is None else earlier + loss
    return list(by_kind.values())


class Held(NamedTuple):
    """What a writer holds of the events that it has settled."""

    bytes: int = 0
    events: int = 0  # chunks and messages of which there is no record yet
    records: int = 0  # finished ones that are missing in a file as yet
    left_out: tuple[Loss, ...] = ()  # counted, and told as soon as the file can be written


_NOTHING = Held()

Unit: TypeAlias = Literal["events", "records", "bytes", "exchanges"]


class _Total:
    """What was lost for one reason."""

    __slots__ = ("bytes", "events", "exchanges", "records")

    def __init__(self) -> None:
        self.events = self.records = self.exchanges = self.bytes = 0


class LossTotals:
    """What is lost, by reason and unit."""

    def __init__(self) -> None:
        self._totals: dict[str, _Total] = {}

    def add(self, loss: Loss) -> None:
        """Counts a loss."""
        total = self._totals.get(loss.reason) or self._totals.setdefault(loss.reason, _Total())
        total.events += loss.events or 0
        total.records += loss.records or 0
        total.exchanges += loss.exchanges or 0
        total.bytes += loss.bytes or 0

    def by_reason(self, unit: Unit) -> dict[str, int]:
        """How many of a unit, by reason."""
        counts = ((reason, getattr(total, unit)) for reason, total in list(self._totals.items()))
        return {reason: count for reason, count in counts if count}


class Ledger:
    """The account of one process's part of a capture, on the application's side.

    Attributes:
        lock: held for every change. Re-entrant: see above.
        accepted: events that were put and taken; ``EventQueue.put`` counts them itself, since a call for each would
            cost more than the event.
        held: what the writer holds.
        elsewhere_bytes: of events that are under way, and of what a writer holds; those that wait in the queue are
            its own to know.
        refused_events, refused_bytes, refused_exchanges: what found no room.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begins anew, with a new lock: in a forked child."""
        self.lock = native.RLock()
        self.accepted = 0
        self.elsewhere_bytes = 0
        self.refused_events = self.refused_bytes = self.refused_exchanges = 0
        self._refused_since_ns: int | None = None
        self._refused_told = 0, 0, 0
        self._sent = self._settled = self._died = 0
        self.held = _NOTHING
        self._totals = LossTotals()
        self._untold: collections.deque[Loss] = collections.deque()
        self._being_told: collections.deque[Loss] = collections.deque()
        self._stats: WriterStats | None = None
        self._earlier: WriterStats | None = None

    # -- what is put ---------------------------------------------------------------------------------------------

    def refuse(self, now_ns: int, size: int, exchanges: int) -> None:
        """An event of ``size`` bytes found no room."""
        self.refused_events += 1
        self.refused_bytes += size
        self.refused_exchanges += exchanges
        if self._refused_since_ns is None:
            self._refused_since_ns = now_ns

    def add_host_loss(self, loss: Loss) -> None:
        """Something is lost that no writer knows of: it is told by the next ``system_gap``."""
        with self.lock:
            self._totals.add(loss)
            self._untold.append(loss)
            if len(self._untold) > MAX_UNTOLD:
                self._untold.extend(merged(dataclasses.replace(one, exchange_id=None) for one in self._pop_untold()))

    def _pop_untold(self) -> list[Loss]:
        popped = []
        with contextlib.suppress(IndexError):  # not by its length: a signal handler may change that meanwhile
            while True:
                popped.append(self._untold.popleft())
        return popped

    # -- what is sent and answered -------------------------------------------------------------------------------

    def sent(self, events: int, weight: int) -> None:
        """Events are on their way to the writer."""
        with self.lock:
            self._sent += events
            self.elsewhere_bytes += weight

    def taken_back(self, events: int, weight: int) -> None:
        """They are not, after all: the writer never began."""
        with self.lock:
            self._sent -= events
            self.elsewhere_bytes -= weight

    def settled(self, events: int, weight: int, held: Held) -> None:
        """The writer has taken up so many events, and holds what it holds of all that it has."""
        with self.lock:
            self._settled += events
            self.elsewhere_bytes += held.bytes - self.held.bytes - weight
            self.held = held

    @property
    def has_untold(self) -> bool:
        """Whether there are losses that no writer was sent."""
        return bool(self._untold) or self.refused_events > self._refused_told[0]

    def take_untold(self, *, max_being_told: int = 0) -> list[Loss]:
        """Losses that are to be told now. They count as being told until ``gaps_written`` or ``writer_gone``.

        Args:
            max_being_told: none are taken where more than so many are being told already.
        """
        with self.lock:
            if len(self._being_told) > max_being_told:
                return []
            taken = merged(self._pop_untold())
            # In one line, or what a signal handler is refused in between would be told without its moment.
            now, since_ns, self._refused_since_ns = (self.refused_events, self.refused_bytes, self.refused_exchanges), self._refused_since_ns, None  # noqa: E501  # fmt: skip
            before, self._refused_told = self._refused_told, now
            if now[0] > before[0]:
                events, size, exchanges = map(operator.sub, now, before)
                taken.append(Loss("queue_full", events, size, exchanges, since_ns=since_ns))
            self._being_told += taken
            return taken

    def gaps_written(self, count: int) -> None:
        """The gaps of so many losses are in a file: of those that were taken first, since they are told in order."""
        with self.lock:
            for _ in range(min(count, len(self._being_told))):
                self._being_told.popleft()

    def add_writer_loss(self, loss: Loss) -> None:
        """The writer has lost something, and tells it itself."""
        with self.lock:
            self._totals.add(loss)

    def take_stats(self, stats: WriterStats) -> None:
        """The writer's counters as they are now."""
        self._stats = stats

    def writer_gone(self, reason: str | None, open_exchanges: int) -> None:
        """The writer is no more, and another one goes on.

        Args:
            reason: what is known of it; None where it never began, so that nothing is lost.
            open_exchanges: whose beginning it was sent, and not their end: nothing more is recorded of them.
        """
        with self.lock:
            if reason is not None:
                held, under_way = self.held, self.under_way
                loss = Loss(
                    "writer_died",
                    events=under_way + held.events,
                    bytes=self.elsewhere_bytes,
                    exchanges=open_exchanges,
                    records=held.records or None,
                    error=reason,
                )
                self._died += under_way
                self.elsewhere_bytes, self.held = 0, _NOTHING
                # The numbers were those of the writer that is no more.
                self._untold.extend(dataclasses.replace(one, first_seq=None, last_seq=None) for one in held.left_out)
                self._being_told.appendleft(loss)
                self._totals.add(loss)
            self._untold.extendleft(reversed(self._being_told))
            self._being_told.clear()
            if self._stats is not None:
                self._earlier, self._stats = self._stats.after(self._earlier), None

    # -- how it stands -------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Events that were accepted, and not sent."""
        return self.accepted - self._sent

    @property
    def under_way(self) -> int:
        """Events that were sent, and not settled."""
        return self._sent - self._settled - self._died

    def stats(self, process: str, waiting: int, waiting_bytes: int, nothing_yet: WriterStats) -> CaptureStats:
        """The counters as they are now.

        Args:
            process: the id of the process's part of the capture.
            waiting: events in the queue.
            waiting_bytes: what they weigh.
            nothing_yet: what counts as long as no writer has told any counters.
        """
        told = (self._stats or nothing_yet).after(self._earlier)
        losses = self._totals
        return CaptureStats(
            **{field.name: getattr(told.file, field.name) for field in dataclasses.fields(FileStats)},
            cbor=told.cbor,
            process=process,
            lost_events=_with_refused(losses.by_reason("events"), self.refused_events),
            lost_records=losses.by_reason("records"),
            lost_bytes=_with_refused(losses.by_reason("bytes"), self.refused_bytes),
            lost_exchanges=_with_refused(losses.by_reason("exchanges"), self.refused_exchanges),
            waiting_events=waiting + self.under_way,
            waiting_bytes=waiting_bytes + self.elsewhere_bytes,
            open_exchanges=told.open_exchanges,
        )


def _with_refused(lost: dict[str, int], refused: int) -> dict[str, int]:
    return lost | {"queue_full": refused} if refused else lost
