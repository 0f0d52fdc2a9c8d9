"""The names of a capture's files: which files beside ``FILE`` are its own.

``FILE.1`` is the newest rotated file, ``FILE.2`` the one before. A rotated file that was compressed or encrypted says
so at the end of its name: ``FILE.1.zst``, ``FILE.1.gz.age``. ``FILE.8192.1f3a9c02.tmp`` is a rotated file in the
making, with at most 8192 bytes when it is done.
"""

from __future__ import annotations

import re
from typing import NamedTuple

COMPRESSION_SUFFIXES = {"gzip": ".gz", "zstd": ".zst"}
ENCRYPTION_SUFFIX = ".age"

# Larger numbers are dates and times that somebody else put there (``FILE.20250110``), not ours.
_ROTATED = re.compile(r"\.([1-9][0-9]{0,4})((?:\.gz|\.zst)?(?:\.age)?)")
_UNFINISHED = re.compile(r"\.([1-9][0-9]{0,18})\.[0-9a-f]{8}\.tmp")

_MAGIC = ((b"\x28\xb5\x2f\xfd", ".zst"), (b"\x1f\x8b", ".gz"), (b"age-encryption.org/v1", ".age"))
MAGIC_LENGTH = 21
"""Bytes at the beginning of a file that ``coding`` looks at."""


class RotatedName(NamedTuple):
    """What a rotated file's name says: its number, and the suffix that tells its coding, ``""`` for none."""

    number: int
    suffix: str


def rotated_name(live: str, name: str) -> RotatedName | None:
    """Reads the name of a rotated file of the capture ``live``; None where it is another's (``FILE.01``)."""
    match = _ROTATED.fullmatch(name, len(live)) if name.startswith(live) else None
    return RotatedName(int(match[1]), match[2]) if match else None


def is_rotated_name(name: str) -> bool:
    """Whether a file's name ends as that of a rotated one does, whatever its capture is called."""
    return re.search(rf".{_ROTATED.pattern}\Z", name) is not None


def unfinished_name(live: str, room: int, token: str) -> str:
    """The name of a file in the making, which will not grow past ``room`` bytes; ``token``: 8 hex digits."""
    return f"{live}.{room}.{token}.tmp"


def unfinished_room(live: str, name: str) -> int | None:
    """The bytes that are kept free for a file in the making; None where the name is none of those."""
    match = _UNFINISHED.fullmatch(name, len(live)) if name.startswith(live) else None
    return int(match[1]) if match else None


def coding(head: bytes) -> str:
    """The suffix for what a file begins with: ``.gz``, ``.zst``, ``.age``, or ``""`` for records as they are."""
    return next((suffix for magic, suffix in _MAGIC if head.startswith(magic)), "")
