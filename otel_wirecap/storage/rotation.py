"""The rotated files beside a capture file: ``FILE.1``, the newest, to ``FILE.N``, the oldest.

Invariants:

- Everything here happens under the lock of the live file, which the caller holds; a process that waited for
  that lock finds afterwards that the path names another file, and starts over.
- A crash between any two steps loses nothing but files that were due for deletion: a shift goes only up to
  the first missing number, the oldest file first, so that no rename meets a file that is to be kept; the
  live file moves last. What a crash leaves is a missing number, which the next shift fills.
- A file in the making keeps its room by its name, not by its size: whoever counts, counts all of it. It is made
  before a rotation gives the path a new file, so that everybody counts it before the next record is written. Its
  maker holds a lock on it: one that can be locked was left by a process that died.
- A finished file takes its source's place in one rename; only then does its name say what it is. So no record
  ever stands in two files, and readers go by a file's first bytes.
- Only regular files with a name that could be ours are counted and deleted; whatever else bears such a name is
  left alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from otel_wirecap.capture.naming import (
    MAGIC_LENGTH,
    coding,
    rotated_name,
    unfinished_name,
    unfinished_room,
)

_UNFINISHED_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SOURCE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclasses.dataclass(eq=False, slots=True)
class Unfinished:
    """A rotated file that is being compressed or encrypted.

    Attributes:
        source: a descriptor of the file as it is, at its beginning.
        target: a descriptor of the empty, private file that will take its place.
        path: the target's name until then.
        room: bytes that the target may grow to.
    """

    source: int
    target: int
    path: Path
    room: int

    def forget(self) -> None:
        """Closes both descriptors."""
        for descriptor in (self.source, self.target):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def discard(self) -> None:
        """Gives up: the source stays as it is."""
        with contextlib.suppress(OSError):
            if _same_file(os.lstat(self.path), os.fstat(self.target)):
                self.path.unlink()
        self.forget()


class _RotatedFile(NamedTuple):
    number: int
    suffix: str
    path: Path
    status: os.stat_result


class RotatedFiles:
    """The rotated files of the capture file at ``path``, an absolute path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep_within(
        self, max_bytes: int, *, max_files: int, not_before: float = 0.0, spare_unfinished: bool = False
    ) -> int:
        """Deletes what is beyond ``max_files`` or was last written before ``not_before``, then the oldest.

        Args:
            max_bytes: bytes that all files together may have, the live one not included.
            max_files: rotated files to keep.
            not_before: seconds since the epoch.
            spare_unfinished: whether captured files go before those in the making, whose work could be done again.

        Returns:
            The bytes that the files hold now, the room kept for those in the making included.

        Raises:
            OSError: a file cannot be deleted, or the directory cannot be read.
        """
        files, unfinished = self._scan()
        total = sum(file.status.st_size for file in files) + sum(unfinished.values())
        for path in [path for path in unfinished if _is_abandoned(path)]:
            path.unlink(missing_ok=True)
            total -= unfinished.pop(path)
        if not spare_unfinished:
            total -= _delete(unfinished, total - max_bytes)
            unfinished = {}
        for file in files:
            size = file.status.st_size
            too_old = file.number > max_files or file.status.st_mtime < not_before
            if too_old or (total > max_bytes and size):
                file.path.unlink(missing_ok=True)
                total -= size
        return total - _delete(unfinished, total - max_bytes)

    def reserve(self, source: Path, room: int) -> Unfinished:
        """Makes the file that will take the place of ``source``, and keeps ``room`` bytes for it.

        Raises:
            OSError: it cannot be made; nothing is left of it then.
        """
        opened = os.open(source, _SOURCE_FLAGS)
        path = self._path.with_name(unfinished_name(self._path.name, room, secrets.token_hex(4)))
        try:
            target = os.open(path, _UNFINISHED_FLAGS, 0o600)
        except OSError:
            os.close(opened)
            raise
        unfinished = Unfinished(opened, target, path, room)
        try:
            fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(opened)
            os.fchmod(target, status.st_mode & 0o777)
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                with contextlib.suppress(PermissionError):
                    os.fchown(target, status.st_uid, status.st_gid)
        except OSError:
            unfinished.discard()
            raise
        return unfinished

    def rotate(self, max_files: int) -> None:
        """Makes the live file ``FILE.1``; with ``max_files`` 0 deletes it. The path names no file afterwards.

        Raises:
            OSError: a file cannot be renamed or deleted; nothing is lost then.
        """
        if max_files == 0:
            self._path.unlink(missing_ok=True)
            return
        occupied = self._names()
        free = next((n for n in range(1, max_files) if n not in occupied), max_files)
        for name, _ in occupied.get(free, ()):  # the oldest, which is due; what is no file of ours is left alone
            path = self._path.with_name(name)
            if path.is_file() and not path.is_symlink():
                path.unlink(missing_ok=True)
        for number in range(free, 1, -1):
            for name, suffix in occupied[number - 1]:
                self._rename(name, self._numbered(number, suffix))
        self._rename(self._path.name, self._numbered(1, ""))

    def settle(self, unfinished: Unfinished, suffix: str) -> bool:
        """Puts a finished file in the place of its source, wherever that has moved meanwhile.

        Returns:
            False where the source is gone, or the finished file is: somebody needed the room.
        """
        try:
            if not _same_file(os.lstat(unfinished.path), os.fstat(unfinished.target)):
                return False
        except FileNotFoundError:
            return False
        source = os.fstat(unfinished.source)
        os.utime(unfinished.target, ns=(source.st_atime_ns, source.st_mtime_ns))
        for file in self._scan()[0]:
            if _same_file(file.status, source):
                unfinished.path.rename(file.path)
                self._rename(file.path.name, self._numbered(file.number, suffix))
                return True
        return False

    def oldest_plain(self) -> Path | None:
        """The oldest file whose content is neither compressed nor encrypted.

        A name that a crash kept from saying what the file is, is set right on the way.
        """
        for file in self._scan()[0]:
            if file.suffix or not file.status.st_size:
                continue
            with file.path.open("rb") as stream:
                suffix = coding(stream.read(MAGIC_LENGTH))
            if not suffix:
                return file.path
            self._rename(file.path.name, self._numbered(file.number, suffix))
        return None

    def bytes(self) -> int:
        """The bytes of all files, the room kept for those in the making included."""
        files, unfinished = self._scan()
        return sum(file.status.st_size for file in files) + sum(unfinished.values())

    def _rename(self, name: str, target: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # somebody took it away just now
            self._path.with_name(name).rename(target)

    def _numbered(self, number: int, suffix: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}{suffix}")

    def _names(self) -> dict[int, list[tuple[str, str]]]:
        """Number → names that bear it, with their suffixes, whatever they are: a dangling link takes a name, too."""
        names: dict[int, list[tuple[str, str]]] = {}
        for entry in self._entries():
            rotated = rotated_name(self._path.name, entry.name)
            if rotated is not None:
                names.setdefault(rotated.number, []).append((entry.name, rotated.suffix))
        return names

    def _scan(self) -> tuple[list[_RotatedFile], dict[Path, int]]:
        """The rotated files, the oldest first, and the room that each file in the making keeps."""
        files: list[_RotatedFile] = []
        unfinished: dict[Path, int] = {}
        live = self._path.name
        for entry in self._entries():
            rotated, room = rotated_name(live, entry.name), unfinished_room(live, entry.name)
            if (rotated is None and room is None) or not entry.is_file(follow_symlinks=False):
                continue
            path = self._path.with_name(entry.name)
            # Others may move a file away at any moment: it does not count then.
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if rotated is not None:
                    files.append(_RotatedFile(rotated.number, rotated.suffix, path, status))
                elif room is not None:
                    unfinished[path] = max(room, status.st_size)
        return sorted(files, reverse=True, key=lambda file: file.number), unfinished

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self._path.parent) as entries:
            yield from entries


def _delete(sizes: dict[Path, int], excess: int) -> int:
    """Deletes files until ``excess`` bytes are free; returns how many are."""
    freed = 0
    for path, size in sizes.items():
        if freed >= excess:
            break
        path.unlink(missing_ok=True)
        freed += size
    return freed


def _same_file(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _is_abandoned(path: Path) -> bool:
    """Whether the process that was making the file has died."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
