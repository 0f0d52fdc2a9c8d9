"""How much a capture has, counted record by record; and where it has nothing, why, as far as that can be known."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from otel_wirecap.capture.record import REQUESTS, WEBSOCKET_START
from otel_wirecap.client_libraries import CLIENT_LIBRARIES

if TYPE_CHECKING:
    from otel_wirecap.reading.captures import Captures
    from otel_wirecap.reading.lines import RawRecord

_BEGINNINGS = REQUESTS | {WEBSOCKET_START}


class Tally:
    """Counts exchanges and processes.

    Attributes:
        exchanges: that have begun.
        processes: that have started a capture.
    """

    def __init__(self) -> None:
        self.exchanges = self.processes = 0
        self._running: dict[object, object] = {}  # the pids of processes that have no end
        self._unhooked: set[str] = set()

    def add(self, record: RawRecord) -> None:
        """Counts a record."""
        direction, metadata, payload = record["direction"], record["metadata"], record.get("payload")
        process = metadata.get("process")
        if direction in _BEGINNINGS:
            self.exchanges += 1
        elif direction == "system_start":
            self.processes += 1
            self._running[process] = metadata.get("pid")
        elif direction in {"system_stop", "system_gap"}:
            self._running.pop(process, None)
            if isinstance(payload, dict):
                self._unhooked |= set(map(str, payload.get("unhooked_libraries") or ()))

    @property
    def has_unfinished(self) -> bool:
        """Whether a process is gone, and its writer has not said so yet."""
        return any(isinstance(pid, int) and not is_running(pid) for pid in self._running.values())

    def why_nothing(self) -> str:
        """Why there is no exchange, as far as the capture says."""
        hooked = ", ".join(library.name for library in CLIENT_LIBRARIES)
        if not self.processes:
            return "no Python process started a capture"
        told = f"{self.processes:,} {'process was' if self.processes == 1 else 'processes were'} ready to be captured"
        if self._unhooked:
            imported = ", ".join(sorted(self._unhooked))
            return f"{told}, and imported {imported}, whose requests are not captured (but those of {hooked} are)"
        return f"{told}, and neither sent a request by {hooked}, nor served one by ASGI"


def is_running(pid: int) -> bool:
    """Whether there is a process of that number on this machine, be it another user's."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass
    return True


def why_nothing(captures: Captures) -> str | None:
    """Why captures have no exchange; None where they have some, or no record."""
    collected = captures.collect()
    if collected.flows or not collected.records:
        return None
    tally = Tally()
    for record, _ in captures.lines():
        tally.add(record)
    return tally.why_nothing()
