"""Many requests, many at a time, some left and some cancelled: what is left over in the gateway's process.

    python benchmarks/soak.py [--requests 24000] [--concurrency 200]

The gateway (a raw ASGI application under uvicorn, captured) relays 20-chunk streams with httpx and aiohttp in turns.
Of ten clients one leaves in mid-stream; of ten requests one is cancelled in the gateway. After each quarter everything
is let come to rest and counted. Exit status 1 when tasks, threads, sockets or exchanges are left, or when memory grew
by more than 10 % from the first quarter's rest to the last one's, or when the capture does not end every exchange.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FLUSH_MILLISECONDS = 60_000
CHUNKS = 20


def gateway(port: int, backend: str, capture_file: str) -> None:  # noqa: C901  # one small program, told in one piece
    """The captured process."""
    import gc
    import logging
    import threading

    import aiohttp
    import httpx
    import uvicorn

    import otel_wirecap
    from otel_wirecap.capture.exchange import LiveExchange
    from otel_wirecap.instrumentation.runtime import active

    otel_wirecap.instrument(
        capture_file=capture_file, capture_max_bytes="4GB", capture_total_max_bytes="16GB", capture_redact_values=[]
    )
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # clients that leave are no news
    clients: dict[str, Any] = {}

    def counts() -> dict[str, int]:
        gc.collect()
        with contextlib.suppress(AttributeError):  # glibc's: what was freed is given back before it is counted
            ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/statm") as statm:  # noqa: PTH123  # no file of the disk
            pages = int(statm.read().split()[1])
        return {
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "sockets": sum("socket:" in os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()),
            "exchanges": sum(isinstance(thing, LiveExchange) for thing in gc.get_objects()),
            "objects": len(gc.get_objects()),
            "rss_kb": pages * (os.sysconf("SC_PAGESIZE") // 1024),
        }  # fmt: skip

    async def rest() -> None:
        """Idle connections, and what waits to be written, are no leak: they are gone before anything is counted."""
        await clients["httpx"].aclose()
        await clients["aiohttp"].close()
        clients.clear()
        await asyncio.sleep(1)  # the other side closes, too
        capture = active()
        assert capture is not None
        await asyncio.to_thread(capture.exporter.force_flush, FLUSH_MILLISECONDS)

    async def upstream(body: bytes, kind: str) -> Any:
        if not clients:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
            clients["httpx"] = httpx.AsyncClient(timeout=60, limits=limits)
            clients["aiohttp"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        if kind == "httpx":
            async with clients[kind].stream("POST", backend + "/v1/chat/completions", content=body) as response:
                async for chunk in response.aiter_raw():
                    yield chunk
        else:
            async with clients[kind].post(backend + "/v1/chat/completions", data=body) as response:
                async for chunk in response.content.iter_any():
                    yield chunk

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/counts":
            await rest()
            answer = json.dumps(counts()).encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": answer})
            return
        message = await receive()
        number = int(scope["path"].rpartition("/")[2])
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def relay() -> None:
            chunks = upstream(message["body"], "httpx" if number % 2 else "aiohttp")
            try:
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            finally:
                await chunks.aclose()

        task = asyncio.create_task(relay())
        if number % 10 == 3:
            asyncio.get_running_loop().call_later(0.3, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await send({"type": "http.response.body", "body": b""})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical", access_log=False, lifespan="off")


async def ask(port: int, number: int) -> int:
    """One request on a connection of its own; the bytes that came."""
    body = json.dumps({"stream": True, "chunks": CHUNKS, "delay": 0.05, "n": number}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"POST /chat/%d HTTP/1.1\r\nhost: gateway\r\ncontent-length: %d\r\n" % (number, len(body)))
        writer.write(b"connection: close\r\n\r\n" + body)
        if number % 10 == 7:
            return len(await reader.readuntil(b"data: "))
        return len(await reader.read(-1))
    finally:
        writer.close()


async def drive(port: int, numbers: range, concurrency: int) -> None:
    """Asks for all, ``concurrency`` at a time."""
    waiting = iter(numbers)

    async def work() -> None:
        for number in waiting:
            await asyncio.wait_for(ask(port, number), 60)

    await asyncio.gather(*(work() for _ in range(concurrency)))


async def count(port: int) -> dict[str, int]:
    """What is there in the gateway once it is at rest."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /counts HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(-1), 30)
    writer.close()
    return dict(json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1]))


def check_capture(capture_file: Path, requests: int) -> dict[str, int]:
    """The exchanges of the capture by leg and outcome.

    Raises:
        AssertionError: one is missing, doubled, unlinked or without its one end.
    """
    ends: collections.Counter[str] = collections.Counter()
    outcomes: collections.Counter[str] = collections.Counter()
    begun: dict[str, str] = {}
    flows: dict[str, list[str]] = collections.defaultdict(list)
    with capture_file.open("rb") as lines:
        for line in lines:
            record = json.loads(line)
            metadata = record["metadata"]
            if record["direction"].startswith("system_"):
                assert record["direction"] != "system_gap", record["payload"]
                continue
            if metadata.get("url", "").endswith("/counts"):
                flows[metadata["request_id"]] = ["counts"]
            if record["direction"] in {"inbound_request", "outbound_request"}:
                begun[metadata["exchange_id"]] = metadata["leg"]
                flows[metadata["request_id"]].append(metadata["leg"])
            if "outcome" in metadata and not metadata.get("assembled"):
                ends[metadata["exchange_id"]] += 1
                outcomes[f"{metadata['leg']} {metadata['outcome']}"] += 1
    assert set(ends.values()) == {1}, "an exchange ends more than once"
    assert ends.keys() == begun.keys(), "an exchange does not end"
    legs = collections.Counter(tuple(sorted(flow)) for flow in flows.values() if flow[0] != "counts")
    assert legs["backend", "client"] >= requests * 0.99, legs  # a cancelled one may not have asked the backend yet
    assert sum(legs.values()) == requests, legs
    return dict(outcomes)


def main() -> int:
    """Runs it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--requests", type=int, default=24_000)
    options.add_argument("--concurrency", type=int, default=200)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        capture_file = Path(folder, "capture.log")
        with subprocess.Popen([sys.executable, HERE / "backend.py"], stdout=subprocess.PIPE) as backend:
            assert backend.stdout is not None
            address, port = f"http://127.0.0.1:{int(backend.stdout.readline())}", free_port()
            command = [sys.executable, __file__, "gateway", str(port), address, str(capture_file)]
            with subprocess.Popen(command) as relay:
                try:
                    return run(given, port, relay, capture_file)
                finally:
                    relay.kill()
                    backend.kill()


def run(given: argparse.Namespace, port: int, relay: subprocess.Popen[bytes], capture_file: Path) -> int:
    """The quarters, the table, the verdict."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    asyncio.run(drive(port, range(given.concurrency), given.concurrency))  # warm
    at_rest = []
    columns = {"requests": 9, "seconds": 8, "tasks": 6, "threads": 8, "sockets": 8, "exchanges": 10, "objects": 8}
    print(" ".join(f"{name:>{width}}" for name, width in columns.items()) + "  RSS MB")
    quarter = given.requests // 4
    for number in range(4):
        began = time.monotonic()
        asyncio.run(drive(port, range(number * quarter, (number + 1) * quarter), given.concurrency))
        took = time.monotonic() - began
        counts = asyncio.run(count(port))
        at_rest.append(counts)
        print(
            f"{(number + 1) * quarter:>9} {took:>8.1f} {counts['tasks']:>6} {counts['threads']:>8} "
            f"{counts['sockets']:>8} {counts['exchanges']:>10} {counts['objects']:>8} {counts['rss_kb'] / 1024:>7.1f}",
            flush=True,
        )
    relay.send_signal(signal.SIGTERM)
    relay.wait(30)
    outcomes = check_capture(capture_file, given.requests // 4 * 4 + given.concurrency)
    print(", ".join(f"{name}: {number}" for name, number in sorted(outcomes.items())))
    first, last = at_rest[0], at_rest[-1]
    left = [name for name in ("tasks", "threads", "sockets") if last[name] > first[name]]
    if last["exchanges"] > 1:  # the one that asks for the counts
        left.append("exchanges")
    if last["objects"] > first["objects"] * 1.02:
        left.append("objects")
    if last["rss_kb"] > first["rss_kb"] * 1.10:
        left.append("memory")
    print(f"left over: {', '.join(left) or 'nothing'}")
    return 1 if left else 0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["gateway"]:
        gateway(int(sys.argv[2]), sys.argv[3], sys.argv[4])
    else:
        sys.exit(main())
