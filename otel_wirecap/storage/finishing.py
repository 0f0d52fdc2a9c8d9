"""Compresses and encrypts rotated files, in a thread of its own that nobody waits for.

Invariants:

- A rotated file is replaced only by one that is whole and on the disk, in one step, under the capture's lock. Whatever
  goes wrong before leaves the file as it was; it is taken up again after the next rotation.
- Never more is written than the room that was made for it.
- The thread lets go of the interpreter every half millisecond, as the writer does.
"""

from __future__ import annotations

import collections
import errno
import io
import os
import shutil
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from otel_wirecap import native
from otel_wirecap.capture.naming import COMPRESSION_SUFFIXES, ENCRYPTION_SUFFIX
from otel_wirecap.errors import ConfigurationError
from otel_wirecap.log import WarnOnce
from otel_wirecap.messages import without_secrets
from otel_wirecap.storage.pauses import Pauses

if TYPE_CHECKING:
    from otel_wirecap.storage.rotation import Unfinished

BLOCK_SIZE = 256 * 1024
GZIP_LEVEL = 6
ZSTD_LEVEL = 3


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _SettlingFile(Protocol):
    """What a finisher needs of a ``CaptureFile``."""

    def settle(self, unfinished: Unfinished, suffix: str) -> Unfinished | None: ...
    def close(self) -> None: ...


class Finishing:
    """How rotated files are finished.

    Args:
        compression: ``none``, ``gzip`` or ``zstd``.
        encrypt_to: an age public key, or None.

    Attributes:
        encrypts: whether they are encrypted.
        suffix: what the names of finished files end with; empty where nothing is to be done.

    Raises:
        ConfigurationError: a package is missing, or the key is none.
    """

    def __init__(self, compression: str, encrypt_to: str | None) -> None:
        self._compressor = _compressor(compression)
        self._encrypt = _encryption(encrypt_to) if encrypt_to is not None else None
        self.encrypts = encrypt_to is not None
        self.suffix = COMPRESSION_SUFFIXES.get(compression, "") + (ENCRYPTION_SUFFIX if encrypt_to else "")

    def room(self, size: int) -> int:
        """Bytes that a file of ``size`` bytes may have when it is finished; one that needs more stays as it is.

        Captures become a fifth and less; what does not even become a half is not worth the work.
        """
        return (size if self._compressor is None else size // 2) + size // 128 + 4096

    def finish(self, source: io.RawIOBase, target: _Target) -> None:
        """Writes what ``source`` holds into ``target``, compressed and encrypted."""
        reader = source if self._compressor is None else _Compressed(source, self._compressor())
        if self._encrypt is None:
            shutil.copyfileobj(reader, target, BLOCK_SIZE)
        else:
            self._encrypt(reader, target)


class Finisher:
    """Finishes the rotated files of one capture.

    Args:
        finishing: how.
        open_file: makes an object of the capture's file for this thread alone.
        tell: is told, with a reason, of a file that could not be finished, and returns whether the log took that.

    Attributes:
        encrypts: whether the files are encrypted.
        room: tells what room a file needs; see ``Finishing.room``.
    """

    def __init__(
        self, finishing: Finishing, open_file: Callable[[], _SettlingFile], tell: Callable[[str], bool]
    ) -> None:
        self._finishing = finishing
        self.encrypts = finishing.encrypts
        self.room = finishing.room
        self._open_file = open_file
        self._warn_once = WarnOnce(tell)
        self._waiting: collections.deque[Unfinished] = collections.deque()
        self._begin()

    def _begin(self) -> None:
        self._lock = native.Lock()
        self._current: Unfinished | None = None
        self._thread: native.Thread | None = None
        self._stopped = False
        self._warn_once.forget()

    def begin_child(self) -> None:
        """In a forked child: the parent's files are the parent's."""
        for unfinished in (*self._waiting, self._current):
            if unfinished is not None:
                unfinished.forget()
        self._waiting.clear()
        self._begin()

    def take(self, unfinished: Unfinished) -> None:
        """Takes a rotated file; returns at once."""
        with self._lock:
            self._waiting.append(unfinished)
            if self._thread is not None:
                return
            try:
                self._thread = native.start_thread("otel-wirecap-finisher", self._run)
            except RuntimeError as error:  # no more threads
                self._waiting.remove(unfinished)
                failure = error
            else:
                return
        unfinished.discard()
        self._tell_failure(failure)

    def close(self, timeout: float) -> None:
        """Waits for the files that were taken, up to ``timeout`` seconds; gives up on what is left then."""
        thread = self._thread
        if thread is None:
            return
        thread.join(timeout)
        self._stopped = True
        thread.join(1.0)

    def _run(self) -> None:
        file = self._open_file()
        while True:
            with self._lock:
                self._current = unfinished = self._waiting.popleft() if self._waiting else None
                if unfinished is None:
                    self._thread = None
                    break
            try:
                following = self._finish(unfinished, file)
            except BaseException as error:  # noqa: BLE001  # the capture goes on, whatever happened
                if not self._stopped:
                    self._tell_failure(error)
                following = None
            else:
                self._warn_once.forget()
            unfinished.discard()
            if following is not None:
                self._waiting.appendleft(following)
        file.close()

    def _finish(self, unfinished: Unfinished, file: _SettlingFile) -> Unfinished | None:
        target = _Target(unfinished)
        self._finishing.finish(_Source(unfinished, lambda: self._stopped), target)
        os.fsync(unfinished.target)
        return file.settle(unfinished, self._finishing.suffix)

    def _tell_failure(self, error: BaseException) -> None:
        self._warn_once(getattr(error, "strerror", None) or type(error).__name__)


class _Source(io.RawIOBase):
    """Reads a rotated file from its beginning, with pauses."""

    def __init__(self, unfinished: Unfinished, stopped: Callable[[], bool]) -> None:
        self._descriptor = unfinished.source
        self._stopped = stopped
        self._offset = 0
        self._pauses = Pauses()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        if self._stopped():
            raise InterruptedError
        self._pauses.pause_if_due()
        data = os.pread(self._descriptor, BLOCK_SIZE if size is None or size < 0 else size, self._offset)
        self._offset += len(data)
        return data


class _Compressed(io.RawIOBase):
    """Reads compressed what another stream holds."""

    def __init__(self, source: io.RawIOBase, compressor: _Compressor) -> None:
        self._source = source
        self._compressor: _Compressor | None = compressor
        self._ready = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        while not self._ready and self._compressor is not None:
            data = self._source.read(BLOCK_SIZE)
            if data:
                self._ready = self._compressor.compress(data)
            else:
                self._ready, self._compressor = self._compressor.flush(), None
        end = len(self._ready) if size is None or size < 0 else size
        data, self._ready = self._ready[:end], self._ready[end:]
        return data


class _Target:
    """Writes the file that will take the source's place, within its room."""

    def __init__(self, unfinished: Unfinished) -> None:
        self._descriptor = unfinished.target
        self._left = unfinished.room

    def write(self, data: bytes) -> int:
        size = len(data)
        if size > self._left:
            raise OSError(errno.EFBIG, "it does not become smaller")
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._left -= size
        return size

    def flush(self) -> None:
        """Nothing is held back."""


def _compressor(compression: str) -> Callable[[], _Compressor] | None:
    if compression == "none":
        return None
    if compression == "gzip":
        return lambda: zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise ConfigurationError(
                "capture_compression: 'zstd' needs the package backports.zstd; "
                "install otel-wirecap[encodings], or take gzip"
            ) from None
    return lambda: cast("_Compressor", zstd.ZstdCompressor(level=ZSTD_LEVEL))


def _encryption(recipient: str) -> Callable[[Any, Any], None]:
    try:
        import pyrage  # type: ignore[import-not-found, import-untyped, unused-ignore]  # an extra, without types
    except ImportError:
        raise ConfigurationError(
            "capture_encrypt_to: needs the package pyrage; install otel-wirecap[encryption]"
        ) from None
    kind = pyrage.ssh.Recipient if recipient.startswith("ssh-") else pyrage.x25519.Recipient
    try:
        recipients = [kind.from_str(recipient)]
    except pyrage.RecipientError:
        shown = without_secrets(repr(recipient))
        raise ConfigurationError(
            f"capture_encrypt_to: {shown} cannot be used; expected an age public key (age1…), "
            "as age-keygen -y prints it, or an SSH public key (ssh-ed25519 …, ssh-rsa …)"
        ) from None
    return lambda reader, writer: pyrage.encrypt_io(reader, writer, recipients)
