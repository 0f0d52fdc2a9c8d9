"""Reads the records of a capture: one pass, one line in memory at a time.

A capture may be growing, and its writer may have been killed in the middle of a line: what is no whole record
is left out and told to whoever asks.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import orjson

from otel_wirecap.errors import CaptureFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Record: TypeAlias = dict[str, Any]
"""One record as it was read: the fields of the schema, unknown ones included."""

MOST_FILES = 99_999
"""Larger numbers behind a capture's name are dates and times, not rotated files."""


def read_records(path: str | Path, *, on_damage: Callable[[Path, int], None] | None = None) -> Iterator[Record]:
    """Reads a capture in JSON Lines, the oldest rotated file first.

    All files are opened before the first record is given: a rotation meanwhile moves none out of sight.

    Args:
        path: the live file.
        on_damage: is told the file and the number (from 1) of each line that is no record: a torn one, or
            something that is not a JSON object.

    Raises:
        CaptureFileError: there is no such capture, or a file cannot be read.
    """
    with contextlib.ExitStack() as stack:
        try:
            opened = _open_all(Path(path), stack)
            for file, stream in opened:
                for number, line in enumerate(stream, 1):
                    record = _record(line)
                    if record is not None:
                        yield record
                    elif on_damage is not None and not line.isspace():
                        on_damage(file, number)
        except OSError as error:
            raise CaptureFileError(f"capture {str(path)!r} cannot be read: {error.strerror}") from error


def capture_files(path: str | Path) -> list[Path]:
    """The files of a capture, the oldest rotated one (``FILE.5``) first, the live one (``FILE``) last.

    Raises:
        CaptureFileError: there is none, or the directory cannot be read.
    """
    live = Path(path)
    prefix = live.name + "."
    numbered: list[tuple[int, Path]] = []
    try:
        for entry in live.absolute().parent.iterdir():
            digits = entry.name.removeprefix(prefix)
            # FILE.01 or FILE.1.gz are somebody else's.
            ours = digits != entry.name and digits.isascii() and digits.isdecimal() and digits[0] != "0"
            if ours and int(digits) <= MOST_FILES and entry.is_file():
                numbered.append((int(digits), live.with_name(entry.name)))
    except OSError as error:
        raise CaptureFileError(f"capture {str(path)!r} cannot be read: {error.strerror}") from error
    files = [file for _, file in sorted(numbered, reverse=True)]
    if live.exists():
        files.append(live)
    if not files:
        raise CaptureFileError(f"capture {str(path)!r} cannot be read: no such file")
    return files


def _open_all(live: Path, stack: contextlib.ExitStack) -> list[tuple[Path, BinaryIO]]:
    """Opens a capture's files, the newest first: one that is rotated meanwhile is met twice, not missed."""
    opened: dict[tuple[int, int], tuple[Path, BinaryIO]] = {}
    for file in reversed(capture_files(live)):
        try:
            stream = stack.enter_context(file.open("rb"))
        except FileNotFoundError:  # rotated away at this moment
            continue
        opened.setdefault(_identity(stream), (file, stream))
    return list(reversed(opened.values()))


def _identity(stream: BinaryIO) -> tuple[int, int]:
    status = os.fstat(stream.fileno())
    return status.st_dev, status.st_ino


def _record(line: bytes) -> Record | None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None
