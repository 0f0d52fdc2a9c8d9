"""Whose ends are waited for, and whose are not; in real PID namespaces: ``tests/integration/test_containers.py``."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import open_writer, wait_until, writers_of

from otel_wirecap.storage import adopted_writers, writer_process_start

NAMED = "open('/proc/self/comm', 'w').write({name!r})"


@pytest.fixture(params=["the kernel's list of children", "a kernel without one"])
def _children(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "a kernel without one":  # the same files, but for that list
        for entry in Path("/proc").glob("[0-9]*"):
            (tmp_path / entry.name).mkdir()
            for name in ("comm", "cmdline", "stat"):
                (tmp_path / entry.name / name).symlink_to(entry / name)
        (tmp_path / "self").symlink_to(str(os.getpid()))
        monkeypatch.setattr(adopted_writers, "_PROC", tmp_path)


def ended_child(name: str) -> int:
    """A child that has ended and that nobody has waited for."""
    child = os.fork()
    if not child:
        Path("/proc/self/comm").write_text(name)
        os._exit(7)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return child


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Two that have ended, a writer by name the first."""
    found = [ended_child(writer_process_start.PROCESS_NAME.decode()), ended_child("wirecap-other")]
    yield found
    for child in found:
        try:
            os.waitpid(child, os.WNOHANG)
        except ChildProcessError:
            continue


@pytest.mark.usefixtures("children", "_children")
def test_a_writer_that_has_ended_is_waited_for_and_nobody_else(children: list[int]) -> None:
    adopted_writers.reap_ended()
    writer, other = children
    with pytest.raises(ChildProcessError):
        os.waitpid(writer, os.WNOHANG)
    assert os.waitpid(other, os.WNOHANG) == (other, 7 << 8)


def test_where_proc_is_another_namespaces_nobody_is_waited_for(
    children: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopted_writers, "_PROC", tmp_path)
    (tmp_path / "self").symlink_to("1")
    adopted_writers.reap_ended()
    for child in children:
        assert os.waitpid(child, os.WNOHANG) == (child, 7 << 8)


def test_a_running_child_is_neither_waited_for_nor_let_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    name = writer_process_start.PROCESS_NAME.decode()
    code = f"{NAMED.format(name=name)}\nprint('named', flush=True)\ninput()"
    command = [sys.executable, "-c", code, str(os.getpid())]  # as a writer's: of an application that runs
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        adopted_writers.reap_ended()
        adopted_writers.let_finish(60)
        assert child.poll() is None
        child.communicate("\n")
    assert child.returncode == 0


def test_a_writer_is_known_by_its_name_and_an_ordinary_process_watches_nobody(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "capture.log")
    assert writer.flush()
    (pid,) = writers_of()
    assert Path(f"/proc/{pid}/comm").read_bytes().strip() == writer_process_start.PROCESS_NAME
    assert "otel-wirecap-adopted-writers" not in {thread.name for thread in threading.enumerate()}
    assert writer.close()
    wait_until(lambda: not writers_of())


def test_a_forked_child_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopted_writers, "_is_watching", True)
    child = os.fork()
    if not child:
        os._exit(adopted_writers._is_watching)
    assert os.waitpid(child, 0) == (child, 0)
