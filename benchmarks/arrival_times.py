"""How long a streamed chunk takes from the backend through a proxy to the client, captured against bare, in one run.

    python benchmarks/arrival_times.py [--client httpx|httpx2] [--rounds 5]

Backend and client read the same monotonic clock. "bare again" is a second uncaptured proxy: what it differs by from
the first is noise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics

from processes import Proxy, serving

CHUNKS, DELAY = 100, 0.02
CONNECTIONS = (1, 8, 32)
REQUEST = json.dumps({"model": "bench", "messages": [], "stream": True, "chunks": CHUNKS, "delay": DELAY}).encode()


async def stream(port: int) -> list[float]:
    """Milliseconds that each chunk of one stream took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    clock = asyncio.get_running_loop().time
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    writer.write(head + b"content-length: %d\r\n\r\n" % len(REQUEST) + REQUEST)
    await reader.readuntil(b"\r\n\r\n")
    took = []
    while size := int(await reader.readline(), 16):
        data = await reader.readexactly(size + 2)
        arrived = clock()
        took += [(arrived - int(event.split(b" ", 2)[1]) / 1e9) * 1000 for event in data.split(b"\n\n")[:-1]]
    writer.close()
    return took


def measure(proxy: Proxy, connections: int) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds, of all chunks of ``connections`` streams at a time."""

    async def streams() -> list[list[float]]:
        return await asyncio.gather(*(stream(proxy.port) for _ in range(connections)))

    took = [one for each in asyncio.run(streams()) for one in each]
    return statistics.median(took), statistics.quantiles(took, n=100)[98]


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", choices=("httpx", "httpx2"), default="httpx")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(
        f"client: {options.client}; ms from the backend to the client, medians of {options.rounds} rounds; streams of"
    )
    print(f"{CHUNKS} chunks, {DELAY * 1000:.0f} ms apart\n")
    names = ("bare", "bare again", "captured")
    print("| streams at a time | " + " | ".join(f"{name}: median, p99" for name in names) + " |")
    print("|---" * (len(names) + 1) + "|")
    with serving(options.client, *names) as proxies:
        for connections in CONNECTIONS:
            seen: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for number in range(options.rounds + 1):
                turn = number % len(proxies)
                for proxy in proxies[turn:] + proxies[:turn]:
                    figures = measure(proxy, connections)
                    if number:  # the first round warms all up alike
                        seen[proxy.name].append(figures)
                    proxy.empty_capture()
            columns = [[statistics.median(column) for column in zip(*seen[name], strict=True)] for name in names]
            cells = " | ".join(f"{median:.2f}, {p99:.2f}" for median, p99 in columns)
            print(f"| {connections} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
