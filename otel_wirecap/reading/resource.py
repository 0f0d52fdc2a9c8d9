"""Files that are held open, that cannot be read, that take the place of others."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from otel_wirecap.errors import CaptureFileError

NEW = ".new"
"""How the name of a file ends that is to take the place of another."""


class Resource:
    """Something that is open until ``close()`` or the end of the ``with`` block."""

    _stack: contextlib.ExitStack

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files."""
        self._stack.close()


@contextlib.contextmanager
def read_errors(name: object) -> Iterator[None]:
    """Makes errors of the operating system ones that name the capture.

    Raises:
        CaptureFileError: the block raised an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise CaptureFileError(f"capture {str(name)!r} cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def replacement(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file, readable by its owner alone, that takes the place of ``path`` when the block has ended.

    Raises:
        OSError: it cannot be written; nothing is left of it then, nor where the block raises.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}{NEW}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield new, file
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
