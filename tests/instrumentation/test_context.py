"""The link from the client's request to the backend exchanges that it causes, on every way the work may take."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from wire import Server, serving

import otel_wirecap
from otel_wirecap import WireCaptureMiddleware

Finish = Callable[[], list[dict[str, Any]]]
Ask = Callable[[], None]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def serve(work: Callable[[str, str], Awaitable[None]], *paths: str) -> None:
    """Calls an application once for each path, one after the other, in one event loop."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await work(scope["path"], "")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def go() -> None:
        transport = httpx.ASGITransport(WireCaptureMiddleware(app))
        for path in paths:
            await transport.handle_async_request(httpx.Request("POST", "http://proxy.example" + path, content=b"hi"))

    asyncio.run(go())


def flows(records: list[dict[str, Any]]) -> dict[str, str | None]:
    """Whose flow each backend request is of: the client request's path by the backend request's query."""
    clients = {
        r["metadata"]["request_id"]: r["metadata"]["url"].removeprefix("http://proxy.example")
        for r in records
        if r["direction"] == "inbound_request"
    }
    return {
        r["metadata"]["url"].partition("?")[2]: clients.get(r["metadata"]["request_id"])
        for r in records
        if r["direction"] == "outbound_request"
    }


async def ask(url: str) -> None:
    async with httpx.AsyncClient() as client:
        await client.get(url)


def ask_sync(url: str) -> None:
    with httpx.Client() as client:
        client.get(url)


async def directly(url: str) -> None:
    await ask(url)


async def by_task(url: str) -> None:
    await asyncio.create_task(ask(url))


async def by_task_group(url: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(url))


async def by_anyio_group(url: str) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(ask, url)


async def by_to_thread(url: str) -> None:
    await asyncio.to_thread(ask_sync, url)


async def by_anyio_thread(url: str) -> None:
    await anyio.to_thread.run_sync(ask_sync, url)


async def by_generator(url: str) -> None:
    async def generate() -> Any:
        yield await ask(url)

    async for _ in generate():
        pass


async def carried_to_an_executor(url: str) -> None:
    await asyncio.get_running_loop().run_in_executor(None, otel_wirecap.carry(ask_sync), url)


async def carried_to_a_pool(url: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        await asyncio.wrap_future(pool.submit(otel_wirecap.carry(ask_sync), url))


async def carried_to_a_thread(url: str) -> None:
    thread = threading.Thread(target=otel_wirecap.carry(ask_sync), args=(url,))
    thread.start()
    await asyncio.to_thread(thread.join)


async def by_copied_context(url: str) -> None:
    context = contextvars.copy_context()
    await asyncio.get_running_loop().run_in_executor(None, context.run, ask_sync, url)


@pytest.mark.parametrize(
    "way",
    [
        directly, by_task, by_task_group, by_anyio_group, by_to_thread, by_anyio_thread, by_generator,
        by_copied_context, carried_to_an_executor, carried_to_a_pool, carried_to_a_thread,
    ],
)  # fmt: skip
def test_the_link_is_kept(way: Callable[[str], Awaitable[None]], server: Server, captured: Finish) -> None:
    async def work(path: str, _: str) -> None:
        await way(f"{server.url}/document?of{path}")

    serve(work, "/1", "/2")
    records = captured()
    assert flows(records) == {"of/1": "/1", "of/2": "/2"}
    assert len({r["metadata"]["trace_id"] for r in records}) == 2  # no provider: each flow has a trace of its own


def test_a_worker_that_the_first_request_started_does_not_claim_later_ones(server: Server, captured: Finish) -> None:
    queue: asyncio.Queue[tuple[str, asyncio.Event]] = asyncio.Queue()
    workers: list[asyncio.Task[None]] = []

    async def worker() -> None:
        while True:
            url, done = await queue.get()
            await ask(url)
            done.set()

    async def work(path: str, _: str) -> None:
        if not workers:
            workers.append(asyncio.create_task(worker()))
        done = asyncio.Event()
        await queue.put((f"{server.url}/document?of{path}", done))
        await done.wait()

    serve(work, "/1", "/2", "/3")
    assert flows(captured()) == {"of/1": "/1", "of/2": None, "of/3": None}


def test_carried_work_goes_to_the_request_that_it_is_for_whoever_does_it(server: Server, captured: Finish) -> None:
    queue: asyncio.Queue[tuple[Callable[[str], Awaitable[None]], str, asyncio.Event]] = asyncio.Queue()
    workers: list[asyncio.Task[None]] = []

    async def worker() -> None:
        while True:
            job, url, done = await queue.get()
            await job(url)
            done.set()

    async def work(path: str, _: str) -> None:
        if not workers:
            workers.append(asyncio.create_task(worker()))
        done = asyncio.Event()
        await queue.put((otel_wirecap.carry(ask), f"{server.url}/document?of{path}", done))
        await done.wait()

    serve(work, "/1", "/2", "/3")
    assert flows(captured()) == {"of/1": "/1", "of/2": "/2", "of/3": "/3"}


def test_what_outlives_its_request_is_a_flow_of_its_own_unless_it_is_carried(server: Server, captured: Finish) -> None:
    left: list[asyncio.Task[None]] = []
    is_over = asyncio.Event()

    async def later(url: str) -> None:
        await is_over.wait()
        await ask(url)

    async def work(path: str, _: str) -> None:
        if path == "/end":  # the first request has been served by now
            is_over.set()
            await asyncio.gather(*left)
            return
        left.append(asyncio.create_task(later(f"{server.url}/document?left")))
        left.append(asyncio.create_task(otel_wirecap.carry(later)(f"{server.url}/document?carried")))

    serve(work, "/1", "/end")
    assert flows(captured()) == {"left": None, "carried": "/1"}


def test_spans_follow_the_flows(server: Server, capture_file: Path, read_capture: Finish) -> None:
    """A worker's later exchanges are no children of the request that started it."""
    queue: asyncio.Queue[tuple[str, asyncio.Event]] = asyncio.Queue()
    workers: list[asyncio.Task[None]] = []

    async def worker() -> None:
        while True:
            url, done = await queue.get()
            await ask(url)
            done.set()

    async def work(path: str, _: str) -> None:
        if not workers:
            workers.append(asyncio.create_task(worker()))
        done = asyncio.Event()
        await queue.put((f"{server.url}/document?of{path}", done))
        await done.wait()

    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=TracerProvider())
    serve(work, "/1", "/2")
    otel_wirecap.uninstrument()
    requests = [r for r in read_capture() if r["direction"].endswith("bound_request")]
    traces = [r["metadata"]["trace_id"] for r in requests]
    assert traces[0] == traces[1]  # the first request and what it caused
    assert traces[3] not in traces[:3]


def test_outside_of_a_request_there_is_nothing_to_carry(captured: Finish) -> None:
    assert otel_wirecap.carry(ask_sync) is ask_sync
