"""Writers' processes that the system has made children of this one: whoever adopts them waits for them once they ended.

A writer's process is no child of the application that started it. The system gives it to the first process of the PID
namespace, in a container often an application of ours, or to a nearer process that asked for orphans (a child
subreaper, prctl(2)). What has ended remains as a zombie until its parent waits for it: one for each process that
captured, until the container's limit of processes is reached.

Invariants:

- Nobody is waited for but by their own id, once they have ended and if they carry the writers' name: the application's
  children are the application's, and so are its signal handlers.
- A thread runs in the first process, and where a writer was adopted. A forked child adopts nobody, and has none.
- With the first process of a container all others are killed. So it does not end before the writers of applications
  that have ended, within ``MAX_FINISH_SECONDS``.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from pathlib import Path

from otel_wirecap import native
from otel_wirecap.storage import writer_process_start

FIRST_PROCESS = 1
LOOK_SECONDS = 1.0
"""How often is looked for writers that have ended."""

MAX_FINISH_SECONDS = 5.0
"""How long the first process waits at its end for what others left to be written, as long as for its own capture."""

_PROC = Path("/proc")

_is_watching = False


def watch_where_adopted(writer: int | None = None) -> None:
    """Starts the thread that waits for adopted writers, where this process adopts any; once.

    Args:
        writer: the id of a writer's process that somebody else's end has left to the system: where it is a child of
            this process, others will be.
    """
    global _is_watching
    if _is_watching or not (os.getpid() == FIRST_PROCESS or (writer is not None and writer in _children())):
        return
    with contextlib.suppress(RuntimeError):  # no more threads: the next writer's start tries again
        native.start_thread("otel-wirecap-adopted-writers", _watch)
        _is_watching = True  # two captures that begin at once may start two threads, which do each other no harm


def reap_ended() -> None:
    """Waits for the adopted writers that have ended.

    What this process itself starts a writer with carries the name, too: whoever waits for it bears that somebody
    else was quicker.
    """
    for pid in _children():
        with contextlib.suppress(ChildProcessError, FileNotFoundError):  # the application waits for any child itself
            if native.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None and _is_writer(pid):
                native.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def let_finish(seconds: float = MAX_FINISH_SECONDS) -> None:
    """Waits until no adopted writer is left whose application has ended, up to so many seconds."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(OSError):  # no descriptor is free
        while any(map(_is_finishing, _children())) and time.monotonic() < deadline:
            native.sleep(0.01)


def _watch() -> None:
    while True:
        native.sleep(LOOK_SECONDS)
        with contextlib.suppress(OSError):  # no descriptor is free at the moment
            reap_ended()


def _children() -> list[int]:
    """The children of this process's main thread, which is the one that adopts; none without a ``/proc`` of our own.

    What has that of another PID namespace mounted there reads other processes' numbers.
    """
    pid = os.getpid()
    try:
        if (_PROC / "self").readlink().name != str(pid):
            return []
        return list(map(int, (_PROC / f"{pid}/task/{pid}/children").read_bytes().split()))
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN, or no Linux
        return [int(entry.name) for entry in _PROC.glob("[0-9]*") if _is_child(int(entry.name))]


def _is_child(pid: int) -> bool:
    try:
        native.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _is_writer(pid: int) -> bool:
    return (_PROC / f"{pid}/comm").read_bytes().rstrip(b"\n") == writer_process_start.PROCESS_NAME


def _is_finishing(pid: int) -> bool:
    """Whether it is a writer that runs, and whose application has ended."""
    try:
        if not _is_writer(pid):
            return False
        *_, application, _end = (_PROC / f"{pid}/cmdline").read_bytes().split(b"\0")
        return _has_ended(int(application))
    except (OSError, ValueError):  # it has ended meanwhile: a zombie has no command line
        return False


def _has_ended(pid: int) -> bool:
    try:
        state = (_PROC / f"{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in {b"Z", b"X"}


def _let_finish_at_exit() -> None:
    if _is_watching and os.getpid() == FIRST_PROCESS:
        let_finish()


def _begin_child() -> None:
    global _is_watching
    _is_watching = False


# Registered before the captures' own end, so that it comes after that.
atexit.register(_let_finish_at_exit)
os.register_at_fork(after_in_child=_begin_child)
