"""One writer for each capture file of this process, shared by all who write there."""

from __future__ import annotations

import atexit
import dataclasses
import os
from typing import TYPE_CHECKING

from otel_wirecap import native
from otel_wirecap.errors import ConfigurationError
from otel_wirecap.log import warn
from otel_wirecap.storage.writer import CaptureWriter

if TYPE_CHECKING:
    from otel_wirecap.config import CaptureConfig

_lock = native.RLock()
_writers: dict[str, CaptureWriter] = {}
_users: dict[str, int] = {}
_ended: dict[str, set[str]] = {}


def open_writer(config: CaptureConfig) -> CaptureWriter:
    """The writer of ``config.capture_file``, opened where it is not yet; to be given back with ``release_writer``.

    One that is open keeps its settings; where they are others than these, the log says so.

    Raises:
        ConfigurationError: no file is configured.
        CaptureFileError: the file cannot be opened or written.
    """
    if config.capture_file is None:
        raise ConfigurationError("capture_file: not set; expected the path of the capture file")
    path = os.fspath(config.capture_file.absolute())
    with _lock:  # in which nothing is logged: a handler of the application's may wait for whoever waits here
        writer = _writers.get(path)
        is_new = writer is None
        if writer is None:
            writer = CaptureWriter(config, path)
            writer.start()
            _writers[path] = writer
        _users[path] = _users.get(path, 0) + 1
    if is_new:
        writer.tell_start()
    if dataclasses.replace(writer.config, capture_file=config.capture_file) != config:
        warn("the capture %s is open already, with other settings, which it keeps", path)
    return writer


def release_writer(writer: CaptureWriter, timeout: float = 5.0) -> None:
    """Gives a writer back; the last user's call ends the capture and waits for it up to ``timeout`` seconds."""
    with _lock:
        users = _users.get(writer.path, 0) - 1
        if users > 0:
            _users[writer.path] = users
            return
        _users.pop(writer.path, None)
        _writers.pop(writer.path, None)
        _ended.setdefault(writer.path, set()).update(writer.processes)
    writer.close(timeout)


def is_written_here(config: CaptureConfig, process: object) -> bool:
    """Whether the records of ``process`` (see ``CaptureWriter``) go, or went, from this process into that capture."""
    path = os.fspath(config.capture_file.absolute()) if config.capture_file is not None else ""
    writer = _writers.get(path)
    return (writer is not None and process in writer.processes) or process in _ended.get(path, ())


def open_writers() -> list[CaptureWriter]:
    """The writers of this process."""
    return list(_writers.values())


def pause_writers(timeout: float) -> None:
    """Brings everything to the files: the process may be killed after this (see ``CaptureWriter.pause``)."""
    for writer in open_writers():
        writer.pause(timeout)


def note_end() -> None:
    """Notes that the process may be gone after this (see ``CaptureWriter.note_end``)."""
    for writer in open_writers():
        writer.note_end()


def close_first_at_exit() -> None:
    """Puts the end of all captures before every exit function that is registered now.

    The writer ends spans of the user's provider, which must not be shut down by then; exit functions run in the
    opposite order of their registration.
    """
    atexit.unregister(_close_all)
    atexit.register(_close_all)


def _close_all() -> None:
    for writer in open_writers():
        writer.close()


def _begin_child() -> None:
    global _lock  # another thread of the parent may have held the old one
    _lock = native.RLock()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_begin_child)
