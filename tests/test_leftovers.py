"""What tests leave behind is noticed and ended; shown with runs of pytest on tests that leave something."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from leftovers import command_of
from waiting import MAX_SECONDS, wait_until

HERE = Path(__file__).parent
# A shell's background processes ignore SIGINT, and so would all that they start.
PYTEST = """
    import runpy, signal
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runpy.run_module("pytest", run_name="__main__")
"""
SLEEPING = """
    import subprocess, sys, time
    from pathlib import Path

    import pytest

    def sleeping():
        command = [sys.executable, "-c", "import time; time.sleep(600)", {mark!r}]
        return subprocess.Popen(command, start_new_session=True)
"""
LEAVING = """
    def test_that_passes():
        sleeping()

    def test_that_fails():
        sleeping()
        assert not "this is what is wrong"

    def test_that_leaves_nothing():
        process = sleeping()
        process.kill()
        process.wait()
"""
INTERRUPTED = """
    @pytest.fixture
    def server():
        process = sleeping()
        yield process
        process.kill()
        process.wait()
        Path("ended in order").touch()

    def test_with_a_server(server):
        Path("one").touch()
        time.sleep(600)

    def test_that_cleans_up_nothing():
        sleeping()
        Path("two").touch()
        time.sleep(600)
"""


@contextlib.contextmanager
def running(folder: Path, mark: str, tests: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    (folder / "test_inner.py").write_text(textwrap.dedent(SLEEPING).format(mark=mark) + textwrap.dedent(tests))
    (folder / "conftest.py").write_text("import leftovers\nleftovers.MAX_ENDING_SECONDS = 0.2\n")
    command = [sys.executable, "-c", textwrap.dedent(PYTEST), "-p", "xdist", "-p", "leftovers", "-v"]
    command += ["-c", os.devnull, "--rootdir", str(folder), *options, "test_inner.py"]
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environ = outer | {"PYTHONPATH": os.pathsep.join(map(str, (HERE, HERE.parent)))}
    environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    process = subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        for pid in sleepers(mark):
            os.kill(pid, signal.SIGKILL)


def sleepers(mark: str) -> list[int]:
    pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [pid for pid in pids if command_of(pid).endswith(mark)]


def test_a_test_that_leaves_a_process_behind_fails_by_its_name(tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    with running(tmp_path, mark, LEAVING, "-n", "0") as process:
        told = process.communicate(timeout=3 * MAX_SECONDS)[0]
        assert not sleepers(mark)
    assert "ERROR at teardown of test_that_passes" in told
    assert "the test left behind: process" in told
    assert told.count("ERROR at teardown") == 1, "what fails anyway is not told twice"
    assert "this is what is wrong" in told
    assert "2 passed, 1 failed, 1 error" in told or "1 failed, 2 passed, 1 error" in told


@pytest.mark.faults
def test_a_run_that_is_interrupted_leaves_nothing_running(tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    with running(tmp_path, mark, INTERRUPTED, "-n", "2") as process:
        wait_until(lambda: (tmp_path / "one").exists() and (tmp_path / "two").exists(), 3 * MAX_SECONDS)
        assert len(sleepers(mark)) == 2
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=3 * MAX_SECONDS)[0]
        assert process.returncode == pytest.ExitCode.INTERRUPTED
        assert not sleepers(mark)
    assert "KeyboardInterrupt" in told
    assert (tmp_path / "ended in order").exists(), "fixtures come to their ends"
