"""What a capture says of itself while it runs."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any


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
        process: ``metadata.process`` of its records; those of another writer that died are counted, too.
        lost_events: events that are lost, by the reason that ``system_gap`` gives.
        waiting_events: events that the writer has not worked off yet, those that it was sent included.
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

    def after(self, earlier: CaptureStats) -> CaptureStats:
        """These and what was counted before by another writer."""
        lost = collections.Counter(earlier.lost_events) + collections.Counter(self.lost_events)
        cbor = self.cbor
        if cbor is not None and earlier.cbor is not None:
            cbor = dataclasses.replace(cbor, **_sums(earlier.cbor, cbor))
        return dataclasses.replace(self, **_sums(earlier, self), lost_events=dict(lost), cbor=cbor)


def _sums(earlier: FileStats, later: FileStats) -> dict[str, Any]:
    names = ("records", "bytes", "write_errors", "write_seconds")
    return {name: getattr(earlier, name) + getattr(later, name) for name in names}
