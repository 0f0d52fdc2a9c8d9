"""One file of a capture, and the records that wait for it.

Invariants:

- Records reach the file in the order in which they were taken. One that found no place is lost, under its number.
- What cannot be written is kept and tried again, with growing pauses.
- A failure is told once per change of state, never per record.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from otel_wirecap.capture.formats import FORMATS, Format, JSONLines
from otel_wirecap.capture.naming import rotated_name
from otel_wirecap.errors import ConfigurationError
from otel_wirecap.storage.capture_file import Boundaries, CaptureFile
from otel_wirecap.storage.finishing import Finisher, Finishing
from otel_wirecap.storage.ledger import Loss
from otel_wirecap.storage.stats import FileStats
from otel_wirecap.storage.system_records import shortened, system_record

if TYPE_CHECKING:
    from otel_wirecap.capture.record import CaptureRecord, ChunkRun
    from otel_wirecap.config import CaptureConfig

MIN_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 30.0
MAX_SECONDS_BETWEEN_RETIREMENTS = 60.0


class CaptureOutput:
    """A file of the capture in one format.

    Args:
        config: the settings in force.
        path: the file, absolute.
        format_name: one of ``FORMATS``.
        tell: takes a message for the log and its arguments, and returns whether the log took them.
        on_loss: counts what is lost in this file, as soon as it is.
        on_gap: tells it, when that can be written.
        max_waiting_bytes: bytes that may wait while the file cannot be written; further records are left out then,
            and counted. None: whoever calls takes care of that.

    Attributes:
        failing: why the file cannot be written at the moment, an ``errno`` name; None where it can.
        waiting_bytes: bytes of the records that wait.
        last_taken, last_written: the numbers of the last records that were taken, and not left out, and that are in
            the file.
        left_out: the records that were left out and are not told yet.
        on_write: is told, where it is set, the seconds that each attempt to write took.

    Raises:
        ConfigurationError: a setting needs a package that is missing.
    """

    on_write: Callable[[float], None] | None = None

    def __init__(
        self,
        config: CaptureConfig,
        path: str,
        format_name: str,
        *,
        tell: Callable[..., bool],
        on_loss: Callable[[Loss], None],
        on_gap: Callable[[Loss], None],
        max_waiting_bytes: int | None = None,
    ) -> None:
        self.path = path
        self._config = config
        self._tell = tell
        self._on_loss = on_loss
        self._on_gap = on_gap
        self._max_waiting_bytes = max_waiting_bytes
        self._form = FORMATS[format_name]
        try:
            self._form()
        except ImportError as error:
            raise ConfigurationError(
                f"capture_format: {format_name!r} needs the package {error.name}; install otel-wirecap[{format_name}]"
            ) from None
        finishing = Finishing(config.capture_compression, config.capture_encrypt_to)
        self._finisher = Finisher(finishing, self._open_file, self._finishing_failed) if finishing.suffix else None
        self.file = self._open_file()
        self._sync_interval = config.capture_flush_interval if config.capture_fsync == "interval" else None
        self.begin({})

    def _open_file(self) -> CaptureFile:
        config = self._config
        return CaptureFile(
            self.path,
            max_bytes=config.capture_max_bytes,
            max_files=config.capture_max_files,
            total_max_bytes=config.capture_total_max_bytes,
            boundaries=Boundaries(self._form.beginning, self._form.terminator),
            max_age=config.capture_max_age,
            sync_rotated=config.capture_fsync != "never",
            finisher=self._finisher,
        )

    def begin(self, identity: Mapping[str, object]) -> None:
        """Begins anew, with nothing that waits.

        Args:
            identity: ``process`` and ``pid`` of the records that will be taken.
        """
        self._identity = identity
        self._format: Format = self._form()
        self._waiting: list[bytes] = []
        self._waiting_numbers: list[int] = []
        self.waiting_bytes = 0
        self.records = 0
        self.bytes = 0
        self.write_errors = 0
        self.write_seconds = 0.0
        self.failing: str | None = None
        self._backoff = 0.0
        self._next_try = 0.0
        self._unsynced = False
        self._next_sync = 0.0
        self._next_retirement = 0.0
        self.last_taken = self.last_written = 0
        self.left_out: Loss | None = None

    def forget(self) -> None:
        """In a forked child, before ``begin``: what is open is the parent's."""
        self.file.forget()
        if self._finisher is not None:
            self._finisher.begin_child()

    def __len__(self) -> int:
        return len(self._waiting)

    def stats(self) -> FileStats:
        """The counters as they are now."""
        return FileStats(
            capture_file=self.path,
            records=self.records,
            bytes=self.bytes,
            write_errors=self.write_errors,
            write_seconds=self.write_seconds,
            failing=self.failing,
        )

    def take(self, record: CaptureRecord) -> str | None:
        """Takes a record that has its number; returns the name of the error that kept it from becoming bytes.

        Its number then goes to a gap.
        """
        number = record.metadata["seq"]
        limit = self._max_waiting_bytes
        if limit is not None and self.failing is not None and self.waiting_bytes > limit:
            loss = Loss(self.failing, records=1, first_seq=number, last_seq=number, capture_file=self.path)
            self._on_loss(loss)
            self.left_out = loss if self.left_out is None else self.left_out + loss
            return None
        failure = None
        try:
            data = self._format.encode(record)
            if len(data) > self.file.max_record_bytes:
                data = shortened(record, self._format, self.file.max_record_bytes)
        except Exception as error:  # noqa: BLE001  # whatever it holds: its number is not lost
            failure = type(error).__name__
            data = self._gap_in_place(number, Loss("unserialisable", records=1, error=failure))
        self._waiting.append(data)
        self._waiting_numbers.append(number)
        self.last_taken = number
        self.waiting_bytes += len(data)
        return failure

    def take_run(self, run: ChunkRun, first_seq: int) -> int:
        """Takes chunks, numbered from ``first_seq`` on; returns how many of them did not become bytes."""
        form = self._format
        limit = self._max_waiting_bytes
        if isinstance(form, JSONLines) and (limit is None or self.failing is None):
            try:
                lines = form.encode_run(run, first_seq)
            except Exception:  # noqa: BLE001  # each record tells what is wrong with it
                lines = []
            if lines and max(map(len, lines)) <= self.file.max_record_bytes:
                self._waiting += lines
                self._waiting_numbers += range(first_seq, first_seq + len(lines))
                self.last_taken = first_seq + len(lines) - 1
                self.waiting_bytes += sum(map(len, lines))
                return 0
        return sum(self.take(record) is not None for record in run.records(first_seq))

    def write(self, *, force: bool = False) -> bool:
        """Writes what waits; False where some of it is left.

        Args:
            force: also where the last attempt failed only a moment ago.
        """
        if self.failing is not None and not force and time.monotonic() < self._next_try:
            return not self._waiting
        while self._waiting:
            began = time.monotonic()
            result = self.file.append(self._waiting)
            seconds = time.monotonic() - began
            self.write_seconds += seconds
            if self.on_write is not None:
                self.on_write(seconds)
            self._remove_written(result.written)
            if result.torn_bytes:
                named = None if self._max_waiting_bytes is None else self.path
                torn = Loss("torn_tail", bytes=result.torn_bytes, capture_file=named)
                self._on_loss(torn)
                self._on_gap(torn)
            if result.error is not None:
                self._write_failed(result.error)
                return False
            if self.failing is not None:
                self.failing = None
                self._backoff = 0.0
                self._tell("%s: written again", self.path)
            self.tell_left_out()
        return True

    def tend(self, *, last: bool = False) -> None:
        """Does what is due from time to time: brings the file to the disk, lets go of what is too old."""
        now = time.monotonic()
        if self._sync_interval is not None and self._unsynced and (last or now >= self._next_sync):
            self._next_sync = now + self._sync_interval
            self._unsynced = False
            try:
                self.file.sync()
            except OSError as error:
                self.write_errors += 1
                self._tell("%s: not brought to the disk: %s", self.path, error.strerror)
        max_age = self._config.capture_max_age
        if max_age is not None and now >= self._next_retirement and self.failing is None:
            self._next_retirement = now + min(MAX_SECONDS_BETWEEN_RETIREMENTS, max_age / 10)
            try:
                self.file.retire()
            except OSError as error:
                self._write_failed(error)

    def close(self) -> None:
        """Closes the file."""
        self.file.close()

    def finish(self, timeout: float) -> None:
        """Waits for rotated files to be compressed and encrypted, up to ``timeout`` seconds."""
        if self._finisher is not None:
            self._finisher.close(timeout)

    # -- what goes wrong -----------------------------------------------------------------------------------------

    def _remove_written(self, count: int) -> None:
        if not count:
            return
        size = sum(map(len, self._waiting[:count]))
        self.last_written = self._waiting_numbers[count - 1]
        del self._waiting[:count], self._waiting_numbers[:count]
        self.waiting_bytes -= size
        self.records += count
        self.bytes += size
        self._unsynced = True

    def _write_failed(self, error: OSError) -> None:
        self.write_errors += 1
        reason = errno.errorcode.get(error.errno or 0, type(error).__name__)
        self._backoff = min(MAX_BACKOFF_SECONDS, self._backoff * 2 or MIN_BACKOFF_SECONDS)
        self._next_try = time.monotonic() + self._backoff
        if reason != self.failing:
            self.failing = reason
            self._tell(
                "%s cannot be written: %s; records wait in memory, up to %d bytes (capture_max_queue_bytes)",
                self.path,
                error.strerror or reason,
                self._max_waiting_bytes or self._config.capture_max_queue_bytes,
            )

    def _finishing_failed(self, reason: str) -> bool:
        told = "%s: a rotated file stays as it is for now, neither compressed nor encrypted: %s"
        return self._tell(told, self.path, reason)

    def tell_left_out(self) -> None:
        """Tells of the records that were left out while the file could not be written."""
        loss, self.left_out = self.left_out, None
        if loss is not None:
            self._on_gap(loss)

    def _gap_in_place(self, number: int, loss: Loss) -> bytes:
        told = system_record("system_gap", loss.gap())
        told.metadata |= {"seq": number, **self._identity}
        return self._format.encode(told)


def make_outputs(
    config: CaptureConfig,
    path: str,
    *,
    log: Callable[..., bool],
    on_loss: Callable[[Loss], None],
    on_gap: Callable[[Loss], None],
) -> list[CaptureOutput]:
    """The files of a capture, none of them open yet.

    Raises:
        ConfigurationError: they cannot be made with these settings.
    """
    beside = config.cbor_capture_file
    share = config.capture_max_queue_bytes // 2 if beside is not None else None
    files = [(path, config.capture_format)]
    if beside is not None:
        main = Path(path)
        if main.parent == beside.absolute().parent and (
            main.name == beside.name or rotated_name(main.name, beside.name) is not None
        ):
            raise ConfigurationError(
                f"cbor_capture_file: {str(beside)!r} is a name of capture_file's files; expected another one"
            )
        files.append((os.fspath(beside.absolute()), "cbor"))
    return [
        CaptureOutput(config, file, form, tell=log, on_loss=on_loss, on_gap=on_gap, max_waiting_bytes=share)
        for file, form in files
    ]
