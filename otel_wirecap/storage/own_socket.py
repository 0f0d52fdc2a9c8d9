"""A socket in a process whose application may close descriptors that it did not open, and use their numbers.

A host that becomes a daemon closes every descriptor; the number may be its database's now. One that has closed its
standard streams writes to whoever gets their numbers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
from typing import TYPE_CHECKING

from otel_wirecap import native

if TYPE_CHECKING:
    import _socket

    from _typeshed import ReadableBuffer

_FIRST_FREE = 3
_LOOK_MILLISECONDS = 1000
"""After which is looked whether the descriptor that is waited for is still our own."""


class OwnSocket(native.socket):
    """A connected socket that is used, and closed, only as long as its descriptor is its own.

    Args:
        given: the socket whose place it takes.
    """

    def __init__(self, given: _socket.socket) -> None:
        descriptor = given.fileno()
        if descriptor < _FIRST_FREE:
            descriptor = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
            given.close()
        else:
            given.detach()
        super().__init__(fileno=descriptor)
        self._identity = _identity_of(descriptor)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Sends all of it.

        Raises:
            OSError: it cannot be sent, or the descriptor is another's.
        """
        left = memoryview(data)
        while left:
            self._check()
            left = left[super().send(left, flags) :]

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receives up to so many bytes.

        Raises:
            OSError: nothing can be received, or the descriptor is another's.
        """
        while True:
            # Never waits in recv itself: it could be another's descriptor that is waited for, and whose data is taken.
            poll = native.poll()
            poll.register(self.fileno(), select.POLLIN)
            poll.poll(_LOOK_MILLISECONDS)
            self._check()
            with contextlib.suppress(BlockingIOError):
                return super().recv(size, flags | socket.MSG_DONTWAIT)

    def shutdown(self, how: int) -> None:
        """Ends the connection.

        Raises:
            OSError: there is none, or the descriptor is another's.
        """
        self._check()
        super().shutdown(how)

    def close(self) -> None:
        """Closes the descriptor, unless it is another's."""
        try:
            self._check()
        except OSError:
            self.detach()
        else:
            super().close()

    def _check(self) -> None:
        if _identity_of(self.fileno()) != self._identity:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _identity_of(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
