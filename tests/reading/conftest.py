"""A capture that the demonstration has made, and the folder of the indexes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


class Lines(list[bytes]):
    """Lines that a report of a failure does not print."""

    def __repr__(self) -> str:
        return f"{len(self)} lines"


@pytest.fixture(scope="session")
def demo_lines(demo_capture) -> Lines:
    """The lines of the demonstration's capture."""
    return Lines(demo_capture.read_bytes().splitlines(keepends=True))


@pytest.fixture
def demo(demo_capture, tmp_path) -> Path:
    """That capture in a file of its own."""
    return shutil.copy(demo_capture, tmp_path / "demo.log")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch) -> Path:
    """Where indexes go in this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "otel-wirecap"
