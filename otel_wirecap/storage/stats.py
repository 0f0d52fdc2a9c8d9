"""What a capture says of itself while it runs."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CaptureStats:
    """The counters of this process's part of a capture; a forked child's begin at zero.

    Attributes:
        capture_file: its absolute path.
        process: ``metadata.process`` of its records.
        records: records that are in the file.
        bytes: their bytes.
        lost_events: events that are lost, by the reason that ``system_gap`` gives.
        waiting_events: events that the writer has not taken yet.
        waiting_bytes: bytes of memory that wait to be written, bodies that are being collected included; never more
            than ``capture_max_queue_bytes`` and what it takes to end the exchanges that run.
        open_exchanges: exchanges that have begun and not ended.
        write_errors: attempts to write that failed.
        write_seconds: time that the writer's thread spent writing, waiting for the file's lock included.
        failing: why the file cannot be written at the moment, an ``errno`` name such as ``ENOSPC``; None where it can.
    """

    capture_file: str
    process: str
    records: int
    bytes: int
    lost_events: dict[str, int]
    waiting_events: int
    waiting_bytes: int
    open_exchanges: int
    write_errors: int
    write_seconds: float
    failing: str | None
