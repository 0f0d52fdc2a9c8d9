"""Files that were named for reading, and may turn out to be none."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Final, cast

if TYPE_CHECKING:
    from pathlib import Path

_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


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
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(None, f"it is {kind}, not a file", str(path))
