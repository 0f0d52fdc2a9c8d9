"""Opens a capture file so that nothing but a private, regular file is ever written to."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from otel_wirecap.regular_file import kind_of

FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700

_ATTEMPTS = 100
"""Each failed attempt means that somebody made or removed the file within microseconds."""


def open_private(path: Path) -> tuple[int, os.stat_result]:
    """Opens ``path`` to read and append; makes it (0600) and missing directories (0700), whatever the umask.

    A file that exists keeps its mode. What is no regular file is refused before it is opened, since opening
    alone has effects: on a FIFO's reader, on a device.

    Returns:
        The descriptor and its status.

    Raises:
        OSError: the text names the reason, ``filename`` the file.
    """
    for _ in range(_ATTEMPTS):
        descriptor = _open_existing(path)
        if descriptor is None:
            descriptor = _create(path)
        if descriptor is None:
            continue
        try:
            status = os.fstat(descriptor)
            _refuse_unless_regular(path, status.st_mode)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, status
    raise OSError(errno.EBUSY, "the file cannot be made, or is made and removed all the time", str(path))


def _open_existing(path: Path) -> int | None:
    """The file's descriptor; None where there is no file."""
    try:
        _refuse_unless_regular(path, os.lstat(path).st_mode)
        # O_CREAT although it exists: with it the kernel guards sticky directories (fs.protected_regular).
        return os.open(path, FLAGS, FILE_MODE)
    except FileNotFoundError:
        return None
    except ValueError as error:  # a NUL, or a character that the file system's encoding lacks
        raise OSError(errno.EINVAL, f"not a file name: {error}", str(path)) from None


def _create(path: Path) -> int | None:
    """A new file's descriptor; None where it is there now, or its directory was missing until now."""
    try:
        descriptor = os.open(path, FLAGS | os.O_EXCL, FILE_MODE)
    except FileExistsError:
        return None
    except FileNotFoundError:
        _make_directories(path.parent)
        return None
    try:
        os.fchmod(descriptor, FILE_MODE)  # the umask may have taken the owner's bits
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _make_directories(directory: Path) -> None:
    """As ``mkdir -p``, with 0700 for every directory made: ``os.makedirs`` gives it to the last alone."""
    for missing in reversed([directory, *directory.parents]):
        if missing.is_dir():
            continue
        try:
            missing.mkdir(DIRECTORY_MODE)
        except FileExistsError:
            continue
        with contextlib.suppress(FileNotFoundError):  # moved away already: the caller tries again
            missing.chmod(DIRECTORY_MODE)


def _refuse_unless_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"not a regular file but {kind_of(mode)}", str(path))
