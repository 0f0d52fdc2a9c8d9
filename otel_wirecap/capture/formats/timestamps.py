"""Moments as text, cheaply: formatting a date costs more than the rest of a small record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Timestamps:
    """Writes moments, given as microseconds since the epoch, in UTC; remembers the latest second."""

    __slots__ = ("_second", "_second_iso")

    def __init__(self) -> None:
        self._second = -1
        self._second_iso = ""

    def second(self, microseconds: int) -> str:
        """``2026-01-10T15:58:41``."""
        second = microseconds // 1_000_000
        if second != self._second:
            self._second = second
            self._second_iso = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return self._second_iso

    def iso(self, microseconds: int) -> str:
        """``2026-01-10T15:58:41.039145+00:00``."""
        return f"{self.second(microseconds)}.{microseconds % 1_000_000:06d}+00:00"


def microseconds_of(iso: str) -> int:
    """The moment that ``Timestamps.iso`` wrote.

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(iso)
    return (moment - _EPOCH) // timedelta(microseconds=1)
