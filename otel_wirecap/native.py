"""The interpreter's own threads, locks, sockets, processes and pauses, whatever a library has put in their place.

gevent replaces what ``threading``, ``time``, ``socket`` and others offer with what switches to another greenlet instead
of waiting. It may do so before this package is imported, after it, or after a fork. All of this package that runs in an
application's process takes these things from here; a test holds it to that.

Invariants:

- Every name here is what the interpreter brought, whenever this module is imported.
- A thread that is started here is one of the operating system's, and ``threading`` does not know it: gevent leaves
  locks as they are, of which some then wait for ever, where an application seems to have more threads than one.
- Nothing here switches to another greenlet. Nor may whatever is called while a lock from here is held, such as a log
  handler: the greenlet that runs then would wait in this lock for one that cannot run. Where that cannot be ruled out,
  the lock is an ``RLock``, which lets in all greenlets of a thread.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

__all__ = [
    "Event",
    "Lock",
    "RLock",
    "SimpleQueue",
    "Thread",
    "current_thread",
    "get_ident",
    "has_gevent",
    "known_to_threading",
    "local",
    "poll",
    "posix_spawn",
    "runs_greenlets",
    "sleep",
    "socket",
    "socketpair",
    "start_thread",
    "waitid",
    "waitpid",
]

if TYPE_CHECKING:
    from _socket import socketpair
    from os import posix_spawn, waitid, waitpid
    from queue import SimpleQueue
    from select import poll
    from socket import socket
    from threading import Lock, RLock, get_ident, local
    from time import sleep


def _own(module: str, name: str) -> Any:
    get_original = getattr(sys.modules.get("gevent.monkey"), "get_original", None)
    if get_original is not None:
        return get_original(module, name)
    original = getattr(sys.modules.get("eventlet.patcher"), "original", importlib.import_module)
    return getattr(original(module), name)


if not TYPE_CHECKING:
    # From the modules in C where there is one: what comes from there leads to nothing that gevent has replaced, as
    # ``socket.socketpair`` does to ``socket.socket``.
    Lock = _own("_thread", "allocate_lock")
    RLock = _own("_thread", "RLock")
    SimpleQueue = _own("_queue", "SimpleQueue")
    get_ident = _own("_thread", "get_ident")
    local = _own("_thread", "_local")
    poll = _own("select", "poll")
    posix_spawn = _own("os", "posix_spawn")
    sleep = _own("time", "sleep")
    socket = _own("socket", "socket")
    socketpair = _own("_socket", "socketpair")
    waitid = _own("os", "waitid")
    waitpid = _own("os", "waitpid")

_start_new_thread = _own("_thread", "start_new_thread")

MAX_SYSTEM_NAME = 15
"""Bytes of a thread's name that Linux keeps."""


class Event:
    """Something that threads wait for.

    ``set`` takes no lock: a signal handler or the garbage collector may call it in the middle of another call of it.

    Attributes:
        is_set: whether it has happened since the last ``clear``.
    """

    __slots__ = ("_waiting", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._waiting: collections.deque[Lock] = collections.deque()

    def set(self) -> None:
        """It happens: whoever waits goes on."""
        self.is_set = True
        waiting = self._waiting
        while waiting:
            try:
                lock = waiting.popleft()
            except IndexError:  # another thread has just let the last one go on
                return
            lock.release()

    def clear(self) -> None:
        """It has not happened yet."""
        self.is_set = False

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for it, so many seconds at most; whether it happened."""
        lock = Lock()
        lock.acquire()
        self._waiting.append(lock)
        try:
            if self.is_set:  # perhaps before ``set`` could see the lock
                return True
            return lock.acquire(timeout=-1 if seconds is None else max(0.0, seconds)) or self.is_set
        finally:
            with contextlib.suppress(ValueError):  # ``set`` has taken it out
                self._waiting.remove(lock)


class Thread:
    """A thread of ours, made by ``start_thread``. It keeps no process from ending.

    Attributes:
        name: what it is called in log records, and by the operating system without what stands before the first hyphen.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._over = Event()

    def is_alive(self) -> bool:
        """Whether it runs."""
        return not self._over.is_set

    def join(self, seconds: float | None = None) -> bool:
        """Waits for its end, so many seconds at most; whether it has ended."""
        return self._over.wait(seconds)

    def run(self, target: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """What the thread does; ``start_thread`` alone has it called."""
        _threads[get_ident()] = self
        _tell_system_the_name(self.name)
        try:
            target(*arguments)
        finally:
            _leave_threading()
            _threads.pop(get_ident(), None)  # not there in a child that was forked in this thread
            self._over.set()


_threads: dict[int, Thread] = {}


def start_thread(name: str, target: Callable[..., object], *arguments: Any) -> Thread:
    """Starts a thread that calls ``target``.

    Raises:
        RuntimeError: the limit of threads is reached, or the interpreter ends.
    """
    thread = Thread(name)
    _start_new_thread(thread.run, (target, arguments))
    return thread


def current_thread() -> Thread | None:
    """The thread of ours that calls this; None in any other."""
    return _threads.get(get_ident())


@contextlib.contextmanager
def known_to_threading() -> Iterator[None]:
    """Within it a thread of ours has its name in ``threading``, whose log records ask for it, and after it none."""
    thread = current_thread()
    if thread is None:
        yield
        return
    threading.current_thread().name = thread.name
    try:
        yield
    finally:
        _leave_threading()


def has_gevent() -> bool:
    """Whether gevent may have replaced something by now."""
    return "gevent.monkey" in sys.modules


def runs_greenlets() -> bool:
    """Whether gevent switches between greenlets in this thread: who waits here has all of them wait."""
    get_hub = getattr(sys.modules.get("gevent._hub_local"), "get_hub_if_exists", None)
    return get_hub is not None and get_hub() is not None


def _leave_threading() -> None:
    """Takes out the stand-in that ``threading`` makes, and keeps, of a thread that it does not know."""
    with contextlib.suppress(AttributeError):  # no public name, which another version may not have
        for ident in (get_ident(), threading.get_ident()):  # gevent has its own, of the greenlet
            threading._active.pop(ident, None)  # type: ignore[attr-defined]  # noqa: SLF001


def _tell_system_the_name(name: str) -> None:
    """Shown by ``top -H``, ``ps -L`` and debuggers."""
    short = name.partition("-")[2][:MAX_SYSTEM_NAME]
    with contextlib.suppress(OSError):  # another system, or no descriptor is left
        descriptor = os.open(f"/proc/self/task/{threading.get_native_id()}/comm", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, short.encode())
        finally:
            os.close(descriptor)


os.register_at_fork(after_in_child=_threads.clear)
