"""The commands in a real terminal, driven as a person does: tmux is the terminal and the keyboard."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

pytestmark = [pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not here"), pytest.mark.tools]

SECONDS = 60.0
PROMPT = "ready> "


class Terminal:
    """A terminal with a shell in it, in which ``otel-wirecap`` is this project's."""

    def __init__(self, folder: Path, width: int, height: int = 50, **environ: str) -> None:
        self.width = width
        self._socket = f"wirecap-{secrets.token_hex(6)}"
        (folder / "bin").mkdir(exist_ok=True)
        command = folder / "bin" / "otel-wirecap"
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m otel_wirecap "$@"\n')
        command.chmod(0o755)
        dropped = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "TMUX", "BASH_ENV", "ENV"}
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in dropped and not name.startswith(("WIRE_CAPTURE", "OTEL_"))
        }
        kept |= {
            "PATH": f"{command.parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8",
            "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(Path(__file__).parents[2]), **environ,
        }  # fmt: skip
        size = ["-x", str(width), "-y", str(height)]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "bash --norc --noprofile", env=kept, cwd=folder)
        self.wait_for(str.strip)
        self.type(f"PS1='{PROMPT}'; clear", "Enter")
        self.wait_for(lambda screen: screen.strip() == PROMPT.strip())

    def _tmux(self, *arguments: str, **how: object) -> str:
        command = ["tmux", "-L", self._socket, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS, **how).stdout

    def type(self, text: str, *keys: str) -> None:
        """Types a text, then presses keys by name."""
        if text:
            self._tmux("send-keys", "-l", text)
        for key in keys:
            self._tmux("send-keys", key)

    def screen(self, *, with_colours: bool = False) -> str:
        """What is on the screen, and above it."""
        return self._tmux("capture-pane", "-p", "-S", "-200", *(["-e"] if with_colours else []))

    def wait_for(self, is_there: Callable[[str], object]) -> str:
        deadline = time.monotonic() + SECONDS
        while not is_there(screen := self.screen()):
            assert time.monotonic() < deadline, screen
            time.sleep(0.05)
        return screen

    def run(self, command: str) -> tuple[str, int]:
        """What a command prints, and its exit code."""
        mark = secrets.token_hex(4)
        self.type(f'clear; tmux -L {self._socket} clear-history; {command}; echo "$? {mark}"', "Enter")
        ended = re.compile(rf"^\d+ {mark}$", re.MULTILINE)
        screen = self.wait_for(ended.search)
        told, _, _ = screen.rpartition(f" {mark}")
        told, _, code = told.rpartition("\n")
        lines = [line for line in told.splitlines() if mark not in line and not line.startswith(PROMPT.strip())]
        return "\n".join(lines), int(code)

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], capture_output=True, timeout=SECONDS)


@pytest.fixture(scope="module")
def demo_lines(demo_capture) -> list[bytes]:
    return demo_capture.read_bytes().splitlines(keepends=True)


@pytest.fixture
def folder(tmp_path, demo_lines) -> Path:
    (tmp_path / "demo.log").write_bytes(b"".join(demo_lines))
    return tmp_path


@pytest.fixture
def terminal(folder) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(width: int = 120, height: int = 50, **environ: str) -> Terminal:
        opened.append(Terminal(folder, width, height, **environ))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def flow_of(demo_lines: list[bytes]) -> str:
    return next(orjson.loads(line)["metadata"]["request_id"] for line in demo_lines if b'"outbound_stream_end"' in line)


@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize("command", ["ls", "ls --by model", "stats", "show", "timeline", "diff"])
def test_no_line_is_wider_than_the_terminal(command, width, terminal, demo_lines):
    """tmux breaks a line that is too long in two: then the screen has more lines than the command printed."""
    subject = flow_of(demo_lines)[:12] if command in {"show", "timeline", "diff"} else ""
    one = terminal(width, 200)
    told, code = one.run(f"otel-wirecap {command} {subject} demo.log 2>/dev/null")
    assert code in ({0, 1} if command == "diff" else {0})
    joined = one._tmux("capture-pane", "-p", "-J", "-S", "-400")
    if command not in {"show", "diff"}:  # which show payloads, and let the terminal break them
        assert max(map(len, joined.splitlines()[2:])) <= width
    assert len(told.splitlines()) > 3


def test_colours_are_for_terminals_that_want_them(terminal):
    one = terminal()
    one.run("otel-wirecap ls demo.log")
    assert "\x1b[3" in one.screen(with_colours=True)
    plain = terminal(NO_COLOR="1")
    plain.run("otel-wirecap ls demo.log")
    assert "\x1b[3" not in plain.screen(with_colours=True)


def test_a_pipe_that_is_closed_ends_a_command_without_a_word(terminal):
    told, code = terminal().run("set -o pipefail; for n in 1 2 3 4 5 6; do cat demo.log; done > all.log; "
                                "otel-wirecap tail -n 2000 all.log | head -1")  # fmt: skip
    assert code in {0, 141, 120, 1}
    assert "Traceback" not in told
    assert "rror" not in told
    assert len(told.splitlines()) == 1


def test_help_has_examples_and_an_unknown_option_is_told_in_a_line(terminal):
    one = terminal()
    told, code = one.run("otel-wirecap ls --help")
    assert code == 0
    assert "examples:" in told
    told, code = one.run("otel-wirecap ls --slwo 2s demo.log")
    assert code == 2
    assert "--slwo" in told


def test_tail_follows_over_a_rotation_and_ctrl_c_ends_it(terminal, folder, demo_lines):
    live = folder / "live.log"
    live.write_bytes(b"".join(demo_lines[:3]))
    one = terminal(200)
    one.type("clear; otel-wirecap tail -F -n 1 live.log; echo code $?", "Enter")
    one.wait_for(lambda screen: orjson.loads(demo_lines[2])["direction"] in screen)
    with live.open("ab") as file:
        file.write(demo_lines[3])
    one.wait_for(lambda screen: screen.count("inbound_") + screen.count("outbound_") >= 2)
    live.rename(folder / "live.log.1")
    chunk = next(line for line in demo_lines if b'"outbound_stream_end"' in line)
    live.write_bytes(chunk)
    one.wait_for(lambda screen: "outbound_stream_end" in screen)
    one.type("", "C-c")
    screen = one.wait_for(lambda screen: "code " in screen.replace("echo code", ""))
    assert "code 130" in screen
    assert "Traceback" not in screen


def test_a_bar_is_shown_while_a_large_capture_is_read_and_taken_away_again(terminal, folder, demo_lines):
    flows = b"".join(line for line in demo_lines if b'"system_' not in line)
    with (folder / "large.log").open("wb") as file:
        for number in range(700):
            file.write(flows.replace(b'"req_', b'"req_%d_' % number).replace(b'"ex_', b'"ex_%d_' % number))
    one = terminal(100)
    one.type("clear; otel-wirecap ls --by model --no-index large.log; echo code $?", "Enter")
    one.wait_for(lambda screen: "reading [" in screen and "%" in screen)
    screen = one.wait_for(lambda screen: "code 0" in screen)
    assert "reading [" not in screen
    assert "demo-sm" in screen


def test_control_characters_of_a_capture_do_nothing_to_the_terminal(terminal, folder, demo_lines):
    def with_tricks(line: bytes) -> bytes:
        record = orjson.loads(line)
        record["session_id"] = "s\x1b]0;owned\x07\x1b[2J\x1b[31m"
        return orjson.dumps(record) + b"\n"

    (folder / "bad.log").write_bytes(b"".join(map(with_tricks, demo_lines)))
    one = terminal(200)
    told, code = one.run("otel-wirecap ls bad.log")
    assert code == 0
    assert "req_" in told
    assert one._tmux("display-message", "-p", "#{pane_title}").strip() != "owned"
