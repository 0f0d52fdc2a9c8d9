"""The first process of a container, and other processes that are given orphans: in PID namespaces of their own."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import pytest

BIN = Path(sys.executable).parent
PYTHON = [sys.executable]
RUN = [str(BIN / "otel-wirecap"), "run", "--"]
INSTRUMENT = [str(BIN / "opentelemetry-instrument")]
SECONDS = 100.0
CLEAN_SECONDS = 90.0
"""Writers run at a lower priority: a busy machine takes its time with their ends."""

T = TypeVar("T")

pytestmark = pytest.mark.timeout(400)
INTERPRETER = BIN.joinpath(sys.executable).name[:15]
"""As lists of processes name it."""

EXCHANGE = """
import os, signal, subprocess, sys, time

def exchange(body=b"data: 1\\n\\n"):
    import httpx
    answer = lambda request: httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    httpx.Client(transport=httpx.MockTransport(answer)).post("http://backend.example/v1/chat/completions", json={})

def instrument():
    import otel_wirecap
    from otel_wirecap.instrumentation.runtime import active
    if active() is None:  # else it was done by whoever started us
        otel_wirecap.instrument()

def await_the_end():
    print("done", flush=True)
    sys.stdin.read()
"""

START_METHODS = """
import multiprocessing

def child():
    instrument()
    exchange()

if __name__ == "__main__":
    instrument()
    exchange()
    context = multiprocessing.get_context(sys.argv[1])
    children = [context.Process(target=child) for _ in range(3)]
    for process in children:
        process.start()
    for process in children:
        process.join()
        assert process.exitcode == 0
    await_the_end()
"""

KILLED = """
instrument()
exchange()
for number in range(8):
    child = os.fork()
    if not child:
        exchange()
        time.sleep(number / 30)  # at different moments of a writer's start
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
await_the_end()
"""

NEVER_WAITED_FOR = """
instrument()
child = os.fork()
if not child:
    os._exit(7)
if not os.fork():
    exchange()
    __import__("otel_wirecap").uninstrument()
    os._exit(0)
await_the_end()
print(os.waitpid(child, 0)[1] >> 8)
"""

EVERY_CHILD_WAITED_FOR = """
instrument()
expected, codes = set(range(5)), set()
for number in expected:
    if not os.fork():
        exchange()
        __import__("otel_wirecap").uninstrument()
        os._exit(number)
while not codes >= expected:
    codes.add(os.waitstatus_to_exitcode(os.wait()[1]))
print("all are seen")
"""

NO_CHILD_LEFT = """
exchange()
for number in range(3):
    if not os.fork():
        exchange()
        __import__("otel_wirecap").uninstrument()
        os._exit(number)
codes = []
while True:
    try:
        codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
    except ChildProcessError:
        break
print(sorted(codes))
"""

ORPHANS = """
for _ in range(8):
    subprocess.run(["sh", "-c", "sleep 0.01 &"], check=True)
await_the_end()
"""

SENT_AND_NOT_WRITTEN = """
def send():
    instrument()
    for _ in range(5):
        exchange()
    from otel_wirecap.storage.registry import open_writers
    (writer,) = open_writers()
    empty = 0
    while empty < 5:
        time.sleep(0.001)
        empty = 0 if writer._home.events_sent < writer._ledger.accepted else empty + 1
    print("sent", flush=True)
"""

KILLED_BEFORE_IT_WAS_WRITTEN = (
    SENT_AND_NOT_WRITTEN
    + """
send()
os.kill(os.getpid(), signal.SIGKILL)
"""
)

CHILD_KILLED_BEFORE_IT_WAS_WRITTEN = (
    SENT_AND_NOT_WRITTEN
    + """
instrument()
if sys.argv[1:]:
    send()
    os.kill(os.getpid(), signal.SIGKILL)
own = os.environ | {"WIRE_CAPTURE_FILE": "locked.log"}
subprocess.run([sys.executable, __file__, "child"], env=own, check=False)
"""
)

STOPPED_BEFORE_IT_WAS_WRITTEN = (
    SENT_AND_NOT_WRITTEN
    + """
send()
time.sleep(600)
"""
)

SUBREAPER = """
import ctypes

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
"""

SERVED = """
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


class Process(NamedTuple):
    pid: int
    parent: int
    name: str
    state: str


def processes() -> list[Process]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid, _, rest = (folder / "stat").read_text().partition(" (")
            name, _, fields = rest.rpartition(") ")
            state, parent, *_ = fields.split()
            found.append(Process(int(pid), int(parent), name, state))
    return found


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def status_of(pid: int, field: str) -> str:
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(line.partition(":")[2] for line in lines if line.startswith(field + ":"))
    return ""


class Container:
    """A command that is the first process of a PID namespace, or adopts orphans in another way.

    Attributes:
        outermost: what was started.
        first: the command's process as seen from here.
    """

    def __init__(self, outermost: subprocess.Popen[str], *, in_a_namespace: bool) -> None:
        self.outermost = outermost
        self.first = outermost.pid
        if in_a_namespace:
            wait_until(lambda: self._children_of(outermost.pid) or outermost.poll() is not None)
            (child,) = self._children_of(outermost.pid)
            self.first = child.pid

    @staticmethod
    def _children_of(pid: int) -> list[Process]:
        return [process for process in processes() if process.parent == pid]

    def children(self) -> list[Process]:
        """Those of the first process, in the order of their names."""
        return sorted(self._children_of(self.first), key=lambda process: process.name)

    def zombies(self) -> list[Process]:
        """Those that the first process has not waited for."""
        return [process for process in self.children() if process.state == "Z"]

    def wait_until_it_is_clean(self) -> None:
        """Waits until there are neither zombies nor writers of applications that have ended."""
        deadline = time.monotonic() + CLEAN_SECONDS
        while (found := (self.zombies(), self.is_tidy())) != ([], True) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert found == ([], True)

    def is_tidy(self) -> bool:
        """Whether there are no writers of applications that have ended."""
        inside = [one for one in self._descendants() if one.state != "Z"]
        running = {inner for one in inside for inner in status_of(one.pid, "NSpid").split()[-1:]}
        commands = [command_of(one.pid).split("\0") for one in inside if one.name == "wirecap-writer"]
        written_for = {words[-2] for words in commands if words[1:]}  # else it has ended meanwhile
        return written_for <= running

    def _descendants(self) -> list[Process]:
        everyone = processes()
        found = [one for one in everyone if one.pid == self.first]
        for parent in found:  # and of those that are found meanwhile
            found += [one for one in everyone if one.parent == parent.pid]
        return found

    def child_of_inner_id(self, pid: int) -> int:
        """The id from here of a child of the first process, by its id inside."""
        ids = (status_of(one.pid, "NSpid").split() for one in self.children())
        (found,) = [int(inner[0]) for inner in ids if inner[-1:] == [str(pid)]]
        return found

    def output(self) -> IO[str]:
        assert self.outermost.stdout is not None
        return self.outermost.stdout

    def finish(self) -> str:
        """Has it end by itself; what it still prints."""
        return self.outermost.communicate(timeout=SECONDS)[0]


def wait_until(condition: Callable[[], T], seconds: float = SECONDS) -> T:
    """What the condition says when it holds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)
    return found


@functools.cache
def namespace_command() -> list[str]:
    """What makes the command that follows the first process; skips the test where that is not permitted."""
    said = ""
    for options in ([], ["--user", "--map-root-user"]):
        command = ["unshare", *options, "--pid", "--fork", "--mount-proc", "--kill-child"]
        try:
            tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("the program unshare is not here")
        if tried.returncode == 0:
            return command
        said = tried.stderr.strip()
    pytest.skip(f"a PID namespace is not permitted here: {said}")


Start = Callable[..., Container]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a program, as the first process or as the command of one, and stops it at the end."""
    with contextlib.ExitStack() as stack:

        def start(program: str, *arguments: str, first: list[str] = PYTHON, namespace: bool = True) -> Container:
            (tmp_path / "program.py").write_text(EXCHANGE + textwrap.dedent(program))
            command = first if first is PYTHON else [*first, *PYTHON]
            return start_command([*command, "program.py", *arguments], namespace=namespace)

        def start_command(command: list[str], *, namespace: bool = True) -> Container:
            process = subprocess.Popen(
                [*(namespace_command() if namespace else []), *command],
                cwd=tmp_path, env=environ(tmp_path), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            stack.callback(stop, process)
            return Container(process, in_a_namespace=namespace)

        def stop(process: subprocess.Popen[str]) -> None:
            if process.poll() is None:  # else its id may be another's by now
                process.kill()  # and with it, by --kill-child, the first process, and so all of the namespace
            process.communicate()

        start.command = start_command  # type: ignore[attr-defined]
        yield start


def environ(folder: Path) -> dict[str, str]:
    return os.environ | {
        "WIRE_CAPTURE_FILE": str(folder / "capture.log"),
        "PYTHONPATH": str(folder),
        "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
    }  # fmt: skip


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def requests_of(path: Path) -> int:
    return sum(record["direction"] == "outbound_request" for record in records(path))


FIRST = {"the application": PYTHON, "run": RUN, "opentelemetry-instrument": INSTRUMENT}


@pytest.mark.parametrize(
    ("first", "method"),
    [("the application", "fork"), ("the application", "spawn"), ("the application", "forkserver"),
     ("run", "spawn"), ("opentelemetry-instrument", "fork")],
)  # fmt: skip
@pytest.mark.faults
def test_no_writer_of_a_child_process_remains_as_a_zombie(
    first: str, method: str, start: Start, tmp_path: Path
) -> None:
    container = start(START_METHODS, method, first=FIRST[first])
    assert container.output().readline() == "done\n"
    container.wait_until_it_is_clean()
    container.finish()
    assert container.outermost.returncode == 0
    assert requests_of(tmp_path / "capture.log") == 4


@pytest.mark.parametrize("first", ["the application", "run"])
@pytest.mark.sampled(1, rest="faults")
def test_no_writer_of_a_killed_process_remains_as_a_zombie(first: str, start: Start) -> None:
    container = start(KILLED, first=FIRST[first])
    assert container.output().readline() == "done\n"
    container.wait_until_it_is_clean()
    container.finish()
    assert container.outermost.returncode == 0


@pytest.mark.faults
def test_who_adopts_orphans_without_being_the_first_process_waits_for_writers(start: Start) -> None:
    container = start(SUBREAPER + KILLED, namespace=False)
    assert container.output().readline() == "done\n"
    container.wait_until_it_is_clean()
    container.finish()
    assert container.outermost.returncode == 0


@pytest.mark.faults
def test_a_child_of_the_application_is_left_to_it(start: Start) -> None:
    container = start(NEVER_WAITED_FOR)
    assert container.output().readline() == "done\n"

    wait_until(lambda: [one.name for one in container.zombies()] == [INTERPRETER, INTERPRETER] and container.is_tidy())
    assert container.finish() == "7\n"


@pytest.mark.faults
def test_an_application_that_waits_for_any_child_sees_each_of_its_own(start: Start) -> None:
    container = start(EVERY_CHILD_WAITED_FOR)
    assert container.finish() == "all are seen\n"
    assert container.outermost.returncode == 0


@pytest.mark.faults
def test_under_run_an_application_can_wait_until_it_has_no_child(start: Start, tmp_path: Path) -> None:
    container = start(NO_CHILD_LEFT, first=RUN)
    assert container.finish() == "[0, 1, 2]\n"
    assert requests_of(tmp_path / "capture.log") == 4


@pytest.mark.faults
def test_run_waits_for_every_orphan_as_the_first_process_is_expected_to(start: Start) -> None:
    container = start(ORPHANS, first=RUN)
    assert container.output().readline() == "done\n"
    wait_until(lambda: [one.name for one in container.children()] == [INTERPRETER, "wirecap-writer"])
    container.finish()


@pytest.mark.parametrize(
    ("first", "program", "file", "code"),
    [
        (RUN, KILLED_BEFORE_IT_WAS_WRITTEN, "capture.log", 128 + signal.SIGKILL),
        (RUN, STOPPED_BEFORE_IT_WAS_WRITTEN, "capture.log", 128 + signal.SIGTERM),
        (PYTHON, CHILD_KILLED_BEFORE_IT_WAS_WRITTEN, "locked.log", 0),
    ],
    ids=["run, command killed", "run, stopped by a signal", "the application, child killed"],
)
@pytest.mark.faults
def test_the_first_process_does_not_end_before_what_others_sent_is_written(
    first: list[str], program: str, file: str, code: int, start: Start, tmp_path: Path
) -> None:
    with (tmp_path / file).open("wb") as capture:
        fcntl.flock(capture, fcntl.LOCK_EX)
        container = start(program, first=first)
        assert container.output().readline() == "sent\n"
        if program is STOPPED_BEFORE_IT_WAS_WRITTEN:
            os.kill(container.first, signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            container.outermost.wait(2)
    container.finish()
    assert container.outermost.returncode == code
    found = records(tmp_path / file)
    assert [one["payload"]["reason"] for one in found if one["direction"] == "system_gap"] == ["application_gone"]
    assert requests_of(tmp_path / file) == 5


SERVERS = {
    "gunicorn": ["gunicorn", "served:app", "-b", "127.0.0.1:{port}", "-w", "2", "-k", "asgi"],
    "uvicorn": [
        "uvicorn", "served:app", "--port", "{port}", "--workers", "2", "--log-level", "warning",
        "--timeout-worker-healthcheck", "60",  # on a busy machine it takes them for dead
    ],
}  # fmt: skip


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.servers
def test_a_server_whose_workers_are_killed_keeps_no_zombies(server: str, start: Start, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(SERVED)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*INSTRUMENT, *(part.replace("{port}", str(port)) for part in SERVERS[server])]
    container = start.command([str(BIN / part) if part == server else part for part in command])
    for _ in range(2):
        worker = container.child_of_inner_id(wait_until(lambda: worker_that_answers(port)))
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda worker=worker: not command_of(worker))  # a zombie has no command line any more
        container.wait_until_it_is_clean()
    wait_until(lambda: worker_that_answers(port))
    os.kill(container.first, signal.SIGTERM)
    container.finish()
    assert {"inbound_request", "system_stop"} <= {one["direction"] for one in records(tmp_path / "capture.log")}


def worker_that_answers(port: int) -> int:
    """Its process id, as it sees that itself; 0 where there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)  # one that is killed may have taken it
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/")
        return int(connection.getresponse().read())
    return 0
