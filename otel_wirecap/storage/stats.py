"""What a capture says of itself while it runs."""

from __future__ import annotations

import dataclasses


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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CaptureStats(FileStats):
    """The counters of this process's part of a capture; a forked child's begin at zero.

    Attributes:
        process: ``metadata.process`` of its records.
        lost_events: events that are lost, by the reason that ``system_gap`` gives.
        waiting_events: events that the writer has not taken yet.
        waiting_bytes: bytes of memory that wait to be written, bodies that are being collected included; never more
            than ``capture_max_queue_bytes`` and what it takes to end the exchanges that run.
        open_exchanges: exchanges that have begun and not ended.
        cbor: the counters of ``cbor_capture_file``; None where there is none.
    """

    process: str
    lost_events: dict[str, int]
    waiting_events: int
    waiting_bytes: int
    open_exchanges: int
    cbor: FileStats | None
