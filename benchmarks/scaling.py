"""How what capture costs a proxy grows: with streams at a time, chunks a stream, bytes of a body, bytes of the queue.

    python benchmarks/scaling.py [--quick] [--rounds 2] [--only streams|chunks|bodies|memory]

CPU time of the proxy process, captured against bare, taking turns in one run; medians of the rounds, and of the ratios
of each round's pair. What a chunk costs is what a stream costs more than one of a quarter of its length: a request
alone costs the client's connection pool what it likes, where there are hundreds. What was lost for want of room in the
queue is told in events and in exchanges, all rounds together. With ``--quick`` it takes two minutes, else eight, where
the machine has nothing else to do.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from processes import Proxy, running, serving
from proxy_cost import captured_with, cost, interleaved, load

STREAM = {"stream": True}
EMPTY = {"role": "user", "content": ""}
MB = 1_000_000


class Load(NamedTuple):
    """What is sent in a row of a table: requests for so many chunks, or for a body, over some connections."""

    chunks: int
    connections: int
    requests: int


def per_stream(asked: Sequence[Load], proxies: Sequence[Proxy], rounds: int) -> None:
    """Prints what a chunk costs for each load."""
    print("| streams at a time | chunks a stream | bare, µs a chunk | captured | added (min to max) | ratio | lost |")
    print("|---|---|---|---|---|---|---|")
    for one in asked:
        lost: list[Lost] = []

        def a_chunk(proxy: Proxy, one: Load = one, lost: list[Lost] = lost) -> float:
            few = one.chunks // 4
            short, long = (
                cost(proxy, STREAM | {"chunks": n}, one.connections, one.requests).alone for n in (few, one.chunks)
            )
            lost.append(lost_in(proxy.capture))
            return (long - short) / (one.chunks - few)

        bare, captured = interleaved(proxies, rounds, a_chunk, warm_up=False).values()
        added = [own - base for own, base in zip(captured, bare, strict=True)]
        ratio = statistics.median(own / base for own, base in zip(captured, bare, strict=True))
        in_all = Lost(*map(sum, zip(*lost, strict=True)))
        print(
            f"| {one.connections} | {one.chunks:,} | {statistics.median(bare):.1f} | {statistics.median(captured):.1f} "
            f"| {statistics.median(added):.1f} ({min(added):.1f} to {max(added):.1f}) | {ratio:.2f} | {in_all} |",
            flush=True,
        )


def per_body(sizes: Sequence[tuple[int, int]], proxies: Sequence[Proxy], rounds: int) -> None:
    """Prints what a request costs by the size of its body, and by that of its response's."""
    print("| body | bytes | bare µs | captured | added (min to max) | ratio | added ns a byte above the smallest |")
    print("|---|---|---|---|---|---|---|")
    for kind in ("response", "request"):
        smallest: tuple[int, float] | None = None
        for size, requests in sizes:
            asked = {"size": size if kind == "response" else 500}
            words = "Tell me a story. " * ((size if kind == "request" else 500) // 17)
            prompt = [{"role": "user", "content": words}]

            def a_request(proxy: Proxy, asked=asked, prompt=prompt, requests=requests) -> float:
                return cost(proxy, asked, 2, requests, prompt).alone

            bare, captured = interleaved(proxies, rounds, a_request, warm_up=False).values()
            added = [own - base for own, base in zip(captured, bare, strict=True)]
            middle = statistics.median(added)
            ratio = statistics.median(own / base for own, base in zip(captured, bare, strict=True))
            slope = "-" if smallest is None else f"{(middle - smallest[1]) / (size - smallest[0]) * 1000:.1f}"
            smallest = smallest or (size, middle)
            print(
                f"| {kind} | {size:,} | {statistics.median(bare):,.0f} | {statistics.median(captured):,.0f} | "
                f"{middle:,.0f} ({min(added):,.0f} to {max(added):,.0f}) | {ratio:.2f} | {slope} |",
                flush=True,
            )


@contextmanager
def locked(proxy: Proxy) -> Iterator[None]:
    """Holds the lock of the capture's file: its writer waits, and the queue fills up."""
    with proxy.capture.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def memory(queues_mb: Sequence[int], chunks: int) -> None:
    """Prints the most memory that a proxy takes, above a bare one, by what may wait in its queue."""
    print(f"| capture_max_queue_bytes | the file | MiB above bare before | at most, 64 streams of {chunks:,} | lost |")
    print("|---|---|---|---|---|")
    for held in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            proxies = [Proxy("bare", "httpx", Path(folder))]
            proxies += [
                captured_with("httpx", Path(folder), f"capture_max_queue_bytes={size * MB}") for size in queues_mb
            ]
            with running(proxies):
                idle_bare = max_bare = 0.0
                for proxy, size in zip(proxies, (0, *queues_mb), strict=True):
                    cost(proxy, STREAM | {"chunks": 50}, 64, 64)
                    idle = proxy.memory()[0]
                    proxy.empty_capture()
                    body = {"model": "bench", "messages": [EMPTY], **STREAM, "chunks": chunks}
                    sent = load(proxy.port, json.dumps(body).encode(), 64, 64)
                    if held and size:
                        with locked(proxy):
                            asyncio.run(sent)
                    else:
                        asyncio.run(sent)
                    proxy.settle()
                    most = proxy.memory()[1]
                    if not size:
                        idle_bare, max_bare = idle, most
                        continue
                    print(
                        f"| {size} MB | {'locked' if held else 'free'} | {idle - idle_bare:.0f} | "
                        f"{most - max_bare:.0f} | {lost_in(proxy.capture)} |",
                        flush=True,
                    )


class Lost(NamedTuple):
    """What a capture says that it lost; the events of an exchange that it did not even begin are not counted."""

    events: int = 0
    exchanges: int = 0

    def __str__(self) -> str:
        return f"{self.events:,} and {self.exchanges:,}"


def lost_in(capture: Path) -> Lost:
    """What a capture says that it lost."""
    if not capture.exists():
        return Lost()
    with capture.open("rb") as lines:
        told = [json.loads(line)["payload"] for line in lines if b'"system_gap"' in line[:200]]
    return Lost(sum(one["lost_events"] for one in told), sum(one.get("lost_exchanges", 0) for one in told))


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", choices=("httpx", "httpx2"), default="httpx")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, rows and requests")
    parser.add_argument("--only", choices=("streams", "chunks", "bodies", "memory"))
    options = parser.parse_args()
    quick = options.quick
    rounds = options.rounds or (1 if quick else 2)
    tables = {options.only} if options.only else {"streams", "chunks", "bodies", "memory"}
    print(f"client: {options.client}; medians of {rounds} interleaved rounds")
    with serving(options.client, "bare", "captured") as proxies:
        for proxy in proxies:
            cost(proxy, STREAM | {"chunks": 100}, 8, 160)  # warms both up alike
        if "streams" in tables:
            print("\nStreams at a time\n")
            asked = [Load(200, at_a_time, max(256, at_a_time)) for at_a_time in (1, 8, 64, 512)]
            per_stream(asked[::3] if quick else asked, proxies, rounds)
        if "chunks" in tables:
            print("\nChunks a stream\n")
            asked = [Load(10, 8, 640), Load(100, 8, 256), Load(1000, 8, 32), Load(10_000, 4, 4), Load(100_000, 1, 1)]
            per_stream(asked[1:-1] if quick else asked, proxies, rounds)
        if "bodies" in tables:
            print("\nBodies\n")
            sizes = [(2_000, 300), (20_000, 200), (100_000, 100), (1_000_000, 20), (10_000_000, 4)]
            per_body(sizes[::2] if quick else sizes, proxies, rounds)
    if "memory" in tables:
        print("\nMemory\n")
        memory((4, 64) if quick else (4, 16, 64), 1000 if quick else 3000)


if __name__ == "__main__":
    main()
