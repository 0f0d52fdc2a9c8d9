"""The caps of a capture, and how the processes that share it agree on the strictest.

Each process registers its caps with the kernel, as locks of an open file description on single bytes of the live file,
far beyond its end: the offset of the byte is the cap. Nothing is written, and what a process registered is gone when
it ends. A process that has met a stricter cap keeps to it, and registers it with every new live file, so that it also
holds while the process it came from writes nothing.

Where the kernel or the file system has no such locks, each process keeps to its own caps.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path
from typing import NamedTuple

_SET_LOCK = getattr(fcntl, "F_OFD_SETLK", None)
_GET_LOCK = getattr(fcntl, "F_OFD_GETLK", None)
_FLOCK = struct.Struct("@hhqqi4x")
"""``struct flock``: type, whence, start, length, pid."""

_REGION = 1 << 60
"""Bytes between the regions of two caps; also the largest cap that is registered."""

_MOUNTS = Path("/proc/self/mounts")
_LOCAL_FILE_SYSTEMS = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"})
"""Where such a lock stays in this kernel. A network file system may make one lock of these and of ``flock``."""


class Caps(NamedTuple):
    """What a capture may take: bytes of one file, rotated files, bytes of all files together."""

    max_bytes: int
    max_files: int
    total_max_bytes: int


class SharedCaps:
    """The caps that this process keeps to: its own, or stricter ones that it has met.

    Args:
        own: this process's settings.

    Attributes:
        strictest: the caps in force.
    """

    def __init__(self, own: Caps) -> None:
        self._own = own
        self.strictest = own
        self._works: bool | None = None

    def register(self, descriptor: int, path: Path) -> None:
        """Tells the others: with every live file that is opened, under its lock."""
        if self._works is None:
            self._works = _SET_LOCK is not None and _file_system(path) in _LOCAL_FILE_SYSTEMS
        if not self._works:
            return
        try:
            for caps in {self._own, self.strictest}:
                self._lock(descriptor, fcntl.F_RDLCK, caps)
        except OSError:
            self._works = False

    def unregister(self, descriptor: int) -> None:
        """Takes it back: a forked child may hold the descriptor open for longer than we."""
        if self._works:
            with contextlib.suppress(OSError):
                for caps in {self._own, self.strictest}:
                    self._lock(descriptor, fcntl.F_UNLCK, caps)

    def meet(self, descriptor: int) -> Caps:
        """The strictest caps that are registered with the live file; to be called under its lock."""
        if not self._works:
            return self.strictest
        found = self.strictest
        try:
            for region, cap in enumerate(found, 1):
                met = self._smaller(descriptor, region, cap)
                if met != cap:
                    found = found._replace(**{Caps._fields[region - 1]: met})
            if found != self.strictest:
                self.strictest = found
                self._lock(descriptor, fcntl.F_RDLCK, found)
        except OSError:
            self._works = False
        return self.strictest

    @staticmethod
    def _lock(descriptor: int, kind: int, caps: Caps) -> None:
        for region, cap in enumerate(caps, 1):
            if cap < _REGION:
                fcntl.fcntl(descriptor, _SET_LOCK or 0, _FLOCK.pack(kind, os.SEEK_SET, region * _REGION + cap, 1, 0))

    @staticmethod
    def _smaller(descriptor: int, region: int, cap: int) -> int:
        """The smallest cap that another process registered, or ``cap``."""
        base = region * _REGION
        while cap:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, base, min(cap, _REGION - 1), 0)
            kind, _, start, _, _ = _FLOCK.unpack(fcntl.fcntl(descriptor, _GET_LOCK or 0, asked))
            if kind == fcntl.F_UNLCK:
                break
            cap = start - base
        return cap


def _file_system(path: Path) -> str | None:
    """The type of the file system that ``path`` is on; None where that cannot be told."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        folder = os.path.realpath(path.parent)
    except OSError:
        return None
    found: tuple[int, str] | None = None
    for line in mounts:
        _, point, kind, *_ = line.split(" ")
        point = point.replace("\\040", " ").rstrip("/")
        if (folder + "/").startswith(point + "/") and (found is None or len(point) >= found[0]):
            found = len(point), kind
    return found[1] if found is not None else None
