"""The capture file: whole records appended by any number of processes, within its caps.

Invariants:

- Everything is done under an exclusive ``flock`` of the live file itself, verified after locking: the path
  still names the inode that is locked. No lock file can go stale; the kernel frees a dead process's lock.
- Whoever gets the lock finds whole records only, or a torn tail that a killed writer left, which it cuts
  away before it writes. It leaves whole records only: what a failed write left of a record is cut away
  under the same lock.
- Room is made before it is used: the live file, the rotated files and those in the making together never
  grow past ``total_max_bytes``, and a live file never past ``max_bytes``. A live file that was larger when
  it was found is rotated, not thrown away, as long as the total allows it.
- Each process keeps to its own caps, whatever the others' are: whoever writes decides what is rotated and what is
  deleted.
- ``_rotated_bytes`` is never less than what the rotated files hold: only a rotation adds to them, and that
  gives the path a new inode, after which they are counted anew. None means: not counted yet.
- ``_fd`` is set to -1 before the descriptor is closed: a fork between the two must not have the child close
  a number that is another file's by then.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from bisect import bisect_right
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from otel_wirecap.errors import CaptureFileError
from otel_wirecap.storage.opening import open_private
from otel_wirecap.storage.rotation import RotatedFiles, Unfinished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_wirecap.storage.finishing import Finisher

_MAX_REOPENS = 1000
"""Times in a row that the file may have been rotated, moved or removed while we waited for the lock."""

_LOOK_BACK = 64 * 1024
"""Bytes read at once when the end of the last whole record is looked for."""

_REOPEN_AFTER = frozenset({errno.EIO, errno.ESTALE})
"""Errors that belong to the open file rather than to the disk: the next call opens it anew."""


_MOMENT = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
"""The moment of a record, in UTC, which stands near its beginning in all formats."""


class AppendResult(NamedTuple):
    """What became of an ``append``.

    Attributes:
        written: how many of the lines, from the first on, are in the capture now, whole.
        torn_bytes: bytes of torn records, left by killed writers, that were cut away; 0 if there were none.
        error: why it stopped early; None when all lines were written.
    """

    written: int
    torn_bytes: int
    error: OSError | None


class Boundaries(NamedTuple):
    """How a format's captures begin and its records end.

    Attributes:
        beginning: what every capture begins with; a file that begins in another way is somebody else's, not touched.
        terminator: what every record ends with, and what stands nowhere within one.
    """

    beginning: bytes = b""
    terminator: bytes = b"\n"


class CaptureFile:
    """One capture: the live file and its rotated files, shared by any number of processes.

    Not thread-safe: it has one owner. Several objects may share a path, in one process as in many.
    An existing file that does not end in a terminator loses its last, torn record at the first ``append``.

    Args:
        path: the live file; relative to the working directory of this moment.
        max_bytes: bytes of one file; more than ``total_max_bytes`` means ``total_max_bytes``.
        max_files: rotated files to keep, ``FILE.1`` being the newest; with 0 a full live file is deleted.
        total_max_bytes: bytes of all files together, the live one included.
        boundaries: of the capture and its records, which its format determines.
        max_age: seconds after which a rotated file is deleted, counted from its last record, and a live file is
            rotated, counted from its first; see ``retire``.
        sync_rotated: whether a file is brought to the disk when it is rotated.
        finisher: takes each file that is rotated, to compress or encrypt it, where there is room for that.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int,
        max_files: int,
        total_max_bytes: int,
        boundaries: Boundaries = Boundaries(),  # noqa: B008  # a tuple
        max_age: float | None = None,
        sync_rotated: bool = False,
        finisher: Finisher | None = None,
    ) -> None:
        self._path = Path(path).absolute()
        self._name = str(self._path)
        self.max_record_bytes = min(max_bytes, total_max_bytes)
        self._max_files = max_files
        self._total_max_bytes = total_max_bytes
        self._beginning, self._terminator = boundaries
        self._max_age = max_age
        self._sync_rotated = sync_rotated
        self._finisher = finisher
        self._rotated = RotatedFiles(self._path)
        self._rotated_bytes: int | None = None
        self._fd = -1
        self._identity = (0, 0)

    def append(self, lines: Sequence[bytes]) -> AppendResult:
        """Appends whole records in order, as many as can be written; waits for the lock.

        An ``OSError`` is returned, not raised. A record longer than ``max_record_bytes`` cannot be kept: it stops the
        call with ``EFBIG``.

        Args:
            lines: records, each ending in the terminator.
        """
        batch = _Appending(lines)
        try:
            while batch.written < len(lines):
                self._append_under_lock(batch)
        except OSError as error:
            if error.errno in _REOPEN_AFTER:
                self.close()
            return AppendResult(batch.written, batch.torn_bytes, error)
        return AppendResult(batch.written, batch.torn_bytes, None)

    def check(self) -> None:
        """Opens the file, making it and missing directories, so that a bad path is told at start.

        Raises:
            CaptureFileError: the file cannot be opened or locked; the text names it and the reason.
        """
        try:
            if not self._descriptor_is_ours():
                self._open()
            with contextlib.suppress(BlockingIOError):  # another writer has it: so it can be locked
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError as error:
            self.close()
            raise CaptureFileError(f"cannot write the capture file {self._name}: {error.strerror or error}") from error

    def sync(self) -> None:
        """Brings what was written to the disk.

        Raises:
            OSError: the disk did not take it.
        """
        if self._descriptor_is_ours():
            os.fsync(self._fd)

    def retire(self) -> None:
        """Lets go of what is older than ``max_age``: rotates the live file, deletes rotated ones.

        Raises:
            OSError: as ``append`` returns it.
        """
        if self._max_age is None:
            return
        size = self._lock()
        try:
            if size and self._first_moment() < time.time() - self._max_age:
                self._rotate(size)
            else:
                self._keep_within(self._total_max_bytes - size)
        finally:
            self._unlock()

    def settle(self, unfinished: Unfinished, suffix: str) -> Unfinished | None:
        """Puts a finished file in its source's place; begins with another file that is due, where there is room.

        Returns:
            What is to be finished next.

        Raises:
            OSError: the file system does not let us; nothing is lost then.
        """
        size = self._lock()
        try:
            room = self._rotated.bytes()
            self._rotated.settle(unfinished, suffix)
            # What others have counted may become less, never more: they do not count again now.
            due = self._rotated.oldest_plain()
            if due is None or self._finisher is None:
                return None
            needed = self._finisher.room(due.stat().st_size)
            fits = self._rotated.bytes() + needed <= min(room, self._total_max_bytes - size)
            return self._rotated.reserve(due, needed) if fits else None
        finally:
            self._unlock()

    def close(self) -> None:
        """Closes the file; a later ``append`` opens it again."""
        self._unlock()  # a forked child may still hold a copy of the descriptor: closing ours would not unlock
        self.forget()

    def forget(self) -> None:
        """In a forked child: closes the inherited descriptor; the lock is the parent's and stays."""
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    # -- the lock ------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._rotated_bytes = None
        descriptor, status = open_private(self._path)
        head = os.pread(descriptor, len(self._beginning), 0)
        if not self._beginning.startswith(head):
            os.close(descriptor)
            raise OSError(
                errno.EEXIST,
                "it holds something that is no capture of this format; expected one that is, or a new file",
            )
        self._fd = descriptor
        self._identity = (status.st_dev, status.st_ino)

    def _lock(self) -> int:
        """Locks the file that the path names now, opened anew where that is another one; returns its size."""
        for _ in range(_MAX_REOPENS):
            if not self._descriptor_is_ours():
                self._open()
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                status = os.lstat(self._name)
                if (status.st_dev, status.st_ino) == self._identity:
                    return status.st_size
            self.close()
        raise OSError(errno.EBUSY, "the path names another file all the time", self._name)

    def _descriptor_is_ours(self) -> bool:
        """Whether the file is open and its descriptor still our file's.

        A host that becomes a daemon closes every descriptor; the number may be its database's now.
        """
        if self._fd < 0:
            return False
        try:
            status = os.fstat(self._fd)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
        else:
            if (status.st_dev, status.st_ino) == self._identity:
                return True
        self._fd = -1  # not ours to close
        return False

    def _unlock(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    # -- under the lock ------------------------------------------------------------------------------

    def _append_under_lock(self, batch: _Appending) -> None:
        """Writes until the batch is done or the live file was rotated away."""
        size = self._lock()
        try:
            end = len(self._terminator)
            if size and os.pread(self._fd, end, max(0, size - end)) != self._terminator:
                size = self._cut_torn_tail(batch)
            max_bytes, total_max_bytes = self.max_record_bytes, self._total_max_bytes
            rotated_bytes = self._rotated_bytes
            if rotated_bytes is None:
                rotated_bytes = self._keep_within(total_max_bytes - size)
            while batch.written < len(batch.lines):
                room = min(max_bytes, total_max_bytes - rotated_bytes) - size
                stop = batch.fitting(room)
                if stop > batch.written:
                    size += self._write(batch, stop)
                    continue
                needed = size + batch.next_length()
                if needed > max_bytes:
                    if batch.next_length() > max_bytes:
                        reason = f"a record of {batch.next_length()} bytes, {max_bytes} are allowed"
                        raise OSError(errno.EFBIG, reason, self._name)
                    self._rotate(size)
                    return
                rotated_bytes = self._keep_within(total_max_bytes - needed)
        finally:
            self._unlock()

    def _keep_within(self, max_bytes: int) -> int:
        self._rotated_bytes = None  # unknown, should this fail half-way
        not_before = time.time() - self._max_age if self._max_age is not None else 0.0
        self._rotated_bytes = self._rotated.keep_within(
            max_bytes,
            max_files=self._max_files,
            not_before=not_before,
            spare_unfinished=self._finisher is not None and self._finisher.encrypts,
        )
        return self._rotated_bytes

    def _rotate(self, size: int) -> None:
        self._rotated_bytes = None
        unfinished = self._room_for_finishing(size)
        try:
            self._rotated.rotate(self._max_files)
        except OSError:
            if unfinished is not None:
                unfinished.discard()
            raise
        if self._sync_rotated:
            self._unlock()  # nobody needs to wait for the disk
            with contextlib.suppress(OSError):  # the records are in the file; where they are not, a disk is broken
                os.fsync(self._fd)
                _sync_directory(self._path.parent)
        self.close()
        if unfinished is not None and self._finisher is not None:
            self._finisher.take(unfinished)

    def _room_for_finishing(self, size: int) -> Unfinished | None:
        if self._finisher is None or not self._max_files:
            return None
        room = self._finisher.room(size)
        left = self._total_max_bytes - size - room
        if self._finisher.encrypts and left >= 0:  # what must not stay readable is worth more than what is old
            self._keep_within(left)
            self._rotated_bytes = None
        elif self._rotated.bytes() > left:
            return None
        with contextlib.suppress(OSError):  # it will be taken up at the next rotation
            return self._rotated.reserve(self._path, room)
        return None

    def _first_moment(self) -> float:
        """When the live file's first record was, in seconds since the epoch; its last write where it does not tell."""
        found = _MOMENT.search(os.pread(self._fd, 200, 0))
        if found is None:
            return os.fstat(self._fd).st_mtime
        try:
            return datetime.fromisoformat(found[0].decode()).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return os.fstat(self._fd).st_mtime

    def _write(self, batch: _Appending, stop: int) -> int:
        """Writes the lines up to ``stop``; returns the bytes that were kept, all of them whole records.

        Raises:
            OSError: not all lines could be written; those that were are counted in ``batch``.
        """
        lines = batch.lines[batch.written : stop]
        # One buffer, not writev: as fast for records of usual sizes, and no limit on how many.
        data = lines[0] if len(lines) == 1 else b"".join(lines)
        done = 0
        try:
            done = os.write(self._fd, data)
            while done < len(data):  # a short write: what hinders it, the next one tells
                done += os.write(self._fd, memoryview(data)[done:])
        except OSError:
            torn = batch.count(done)
            if torn:
                # From the end, not from the start: an outsider may have truncated the file meanwhile.
                os.ftruncate(self._fd, max(0, os.fstat(self._fd).st_size - torn))
            raise
        batch.written = stop
        return done

    def _cut_torn_tail(self, batch: _Appending) -> int:
        """Cuts the file back to the end of its last whole record; returns its size then."""
        size = os.fstat(self._fd).st_size
        whole, overlap = size, len(self._terminator) - 1
        while whole > 0:
            start = max(0, whole - _LOOK_BACK)
            found = os.pread(self._fd, whole - start + overlap, start).rfind(self._terminator)
            whole = start
            if found >= 0:
                whole += found + len(self._terminator)
                break
        os.ftruncate(self._fd, whole)
        batch.torn_bytes += size - whole
        return whole


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Appending:
    """The lines of one ``append`` and how far it has come."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.lines = lines
        self.written = 0
        self.torn_bytes = 0
        self._ends = list(accumulate(map(len, lines)))

    def fitting(self, room: int) -> int:
        """The index after the last line that still fits into ``room`` bytes."""
        return bisect_right(self._ends, self._bytes_written() + room, lo=self.written)

    def next_length(self) -> int:
        return self._ends[self.written] - self._bytes_written()

    def count(self, size: int) -> int:
        """Counts the lines that are whole in ``size`` more bytes; returns the bytes that are left over."""
        end = self._bytes_written() + size
        self.written = bisect_right(self._ends, end, lo=self.written)
        return end - self._bytes_written()

    def _bytes_written(self) -> int:
        return self._ends[self.written - 1] if self.written else 0
