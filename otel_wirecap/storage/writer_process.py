"""A writer in a process of its own, as the application's process sees it.

Invariants:

- What the pump gives is sent by one thread and answers are taken by another; neither makes the application wait.
- However the other process ends, ``on_death`` is called once, unless it was told to end and did all it was to do.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from otel_wirecap import native
from otel_wirecap.environment import environment
from otel_wirecap.storage import adopted_writers, writer_process_start
from otel_wirecap.storage.channel import (
    READ_BYTES,
    Close,
    FlushRequest,
    MessageReader,
    ends_with_note,
    send,
    send_events,
)
from otel_wirecap.storage.child_process import kill_process, start_process, wait_for_process
from otel_wirecap.storage.own_socket import OwnSocket
from otel_wirecap.storage.queue import counted
from otel_wirecap.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_wirecap.capture.events import Event
    from otel_wirecap.config import CaptureConfig
    from otel_wirecap.storage.channel import Message
    from otel_wirecap.storage.host_side import HostAnswers, Pump
    from otel_wirecap.storage.ledger import Ledger
    from otel_wirecap.storage.queue import EventQueue

MAX_REAP_SECONDS = 1.0
MAX_START_SECONDS = 10.0
MAX_FORK_WAIT_SECONDS = 1.0
WAKE_WEIGHT, WAKE_EVENTS = 1 << 20, 2000
"""Of what waits, at which it is sent before its time."""

SEND_BUFFER = 1 << 20
"""Bytes that may be on their way, as far as the kernel allows: they are written even if the application is killed."""

MAX_SEND_SECONDS = 0.05
"""What is put waits so long at most for more to be sent with it: a part of the flush interval, which is the promise.

The first event, also after the process has said that it may be gone, is sent at once: from it the writer knows that
something may be lost with the process.
"""


_starting = native.Lock()
"""Held while a process is started: a child that is forked meanwhile would keep descriptors that nobody else closes, and
neither side would learn of the other's end."""


_INTERPRETER = re.compile(r"(python|pypy)[\d.]*[dmtuw]{0,2}(-dbg|-debug|-intel64)?(\.exe)?", re.IGNORECASE)
"""Names of interpreters, and not of programs that are called after one."""


class WriterProcess:
    """Starts a writer's process, sends it what the pump gives, and hands its answers on.

    Args:
        config: the settings in force.
        path: the capture file's absolute path.
        queue, pump, answers: of the capture.
        interpreter: the program that it is to run in; see ``interpreter``.
        process: the random id of this process's part of the capture.
        on_death: takes, in a thread of ours, what is known of the end of the process where it ends before its time;
            and whether it had taken anything.

    Attributes:
        events_sent: those of which nothing is left in this process.
    """

    def __init__(
        self,
        config: CaptureConfig,
        path: str,
        queue: EventQueue,
        pump: Pump,
        answers: HostAnswers,
        *,
        interpreter: str,
        process: str,
        on_death: Callable[[str, bool], None],
    ) -> None:
        self._config = config
        self._path = path
        self._queue = queue
        self._pump = pump
        self._answers = answers
        self._interpreter = interpreter
        self._process = process
        self._on_death = on_death
        self._starter: int | None = None  # its id, as long as it is to be waited for
        self._connection: socket.socket | None = None
        self._environment: dict[str, str] = {}
        self._kept: list[list[Event]] = []  # sent to one that may not come up; given back then
        self._is_closing = False
        self._is_quiet = True  # nothing was sent, or nothing after a note that the process may be gone
        self._is_dead = False
        self._over = native.Event()
        self._sending: native.Thread | None = None
        self._receiving: native.Thread | None = None
        self.events_sent = 0

    def start(self) -> None:
        """Begins to take events.

        Raises:
            RuntimeError: the limit of threads is reached.
        """
        self._queue.wake_at(min(WAKE_WEIGHT, self._config.capture_max_queue_bytes // 8), WAKE_EVENTS)
        self._sending = native.start_thread("otel-wirecap-sender", self._run)

    def is_alive(self) -> bool:
        """Whether it takes events, or writes those it took."""
        return self._sending is not None and not self._over.is_set

    def is_current_thread(self) -> bool:
        """Whether this is a thread that would be waited for."""
        current = native.current_thread()
        return current is not None and current in {self._sending, self._receiving}

    def join(self, seconds: float) -> bool:
        """Waits for the end, after the queue's; whether it has come."""
        return self._sending is None or self._over.wait(seconds)

    def what_is_left(self, ledger: Ledger) -> tuple[str, tuple[object, ...]]:
        """What is said of an end that did not come in time."""
        left, pid = ledger.accepted - self.events_sent, self._answers.pid
        if left:
            return "%d records or events are lost at the end: the writer still waits for the file", (left,)
        if pid is not None:
            return "process %d still writes what it was sent", (pid,)
        return "the writer's process is not there yet, and may be so no more", ()

    def forget(self) -> None:
        """In a forked child: leaves the process to the parent."""
        if self._connection is not None:
            self._connection.close()
        self._starter = None  # it is no child of this process, who is not to ask for it

    # -- the thread that sends -----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            connection = self._spawn()
            self._receiving = native.start_thread("otel-wirecap-receiver", self._receive, connection)
            adopted_writers.watch_where_adopted()
        except Exception as error:  # noqa: BLE001  # no process, no thread, no interpreter: it goes on here
            self._stop_starter()
            if self._connection is not None:
                self._connection.close()
            self._die(f"{type(error).__name__}: {error}", had_begun=False)
            return
        try:
            self._send_until_closed(connection)
        except OSError:  # it is dead; who receives will notice
            pass
        except Exception as error:  # noqa: BLE001  # no memory, say: it goes on here
            self._answers.log("%s: nothing can be sent to the writer's process: %s", self._path, type(error).__name__)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # who receives takes it for dead

    def _send_until_closed(self, connection: socket.socket) -> None:
        seconds = min(MAX_SEND_SECONDS, self._config.capture_flush_interval / 4)
        next_tick = 0.0
        while not self._is_dead and not self._is_closing:
            self._queue.wait_for_first()
            if not (self._is_quiet or self._pump.has_hurry):
                self._queue.wait(seconds)
            now = time.monotonic()
            if self._queue.closed or now >= next_tick:
                next_tick = now + self._config.capture_flush_interval
                self._send_environment(connection)
            for message in self._pump.messages():
                self._send(connection, message)
                if self._is_dead:
                    break

    def _send(self, connection: socket.socket, message: Message) -> None:
        if not isinstance(message, list):
            if isinstance(message, FlushRequest) and message.sent:
                self._pump.flushed(message.number, written=True)
                return
            send(connection, message)
            self._is_closing = isinstance(message, Close)
            return
        if not self._answers.is_ready.is_set:
            self._kept.append(message)
        elif self._kept:
            self._kept.clear()
        send_events(connection, message)
        self.events_sent += counted(message)[0]
        self._is_quiet = ends_with_note(message)

    def _send_environment(self, connection: socket.socket) -> None:
        """The environment as it is now, so that secrets that come into it are known over there."""
        current = _copied(environment())
        if current != self._environment:
            self._environment = current
            send(connection, current)

    def _spawn(self) -> socket.socket:
        with _starting:
            ours, theirs = map(OwnSocket, native.socketpair())
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            self._connection = ours
            self._environment = _copied(environment())
            # Whatever the locale in the environment says by now: names of files are to mean the same on both sides.
            utf8 = f"utf8={int(sys.getfilesystemencoding() == 'utf-8')}"
            options = ["-I", "-S", "-X", utf8, *(["-B"] if sys.dont_write_bytecode else [])]
            with theirs:
                # Our own module, with the interpreter that runs this one; the process's id is for lists of processes.
                command = [self._interpreter, *options, writer_process_start.__file__, str(os.getpid())]
                self._starter = start_process(command, stdin=theirs.fileno(), environ=self._environment)
        path = marshal.dumps((__version__, _import_path()))
        ours.sendall(len(path).to_bytes(4, "little") + path)
        send(ours, (self._config, self._path, self._process, os.getpid()))
        return ours

    # -- the thread that receives --------------------------------------------------------------------------------

    def _receive(self, connection: socket.socket) -> None:
        frames = MessageReader()
        failure = self._failure_of_the_start()
        with contextlib.suppress(Exception):  # it is dead, or there is no memory for what it tells
            while not failure and (data := connection.recv(READ_BYTES)):
                for frame in frames.feed(data):
                    for name, *values in frame.message():
                        if name == "ready":
                            adopted_writers.watch_where_adopted(*values)
                        with contextlib.suppress(Exception):  # a user's meter
                            getattr(self._answers, name)(*values)
        self._is_dead = True
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # whoever still sends stops
        self._queue.wake()
        if self._sending is not None:
            self._sending.join()
        connection.close()
        if self._answers.pid is not None:
            wait_for_process(self._answers.pid, MAX_REAP_SECONDS)  # where the system has made it our child
        if self._answers.is_closed:
            self._over.set()
        else:
            self._die(failure or "it ended", had_begun=self._answers.is_ready.is_set)

    def _die(self, reason: str, *, had_begun: bool) -> None:
        if not had_begun:
            self._queue.put_back([event for batch in self._kept for event in batch])
        try:
            self._on_death(reason, had_begun)
        finally:
            self._over.set()

    def _failure_of_the_start(self) -> str:
        """Waits until what was started has become a process of nobody's; what is wrong, where that did not happen."""
        if self._starter is None:
            return "unknown"
        status = wait_for_process(self._starter, MAX_START_SECONDS)
        if status is None:
            self._stop_starter()
            return "it does not start"
        self._starter = None
        return f"it ended, exit status {status}" if status else ""

    def _stop_starter(self) -> None:
        starter, self._starter = self._starter, None
        if starter is not None:
            kill_process(starter, MAX_START_SECONDS)


def interpreter() -> str | None:
    """The interpreter that runs this process.

    Returns:
        None where it is part of a program, or unknown: to start it again would start the program again.
    """
    executable = sys.executable or ""
    is_one = not getattr(sys, "frozen", False) and _INTERPRETER.fullmatch(Path(executable).name)
    return executable if is_one else None


def _import_path() -> list[str]:
    """Where this process imports from, as far as it names folders that are there."""
    folders = []
    for folder in sys.path:
        if isinstance(folder, str):
            with contextlib.suppress(OSError):  # the working directory was removed
                folders.append(str(Path(folder).absolute()))
    return folders


def _copied(environ: Mapping[str, str]) -> dict[str, str]:
    """A copy of an environment that other threads may change meanwhile."""
    return {name: value for name in list(environ) if (value := environ.get(name)) is not None}


_forking = native.local()


def _before_fork() -> None:
    _forking.holds = _starting.acquire(timeout=MAX_FORK_WAIT_SECONDS)


def _after_fork() -> None:
    if _forking.holds:
        _starting.release()


def _begin_child() -> None:
    global _starting
    _starting = native.Lock()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_begin_child)
