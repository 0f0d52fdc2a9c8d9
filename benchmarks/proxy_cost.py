"""What capture costs a proxy: CPU time of the proxy process, captured against bare, in one run.

    python benchmarks/proxy_cost.py [--client httpx|httpx2] [--rounds 5]

Both proxies run side by side and take their turns in every round, so that whatever else the machine does meets both;
the table gives medians and the ratio of each round's pair. The CPU time counts everything in the process, the
writer's thread until it is idle included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics

from processes import Proxy, serving

PROMPT = [{"role": "user", "content": "Tell me a story. " * 110}]
WORKLOADS = {  # name: (what is asked for, connections, requests, chunks of a reply)
    "2 KB reply": ({"size": 2048}, 8, 400, 0),
    "100 KB reply": ({"size": 102_400}, 8, 160, 0),
    "50-chunk stream": ({"stream": True, "chunks": 50}, 8, 96, 50),
    "2000-chunk stream": ({"stream": True, "chunks": 2000}, 8, 16, 2000),
}


async def load(port: int, body: bytes, connections: int, requests: int) -> None:
    """Sends ``requests`` over ``connections``, each as soon as the one before is answered."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    request = head + b"content-length: %d\r\n\r\n" % len(body) + body

    async def one(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        for _ in range(count):
            writer.write(request)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not answer.startswith(b"http/1.1 200"):
                raise SystemExit(f"the proxy answered {answer[:60]!r}")
            if b"content-length:" in answer:
                await reader.readexactly(int(answer.split(b"content-length:")[1].split(b"\r\n")[0]))
                continue
            while size := int(await reader.readline(), 16):
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
        writer.close()

    await asyncio.gather(*(one(requests // connections) for _ in range(connections)))


def measure(proxy: Proxy, workload: str) -> float:
    """CPU microseconds of the proxy process for one request of the workload."""
    asked, connections, requests, _ = WORKLOADS[workload]
    body = json.dumps({"model": "bench", "messages": PROMPT, **asked}).encode()
    before = proxy.settle()
    asyncio.run(load(proxy.port, body, connections, requests))
    return (proxy.settle() - before) / requests * 1e6


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", choices=("httpx", "httpx2"), default="httpx")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with serving(options.client, "bare", "captured") as proxies:
        table(proxies, options.rounds, options.client)


def table(proxies: list[Proxy], rounds: int, client: str) -> None:
    """Runs all rounds and prints medians."""
    bare, captured = proxies
    print(f"client: {client}; CPU time of the proxy process, medians of {rounds} interleaved rounds\n")
    print("| workload | bare µs | captured µs | ratio (min to max) | added µs | added µs per relayed chunk |")
    print("|---|---|---|---|---|---|")
    for workload, (_, _, _, chunk_count) in WORKLOADS.items():
        for proxy in proxies:
            measure(proxy, workload)  # warms both up alike
        pairs = []
        for number in range(rounds):
            order = proxies if number % 2 == 0 else proxies[::-1]
            costs = {proxy.name: measure(proxy, workload) for proxy in order}
            pairs.append((costs[bare.name], costs[captured.name]))
            if captured.capture.exists():
                os.truncate(captured.capture, 0)
        ratios = [cost / base for base, cost in pairs]
        added = statistics.median(cost - base for base, cost in pairs)
        per_chunk = f"{added / chunk_count:.1f}" if chunk_count else "-"
        base, cost = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"| {workload} | {base:,.0f} | {cost:,.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {added:,.0f} | {per_chunk} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
