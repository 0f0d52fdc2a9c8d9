from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from otel_wirecap.cli import demo, main
from otel_wirecap.reading.captures import Captures

PINNED = Path(__file__).parents[1] / "reading" / "pinned"


def test_the_demonstration_captures_every_exchange_on_both_legs_and_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    capture = tmp_path / "demo.log"
    done = subprocess.run(
        [sys.executable, "-m", "otel_wirecap", "demo", "--capture-file", str(capture)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with Captures([capture], use_index=False) as captures:
        flows = captures.flows()
    assert len(flows) == 13
    assert all(flow.client is not None and len(flow.attempts) == 1 for flow in flows)
    assert {flow.attempts[0].backend for flow in flows} == {"openai", "anthropic", "gemini"}
    outcomes = [flow.client.outcome for flow in flows if flow.client is not None]
    assert sorted(set(outcomes)) == ["client_disconnect", "complete"]
    # It shows what the commands show that it names.
    shown = re.findall(r"^\$ otel-wirecap (.+)\n((?:.+\n)+)", done.stdout, re.MULTILINE)
    assert [command.split()[0] for command, _ in shown] == ["ls", "timeline"]
    for command, text in shown:
        assert main(shlex.split(command)) == 0
        assert capsys.readouterr().out == text
    assert len(shown[0][1].splitlines()) == 14


def test_a_demonstration_into_an_older_capture_shows_its_own_flows_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    capture = tmp_path / "demo.log"
    shutil.copy(PINNED / "gateway.log", capture)
    assert demo._show(capture, 1762160415.15) == 0
    text = capsys.readouterr().out
    assert "$ otel-wirecap ls --since 2025-11-03T09:00:15.150000+00:00 demo.log\n" in text
    assert text.count("req_a1b20000000000000029") >= 2
    assert "req_a1b20000000000000027" not in text
    assert demo._show(capture, 2e9) == 1
    assert "nothing was captured in demo.log" in capsys.readouterr().err
