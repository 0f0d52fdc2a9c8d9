"""The processes that benchmarks measure: proxies, bare and captured, in front of one fake backend."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

HERE = Path(__file__).parent
INSTRUMENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))
CANNOT_MEASURE = 2
"""The exit code where there is nothing to say, good or bad."""
IDLE_SECONDS = 0.005
"""CPU time within 0.15 s below which processes are idle: to look whether there is something to do takes up to 2 ms."""
MARK = "BENCHMARK_PROXY"
"""The environment variable that tells the processes of a proxy from all others, whatever they have become."""
IMPORT_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE")
OTHERS = "httpx,asgi,fastapi,starlette,aiohttp-client,requests,urllib,urllib3"
"""The instrumentors that OpenTelemetry has for what we hook."""
START_SECONDS = 180
TICK = 1 / os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """What a process takes alone, and what it and its descendants take together."""

    alone: float
    together: float

    def since(self, before: Usage) -> Usage:
        """What came on top of what was taken before."""
        return Usage(self.alone - before.alone, self.together - before.together)

    def over(self, count: float) -> Usage:
        """The share of each of so many."""
        return Usage(self.alone / count, self.together / count)


class Proxy:
    """A proxy process.

    Args:
        name: what it is called in tables.
        client: the library that it asks the backend with.
        folder: where its capture goes.
        settings: it is captured as ``otel-wirecap run`` would have it, with these settings beside the capture file and
            room for all; None where it is not captured.
        launcher: the command line that runs it, in place of Python alone.
        environment: variables beside those of this process.
        program: the file beside this one that is the proxy, and the arguments that it gets before all others.
        python: the interpreter whose otel-wirecap captures it.
    """

    def __init__(
        self, name: str, client: str, folder: Path, *, settings: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (), environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("proxy.py",), python: str = sys.executable,
    ) -> None:  # fmt: skip
        self.launcher = launcher or [python]
        self.program = program
        self.name = name
        self.port = free_port()
        self.capture = folder / f"{name}.log"
        self.client = client
        self.environment = own_environment()
        self.process: subprocess.Popen[bytes] | None = None
        if settings is not None:
            room = {"capture_max_bytes": "4GB", "capture_total_max_bytes": "16GB"}
            given = {"capture_file": str(self.capture), **room, **settings}
            self.environment = run_environment(python, given)
        self.environment[MARK] = self.mark = f"{os.getpid()}-{self.port}"
        self.environment |= environment or {}
        self.is_captured = settings is not None
        self.is_bare = not (self.is_captured or environment or len(program) > 1)

    def start(self, backend: str) -> None:
        """Starts the process and waits until it answers."""
        command = [*self.launcher, str(HERE / self.program[0]), *self.program[1:], "--port", str(self.port)]
        command += ["--backend", backend, "--client", self.client]
        self.process = subprocess.Popen(command, env=self.environment)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        fail(f"proxy {self.name} did not start in {START_SECONDS} seconds; command: {' '.join(command)}")

    @property
    def pid(self) -> int:
        """The process; there is one between start and stop."""
        assert self.process is not None
        return self.process.pid

    def helpers(self) -> set[int]:
        """The processes that it has started, and that those have.

        otel-wirecap's writer is no child of the process, nor of any that it has started: the mark finds it.
        """
        mark = f"{MARK}={self.mark}\0".encode()
        found = set(descendants(self.pid))
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
                if mark in environ.read_bytes():
                    found.add(int(environ.parent.name))
        return found - {self.pid}

    def cpu_seconds(self) -> Usage:
        """CPU time so far, that of threads that have ended included, and that of children that were waited for.

        Of those the kernel tells hundredths of a second, of all others nanoseconds.
        """
        own = self.pid
        alone = cpu_clock(own)
        together = alone + time_of_the_ended(own)
        for pid in self.helpers():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                together += cpu_clock(pid) + time_of_the_ended(pid)
        return Usage(alone, together)

    def resident(self) -> Usage:
        """Resident memory in MiB, now; what processes share counts in each of them."""
        alone = together = resident_memory(self.pid)
        for pid in self.helpers():
            with contextlib.suppress(OSError):
                together += resident_memory(pid)
        return Usage(alone, together)

    def memory(self) -> tuple[float, float]:
        """Resident memory of the process in MiB, now and at most so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        now, most = (int(status.partition(f"{name}:")[2].split()[0]) for name in ("VmRSS", "VmHWM"))
        return now / 1024, most / 1024

    def writes(self) -> int:
        """Calls of ``write`` so far."""
        return int(Path(f"/proc/{self.pid}/io").read_text().partition("syscw: ")[2].split()[0])

    def check_capture(self) -> None:
        """Ends this program where nothing was captured: what does nothing costs little."""
        if self.is_captured and not (self.capture.exists() and self.capture.stat().st_size):
            fail(f"proxy {self.name} captured nothing in {self.capture}; command: {self.launcher}")

    def empty_capture(self) -> None:
        """Takes what was captured out of the file, where there is one."""
        if self.capture.exists():
            os.truncate(self.capture, 0)

    def settle(self) -> Usage:
        """Waits until the process and all of its descendants are idle; their CPU time then."""
        last, quiet = self.cpu_seconds(), 0
        enough = 2 if self.is_bare else 8  # longer than the writer's flush interval
        for _ in range(400):
            time.sleep(0.15)
            now = self.cpu_seconds()
            quiet = quiet + 1 if now.since(last).together < IDLE_SECONDS else 0
            last = now
            if quiet >= enough:
                return last
        print(f"{self.name} is not idle after a minute: its figure is too low", file=sys.stderr)
        return last

    def stop(self) -> None:
        """Ends the process, where it has started, and what it has started itself and does not end."""
        if self.process is None:
            return
        helpers = []
        for pid in self.helpers():
            with contextlib.suppress(ProcessLookupError):
                helpers.append(os.pidfd_open(pid))
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for helper in helpers:
            if not select.select([helper], [], [], 10)[0]:  # readable once it has ended
                signal.pidfd_send_signal(helper, signal.SIGKILL)
            os.close(helper)


def fail(message: str) -> NoReturn:
    """Ends this program with a message and the exit code ``CANNOT_MEASURE``."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    raise SystemExit(CANNOT_MEASURE)


def own_environment() -> dict[str, str]:
    """The variables of this process, without those that change where Python imports from, and whether it compiles.

    So each interpreter imports the otel-wirecap that is installed in its own environment, and none that stands nearby;
    and an environment whose installer compiled nothing (uv's, say) has done so once the first round is over.
    """
    return {name: value for name, value in os.environ.items() if name not in IMPORT_VARIABLES}


def run_environment(python: str, settings: Mapping[str, str]) -> dict[str, str]:
    """The variables that ``otel-wirecap run`` of an interpreter's environment gives the commands that it captures."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    command = [*wirecap(python), "run", *options, "--", "env", "-0"]
    done = subprocess.run(command, env=own_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)


def wirecap(python: str) -> list[str]:
    """The command ``otel-wirecap`` of an interpreter's environment; never that of the working directory."""
    return [python, "-P", "-m", "otel_wirecap"]


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and that those have."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            children.setdefault(int(stat_fields(stat)[1]), []).append(int(stat.parent.name))
    found = list(children.get(pid, ()))
    for one in found:  # which grows
        found += children.get(one, ())
    return found


def stat_fields(stat: Path) -> list[str]:
    """What ``/proc`` tells of a process, from its state on; its parent comes next."""
    return stat.read_text().rpartition(")")[2].split()


def cpu_clock(pid: int) -> float:
    """CPU seconds of a process so far, that of threads that have ended included."""
    return time.clock_gettime(~pid << 3 | 2)  # what clock_getcpuclockid(3) makes of a process


def time_of_the_ended(pid: int) -> float:
    """CPU seconds of the children of a process that have ended and were waited for, and of theirs."""
    return sum(map(int, stat_fields(Path(f"/proc/{pid}/stat"))[13:15])) * TICK


def resident_memory(pid: int) -> float:
    """Resident memory of a process in MiB, now; 0 where it has ended and was not waited for."""
    found = Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()
    return int(found[0]) / 1024 if found else 0.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(client: str, *names: str) -> Iterator[list[Proxy]]:
    """Runs a backend and a proxy for each name in front of it; the one called ``captured`` is captured."""
    with tempfile.TemporaryDirectory() as folder:
        proxies = [Proxy(name, client, Path(folder), settings={} if name == "captured" else None) for name in names]
        with running(proxies):
            yield proxies


@contextlib.contextmanager
def running(proxies: Sequence[Proxy]) -> Iterator[None]:
    """Runs a backend, and proxies in front of it."""
    with serving_backend() as address, in_front_of(address, proxies):
        yield


@contextlib.contextmanager
def serving_backend() -> Iterator[str]:
    """Runs a backend and gives its address."""
    command = [sys.executable, str(HERE / "backend.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own_environment()) as backend:
        try:
            assert backend.stdout is not None
            yield f"http://127.0.0.1:{backend.stdout.readline().strip()}"
        finally:
            backend.terminate()


@contextlib.contextmanager
def in_front_of(backend: str, proxies: Sequence[Proxy]) -> Iterator[None]:
    """Runs proxies in front of a backend."""
    try:
        for proxy in proxies:
            proxy.start(backend)
        yield
    finally:
        for proxy in proxies:
            proxy.stop()
