"""The processes that benchmarks measure: proxies, bare and captured, in front of one fake backend."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
INSTRUMENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))
OTHERS = "httpx,asgi,fastapi,starlette,aiohttp-client,requests,urllib,urllib3"
"""The instrumentors that OpenTelemetry has for what we hook."""


class Proxy:
    """A proxy process.

    Args:
        name: what it is called in tables.
        client: the library that it asks the backend with.
        folder: where its capture goes.
        captured: whether it is captured, as ``otel-wirecap run`` would have it.
        launcher: the command line that runs it, in place of Python alone.
        environment: variables beside those of this process.
    """

    def __init__(
        self, name: str, client: str, folder: Path, *, captured: bool, launcher: Sequence[str] = (sys.executable,),
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.launcher = launcher
        self.name = name
        self.port = free_port()
        self.capture = folder / f"{name}.log"
        self.client = client
        self.environment = dict(os.environ) | {"PYTHONPATH": str(HERE.parent)}  # what stands here is measured
        self.process: subprocess.Popen[bytes] | None = None
        if captured:
            attach = HERE.parent / "otel_wirecap" / "instrumentation" / "attach"
            self.environment |= {
                "WIRE_CAPTURE_FILE": str(self.capture),
                "WIRE_CAPTURE_MAX_BYTES": "4GB",
                "WIRE_CAPTURE_TOTAL_MAX_BYTES": "16GB",
                "PYTHONPATH": os.pathsep.join((str(attach), str(HERE.parent))),
            }
        self.environment |= environment or {}
        self.is_bare = not (captured or environment)

    def start(self, backend: str) -> None:
        """Starts the process and waits until it answers."""
        command = [*self.launcher, str(HERE / "proxy.py"), "--port", str(self.port), "--backend", backend]
        self.process = subprocess.Popen([*command, "--client", self.client], env=self.environment)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise SystemExit(f"proxy {self.name} did not start")

    def cpu_seconds(self) -> float:
        """CPU time of the process so far, that of threads that have ended included."""
        return time.clock_gettime(~self.process.pid << 3 | 2)  # what clock_getcpuclockid(3) makes of a process

    def memory(self) -> tuple[float, float]:
        """Resident memory of the process in MiB, now and at most so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        now, most = (int(status.partition(f"{name}:")[2].split()[0]) for name in ("VmRSS", "VmHWM"))
        return now / 1024, most / 1024

    def writes(self) -> int:
        """Calls of ``write`` so far."""
        return int(Path(f"/proc/{self.process.pid}/io").read_text().partition("syscw: ")[2].split()[0])

    def empty_capture(self) -> None:
        """Takes what was captured out of the file, where there is one."""
        if self.capture.exists():
            os.truncate(self.capture, 0)

    def settle(self) -> float:
        """Waits until the process is idle; its CPU time then."""
        last, quiet = self.cpu_seconds(), 0
        enough = 2 if self.is_bare else 8  # longer than the writer's flush interval
        for _ in range(200):
            time.sleep(0.15)
            now = self.cpu_seconds()
            quiet = quiet + 1 if now - last < 0.002 else 0
            last = now
            if quiet >= enough:
                break
        return last

    def stop(self) -> None:
        """Ends the process, where it has started."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(client: str, *names: str) -> Iterator[list[Proxy]]:
    """Runs a backend and a proxy for each name in front of it; the one called ``captured`` is captured."""
    with tempfile.TemporaryDirectory() as folder:
        proxies = [Proxy(name, client, Path(folder), captured=name == "captured") for name in names]
        with running(proxies):
            yield proxies


@contextlib.contextmanager
def running(proxies: Sequence[Proxy]) -> Iterator[None]:
    """Runs a backend, and proxies in front of it."""
    backend = subprocess.Popen([sys.executable, str(HERE / "backend.py")], stdout=subprocess.PIPE, text=True)
    try:
        address = f"http://127.0.0.1:{backend.stdout.readline().strip()}"
        for proxy in proxies:
            proxy.start(address)
        yield
    finally:
        for proxy in proxies:
            proxy.stop()
        backend.terminate()
        backend.wait()
