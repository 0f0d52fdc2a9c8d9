"""Reads the records of one capture as they are written: one pass, one record in memory at a time.

A capture may be growing, and its writer may have been killed in the middle of a record: what is no whole record
is left out and told to whoever asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from otel_wirecap.reading.resource import read_errors
from otel_wirecap.reading.sources import open_sources


def read_lines(path: str | Path) -> Iterator[tuple[Path, int, bytes | None]]:
    """Reads the lines of a capture, or of any other file, the oldest rotated file first; those of CBOR as JSON.

    All files are opened before the first line is given: a rotation meanwhile moves none out of sight.

    Yields:
        The file; the number of the line or item, from 1; the line. That is None where there is none, and where a
        compressed file is damaged, the rest of which is left out; number 0 stands for a whole file that is encrypted.

    Raises:
        CaptureFileError: there is no such capture, or a file cannot be read.
    """
    with contextlib.ExitStack() as stack, read_errors(path):
        for source in open_sources(path, stack):
            for number, _, line in source.lines():
                yield source.path, number, line
