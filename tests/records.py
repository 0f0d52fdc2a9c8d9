"""The records of captures, whatever their format, for tests of what writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from otel_wirecap.reading.lines import RawRecord, json_record
from otel_wirecap.reading.reader import read_lines


def read_records(path: str | Path, *, on_damage: Callable[[Path, int], None] | None = None) -> Iterator[RawRecord]:
    """The records of a capture; ``on_damage`` gets the file and the number of each line that is none."""
    for file, number, line in read_lines(path):
        record = None if line is None else json_record(line)
        if record is not None:
            yield record
        elif on_damage is not None:
            on_damage(file, number)
