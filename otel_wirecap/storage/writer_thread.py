"""A writer in a thread of the application's process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from otel_wirecap import native

if TYPE_CHECKING:
    from otel_wirecap.storage.queue import EventQueue
    from otel_wirecap.storage.record_writer import RecordWriter
    from otel_wirecap.storage.stats import CaptureStats


class WriterThread:
    """Runs a writer. A daemon: no thread of ours keeps a process from ending.

    Args:
        writer: it.
        queue: where it takes its events from.
        batch: weight and number of events at which it begins to work before its time.
        earlier: the counters of the writer whose place it takes.
    """

    untold_refusals = 0

    def __init__(
        self, writer: RecordWriter, queue: EventQueue, batch: tuple[int, int], earlier: CaptureStats | None = None
    ) -> None:
        self._writer = writer
        self._earlier = earlier
        self._queue = queue
        self._batch = batch
        self._thread: native.Thread | None = None

    def start(self) -> None:
        """Begins to take events.

        Raises:
            RuntimeError: the limit of threads is reached.
        """
        self._queue.wake_at(*self._batch)
        self._thread = native.start_thread("otel-wirecap-writer", self._writer.run)

    def is_alive(self) -> bool:
        """Whether it takes events."""
        return self._thread is not None and self._thread.is_alive()

    def is_current_thread(self) -> bool:
        """Whether this is it."""
        return self._thread is not None and self._thread is native.current_thread()

    def join(self, seconds: float) -> bool:
        """Waits for the end, after the queue's; whether everything is in the files."""
        if self._thread is None:
            return True
        deadline = time.monotonic() + seconds
        if not self.is_current_thread():
            self._thread.join(seconds)
        if self._thread.is_alive():
            self._writer.tell_left("the writer still waits for the file")
            return False
        return self._writer.finish(max(0.0, deadline - time.monotonic()))

    def stats(self) -> CaptureStats:
        """The counters as they are now."""
        stats = self._writer.stats()
        return stats if self._earlier is None else stats.after(self._earlier)

    @property
    def unwritten_events(self) -> int:
        """None: what it takes from the queue, it works off."""
        return 0

    def forget(self) -> None:
        """In a forked child: leaves the parent's files alone."""
        self._writer.forget()
