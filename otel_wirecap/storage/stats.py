"""What a capture says of itself while it runs."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FileStats:
    """The counters of one file that this process writes.

    Attributes:
        capture_file: its absolute path.
        records: records that are in the file.
        bytes: their bytes.
        write_errors: attempts to write that failed.
        write_seconds: time that the writer spent writing, waiting for the file's lock included.
        failing: why the file cannot be written at the moment, an ``errno`` name such as ``ENOSPC``; None where it can.
    """

    capture_file: str
    records: int
    bytes: int
    write_errors: int
    write_seconds: float
    failing: str | None

    def after(self, earlier: FileStats) -> FileStats:
        """These and what was counted before by another writer."""
        return dataclasses.replace(
            self,
            records=earlier.records + self.records,
            bytes=earlier.bytes + self.bytes,
            write_errors=earlier.write_errors + self.write_errors,
            write_seconds=earlier.write_seconds + self.write_seconds,
        )


class WriterStats(NamedTuple):
    """What a writer tells of itself: its files, and the exchanges that have begun and not ended."""

    file: FileStats
    cbor: FileStats | None = None
    open_exchanges: int = 0

    @classmethod
    def of(cls, files: list[FileStats], open_exchanges: int = 0) -> WriterStats:
        """Those of one file, or two, ``cbor_capture_file`` second."""
        return cls(files[0], files[1] if files[1:] else None, open_exchanges)

    def after(self, earlier: WriterStats | None) -> WriterStats:
        """These and those of the writer whose place it took."""
        if earlier is None:
            return self
        cbor = self.cbor if self.cbor is None or earlier.cbor is None else self.cbor.after(earlier.cbor)
        return WriterStats(self.file.after(earlier.file), cbor, self.open_exchanges)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CaptureStats(FileStats):
    """The counters of this process's part of a capture; a forked child's begin at zero.

    Attributes:
        process: ``metadata.process`` of its records; those of another writer that died are counted, too.
        lost_events: events that are lost, by the reason that ``system_gap`` gives.
        lost_records: finished records that are missing in a file, likewise.
        lost_bytes: bytes of events that are lost, of what a killed process left of a record, likewise.
        lost_exchanges: exchanges of which nothing, or nothing more, is recorded, likewise.
        waiting_events: events that the writer has not worked off yet, those that it was sent included.
        waiting_bytes: bytes of memory that wait to be written, bodies that are being collected included; never more
            than ``capture_max_queue_bytes`` and what it takes to end the exchanges that run.
        open_exchanges: exchanges that have begun and not ended.
        cbor: the counters of ``cbor_capture_file``; None where there is none.
    """

    process: str
    lost_events: dict[str, int]
    lost_records: dict[str, int]
    lost_bytes: dict[str, int]
    lost_exchanges: dict[str, int]
    waiting_events: int
    waiting_bytes: int
    open_exchanges: int
    cbor: FileStats | None
