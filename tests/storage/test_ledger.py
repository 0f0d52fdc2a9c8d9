"""The account of what was put balances at every moment, whatever is refused and whoever dies."""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from types import FrameType
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from selection import examples

from otel_wirecap.capture.events import Event, EventKind
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.storage.channel import Close, Message
from otel_wirecap.storage.host_side import HostAnswers, Pump
from otel_wirecap.storage.ledger import MAX_BEING_TOLD, MAX_UNTOLD, Held, Ledger, Loss, LossTotals, merged
from otel_wirecap.storage.queue import EventQueue, counted
from otel_wirecap.storage.stats import FileStats, WriterStats

MAX_BYTES = 3000


def nothing() -> WriterStats:
    return WriterStats(
        FileStats(capture_file="/capture", records=0, bytes=0, write_errors=0, write_seconds=0.0, failing=None)
    )


class Owner:
    """Whom nobody needs here."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def log(self, message: str, *arguments: object) -> bool:
        self.warnings.append(message % arguments)
        return True

    def log_once(self, message: str, *arguments: object) -> None:
        self.log(message, *arguments)

    def system_record(self, record: object) -> None:
        raise AssertionError(record)

    def wrote(self, seconds: float) -> None:
        raise AssertionError(seconds)


class Ends:
    """Counts the answers to ends."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()

    def ended(self, exchange_id: str, _now_ns: int, _facts: ExchangeFacts) -> None:
        self.count[exchange_id] += 1

    def record(self, exchange_id: str, record: object) -> None:
        raise AssertionError(record)


class Account(RuleBasedStateMachine):
    """A host's side with a writer that takes up, holds, answers and dies as it likes; and a model of what was put."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.queue = EventQueue(self.ledger, max_bytes=MAX_BYTES)
        self.pump = Pump(self.queue, self.ledger)
        self.answers = HostAnswers(self.ledger, self.pump, Owner())
        self.ends = self.answers.observer = Ends()
        self.put_events = self.accepted = self.refused = 0
        self.died_with = self.held_with_dead = self.taken_up = 0
        self.in_file = LossTotals()
        self.number = 0
        self.wanted: set[str] = set()
        self.host_losses = self.left_out = 0
        self.begin_writer()

    def begin_writer(self) -> None:
        self.came: list[Event] = []  # to the writer, and not taken up
        self.losses: list[Loss] = []  # that came to the writer, and are in no file
        self.held = Held()
        self.sent: list[list[Event]] = []

    # -- the host ------------------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from([EventKind.BEGIN, EventKind.CHUNK, EventKind.RESPONSE]), size=st.integers(0, 900))
    def put(self, kind: int, size: int) -> None:
        is_taken = self.queue.put(kind, "ex", 0, b"", size)
        self.put_events += 1
        self.accepted += is_taken
        self.refused += not is_taken
        assert is_taken or kind != EventKind.RESPONSE, "what an exchange needs to end is never refused"

    @rule()
    def put_end(self) -> None:
        self.number += 1
        name = f"ex_{self.number}"
        assert self.queue.put(EventKind.END, name, 0, ("complete", None, 0, None, True), 10)
        self.put_events += 1
        self.accepted += 1
        self.wanted.add(name)

    @rule()
    def a_flow_is_gone(self) -> None:
        self.queue.flow_gone("req")

    @rule()
    def lose(self) -> None:
        self.ledger.add_host_loss(Loss("capture_failure", exchanges=1))
        self.host_losses += 1

    @rule()
    def send(self) -> None:
        for message in self.pump.messages():
            self.take(message)

    @rule(how_many=st.integers(0, 6))
    def die_while_it_is_sent(self, how_many: int) -> None:
        messages = self.pump.messages()
        for _, message in zip(range(how_many), messages, strict=False):
            self.take(message)
        messages.close()
        self.die()

    def take(self, message: Message) -> None:
        if isinstance(message, Loss):
            self.losses.append(message)
        elif isinstance(message, list):
            self.came += message
            self.sent.append(message)

    # -- the writer ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.came)
    @rule(data=st.data(), held=st.integers(0, 300), events=st.integers(0, 3), records=st.integers(0, 3))
    def take_up(self, data: st.DataObject, held: int, events: int, records: int) -> None:
        count = data.draw(st.integers(1, len(self.came)))
        taken, self.came = self.came[:count], self.came[count:]
        number, weight = counted(taken)
        self.held = Held(held, events, records, self.held.left_out)
        self.answers.settled(number, weight, self.held)
        self.taken_up += number
        for event in taken:
            if event[0] == EventKind.END:
                self.answers.ended(str(event[1]), 0, ExchangeFacts(outcome="complete"))

    @rule(records=st.integers(1, 5), file=st.sampled_from(["/capture.log", "/capture.cbor"]))
    def leave_out(self, records: int, file: str) -> None:
        loss = Loss("ENOSPC", records=records, first_seq=1, last_seq=records, capture_file=file)
        self.answers.lost(loss)
        self.left_out += records
        self.hold_left_out(*merged([*self.held.left_out, loss]))

    @rule()
    def tell_left_out(self) -> None:
        self.told_losses(list(self.held.left_out))
        self.hold_left_out()

    def hold_left_out(self, *losses: Loss) -> None:
        self.held = self.held._replace(left_out=losses)
        self.answers.settled(0, 0, self.held)

    @rule(count=st.integers(0, 3))
    def write_gaps(self, count: int) -> None:
        self.answers.told(min(count, len(self.losses)))
        self.told_losses(self.losses[:count])
        del self.losses[:count]

    def told_losses(self, losses: list[Loss]) -> None:
        for loss in losses:
            self.in_file.add(loss)

    @rule()
    def die(self) -> None:
        before = self.ledger.under_way
        self.answers.writer_gone("signal 9")
        self.died_with += before
        self.held_with_dead += self.held.events
        assert self.ledger.under_way == 0
        self.begin_writer()

    @precondition(lambda self: not self.began)
    @rule()
    def never_begin(self) -> None:
        self.queue.put_back([event for batch in self.sent for event in batch])
        self.answers.writer_gone(None)
        self.begin_writer()

    @property
    def began(self) -> bool:
        """Whether the writer has done anything, so that what was sent cannot be taken back."""
        return sum(map(len, self.sent)) != len(self.came) or self.held != Held() or bool(self.losses)

    # -- what holds ----------------------------------------------------------------------------------------------

    @invariant()
    def all_that_was_put_is_in_the_account(self) -> None:
        ledger = self.ledger
        assert self.put_events == ledger.accepted + ledger.refused_events
        assert (self.accepted, self.refused) == (ledger.accepted, ledger.refused_events)
        waiting = counted(list(self.queue._events))[0]
        assert ledger.accepted == waiting + ledger.under_way + self.taken_up + self.died_with
        assert ledger.under_way == counted(self.came)[0]

    @invariant()
    def bytes_balance(self) -> None:
        waiting = counted(list(self.queue._events))[1]
        assert self.queue.waiting_bytes == waiting
        assert self.ledger.elsewhere_bytes == counted(self.came)[1] + self.held.bytes

    @invariant()
    def stats_say_so(self) -> None:
        stats = self.ledger.stats("p", self.ledger.waiting, self.queue.waiting_bytes, nothing())
        lost = stats.lost_events
        assert lost.get("queue_full", 0) == self.refused
        assert lost.get("writer_died", 0) == self.died_with + self.held_with_dead
        assert stats.lost_exchanges.get("capture_failure", 0) == self.host_losses
        assert stats.lost_records.get("ENOSPC", 0) == self.left_out

    @invariant()
    def no_end_is_answered_twice(self) -> None:
        assert not self.ends.count or max(self.ends.count.values()) == 1

    def teardown(self) -> None:
        """The last writer gets all of it: what is told is what is lost, and every end has its answer."""
        self.pump.end(5)
        rest = list(self.pump.messages())
        assert isinstance(rest[-1], Close)
        self.told_losses(self.losses + [one for one in rest if isinstance(one, Loss)])
        for message in rest:
            self.came += message if isinstance(message, list) else []
        for event in self.came:
            if event[0] == EventKind.END:
                self.answers.ended(str(event[1]), 0, ExchangeFacts(outcome="complete"))
        self.tell_left_out()
        number, weight = counted(self.came)
        self.answers.settled(number, weight, Held())
        stats = self.ledger.stats("p", self.ledger.waiting, self.queue.waiting_bytes, nothing())
        assert self.in_file.by_reason("events") == stats.lost_events
        assert self.in_file.by_reason("records") == stats.lost_records
        assert self.in_file.by_reason("exchanges") == stats.lost_exchanges
        assert self.in_file.by_reason("bytes") == stats.lost_bytes
        assert set(self.ends.count) == self.wanted
        assert (stats.waiting_events, stats.waiting_bytes) == (0, 0)
        assert not self.queue.put(EventKind.END, None, 0, None, 0)


TestAccount = Account.TestCase
TestAccount.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)


def test_what_a_signal_handler_puts_while_something_is_refused_is_counted_too() -> None:
    ledger = Ledger()
    queue = EventQueue(ledger, max_bytes=1000)
    put = inner = 0

    def handler(_number: int, _frame: object) -> None:
        nonlocal inner
        for _ in range(3):
            queue.put(EventKind.CHUNK, "ex", 0, b"", 2000)
            inner += 1

    before = signal.signal(signal.SIGUSR2, handler)
    is_over = threading.Event()

    def interrupt() -> None:
        while not is_over.wait(0.0002):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    told = LossTotals()
    try:
        while inner < 300 and put < 3_000_000:
            for _ in range(1000):
                queue.put(EventKind.CHUNK, "ex", 0, b"", 2000)
            put += 1000
            for loss in ledger.take_untold():
                told.add(loss)
                ledger.gaps_written(1)
    finally:
        is_over.set()
        interrupting.join()
        signal.signal(signal.SIGUSR2, before)
    for loss in ledger.take_untold():
        told.add(loss)
    assert inner >= 300
    assert ledger.refused_events == put + inner
    assert told.by_reason("events") == {"queue_full": put + inner}
    assert ledger.refused_bytes == 2000 * (put + inner)


def test_what_is_kept_of_losses_is_bounded_however_long_no_file_can_be_written() -> None:
    ledger = Ledger()
    sent, put = 0, 20_000
    for number in range(put):
        ledger.refuse(number, 10, 1)
        ledger.add_host_loss(Loss("capture_failure", exchanges=1, error="KeyError", exchange_id=f"ex_{number}"))
        sent += len(ledger.take_untold(max_being_told=MAX_BEING_TOLD if number % 10 == 0 else 0))
        assert len(ledger._untold) <= MAX_UNTOLD + 1
    assert sent <= MAX_BEING_TOLD + MAX_UNTOLD + 2
    ledger.writer_gone("signal 9", 0)
    told = LossTotals()
    for loss in ledger.take_untold():
        told.add(loss)
    assert told.by_reason("events") == {"queue_full": put}
    assert told.by_reason("exchanges") == {"queue_full": put, "capture_failure": put}


def test_who_sends_is_woken_for_losses_that_waited_for_others_to_be_told() -> None:
    ledger = Ledger()
    queue = EventQueue(ledger, max_bytes=MAX_BYTES)
    pump = Pump(queue, ledger)
    first, second = (Loss("capture_failure", exchanges=1, error=error) for error in ("KeyError", "TypeError"))
    ledger.add_host_loss(first)
    assert list(pump.messages()) == [first]
    ledger.add_host_loss(second)
    assert list(pump.messages()) == []
    assert not queue._wake.is_set
    pump.told(1)
    assert queue._wake.is_set
    assert list(pump.messages()) == [second]
    queue._wake.clear()
    pump.told(1)
    assert not queue._wake.is_set


def test_each_gap_of_refusals_has_the_moment_of_the_first_whenever_a_signal_comes() -> None:
    ledger = Ledger()
    is_inside = False
    refused = 0

    def trace(frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal is_inside, refused
        if is_inside or frame.f_code is not Ledger.take_untold.__code__:
            return None
        is_inside = True
        refused += 1
        ledger.refuse(refused, 1, 0)
        is_inside = False
        return trace

    gaps: list[Loss] = []
    before = sys.gettrace()
    for _ in range(3):
        sys.settrace(trace)
        try:
            gaps += ledger.take_untold()
        finally:
            sys.settrace(before)
        gaps += ledger.take_untold(max_being_told=MAX_BEING_TOLD)
        ledger.gaps_written(2)
    assert refused > 12
    assert sum(gap.events or 0 for gap in gaps) == refused
    told = 0
    for gap in gaps:
        assert gap.since_ns == told + 1
        told += gap.events or 0


@pytest.mark.parametrize(
    ("loss", "gap"),
    [
        (Loss("application_gone", events=0), {"lost_events": 0, "reason": "application_gone"}),
        (
            Loss("queue_full", 2, 300, 1, since_ns=10**9) + Loss("queue_full", 1, 30, 0, since_ns=2 * 10**9),
            {"lost_events": 3, "lost_bytes": 330, "lost_exchanges": 1, "seconds": 2.5, "reason": "queue_full"},
        ),
        (
            Loss("ENOSPC", records=1, first_seq=7, last_seq=7) + Loss("ENOSPC", records=1, first_seq=9, last_seq=9),
            {"lost_records": 2, "first_seq": 7, "last_seq": 9, "reason": "ENOSPC"},
        ),
    ],
)
def test_a_gap_names_the_units_that_apply_and_no_others(loss: Loss, gap: dict[str, object]) -> None:
    assert loss.gap(3_500_000_000) == gap
