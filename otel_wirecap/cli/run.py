"""``otel-wirecap run [options] -- CMD…``: captures any Python command without changing it.

The command gets the settings through the environment and our start-up module through ``PYTHONPATH``, so that child
processes of its own (workers, reloaders) are captured too. No OpenTelemetry SDK set-up is involved: whatever exporters
are installed or missing, the command starts.

As the first process of a container it passes signals on to the command and reaps orphans. Its exit kills all other
processes, so it first waits for the writers of processes that have exited.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from otel_wirecap.cli.options import add_capture_options, capture_settings
from otel_wirecap.config import CONFIG_FILE_VARIABLE, load_config
from otel_wirecap.environment import DEFAULT_CAPTURE_FILE, environment, environment_variable
from otel_wirecap.errors import WireCaptureError
from otel_wirecap.instrumentation.environment_variables import ATTACH
from otel_wirecap.messages import without_secrets
from otel_wirecap.reading.follow import Follower
from otel_wirecap.reading.tally import Tally
from otel_wirecap.storage import adopted_writers

MAX_WRITERS_SECONDS = 2.0
"""How long is waited, after the command's end, for what is still to be written of its processes."""

NOT_FOUND = 127
NOT_EXECUTABLE = 126

_FROM_TERMINALS = frozenset({signal.SIGINT, signal.SIGQUIT})
_PASSED_ON = _FROM_TERMINALS | {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "run",
        help="capture a Python command",
        description="Runs a Python command and captures its LLM traffic; returns the command's exit code.",
        usage="otel-wirecap run [options] -- COMMAND [ARGUMENT ...]",
    )
    add_capture_options(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command, after --")
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        arguments.parser.error("no command is given; expected: otel-wirecap run [options] -- COMMAND")
    settings = capture_settings(arguments)
    config = load_config(settings)  # a wrong setting is told here, before anything runs
    capture_file = (config.capture_file or Path(DEFAULT_CAPTURE_FILE)).absolute()
    with contextlib.ExitStack() as stack:
        follower, left_out = None, list[str]()
        with contextlib.suppress(WireCaptureError):  # a file that is there and is no capture: the command says so
            follower = stack.enter_context(Follower(capture_file, left_out.append))
            follower.last(0, lambda _record, _line: False)
        before = _stamp(capture_file)
        code = _call(command, _environment(settings, capture_file))
        if follower is not None and code not in {NOT_FOUND, NOT_EXECUTABLE}:
            _say(
                _outcome(
                    follower, capture_file, command[0], is_unchanged=_stamp(capture_file) == before, left_out=left_out
                )
            )
    return code


def _outcome(follower: Follower, capture_file: Path, command: str, *, is_unchanged: bool, left_out: list[str]) -> str:
    """What the command's processes have captured, or why nothing."""
    tally, deadline = Tally(), time.monotonic() + MAX_WRITERS_SECONDS
    while True:
        with contextlib.suppress(WireCaptureError):
            for record, _ in follower.new():
                tally.add(record)
        if not tally.has_unfinished or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    if tally.exchanges:
        at_least = "at least " if left_out else ""  # some files were encrypted before they were read
        what = "exchange" if tally.exchanges == 1 else "exchanges"
        return f"{at_least}{tally.exchanges:,} {what} captured in {capture_file}"
    if tally.processes:
        return f"0 exchanges captured in {capture_file}: {tally.why_nothing()}"
    if not is_unchanged:  # in a format that cannot be followed
        return f"capture: {capture_file}"
    return (
        f"nothing was captured in {capture_file}; where no message above says why: is {command!r} a Python "
        "command whose environment has otel-wirecap, started without -I, -E or -S?"
    )


def _environment(settings: dict[str, object], capture_file: Path) -> dict[str, str]:
    environ = dict(environment())
    for name, value in settings.items():
        variable = CONFIG_FILE_VARIABLE if name == "config" else environment_variable(name)
        environ[variable] = str(Path(str(value)).absolute()) if name == "config" else str(value)
    # Absolute: the command may change its directory before it starts others.
    environ[environment_variable("capture_file")] = str(capture_file)
    paths = [str(ATTACH), *filter(None, [environ.get("PYTHONPATH")])]
    environ["PYTHONPATH"] = os.pathsep.join(paths)
    return environ


def _call(command: list[str], environ: dict[str, str]) -> int:
    came: list[int] = []  # before they could be passed on
    for one in _PASSED_ON:
        signal.signal(one, lambda number, _frame: came.append(number))
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # where it is ignored, nobody learns how a child ended
    try:
        process = subprocess.Popen(command, env=environ)  # noqa: S603  # running it is what was asked for
    except FileNotFoundError:
        _say(f"command {command[0]!r} is not found")
        return NOT_FOUND
    except OSError as error:
        _say(f"command {command[0]!r} cannot be run: {error.strerror}")
        return NOT_EXECUTABLE
    passed_on = set(_PASSED_ON)
    if _in_a_terminal_s_foreground():  # the terminal sends these to the command as well, which decides
        for one in _FROM_TERMINALS:
            signal.signal(one, signal.SIG_IGN)
        passed_on -= _FROM_TERMINALS
    # Blocked and waited for: a handler does not run for a signal that comes just before a wait begins.
    awaited = passed_on | {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    for first in passed_on.intersection(came):
        os.kill(process.pid, first)
    while (code := _exit_code_of(process.pid)) is None:
        number = signal.sigwait(awaited)
        if number != signal.SIGCHLD:
            os.kill(process.pid, number)
    process.returncode = code
    adopted_writers.let_finish()
    return code if code >= 0 else 128 - code


def _exit_code_of(command: int) -> int | None:
    """Returns the command's exit code, None while it runs; reaps all children, including adopted ones."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == command:
            return os.waitstatus_to_exitcode(status)
        if pid == 0:
            return None


def _in_a_terminal_s_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)  # stdin may be a file or a pipe
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size


def _say(message: str) -> None:
    print(f"otel-wirecap: {without_secrets(message)}", file=sys.stderr)  # noqa: T201  # this is the command line
