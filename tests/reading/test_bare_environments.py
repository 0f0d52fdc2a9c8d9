"""Captures are read where there is no home, no entry in the users' database, and no folder for temporary files."""

from __future__ import annotations

import pwd
import tempfile
from pathlib import Path

import pytest

from otel_wirecap.cli import main
from otel_wirecap.reading import index


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_uid: int) -> None:
        raise KeyError

    def unusable() -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "gettempdir", unusable)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *_, **__: unusable())


@pytest.mark.parametrize("command", ["ls", "stats", "verify", "doctor"])
def test_a_command_that_needs_no_copy_answers(command: str, demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--capture-file", str(demo)] if command == "doctor" else [str(demo)]
    assert main([command, *files]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_a_query_says_what_is_missing_in_one_line(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("duckdb")
    assert main(["sql", "SELECT 1 FROM records", str(demo)]) != 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "TMPDIR" in said


def test_an_index_has_no_place(demo: Path) -> None:
    from otel_wirecap.reading.captures import Captures

    with Captures([demo]) as captures:
        assert captures.flows()
        assert index.load(captures.sources[0]) is None
