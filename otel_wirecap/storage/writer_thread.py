"""A writer in a thread of the application's process, and the channel in memory between the two."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from otel_wirecap import native
from otel_wirecap.storage.pauses import Pauses
from otel_wirecap.storage.record_writer import RecordWriter

if TYPE_CHECKING:
    from otel_wirecap.config import CaptureConfig
    from otel_wirecap.storage.channel import Message
    from otel_wirecap.storage.host_side import HostAnswers, Pump
    from otel_wirecap.storage.ledger import Ledger
    from otel_wirecap.storage.queue import EventQueue


class MemoryChannel:
    """The writer's end where it is in the same process: it asks the pump itself.

    Args:
        queue: what is waited for.
        pump: gives the messages.
    """

    def __init__(self, queue: EventQueue, pump: Pump) -> None:
        self._queue = queue
        self._pump = pump
        self.rest = Pauses().pause_if_due

    def receive(self, seconds: float) -> Iterator[Message]:
        """See ``Channel``."""
        if seconds and not self._pump.has_hurry:
            self._queue.wait(seconds)
        return self._pump.messages()


class WriterThread:
    """Runs a writer. A daemon: no thread of ours keeps a process from ending.

    Args:
        config: the settings in force.
        path: the capture file's absolute path.
        queue, pump, answers: of the capture.
        process, pid: see ``RecordWriter``.
        on_death: takes, in the thread, the error that ended it before its time.
    """

    def __init__(
        self,
        config: CaptureConfig,
        path: str,
        queue: EventQueue,
        pump: Pump,
        answers: HostAnswers,
        *,
        process: str,
        pid: int,
        on_death: Callable[[BaseException], None],
    ) -> None:
        self.writer = RecordWriter(config, path, MemoryChannel(queue, pump), answers, process=process, pid=pid)
        self._batch = config.capture_buffer_size, config.capture_max_entries_per_flush
        self._queue = queue
        self._on_death = on_death
        self._thread: native.Thread | None = None

    def start(self) -> None:
        """Begins to take events.

        Raises:
            RuntimeError: the limit of threads is reached.
        """
        self._queue.wake_at(*self._batch)
        self._thread = native.start_thread("otel-wirecap-writer", self._run)

    def _run(self) -> None:
        try:
            self.writer.run()
        except BaseException as error:  # noqa: BLE001  # no memory, say; whatever it is, nobody else sees it
            for output in self.writer.outputs:
                with contextlib.suppress(Exception):
                    output.close()
            self._on_death(error)

    def is_alive(self) -> bool:
        """Whether it takes events."""
        return self._thread is not None and self._thread.is_alive()

    def is_current_thread(self) -> bool:
        """Whether this is it."""
        return self._thread is not None and self._thread is native.current_thread()

    def join(self, seconds: float) -> bool:
        """Waits for the end, after the queue's; whether it has come."""
        return self._thread is None or self.is_current_thread() or self._thread.join(seconds)

    def what_is_left(self, ledger: Ledger) -> tuple[str, tuple[object, ...]]:
        """What is said of an end that did not come in time."""
        left = ledger.waiting + ledger.under_way + ledger.held.records
        reason = self.writer.outputs[0].failing or "the writer still waits for the file"
        return "%d records or events are lost at the end: %s", (left, reason)

    def forget(self) -> None:
        """In a forked child: leaves the parent's files alone."""
        self.writer.forget()
