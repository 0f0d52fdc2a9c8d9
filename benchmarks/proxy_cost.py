"""What capture costs a proxy: CPU time of the proxy process, captured against bare, in one run.

    python benchmarks/proxy_cost.py [--client httpx|httpx2] [--rounds 5] [--setting capture_format=cbor]
    python benchmarks/proxy_cost.py --against ../before/.venv/bin/python

All proxies run side by side and take their turns in every round, so that whatever else the machine does meets all;
the table gives medians and the ratio of each round's pair. The CPU time counts everything in the process, the
writer's thread until it is idle included. What other processes do that it has started is in one column alone, that of
what is added with children: there theirs is counted, too, until they are idle. Writes are calls of ``write`` for a
request beyond the bare proxy's: those of the process to the capture.

With ``--against``, proxies of both environments stand in front of one backend and get the same load. What is compared
is a captured proxy's cost as a ratio to its own environment's bare proxy, and in microseconds of CPU time a request:
those of the process alone, and in all, with the processes that it has started.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from against import Installation, Measure, add_options, compare, parsed
from processes import OTHERS, Proxy, Usage, fail, in_front_of, running, serving_backend

T = TypeVar("T")
PROMPT = [{"role": "user", "content": "Tell me a story. " * 110}]
QUICK = ("50-chunk stream",)
WARM_UP_CONNECTIONS = 8
# name: (what is asked for, connections, requests, chunks of a reply)
WORKLOADS: dict[str, tuple[Mapping[str, object], int, int, int]] = {
    "2 KB reply": ({"size": 2048}, 8, 400, 0),
    "100 KB reply": ({"size": 102_400}, 8, 160, 0),
    "50-chunk stream": ({"stream": True, "chunks": 50}, 8, 96, 50),
    "2000-chunk stream": ({"stream": True, "chunks": 2000}, 8, 16, 2000),
    "paced stream": ({"stream": True, "chunks": 100, "delay": 0.02}, 32, 32, 100),
}


async def load(port: int, body: bytes, connections: int, requests: int) -> list[float]:
    """Sends ``requests`` over ``connections``, each as soon as the one before is answered; the seconds of each."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    request = head + b"content-length: %d\r\n\r\n" % len(body) + body
    took: list[float] = []

    async def one(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        for _ in range(count):
            began = time.perf_counter()
            writer.write(request)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not answer.startswith(b"http/1.1 200"):
                fail(f"the proxy answered {answer[:60]!r}")
            if b"content-length:" in answer:
                await reader.readexactly(int(answer.split(b"content-length:")[1].split(b"\r\n")[0]))
            else:
                while size := int(await reader.readline(), 16):
                    await reader.readexactly(size + 2)
                await reader.readexactly(2)
            took.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(one(requests // connections) for _ in range(connections)))
    return took


def request_body(asked: Mapping[str, object], prompt: Sequence[object] = PROMPT) -> bytes:
    """The body of a request for what is asked of the backend."""
    return json.dumps({"model": "bench", "messages": prompt, **asked}).encode()


def cost(
    proxy: Proxy, asked: Mapping[str, object], connections: int, requests: int, prompt: Sequence[object] = PROMPT
) -> Usage:
    """CPU microseconds for one of so many requests; the proxy must be idle before."""
    body = request_body(asked, prompt)
    before = proxy.cpu_seconds()
    asyncio.run(load(proxy.port, body, connections, requests))
    return proxy.settle().since(before).over(requests / 1e6)


def measure(proxy: Proxy, workload: str) -> Usage:
    """CPU microseconds for one request of the workload."""
    asked, connections, requests, _ = WORKLOADS[workload]
    proxy.settle()
    return cost(proxy, asked, connections, requests)


def interleaved(
    proxies: Sequence[Proxy], rounds: int, measured: Callable[[Proxy], T], *, warm_up: bool = True
) -> dict[str, list[T]]:
    """What is measured of each proxy in each round; they take turns, in the one order and in the other."""
    found: dict[str, list[T]] = {proxy.name: [] for proxy in proxies}
    for number in range(-warm_up, rounds):
        for proxy in proxies if number % 2 == 0 else proxies[::-1]:
            figure = measured(proxy)
            if number >= 0:
                found[proxy.name].append(figure)
            proxy.empty_capture()
    return found


def captured_with(client: str, folder: Path, settings: str, python: str = sys.executable) -> Proxy:
    """A captured proxy with settings, such as ``capture_format=cbor capture_flush_interval=5``."""
    given = dict(one.split("=", 1) for one in settings.split())
    return Proxy(settings, client, folder, settings=given, python=python)


def instrumented(name: str, client: str, folder: Path, *, without: str, python: str = sys.executable) -> Proxy:
    """A proxy under ``opentelemetry-instrument``, with spans that go nowhere, without some instrumentors."""
    plain = Proxy(name, client, folder, settings={}, python=python).environment
    environment = {key: value for key, value in plain.items() if key.startswith("WIRE_CAPTURE_")}
    environment |= {f"OTEL_{kind}_EXPORTER": "none" for kind in ("TRACES", "METRICS", "LOGS")}
    environment |= {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": without}
    launcher = [str(Path(python).with_name("opentelemetry-instrument")), python]
    return Proxy(name, client, folder, launcher=launcher, environment=environment, python=python)


def main() -> int:
    """Measures and prints the table; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", choices=("httpx", "httpx2"), default="httpx")
    add_options(parser, rounds=5)
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="only this one; may be given repeatedly")
    parser.add_argument(
        "--setting", action="append", default=[], metavar="NAME=VALUE", dest="settings",
        help="measure a captured proxy with this setting, too, or with these, with spaces between; repeatedly",
    )  # fmt: skip
    parser.add_argument(
        "--instrument", action="store_true",
        help="measure it under opentelemetry-instrument, too, with the instrumentors of OpenTelemetry's and without",
    )  # fmt: skip
    options = parsed(parser)
    workloads = options.workload or (QUICK if options.quick else list(WORKLOADS))
    if options.there is not None:
        with serving_backend() as backend:
            return compare(options, partial(side, backend=backend, options=options, workloads=workloads), workloads)
    with tempfile.TemporaryDirectory() as name:
        proxies = proxies_of(sys.executable, Path(name), options)
        with running(proxies):
            table(proxies, options.rounds, options.client, workloads)
    return 0


def proxies_of(python: str, folder: Path, options: argparse.Namespace) -> list[Proxy]:
    """The proxies that are measured, those of one environment; the first is the bare one."""
    client, settings = options.client, options.settings
    proxies = [
        Proxy(name, client, folder, settings=None if name == "bare" else {}, python=python)
        for name in ("bare", "captured")
    ]
    proxies += [captured_with(client, folder, one, python) for one in settings]
    if options.instrument:
        ours, theirs, none = "captured, theirs not", "captured, theirs too", "theirs alone"
        for name, without in ((ours, OTHERS), (theirs, ""), (none, "wirecap")):
            proxies.append(instrumented(name, client, folder, without=without, python=python))
    return proxies


def check_import(proxy: Proxy, installed: Installation) -> None:
    """Ends this program where a captured proxy of an environment would import another environment's otel-wirecap."""
    if not proxy.is_captured:
        return
    command = [installed.python, "-P", "-c", "import otel_wirecap; print(otel_wirecap.__file__)"]
    done = subprocess.run(command, env=proxy.environment, capture_output=True, text=True, check=True)
    imported = Path(done.stdout.strip()).parent
    if imported != installed.package:
        fail(f"proxy {proxy.name} of {installed.python} imports {imported}; expected {installed.package}")


@contextlib.contextmanager
def side(
    installed: Installation, number: int, *, backend: str, options: argparse.Namespace, workloads: Sequence[str]
) -> Iterator[Measure]:
    """Runs the proxies of an environment for one round, warmed up; gives what measures a workload."""
    with tempfile.TemporaryDirectory() as name:
        proxies = proxies_of(installed.python, Path(name), options)
        for proxy in proxies:
            check_import(proxy, installed)
        with in_front_of(backend, proxies):
            for workload in workloads:
                asked, _, requests, _ = WORKLOADS[workload]
                body = request_body({**asked, "delay": 0})
                for proxy in proxies:
                    asyncio.run(load(proxy.port, body, WARM_UP_CONNECTIONS, max(requests // 8, WARM_UP_CONNECTIONS)))
            for proxy in proxies:
                proxy.settle()
                proxy.empty_capture()

            def figures(workload: str) -> dict[str, float]:
                costs = {}
                for proxy in proxies if number % 2 == 0 else proxies[::-1]:
                    asked, connections, requests, _ = WORKLOADS[workload]
                    costs[proxy.name] = cost(proxy, asked, connections, requests)
                    proxy.check_capture()
                    proxy.empty_capture()
                bare = costs["bare"]
                found: dict[str, float] = {}
                for proxy in proxies[1:]:
                    own, row = costs[proxy.name], f"{workload}, {proxy.name}"
                    found |= {
                        f"{row}: ratio to bare, alone": own.alone / bare.alone,
                        f"{row}: ratio to bare, in all": own.together / bare.together,
                        f"{row}: µs a request, alone": own.alone,
                        f"{row}: µs a request, in all": own.together,
                    }
                return found

            yield figures


def table(proxies: Sequence[Proxy], rounds: int, client: str, workloads: Sequence[str]) -> None:
    """Runs all rounds and prints medians; the first proxy is the bare one."""
    print(f"client: {client}; CPU time of the proxy process, medians of {rounds} interleaved rounds\n")
    print(
        "| workload | proxy | bare µs | µs | ratio (min to max) | added µs | per relayed chunk | "
        "added µs, with children | added writes |"
    )
    print("|---" * 9 + "|")
    for workload in workloads:
        chunk_count = WORKLOADS[workload][3]
        writes = {proxy.name: proxy.writes() for proxy in proxies}
        costs = interleaved(proxies, rounds, partial(measure, workload=workload))
        bare = costs[proxies[0].name]
        calls = [proxy.writes() - writes[proxy.name] for proxy in proxies]
        for proxy, made in zip(proxies[1:], calls[1:], strict=True):
            own = costs[proxy.name]
            ratios = ratios_of(own, bare)
            added = added_to(bare, own)
            per_chunk = f"{added.alone / chunk_count:.1f}" if chunk_count else "-"
            print(
                f"| {workload} | {proxy.name} | {median(bare).alone:,.0f} | {median(own).alone:,.0f} | "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {added.alone:,.0f} | "
                f"{per_chunk} | {added.together:,.0f} | "
                f"{(made - calls[0]) / (rounds + 1) / WORKLOADS[workload][2]:.2f} |",
                flush=True,
            )


def median(figures: Sequence[Usage]) -> Usage:
    """The median of what processes took alone, and that of what they took with their children."""
    return Usage(*map(statistics.median, zip(*figures, strict=True)))


def added_to(bare: Sequence[Usage], own: Sequence[Usage]) -> Usage:
    """The median of what each round's figure is more than the bare proxy's."""
    return median([one.since(base) for one, base in zip(own, bare, strict=True)])


def ratios_of(own: Sequence[Usage], bare: Sequence[Usage], which: int = 0) -> list[float]:
    """How often each round's figure is the bare proxy's, of the process alone (0) or with its children (1)."""
    return [one[which] / base[which] for one, base in zip(own, bare, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
