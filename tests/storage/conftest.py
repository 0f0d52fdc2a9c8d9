"""Disks that fill up; the writer in a thread of the test's, and, where that can differ, in a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from leftovers import RUN_ID


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "writer_home" in metafunc.fixturenames:
        is_both = metafunc.definition.get_closest_marker("both_homes")
        metafunc.parametrize("writer_home", ["process", "thread"] if is_both else ["thread"], indirect=True)


@pytest.fixture
def writer_home(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _no_settings_from_outside: None
) -> str:
    """Where the writer is: ``process`` or ``thread``."""
    monkeypatch.setenv("WIRE_CAPTURE_WRITER", request.param)
    return str(request.param)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a file system of its own, of a size such as ``64k``; skips the test where that is not permitted."""
    made: list[Path] = []

    def make(size: str) -> Path:
        folder = tmp_path / f"disk{len(made)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", os.environ[RUN_ID], folder]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("mounting is not permitted here")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", "-l", folder], check=True)  # lazily: a failed test may have left a file open
