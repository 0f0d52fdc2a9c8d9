"""What a test leaves behind is its failure; what a run leaves behind ends with the run, also an interrupted one.

A plugin of pytest, loaded by ``conftest.py``. Invariants:

- A test ends with the child processes, and the writers, that it began with. It is given time for that, because
  a writer that was closed ends by itself; what is left then is ended, and the test fails, unless it has failed already.
- Every process that a run starts has the run's id in its environment, and every file system that it mounts has it as
  its name. So whatever a killed or interrupted test worker leaves is found, whoever its parent is by then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Container, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import otel_wirecap
from otel_wirecap import native
from otel_wirecap.instrumentation.runtime import active
from otel_wirecap.storage import writer as capture_writer

RUN_ID = "TEST_RUN_ID"
"""The variable of the environment that says which run a process belongs to."""

MAX_ENDING_SECONDS = 20.0
"""How long what is about to end may take; waited for only where something is left."""

_IS_FAILED = pytest.StashKey[bool]()
_LEFT_BY_THE_RUN = pytest.StashKey[list[str]]()

_KEPT_BY_PYTHON = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Processes that the interpreter starts once and keeps."""

_WRITER_THREADS = ("otel-wirecap-writer", "otel-wirecap-sender", "otel-wirecap-receiver", "otel-wirecap-finisher")


def pytest_configure(config: pytest.Config) -> None:
    if not _is_worker(config):
        os.environ[RUN_ID] = uuid.uuid4().hex


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if call.when != "teardown":
        item.stash[_IS_FAILED] = report.failed or item.stash.get(_IS_FAILED, False)
    return report


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    before = running()
    yield
    left = _lasting(lambda: [name for what, name in running().items() if what not in before])
    if left:
        _end_what_a_test_left(before)
        if not has_failed(request.node):
            pytest.fail(f"the test left behind: {', '.join(left)}")


@pytest.hookimpl(trylast=True)  # the workers have ended by then
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _is_worker(session.config):
        return
    run = os.environ[RUN_ID]
    was_interrupted = session.exitstatus == pytest.ExitCode.INTERRUPTED
    processes = _lasting(
        lambda: [f"process {pid}: {command_of(pid)}" for pid in processes_of(run)], 0 if was_interrupted else None
    )
    for pid in processes_of(run):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    disks = mounted_by(run)
    for folder in disks:
        subprocess.run(["umount", "-l", folder], check=False)
    session.config.stash[_LEFT_BY_THE_RUN] = processes + disks
    if (processes or disks) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for what in config.stash.get(_LEFT_BY_THE_RUN, []):
        terminalreporter.write_line(f"left behind by the tests, and ended: {what}", red=True)


def has_failed(item: pytest.Item) -> bool:
    """Whether a test has failed before its fixtures come to their ends."""
    return item.stash.get(_IS_FAILED, False)


def running() -> dict[int | native.Thread, str]:
    """The child processes of this process, and the threads of its writers, with what a person calls them."""
    found: dict[int | native.Thread, str] = {
        thread: f"thread {thread.name}"
        for thread in list(native._threads.values())
        if thread.name in _WRITER_THREADS and thread.is_alive()
    }
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            for pid in map(int, (task / "children").read_text().split()):
                command = command_of(pid)
                if _runs(pid) and not any(kept in command for kept in _KEPT_BY_PYTHON):
                    found[pid] = f"process {pid}: {command}"
    return found


def _runs(pid: int) -> bool:
    """Whether a process has not ended; one that has only just begun has no command line yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "XZ"
    except OSError:
        return False


def command_of(pid: int) -> str:
    """The command line of a process; empty where it has ended, or has only just begun."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def processes_of(run: str) -> list[int]:
    """The processes that belong to a run of the tests, whatever their parents are."""
    mark = f"{RUN_ID}={run}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def mounted_by(run: str) -> list[str]:
    """The folders on which a run of the tests has mounted something."""
    lines = Path("/proc/mounts").read_text().splitlines()
    return [folder for name, folder, *_ in map(str.split, lines) if name == run]


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _lasting(find: Callable[[], list[str]], seconds: float | None = None) -> list[str]:
    """What is still found after so many seconds, else after the time that is given to it to end."""
    deadline = time.monotonic() + (MAX_ENDING_SECONDS if seconds is None else seconds)
    while (found := find()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def _end_what_a_test_left(before: Container[int | native.Thread]) -> None:
    for pid in [what for what in running() if isinstance(what, int) and what not in before]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and command_of(int(folder.name)).endswith(f"writer_process_start.py {os.getpid()}"):
            os.kill(int(folder.name), signal.SIGKILL)
    if active() is not None:
        otel_wirecap.uninstrument()
    for writer in list(capture_writer._writers):
        writer.close(timeout=1)
