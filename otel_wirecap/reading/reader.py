"""Reads the records of one capture as they are written: one pass, one record in memory at a time.

A capture may be growing, and its writer may have been killed in the middle of a record: what is no whole record
is left out and told to whoever asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from otel_wirecap.reading.lines import RawRecord, json_record
from otel_wirecap.reading.resource import read_errors
from otel_wirecap.reading.sources import open_sources


def read_records(path: str | Path, *, on_damage: Callable[[Path, int], None] | None = None) -> Iterator[RawRecord]:
    """Reads a capture in JSON Lines or CBOR, the oldest rotated file first.

    All files are opened before the first record is given: a rotation meanwhile moves none out of sight.

    Args:
        path: the live file.
        on_damage: is told the file and the number (from 1) of each line or item that is no record: a torn one, or
            something that is not a JSON object; of the place where a compressed file is damaged, the rest of which is
            left out. Number 0 stands for a whole file that is encrypted.

    Raises:
        CaptureFileError: there is no such capture, or a file cannot be read.
    """
    for file, number, line in read_lines(path):
        record = None if line is None else json_record(line)
        if record is not None:
            yield record
        elif on_damage is not None:
            on_damage(file, number)


def read_lines(path: str | Path) -> Iterator[tuple[Path, int, bytes | None]]:
    """Reads the lines of a capture, or of any other file, the oldest rotated file first; those of CBOR as JSON.

    Yields:
        The file; the number of the line or item, from 1; the line, None where there is none: see ``read_records``.

    Raises:
        CaptureFileError: there is no such capture, or a file cannot be read.
    """
    with contextlib.ExitStack() as stack, read_errors(path):
        for source in open_sources(path, stack):
            for number, _, line in source.lines():
                yield source.path, number, line
