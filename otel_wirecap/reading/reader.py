"""Reads the records of a capture: one pass, one record in memory at a time.

A capture may be growing, and its writer may have been killed in the middle of a record: what is no whole record
is left out and told to whoever asks. What a file is (JSON Lines or CBOR, compressed or encrypted), its first bytes say.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

import orjson

from otel_wirecap.capture.formats import CBOR, JSONLines
from otel_wirecap.capture.naming import COMPRESSION_SUFFIXES, ENCRYPTION_SUFFIX, MAGIC_LENGTH, coding, rotated_name
from otel_wirecap.errors import CaptureFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Record: TypeAlias = dict[str, Any]
"""One record as it was read: the fields of the schema, unknown ones included."""

_BLOCK = 256 * 1024
_MOST_TRIES = 20
"""Times that the files may be rotated while they are opened."""


def read_records(path: str | Path, *, on_damage: Callable[[Path, int], None] | None = None) -> Iterator[Record]:
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
        record = None if line is None else _json_record(line)
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
    with contextlib.ExitStack() as stack:
        try:
            for file, stream in _open_all(Path(path), stack):
                for number, line in _lines(stream):
                    yield file, number, line
        except OSError as error:
            raise CaptureFileError(f"capture {str(path)!r} cannot be read: {error.strerror or error}") from error


def capture_files(path: str | Path) -> list[Path]:
    """The files of a capture, the oldest rotated one (``FILE.5``) first, the live one (``FILE``) last.

    Raises:
        CaptureFileError: there is none, or the directory cannot be read.
    """
    live = Path(path)
    numbered: list[tuple[int, Path]] = []
    try:
        for entry in live.absolute().parent.iterdir():
            rotated = rotated_name(live.name, entry.name)
            if rotated is not None and entry.is_file():
                numbered.append((rotated.number, live.with_name(entry.name)))
    except OSError as error:
        raise CaptureFileError(f"capture {str(path)!r} cannot be read: {error.strerror}") from error
    files = [file for _, file in sorted(numbered, reverse=True)]
    if live.exists():
        files.append(live)
    if not files:
        raise CaptureFileError(f"capture {str(path)!r} cannot be read: no such file")
    return files


def _open_all(live: Path, stack: contextlib.ExitStack) -> list[tuple[Path, BinaryIO]]:
    """Opens a capture's files, the newest first: one that is rotated meanwhile is met twice, not missed.

    One that gets another name meanwhile would be missed: then all is done again.
    """
    for last_try in (False,) * _MOST_TRIES + (True,):
        with contextlib.ExitStack() as attempt:
            opened: dict[tuple[int, int], tuple[Path, BinaryIO]] = {}
            files = capture_files(live)
            for file in reversed(files):
                with contextlib.suppress(FileNotFoundError):
                    stream = attempt.enter_context(file.open("rb"))
                    opened.setdefault(_identity(stream), (file, stream))
            if last_try or (len(opened) == len(files) and capture_files(live) == files):
                stack.push(attempt.pop_all())
                break
    return list(reversed(opened.values()))


def _identity(stream: BinaryIO) -> tuple[int, int]:
    status = os.fstat(stream.fileno())
    return status.st_dev, status.st_ino


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """The lines of one file with their numbers; None in the place of what is none."""
    suffix = coding(stream.read(MAGIC_LENGTH))
    stream.seek(0)
    if suffix == ENCRYPTION_SUFFIX:
        yield 0, None
        return
    if not suffix:
        yield from _plain_lines(stream)
        return
    stream, damage = _decompressed(stream, suffix)
    number = 0
    try:
        for number, line in _plain_lines(stream):
            yield number, line
    except damage:
        yield number + 1, None


def _plain_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    head = stream.read(len(CBOR.beginning))
    if head == CBOR.beginning:
        yield from _cbor_lines(head, stream)
        return
    stream.seek(0)
    for number, line in enumerate(stream, 1):
        if not line.isspace():
            yield number, line


def _json_record(line: bytes) -> Record | None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def _cbor_lines(head: bytes, stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    try:
        cbor, lines = CBOR(), JSONLines()
    except ImportError:
        raise CaptureFileError("a capture in CBOR needs the package cbor2; install otel-wirecap[cbor]") from None
    left, number = head, 0
    for block in iter(lambda: stream.read(_BLOCK), b""):
        *items, left = (left + block).split(cbor.terminator)
        for item in items:
            number += 1
            try:
                line = lines.encode(cbor.decode(item + cbor.terminator))
            except ValueError:
                line = None
            yield number, line
    if left:
        yield number + 1, None


def _decompressed(stream: BinaryIO, suffix: str) -> tuple[BinaryIO, tuple[type[Exception], ...]]:
    """What the compressed file holds, and the errors that reading it raises where it is damaged."""
    if suffix == COMPRESSION_SUFFIXES["gzip"]:
        return cast("BinaryIO", gzip.GzipFile(fileobj=stream)), (EOFError, zlib.error, gzip.BadGzipFile)
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            reason = "a file compressed with zstd needs the package backports.zstd; install otel-wirecap[encodings]"
            raise CaptureFileError(reason) from None
    return cast("BinaryIO", zstd.ZstdFile(stream)), (EOFError, zstd.ZstdError)
