"""Shells complete commands, options, choices and files: real shells, asked as when Tab is pressed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import MAX_SECONDS

pytest.importorskip("shtab")

COMMAND = [sys.executable, "-m", "otel_wirecap"]
ROOT = str(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run([*COMMAND, "completion", shell], capture_output=True, text=True, check=True, cwd=ROOT)
        (folder / f"_otel-wirecap.{shell}").write_text(done.stdout)
    (folder / "capture-one.log").touch()
    return folder


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


CASES = [
    ("otel-wirecap ti", "timeline"),
    ("otel-wirecap timeline --g", "--gap"),
    ("otel-wirecap show --leg b", "backend"),
    ("otel-wirecap completion fi", "fish"),
    ("otel-wirecap ls capture-o", "capture-one.log"),
    ("otel-wirecap run --capture-file capture-o", "capture-one.log"),
]


def asked_of_bash(folder: Path, line: str) -> list[str]:
    program = f"""
source {folder}/_otel-wirecap.bash
COMP_LINE={line!r} COMP_POINT={len(line)} COMP_WORDS=({line}) COMP_CWORD={len(line.split()) - 1}
[[ $(complete -p otel-wirecap) =~ -F\\ ([a-z_]+) ]]
"${{BASH_REMATCH[1]}}" otel-wirecap {line.split()[-1]} {line.split()[-2]}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", program], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    return done.stdout.splitlines()


@needs("bash")
@pytest.mark.parametrize(("line", "wanted"), CASES)
@pytest.mark.tools
def test_bash_completes(scripts: Path, line: str, wanted: str) -> None:
    assert asked_of_bash(scripts, line) == [wanted]


@needs("bash")
def test_bash_offers_every_command(scripts: Path) -> None:
    from otel_wirecap.cli import COMMANDS

    offered = {
        name for letter in "abcdefghijklmnopqrstuvwxyz" for name in asked_of_bash(scripts, f"otel-wirecap {letter}")
    }
    assert offered >= set(COMMANDS)


@pytest.mark.tools
@needs("zsh")
@pytest.mark.parametrize(("line", "wanted"), CASES)
def test_zsh_completes_when_tab_is_pressed(scripts: Path, line: str, wanted: str) -> None:
    folder = scripts / "zfunc"
    folder.mkdir(exist_ok=True)
    shutil.copy(scripts / "_otel-wirecap.zsh", folder / "_otel-wirecap")
    begin = f"PS1='> '; fpath=({folder} $fpath); autoload -U compinit; compinit -u -D; cd {scripts}; echo rea''dy\n"
    assert wanted in typed(["zsh", "-f", "-i"], begin, f"{line}\t", wanted)


@pytest.mark.tools
@needs("fish")
@pytest.mark.parametrize(("line", "wanted"), CASES)
def test_fish_completes(scripts: Path, line: str, wanted: str) -> None:
    environ = os.environ | {"HOME": str(scripts), "XDG_CONFIG_HOME": str(scripts)}
    program = f"source _otel-wirecap.fish; complete -C {line!r}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", program], cwd=scripts, env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    assert wanted in [offer.split("\t")[0] for offer in done.stdout.splitlines()]


@needs("bash")
def test_tab_in_an_interactive_bash_completes_the_word(scripts: Path) -> None:
    begin = f"PS1='> '; cd {scripts}; source ./_otel-wirecap.bash; echo rea''dy\n"
    wanted = "otel-wirecap timeline --gap zz"
    assert wanted in typed(["bash", "--norc", "--noprofile", "-i"], begin, "otel-wirecap timeline --ga\tzz", wanted)


def typed(shell: list[str], begin: str, line: str, wanted: str) -> str:
    """What a terminal shows, as far as what is wanted, when a line is typed into a shell that has begun so."""
    process_id, terminal = pty.fork()
    if process_id == 0:
        os.environ["TERM"] = "dumb"
        os.execvp(shell[0], shell)
    shown = ""
    try:
        os.write(terminal, begin.encode())
        read_until(terminal, "ready\r\n")
        os.write(terminal, line.encode())
        shown = read_until(terminal, wanted)
    finally:
        os.kill(process_id, 9)
        os.close(terminal)
        os.waitpid(process_id, 0)
    return shown


def read_until(terminal: int, text: str) -> str:
    """What is shown, without colours and bells, until a text is there or time is over."""
    shown, received, deadline = "", b"", time.monotonic() + MAX_SECONDS
    while text not in shown and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            received += os.read(terminal, 4096)
            shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x07", "", received.decode(errors="replace"))
    return shown


def test_an_unknown_shell_is_told_with_those_that_are_known() -> None:
    done = subprocess.run([*COMMAND, "completion", "tcsh"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "invalid choice: 'tcsh' (choose from 'bash', 'zsh', 'fish')" in done.stderr.replace(
        "from bash", "from 'bash'"
    )


def test_without_the_package_the_extra_is_named() -> None:
    program = "import sys; sys.modules['shtab'] = None; from otel_wirecap.cli import main\n"
    program += "sys.exit(main(['completion', 'bash']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert "install otel-wirecap[cli]" in done.stderr
