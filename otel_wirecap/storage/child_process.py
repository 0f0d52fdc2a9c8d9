"""A child process that is started and waited for from a thread of ours, whatever the application has replaced.

Not through ``subprocess``: gevent takes out of it what its own classes are made of, and its own wait with a loop that
watches the children of the main thread alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from otel_wirecap import native

MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.001, 0.05
_STANDARD_STREAMS = 3


def start_process(command: list[str], *, stdin: int, environ: Mapping[str, str]) -> int:
    """Starts a process in a session of its own, which has ``stdin`` and no other of this process's descriptors.

    Args:
        command: the program's path and its arguments.
        stdin: a descriptor, no standard stream's.
        environ: the environment of the process.

    Returns:
        Its id.

    Raises:
        OSError: there is no such program, or no process or descriptor is left.
        NotImplementedError: the system cannot start a process in a session of its own.
    """
    actions: list[tuple[int, int] | tuple[int, int, int] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_DUP2, stdin, 0),
        *((os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)),
        *((os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inheritable()),
    ]
    # A session of its own: a terminal's Ctrl-C is the application's.
    return native.posix_spawn(command[0], command, environ, file_actions=actions, setsid=True)


def wait_for_process(pid: int, seconds: float) -> int | None:
    """Waits for a child of this process.

    Returns:
        Its exit status, negative for a signal; 0 where somebody else has waited for it; None where it goes on.
    """
    deadline, pause = time.monotonic() + seconds, MIN_PAUSE_SECONDS
    while True:
        try:
            ended, status = native.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return 0
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        native.sleep(pause)
        pause = min(pause * 2, MAX_PAUSE_SECONDS)


def kill_process(pid: int, seconds: float) -> None:
    """Ends a child, unless somebody has waited for it, and waits until it has ended, so many seconds at most."""
    if wait_for_process(pid, 0) is not None:  # its number may be a stranger's by now
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_for_process(pid, seconds)


def _inheritable() -> list[int]:
    """Descriptors that a child would get: those that Python has opened are not among them, unless it was told so."""
    descriptors = []
    with contextlib.suppress(OSError):  # there is no such folder, or no descriptor is left to look into it
        for entry in Path("/dev/fd").iterdir():
            with contextlib.suppress(OSError, ValueError):  # it has been closed; so has that of the folder
                if int(entry.name) >= _STANDARD_STREAMS and os.get_inheritable(int(entry.name)):
                    descriptors.append(int(entry.name))
    return descriptors
