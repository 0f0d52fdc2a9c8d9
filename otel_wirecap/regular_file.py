"""Files that were named, and may turn out to be no regular ones."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Final, cast

if TYPE_CHECKING:
    from pathlib import Path

_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of(mode: int) -> str:
    """What a file of that mode is, for a message."""
    return _KINDS.get(stat.S_IFMT(mode), "of an unknown kind")


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading; never waits, as a named pipe without a writer would make one.

    Raises:
        OSError: it cannot be opened, or is no regular file; ``strerror`` says what it is.
    """
    _check(path, path.stat())
    # It may have become something else meanwhile.
    file = cast("BinaryIO", os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb"))
    try:
        _check(path, os.fstat(file.fileno()))
    except OSError:
        file.close()
        raise
    return file


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(None, f"it is {kind_of(status.st_mode)}, not a file", str(path))
