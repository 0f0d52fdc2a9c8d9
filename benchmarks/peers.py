"""What recording costs a proxy, with otel-wirecap and with its peers: CPU time of the proxy process, in one run.

    python benchmarks/peers.py [--client httpx|httpx2] [--rounds 5] [--streams]

The peers are recorders written by hand (``peer_proxy.py``), OpenTelemetry's own instrumentation and logfire; those
whose packages are not installed are left out, and named. The limit is the least that recording can cost: a tuple into a
list, serialised 256 at a time. All run side by side, take their turns in every round as in ``proxy_cost.py``, and have
been idle for longer than their batches wait before their CPU time is read. Figures are medians, of ratios and
differences to the bare proxy of the same round. "With children" counts what other processes do that a proxy has
started, too, until all are idle. The last column tells how much of what was relayed in streams of 2,000 chunks was
found in the capture, on both legs.

With ``--streams`` another table: how many streams of 500 chunks a second go through a proxy, what 64 streams at a time
of 5,000 chunks cost, the most memory that they take above what the idle proxy took (looked at every 50 ms, in a new
process each round), how many of their chunks are in the capture, and the 99th percentile of how long a paced stream
takes as a whole. There, load and backend share the machine's processors with the proxy and its children.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from processes import HERE, OTHERS, Proxy, Usage, running
from proxy_cost import (
    WORKLOADS,
    added_to,
    cost,
    instrumented,
    interleaved,
    load,
    measure,
    median,
    ratios_of,
    request_body,
)

BARE, LIMIT, OURS = "bare", "limit: append, orjson every 256 records", "otel-wirecap, opentelemetry-instrument"
# Proxy.settle() waits longer than a second, not as long as the default; and a span of each chunk has to find room.
BATCHES = {"OTEL_BSP_SCHEDULE_DELAY": "1000", "OTEL_BSP_MAX_QUEUE_SIZE": "65536"}
SMALL, LONG = "2 KB reply", "2000-chunk stream"
COMPARED = (SMALL, "100 KB reply", "50-chunk stream", LONG)
MARK = re.compile(rb"#\d{6} ")  # one in each chunk that the backend sends
FAST = {"stream": True, "chunks": 500}
MANY = {"stream": True, "chunks": 5000}
STREAMS_AT_A_TIME = 64
PACED_STREAMS = 128


def by_hand(recorder: str) -> Callable[[str, str, Path], Proxy]:
    """Makes a proxy with a recorder of ``peer_proxy.py``."""

    def make(name: str, client: str, folder: Path) -> Proxy:
        program = ["peer_proxy.py", "--recorder", recorder, "--capture", str(folder / f"{name}.log")]
        return Proxy(name, client, folder, environment=BATCHES, program=program)

    return make


def with_logfire(name: str, client: str, folder: Path) -> Proxy:
    """A proxy under logfire, its spans into a file."""
    environment = BATCHES | {"WITH_PAYLOADS": "1", "SPANS_FILE": str(folder / f"{name}.log")}
    launcher = [sys.executable, str(HERE / "with_logfire.py")]
    return Proxy(name, client, folder, launcher=launcher, environment=environment)


class Peer(NamedTuple):
    """Who is compared: what it keeps, how its proxy is made, the modules that it needs, the clients that it knows."""

    name: str
    keeps: str
    make: Callable[[str, str, Path], Proxy]
    needs: Sequence[str] = ()
    clients: Sequence[str] = ("httpx", "httpx2")

    def missing(self, client: str) -> str:
        """Why it has to be left out; nothing where it has not."""
        if client not in self.clients:
            return f"knows no {client}"
        absent = [name for name in self.needs if importlib.util.find_spec(name) is None]
        return f"not installed: {', '.join(absent)}" if absent else ""


CONTRIB = ("opentelemetry.instrumentation.httpx", "opentelemetry.instrumentation.fastapi")
PEERS = (
    Peer(BARE, "nothing", lambda name, client, folder: Proxy(name, client, folder)),
    Peer(LIMIT, "all", by_hand("limit")),
    Peer("logging, RotatingFileHandler", "all", by_hand("logging")),
    Peer("loguru", "all", by_hand("loguru"), ("loguru",)),
    Peer("OpenTelemetry SDK, an event a chunk", "all", by_hand("spans")),
    Peer("OpenTelemetry contrib, httpx and FastAPI", "times", by_hand("contrib"), CONTRIB),
    Peer("logfire, capture_all", "bodies, none of streams", with_logfire, ("logfire", *CONTRIB), ("httpx",)),
    Peer("otel-wirecap run", "all", lambda name, client, folder: Proxy(name, client, folder, settings={})),
    Peer(OURS, "all, and spans", lambda name, client, folder: instrumented(name, client, folder, without=OTHERS)),
)  # fmt: skip


def kept(proxy: Proxy, chunks: int) -> float:
    """How many of so many relayed chunks are in the capture on both legs, as a share."""
    if not proxy.capture.exists():
        return 0.0
    with proxy.capture.open("rb") as lines:
        if proxy.name.startswith("otel-wirecap"):  # its records of assembled streams hold all chunks once more
            found = sum(len(MARK.findall(line)) for line in lines if b'"chunk_number":' in line)
        else:
            found = sum(len(MARK.findall(line)) for line in lines)
    return found / (2 * chunks)


class Recorded(NamedTuple):
    """What a request cost, and the share of chunks that was kept."""

    used: Usage
    kept: float


def recorded(proxy: Proxy, workload: str) -> Recorded:
    """What a request of the workload costs, and what is kept of it."""
    used = measure(proxy, workload)
    _, _, requests, chunks = WORKLOADS[workload]
    return Recorded(used, kept(proxy, requests * chunks) if chunks else 0.0)


def costs(peers: Sequence[Peer], client: str, rounds: int) -> None:
    """Measures all peers at all workloads and prints the table."""
    seen: dict[str, dict[str, list[Recorded]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        proxies = [peer.make(peer.name, client, Path(folder)) for peer in peers]
        with running(proxies):
            for workload in COMPARED:
                print(f"{time.strftime('%X')} {workload}", file=sys.stderr)
                seen[workload] = interleaved(proxies, rounds, partial(recorded, workload=workload))
    print(f"| | keeps | {' | '.join(COMPARED)} | added µs a {SMALL} | a relayed chunk | chunks kept |")
    print("|---" * 9 + "|")
    used = {
        name: {workload: [one.used for one in seen[workload][name]] for workload in COMPARED} for name in seen[SMALL]
    }
    for peer in peers:
        share = statistics.median(one.kept for one in seen[LONG][peer.name])
        ways = ("", ", with children") if peer.name == OURS else ("",)
        for index, suffix in enumerate(ways):
            cells = cost_cells(used[peer.name], used[BARE], index)
            print(f"| {peer.name}{suffix} | {peer.keeps} | {' | '.join(cells)} | {share:.0%} |")


def cost_cells(own: dict[str, list[Usage]], bare: dict[str, list[Usage]], which: int) -> list[str]:
    """The figures of a row, of the process alone (0) or together with its children (1)."""
    if own is bare:
        return [f"1 ({median(bare[workload])[which]:,.0f} µs)" for workload in COMPARED] + ["-", "-"]
    small, long = (added_to(bare[workload], own[workload])[which] for workload in (SMALL, LONG))
    cells = [f"{ratio(own[workload], bare[workload], which):.2f}" for workload in COMPARED]
    return [*cells, f"{small:,.0f}", f"{long / WORKLOADS[LONG][3]:.1f}"]


def ratio(own: Sequence[Usage], bare: Sequence[Usage], which: int) -> float:
    """The median of how often each round's figure is the bare proxy's, alone (0) or with children (1)."""
    return statistics.median(ratios_of(own, bare, which))


def streams_a_second(proxy: Proxy) -> float:
    """How many fast streams a second go through the proxy, 8 at a time."""
    proxy.settle()
    began = time.perf_counter()
    asyncio.run(load(proxy.port, request_body(FAST), 8, 64))
    return 64 / (time.perf_counter() - began)


def slowest_paced(proxy: Proxy) -> float:
    """The 99th percentile of the seconds that a paced stream takes."""
    proxy.settle()
    asked, connections, _, _ = WORKLOADS["paced stream"]
    took = asyncio.run(load(proxy.port, request_body(asked), connections, PACED_STREAMS))
    return statistics.quantiles(took, n=100)[98]


class Crowd(NamedTuple):
    """What many long streams at a time took: CPU microseconds and the most memory above idle, and what was kept."""

    used: Usage
    memory: Usage
    kept: float


async def watched(proxy: Proxy, body: bytes) -> list[Usage]:
    """Sends the streams; the memory that was seen meanwhile."""
    seen = []

    async def watch() -> None:
        while True:
            seen.append(proxy.resident())
            await asyncio.sleep(0.05)

    watcher = asyncio.create_task(watch())
    await load(proxy.port, body, STREAMS_AT_A_TIME, STREAMS_AT_A_TIME)
    watcher.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watcher
    return seen


def crowd(proxy: Proxy) -> Crowd:
    """Sends many long streams at a time through a proxy that is new."""
    cost(proxy, FAST, STREAMS_AT_A_TIME, STREAMS_AT_A_TIME)  # opens connections, and has all imported
    proxy.empty_capture()
    idle, before = proxy.resident(), proxy.cpu_seconds()
    seen = asyncio.run(watched(proxy, request_body(MANY)))
    used = proxy.settle().since(before).over(STREAMS_AT_A_TIME / 1e6)
    most = Usage(*map(max, zip(*seen, strict=True)))
    return Crowd(used, most.since(idle), kept(proxy, STREAMS_AT_A_TIME * 5000))


def streams(peers: Sequence[Peer], client: str, rounds: int) -> None:
    """Measures what streams do to bare, limit and ours, and prints the table."""
    peers = [peer for peer in peers if peer.name in {BARE, LIMIT, OURS}]

    def started(folder: str) -> list[Proxy]:
        return [peer.make(peer.name, client, Path(folder)) for peer in peers]

    with tempfile.TemporaryDirectory() as folder:
        proxies = started(folder)
        with running(proxies):
            print(f"{time.strftime('%X')} streams a second", file=sys.stderr)
            rates = interleaved(proxies, rounds, streams_a_second)
            print(f"{time.strftime('%X')} paced streams", file=sys.stderr)
            slowest = interleaved(proxies, rounds, slowest_paced)
    crowds: dict[str, list[Crowd]] = {peer.name: [] for peer in peers}
    for number in range(rounds):
        print(f"{time.strftime('%X')} {STREAMS_AT_A_TIME} streams at a time, {number}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            proxies = started(folder)
            with running(proxies):
                for name, found in interleaved(proxies[:: 1 - number % 2 * 2], 1, crowd, warm_up=False).items():
                    crowds[name] += found
    print(
        "| | 500-chunk streams a second, x bare | 64 of 5,000 chunks, CPU x bare: alone, with children | "
        "added µs a chunk: alone, with children | memory above idle, MiB: alone, with children | chunks kept | "
        "p99 of a paced stream, x bare |"
    )
    print("|---" * 7 + "|")
    for peer in peers:
        name = peer.name
        own, bare = ([one.used for one in crowds[each]] for each in (name, BARE))
        memory = median([one.memory for one in crowds[name]])
        added = added_to(bare, own).over(5000)
        share = statistics.median(one.kept for one in crowds[name])
        print(
            f"| {name} | {times(rates[name], rates[BARE]):.2f} | "
            f"{ratio(own, bare, 0):.2f}, {ratio(own, bare, 1):.2f} | "
            f"{added.alone:.1f}, {added.together:.1f} | {memory.alone:.0f}, {memory.together:.0f} | {share:.0%} | "
            f"{times(slowest[name], slowest[BARE]):.3f} |"
        )
    base = median([one.used for one in crowds[BARE]]).over(5000)
    print(
        f"\nBare: {statistics.median(rates[BARE]):.1f} streams a second, {base.alone:.1f} µs a chunk of 64 streams, "
        f"{statistics.median(slowest[BARE]):.3f} s for a paced stream"
    )


def times(own: Sequence[float], bare: Sequence[float]) -> float:
    """The median of how often each round's figure is the bare proxy's."""
    return statistics.median(one / base for one, base in zip(own, bare, strict=True))


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", choices=("httpx", "httpx2"), default="httpx")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", action="store_true", help="the other table: throughput, memory and latency")
    options = parser.parse_args()
    peers = []
    for peer in PEERS:
        if reason := peer.missing(options.client):
            print(f"{peer.name}: left out, {reason}")
        else:
            peers.append(peer)
    print(f"client: {options.client}; medians of {options.rounds} interleaved rounds\n")
    (streams if options.streams else costs)(peers, options.client, options.rounds)


if __name__ == "__main__":
    main()
