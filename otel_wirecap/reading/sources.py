"""The files of captures, opened: what each is, and its lines, from any offset on.

What a file is, its first bytes say: JSON Lines, CBOR, compressed, encrypted, or no capture at all. All files are opened
before the first is read, so that a rotation meanwhile moves none out of sight. Plain files are read by offset: several
processes may share one that is open.

Invariants:

- Only regular files are opened, and standard input.
- No more than ``MAX_LINE_BYTES`` of a line, or of an item, are held, whatever a file has or unpacks to. A longer one is
  no line; of a file that is read from its beginning, nothing after it is read.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import os
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import orjson

from otel_wirecap.capture.formats import CBOR, JSONLines, Text
from otel_wirecap.capture.naming import COMPRESSION_SUFFIXES, ENCRYPTION_SUFFIX, coding, rotated_name
from otel_wirecap.errors import CaptureFileError, CaptureFormatError
from otel_wirecap.reading.resource import read_errors
from otel_wirecap.regular_file import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN = "-"
BUNDLE_BEGINNING = b'{"otel_wirecap_bundle":1,'
"""How a file begins that holds one flow for a bug report: a JSON document, its records each on a line of its own."""
BLOCK = 1024 * 1024
MAX_LINE_BYTES = 128 * 1024 * 1024
_PIECE = 256 * 1024
HEAD = 4096
"""Bytes at the beginning of a file that tell what it is, and which one."""

_RECORD = JSONLines.beginning
_MAX_TRIES = 20
"""Times that the files may be rotated while they are opened."""

_TRY_DELAY = 0.002
"""Seconds between them."""


class Line(NamedTuple):
    """One line or item of a file.

    Attributes:
        number: from 1, counted from where reading began.
        start: its offset in the file; in what the file holds, where that is compressed or CBOR.
        data: the line without its newline, CBOR as JSON; None in the place of what is no line: see ``read_lines``.
    """

    number: int
    start: int
    data: bytes | None


class Source:
    """One open file.

    Attributes:
        path: its name; ``-`` for standard input.
        size: bytes that it had when it was opened.
        mtime_ns: when it was written to last, as known then.
        identity: device and inode.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self._stream = stream
        status = os.fstat(stream.fileno())
        self.size, self.mtime_ns = status.st_size, status.st_mtime_ns
        self.identity = (status.st_dev, status.st_ino)

    # The rest waits: while a capture's files are opened, they may be rotated.

    @functools.cached_property
    def head(self) -> bytes:
        """Its first bytes."""
        return self.read(0, HEAD)

    @functools.cached_property
    def key(self) -> str:
        """Names the file among others, whatever its path is meanwhile."""
        return hashlib.sha256(repr(self.identity).encode() + self.head).hexdigest()[:32]

    @property
    def is_encrypted(self) -> bool:
        """Whether it wants a key."""
        return self._coding == ENCRYPTION_SUFFIX

    @property
    def is_plain(self) -> bool:
        """Whether it is lines that are neither compressed nor encrypted, so that offsets can be gone to."""
        return not self._coding and not self.head.startswith((CBOR.beginning, BUNDLE_BEGINNING))

    @property
    def may_grow(self) -> bool:
        """Whether it is in a form that captures are written in; what is compressed, or a bundle, is whole as it is."""
        return self.is_plain or self.head.startswith(CBOR.beginning)

    @property
    def _coding(self) -> str:
        return coding(self.head)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file as it lies there."""
        return os.pread(self._stream.fileno(), length, offset)

    def length(self) -> int:
        """Bytes that it has now."""
        return os.fstat(self._stream.fileno()).st_size

    def written_ns(self) -> int:
        """When it was written to last, as known now; nanoseconds since the epoch."""
        return os.fstat(self._stream.fileno()).st_mtime_ns

    def duplicate(self, stack: contextlib.ExitStack) -> Source:
        """The same file, opened for as long as another stack lasts."""
        return Source(self.path, stack.enter_context(os.fdopen(os.dup(self._stream.fileno()), "rb")))

    def end_of_lines(self) -> int:
        """Where its last whole line ends; the file's end where lines are not to be seen."""
        if not self.is_plain:
            return self.size
        end = self.size
        while end > 0:
            start = max(end - 64 * 1024, 0)
            place = self.read(start, end - start).rfind(b"\n")
            if place >= 0:
                return start + place + 1
            end = start
        return 0

    def check(self) -> None:
        """Looks whether it is a capture that can be read, and is not empty.

        Raises:
            CaptureFormatError: it is none; the text says what it is.
        """
        name = repr(str(self.path))
        if not self.size:
            raise CaptureFormatError(f"{name} is empty: nothing has been captured in it yet")
        if self.is_encrypted:
            raise CaptureFormatError(f"{name} is encrypted; decrypt it first: age --decrypt -i KEY {name}")
        if not self.is_plain:
            if not any(line.data is not None for line in self.lines()):
                raise CaptureFormatError(
                    f"{name} is no capture, or damaged: it has no record of {MAX_LINE_BYTES:,} bytes or less"
                )
            return
        if self.head.startswith(Text.beginning):
            raise CaptureFormatError(
                f"{name} has the format text, which is for people; capture in jsonl, structured or cbor"
            )
        line = next((line.data for line in self.lines()), b"")
        if line is None:
            raise CaptureFormatError(f"{name} is no capture: its first line has more than {MAX_LINE_BYTES:,} bytes")
        try:
            first = orjson.loads(line)
        except orjson.JSONDecodeError:
            if line.startswith(JSONLines.beginning):
                return  # torn in its first line: damaged, but a capture
            raise CaptureFormatError(f"{name} is no capture: it begins with what is neither JSON nor CBOR") from None
        if not isinstance(first, dict) or not (first.keys() & {"direction", "communication"}):
            raise CaptureFormatError(
                f"{name} is no capture of a version that is known here: its first record has no field 'direction'"
            )

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes | None]]:
        """Whole lines, many at a time, with the offset of the first: those that begin from ``start`` until ``end``.

        The file is read as far as it went when it was opened. Bytes at its end that no newline follows come last, on
        their own. None comes in the place of a line of more than ``MAX_LINE_BYTES``. The file must be plain.
        """
        end = self.size if end is None else min(end, self.size)
        left: list[bytes] = []
        # The line that reaches over the start belongs to whoever reads before.
        offset = self._after_line(start, end) if start and self.read(start - 1, 1) != b"\n" else start
        position = offset
        while offset < end:
            # A line that a writer was about to finish when the file was opened is read to its end.
            block = self.read(position, min(BLOCK, max(self.size - position, HEAD)))
            position += len(block)
            if not block:
                if left:
                    yield offset, b"".join(left)
                return
            last = block.rfind(b"\n") + 1
            if not last:
                left.append(block)
                if position - offset > MAX_LINE_BYTES:
                    yield offset, None
                    left.clear()
                    offset = position = self._after_line(position, end)
                continue
            whole = b"".join((*left, block[:last]))
            left = [block[last:]] if last < len(block) else []
            if offset + len(whole) > end:
                whole = whole[: whole.index(b"\n", end - offset - 1) + 1]
            yield offset, whole
            offset += len(whole)

    def _after_line(self, place: int, end: int) -> int:
        """Where the line ends that goes on at a place; ``end`` or more where it is not before that."""
        while place < end:
            piece = self.read(place, BLOCK)
            if not piece:
                return end
            newline = piece.find(b"\n")
            if newline >= 0:
                return place + newline + 1
            place += len(piece)
        return place

    def lines(self, start: int = 0, end: int | None = None) -> Iterator[Line]:
        """The lines that begin from ``start`` until ``end``, blank ones left out; those of CBOR as JSON.

        Offsets may be gone to in plain files only; others are read whole.

        Raises:
            CaptureFileError: a package that reads it is not installed.
        """
        if self.is_encrypted:
            yield Line(0, 0, None)
            return
        if self.is_plain:
            yield from self._plain_lines(start, end)
            return
        number, offset = 0, 0
        stream, damage = self._content()
        try:
            head = stream.read(len(CBOR.beginning))
            if head == CBOR.beginning:
                cut = _cbor_items(head, stream)
            elif self.head.startswith(BUNDLE_BEGINNING):
                cut = (line and line.removesuffix(b",") for line in _text_lines(head, stream) if _is_record(line))
            else:
                cut = _text_lines(head, stream)
            for data in cut:
                number += 1
                if data is None or (data and not data.isspace()):
                    yield Line(number, offset, data)
                offset += len(data or b"") + 1
        except damage:
            yield Line(number + 1, offset, None)

    def placed_lines(self) -> Iterator[tuple[int, bytes]]:
        """All its lines, each with its offset; what is no line is left out."""
        return ((line.start, line.data) for line in self.lines() if line.data is not None)

    def _plain_lines(self, start: int, end: int | None) -> Iterator[Line]:
        number = 0
        for base, block in self.blocks(start, end):
            offset = base
            if block is None:
                number += 1
                yield Line(number, base, None)
                continue
            for data in block.removesuffix(b"\n").split(b"\n"):
                number += 1
                if data and not data.isspace():
                    yield Line(number, offset, data)
                offset += len(data) + 1

    def _content(self) -> tuple[BinaryIO, tuple[type[Exception], ...]]:
        """What the file holds, uncompressed, and the errors that reading it raises where it is damaged."""
        file = cast("BinaryIO", io.BufferedReader(_Pages(self), _PIECE))
        if not self._coding:
            return file, ()
        if self._coding == COMPRESSION_SUFFIXES["gzip"]:
            import gzip

            return cast("BinaryIO", gzip.GzipFile(fileobj=file)), (EOFError, zlib.error, gzip.BadGzipFile)
        try:
            from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
        except ImportError:
            try:
                from backports import zstd
            except ImportError:
                reason = "a file compressed with zstd needs the package backports.zstd; install otel-wirecap[encodings]"
                raise CaptureFileError(reason) from None
        return cast("BinaryIO", zstd.ZstdFile(file)), (EOFError, zstd.ZstdError)


class _Pages(io.RawIOBase):
    """A source as a file of its own, with an offset of its own."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._offset = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any buffer that is given
        data = self._source.read(self._offset, len(buffer))
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)


def open_sources(path: str | Path, stack: contextlib.ExitStack) -> list[Source]:
    """Opens a capture's files, the oldest rotated one first; ``-`` is standard input.

    Of a capture all of whose files are gone from their names meanwhile, all is done again.

    Raises:
        CaptureFileError: there is none, or a file cannot be opened.
    """
    if str(path) == STDIN:
        return [Source(Path(STDIN), stack.enter_context(_standard_input()))]
    live = Path(path)
    with read_errors(path):
        for last_try in (False,) * _MAX_TRIES + (True,):
            with contextlib.ExitStack() as attempt:
                opened: dict[tuple[int, int], Source] = {}
                files = capture_files(live)
                # The newest first: one that is rotated meanwhile is met twice, not missed.
                for file in reversed(files):
                    with contextlib.suppress(FileNotFoundError):
                        source = Source(file, attempt.enter_context(open_regular(file)))
                        opened.setdefault(source.identity, source)
                # A listing read during a rename can miss the one file there is under both its names.
                if opened and (last_try or (len(opened) == len(files) and capture_files(live) == files)):
                    stack.push(attempt.pop_all())
                    return list(reversed(opened.values()))
            time.sleep(_TRY_DELAY)
    raise CaptureFileError(f"capture {str(path)!r} cannot be read: no such file")


def capture_files(path: str | Path) -> list[Path]:
    """The files of a capture, the oldest rotated one (``FILE.5``) first, the live one (``FILE``) last.

    Raises:
        CaptureFileError: the directory cannot be read.
    """
    live = Path(path)
    numbered: list[tuple[int, Path]] = []
    with read_errors(path):
        for entry in live.absolute().parent.iterdir():
            rotated = rotated_name(live.name, entry.name)
            if rotated is not None and entry.is_file():
                numbered.append((rotated.number, live.with_name(entry.name)))
    files = [file for _, file in sorted(numbered, reverse=True)]
    if live.exists():
        files.append(live)
    return files


def _standard_input() -> BinaryIO:
    """Standard input as a file that can be gone about in: itself, or a copy that has no name."""
    import shutil
    import tempfile

    stream = sys.stdin.buffer
    with contextlib.suppress(OSError):
        if Path(f"/dev/fd/{stream.fileno()}").is_file():
            return cast("BinaryIO", os.fdopen(os.dup(stream.fileno()), "rb"))
    copy = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115  # the caller closes it
    shutil.copyfileobj(stream, copy, BLOCK)
    copy.flush()
    return copy


def _is_record(line: bytes | None) -> bool:
    return line is None or line.startswith(_RECORD)


def _text_lines(head: bytes, stream: BinaryIO) -> Iterator[bytes | None]:
    """Lines; the last is None where it is too long."""
    left: list[bytes] = []
    size = 0
    for block in itertools.chain((head,), iter(lambda: stream.read(_PIECE), b"")):
        whole, newline, rest = block.rpartition(b"\n")
        if newline:
            yield from b"".join((*left, whole)).split(b"\n")
            left, size = [], 0
        left.append(rest)
        size += len(rest)
        if size > MAX_LINE_BYTES:
            yield None
            return
    if size:
        yield b"".join(left)


def _cbor_items(head: bytes, stream: BinaryIO) -> Iterator[bytes | None]:
    try:
        cbor, lines = CBOR(), JSONLines()
    except ImportError:
        raise CaptureFileError("a capture in CBOR needs the package cbor2; install otel-wirecap[cbor]") from None
    left, searched = bytearray(head), 0  # only what is new is searched: an item may be long, or have no end
    for block in iter(lambda: stream.read(_PIECE), b""):
        left += block
        begin = 0
        while (place := left.find(cbor.terminator, searched)) >= 0:
            searched = place + len(cbor.terminator)
            try:
                yield lines.encode(cbor.decode(bytes(left[begin:searched]))).rstrip(b"\n")
            except (ValueError, TypeError):  # no record, or one with what JSON cannot hold
                yield None
            begin = searched
        del left[:begin]
        searched = max(0, len(left) - len(cbor.terminator) + 1)
        if len(left) > MAX_LINE_BYTES:
            break
    if left:
        yield None
