"""The rotated files beside a capture file: ``FILE.1``, the newest, to ``FILE.N``, the oldest.

Invariants:

- Everything here happens under the lock of the live file, which the caller holds; a process that waited for
  that lock finds afterwards that the path names another file, and starts over.
- A crash between any two steps loses nothing but files that were due for deletion: a shift goes only up to
  the first missing number, the oldest file first, so that no rename meets a file that is to be kept; the
  live file moves last. What a crash leaves is a missing number, which the next shift fills.
- Only regular files whose number could be ours are counted and deleted; whatever else bears such a name is
  left alone.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MOST_FILES = 99_999
"""Larger numbers are dates and times that somebody else put there (``FILE.20250110``), not ours to delete."""


class RotatedFiles:
    """The rotated files of the capture file at ``path``.

    Args:
        path: the live file, absolute.
        max_files: rotated files to keep; 0 keeps none, more than ``MOST_FILES`` means ``MOST_FILES``.
    """

    def __init__(self, path: Path, *, max_files: int) -> None:
        self._path = path
        self._prefix = path.name + "."
        self._max_files = min(max_files, MOST_FILES)

    def keep_within(self, max_bytes: int) -> int:
        """Deletes what is beyond ``max_files``, then the oldest until the others hold at most ``max_bytes``.

        Returns:
            The bytes that the rotated files hold now.

        Raises:
            OSError: a file cannot be deleted, or the directory cannot be read.
        """
        sizes = self._sizes()
        total = sum(sizes.values())
        for number in sorted(sizes, reverse=True):
            if number > self._max_files or (total > max_bytes and sizes[number]):
                self._numbered(number).unlink(missing_ok=True)
                total -= sizes[number]
        return total

    def rotate(self) -> None:
        """Makes the live file ``FILE.1``; with ``max_files`` 0 deletes it. The path names no file afterwards.

        Raises:
            OSError: a file cannot be renamed or deleted; nothing is lost then.
        """
        if self._max_files == 0:
            self._path.unlink(missing_ok=True)
            return
        free = next((n for n in range(1, self._max_files) if not self._occupied(n)), self._max_files)
        for number in range(free, 0, -1):
            source = self._numbered(number - 1) if number > 1 else self._path
            with contextlib.suppress(FileNotFoundError):  # somebody took it away just now
                source.rename(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(self._prefix + str(number))

    def _occupied(self, number: int) -> bool:
        return os.path.lexists(self._numbered(number))  # a dangling symbolic link occupies its name, too

    def _sizes(self) -> dict[int, int]:
        """Number → bytes, of the regular files that may be ours."""
        sizes: dict[int, int] = {}
        # Others may move files away, or the directory with them, at any moment: they do not count then.
        with contextlib.suppress(FileNotFoundError), os.scandir(self._path.parent) as entries:
            for entry in entries:
                number = self._number_in(entry.name)
                if number and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        sizes[number] = entry.stat(follow_symlinks=False).st_size
        return sizes

    def _number_in(self, name: str) -> int:
        """The number of a rotated file; 0 where the name is another's (``FILE.01``, ``FILE.1.gz``)."""
        if not name.startswith(self._prefix):
            return 0
        digits = name[len(self._prefix) :]
        ours = digits.isascii() and digits.isdigit() and digits[0] != "0" and len(digits) <= len(str(MOST_FILES))
        return int(digits) if ours else 0
