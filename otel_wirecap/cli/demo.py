"""``otel-wirecap demo``: a fake backend, the capturing proxy and a client; then what ``ls`` and ``timeline`` show.

Nothing leaves this machine, and no key of the user's is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from otel_wirecap.cli.captures import write
from otel_wirecap.environment import environment
from otel_wirecap.errors import ConfigurationError, WireCaptureError
from otel_wirecap.llm.providers import PROVIDERS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

CAPTURE_FILE = "wire_capture_demo.log"
BACKENDS = ("openai", "anthropic", "gemini")
START_SECONDS = 30.0
STOP_SECONDS = 10.0
KEPT_LINES = 20


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "demo",
        help="make and show a sample capture; needs no API key",
        description="Starts a fake LLM backend and the capturing proxy on loopback ports, sends a dozen "
        "requests through them and shows what was captured.",
    )
    parser.add_argument(
        "--capture-file", default=CAPTURE_FILE, metavar="FILE", help="capture file (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the demonstration.

    Raises:
        WireCaptureError: a part of it cannot be started, or the capture cannot be read.
    """
    capture_file = Path(arguments.capture_file).absolute()
    began = time.time()
    try:
        from otel_wirecap.cli.demo_client import drive
    except ImportError as error:
        raise ConfigurationError(
            f"demo: {error.name} is not installed; install it with: pip install 'otel-wirecap[proxy]'"
        ) from None
    with _ending_in_order(), contextlib.ExitStack() as stack:
        say("starting the backend and the proxy ...")
        backend = stack.enter_context(_child("backend", ["otel_wirecap.proxy.demo_backend"]))
        options = ["--capture-file", str(capture_file), "--default-backend", "openai", "--port", "0"]
        for name in BACKENDS:
            options += ["--backend", f"{name}={backend}"]
        proxy = stack.enter_context(_child("proxy", ["otel_wirecap", "proxy", *options]))
        say(f"sending requests to {proxy} ...")
        asyncio.run(drive(proxy, say))
        say("stopping ...")
    return _show(capture_file, began)


def _show(capture_file: Path, began: float) -> int:
    """Shows the capture with the usual commands, and suggests others."""
    from otel_wirecap.cli import main
    from otel_wirecap.reading.captures import Captures

    name = os.path.relpath(capture_file)
    with Captures([capture_file], use_index=False) as captures:
        all_flows = captures.flows()
    flows = [flow for flow in all_flows if flow.started_unix >= began]
    if not flows:
        say(f"nothing was captured in {name}")
        return 1
    longest = max(flows, key=lambda flow: flow.outer.duration_ms or 0.0)
    since = ["--since", datetime.fromtimestamp(began, UTC).isoformat()] if len(flows) < len(all_flows) else []
    for command in (["ls", *since, name], ["timeline", longest.request_id, name]):
        write(f"\n$ otel-wirecap {shlex.join(command)}")
        sys.stdout.flush()
        main(command)
    quoted = shlex.quote(name)
    write(
        f"\nThe capture is {quoted}. Ask it more:\n"
        f"  otel-wirecap show {longest.request_id} {quoted}\n"
        f"  otel-wirecap stats {quoted}\n"
        "What each stream added up to:\n"
        f"  jq -c 'select(.metadata.assembled) | {{backend, model, payload}}' {quoted}"
    )
    return 0


def say(text: str) -> None:
    """Prints progress to stderr."""
    print(f"otel-wirecap demo: {text}", file=sys.stderr, flush=True)  # noqa: T201  # this is the command line


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that no child is left behind."""

    def end(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _child(name: str, module: list[str]) -> Iterator[str]:
    """Runs one of our modules as a child process that reports its address; yields its URL and stops it afterwards.

    Raises:
        WireCaptureError: the process does not start.
    """
    child = _Child(name, module)
    try:
        yield child.url()
    finally:
        child.stop()


class _Child:
    """A server in a separate process, whose first line on stderr names its address."""

    def __init__(self, name: str, module: list[str]) -> None:
        self._name = name
        self._url: str | None = None
        self._answered = threading.Event()
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter, our own modules
            [sys.executable, "-m", *module],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(),
            # Ctrl-C is for us; we stop the children in order, so that the capture gets its end.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def url(self) -> str:
        """Returns the address where it answers.

        Raises:
            WireCaptureError: it has exited, or printed nothing in time.
        """
        self._answered.wait(START_SECONDS)
        if self._url is None:
            told = "".join(f"\n  {line}" for line in self._lines) or " no word from it"
            raise WireCaptureError(f"demo: the {self._name} did not come up:{told}")
        return self._url

    def stop(self) -> None:
        """Terminates it, and kills it if it does not exit."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"the {self._name} does not stop and is killed")
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
        self._reader.join(1)

    def _read(self) -> None:
        stderr = self._process.stderr
        if stderr is None:
            return
        with stderr:
            for raw in stderr:
                line = raw.decode("utf-8", "replace").rstrip()
                _, found, rest = line.partition(" on http://")
                if found and self._url is None:
                    self._url = "http://" + rest.split()[0]
                    self._answered.set()
                else:
                    self._lines.append(line)
        self._answered.set()


def _environment() -> dict[str, str]:
    """Returns the user's environment without variables that would affect the demo, and with made-up keys."""
    environ = {name: value for name, value in environment().items() if not name.startswith(("WIRE_CAPTURE_", "OTEL_"))}
    for name in BACKENDS:
        first, *others = PROVIDERS[name].key_variables
        environ[first] = "demo-" + secrets.token_hex(24)
        for other in others:
            environ.pop(other, None)
    environ["PYTHONUTF8"] = "1"
    return environ
