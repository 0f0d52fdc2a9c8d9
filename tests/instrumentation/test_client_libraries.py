"""What holds of every client library, on real sockets; of ``tiny_client`` by the hook that the documentation shows."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import importlib.metadata
import json
import logging
import re
import socket
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gateway_app
import httpx
import pytest
from client_drivers import DRIVERS, TINY, Driver
from opentelemetry.sdk.trace import TracerProvider
from wire import DOCUMENT, EVENTS, Server, serving

import otel_wirecap
from otel_wirecap.client_libraries import CLIENT_LIBRARIES
from otel_wirecap.instrumentation import instrumentor
from otel_wirecap.instrumentation.client_hook import ClientAttempt
from otel_wirecap.instrumentation.patching import LazyHooks
from otel_wirecap.instrumentation.runtime import Runtime

Finish = Callable[[], list[dict[str, Any]]]
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "add-a-client-library.md"
STREAM = b"".join(EVENTS)
ASKED = {"model": "m", "messages": []}
UPLOAD = [b'{"model": ', b'"m", "messages"', b": []}"]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def shown_hook() -> ModuleType:
    """The hook that the page shows."""
    found = re.search(r"^<!-- file tiny_hook.py -->\n```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    module = ModuleType("tiny_hook")
    exec(compile(found[1], str(PAGE), "exec"), vars(module))
    return module


@pytest.fixture(params=list(DRIVERS))
def driver(request: pytest.FixtureRequest, shown_hook: ModuleType) -> Iterator[Driver]:
    driver = DRIVERS[request.param]
    hooks = LazyHooks(shown_hook.HOOKS if driver.library == TINY else ())
    hooks.install()
    yield driver
    hooks.remove()


def ends(records: list[dict[str, Any]]) -> list[str]:
    """The outcomes, without those of messages that are assembled besides."""
    plain = [record["metadata"] for record in records if not record["metadata"].get("assembled")]
    return [metadata["outcome"] for metadata in plain if "outcome" in metadata]


def requests(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["direction"] == "outbound_request"]


def streamed(records: list[dict[str, Any]]) -> bytes:
    return "".join(record["payload"] for record in records if record["direction"] == "stream_chunk").encode()


def test_a_document_is_one_request_and_one_response(driver: Driver, server: Server, captured: Finish) -> None:
    assert driver.read(server.url + "/document", json.dumps(ASKED).encode()) == DOCUMENT
    request, response = captured()
    assert (request["direction"], response["direction"]) == ("outbound_request", "inbound_response")
    assert (request["payload"], response["payload"]) == (ASKED, json.loads(DOCUMENT))
    assert request["metadata"]["url"] == server.url + "/document"
    assert response["metadata"]["status_code"] == 200
    assert response["metadata"]["outcome"] == "complete"


def test_bodies_that_are_streamed_are_recorded_as_they_passed(driver: Driver, server: Server, captured: Finish) -> None:
    assert driver.read(server.url + "/stream", UPLOAD) == STREAM
    assert server.received[0].body == b"".join(UPLOAD)
    records = captured()
    assert requests(records)[0]["payload"] == ASKED
    assert streamed(records) == STREAM
    assert ends(records) == ["complete"]


def test_every_hop_of_a_redirect_is_an_attempt_of_one_flow(driver: Driver, server: Server, captured: Finish) -> None:
    assert driver.read(server.url + "/redirect/2", b"{}") == DOCUMENT
    records = captured()
    hops = [record["metadata"] for record in requests(records)]
    assert [hop["attempt"] for hop in hops] == [1, 2, 3]
    assert len({hop["request_id"] for hop in hops}) == 1
    assert [hop.get("redirect_of") for hop in hops] == [None, hops[0]["exchange_id"], hops[1]["exchange_id"]]


def test_a_backend_that_cannot_be_reached_is_an_error(driver: Driver, captured: Finish) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Exception, match=r"(?i)connect|refused") as raised:
            driver.read(f"http://127.0.0.1:{unused.getsockname()[1]}/document")
    assert not isinstance(raised.value, AttributeError)
    records = captured()
    assert ends(records) == ["error"]


def test_an_answer_that_breaks_off_is_an_error_with_what_came_before(
    driver: Driver, server: Server, captured: Finish
) -> None:
    with pytest.raises(Exception, match=r".*"):
        driver.read(server.url + "/reset")
    records = captured()
    assert streamed(records) == b"".join(EVENTS[:2])
    assert ends(records) == ["error"]


def test_an_answer_that_the_application_leaves_is_closed(driver: Driver, server: Server, captured: Finish) -> None:
    assert driver.read(server.url + "/stall/30", count=1).startswith(EVENTS[0])
    records = captured()
    assert streamed(records).startswith(EVENTS[0])
    assert ends(records) == ["closed"]


@pytest.mark.parametrize("driver", [name for name, one in DRIVERS.items() if one.open_async], indirect=True)
def test_a_read_that_is_cancelled_says_so(driver: Driver, server: Server, captured: Finish) -> None:
    async def cancelled() -> None:
        assert driver.open_async is not None
        came = asyncio.Event()

        async def read() -> None:
            async with driver.open_async(server.url + "/stall/30", b"") as chunks:
                seen = b""
                async for chunk in chunks:
                    seen += chunk
                    if seen == b"".join(EVENTS[:2]):
                        came.set()

        reading = asyncio.create_task(read())
        await came.wait()
        await asyncio.sleep(0)  # now it waits for the third event
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(cancelled())
    records = captured()
    assert streamed(records) == b"".join(EVENTS[:2])
    assert ends(records) == ["cancelled"]


def test_the_trace_context_is_sent_where_that_is_wanted(driver: Driver, server: Server, capture_file: Path) -> None:
    otel_wirecap.instrument(
        capture_file=capture_file, capture_propagate="always", tracer_provider=TracerProvider(shutdown_on_exit=False)
    )
    try:
        driver.read(server.url + "/redirect/1", UPLOAD if driver.library == TINY else b"{}")
    finally:
        otel_wirecap.uninstrument()
    sent = [[value for name, value in one.headers if name.lower() == "traceparent"] for one in server.received]
    asked = requests([json.loads(line) for line in capture_file.read_bytes().splitlines()])
    assert [[value.split("-")[2] for value in values] for values in sent] == [
        [record["metadata"]["span_id"]] for record in asked
    ]


@pytest.mark.parametrize("broken", ["begin_backend", "wants"])
def test_what_goes_wrong_in_the_capture_harms_nobody(
    broken: str, driver: Driver, server: Server, captured: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(Runtime, broken, fail)
    assert driver.read(server.url + "/stream", UPLOAD) == STREAM
    assert server.received[0].body == b"".join(UPLOAD)
    stats = otel_wirecap.stats()
    assert stats is not None
    assert stats.lost_exchanges == {"capture_failure": 1}
    assert captured() == []


@pytest.mark.parametrize("broken", ["prepare", "answered", "restore"])
def test_what_goes_wrong_in_a_hook_harms_nobody(
    broken: str, driver: Driver, server: Server, captured: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise KeyError("ours")

    for kind in ClientAttempt.__subclasses__():
        monkeypatch.setattr(kind, broken, fail)
    # With a body in memory: who breaks ``restore`` leaves a tee in its place.
    assert driver.read(server.url + "/document", b"{}") == DOCUMENT
    if broken == "answered" or driver.library != "aiohttp":  # which calls no other
        assert ends(captured()) == ["error"]


class Stuck(httpx.AsyncBaseTransport):
    """Never comes back."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.get_running_loop().create_future()
        raise AssertionError


def test_a_request_that_is_dropped_in_another_context_ends_as_closed_and_nothing_is_logged(
    capture_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The garbage collector closes a coroutine in whatever context it runs."""
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=TracerProvider(shutdown_on_exit=False))

    async def drop() -> None:
        sending = httpx.AsyncClient(transport=Stuck()).get("http://127.0.0.1:1/document")
        contextvars.copy_context().run(sending.send, None)
        sending.close()

    try:
        with caplog.at_level(logging.WARNING):
            asyncio.run(drop())
    finally:
        otel_wirecap.uninstrument()
    records = [json.loads(line) for line in capture_file.read_bytes().splitlines()]
    assert ends(records) == ["closed"]
    assert [record for record in records if record["direction"] == "system_gap"] == []
    assert [record.getMessage() for record in caplog.records] == []


# --- the table, and whoever says what it says ---


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def test_every_library_is_hooked_and_every_hook_is_of_a_library() -> None:
    hooked = set(instrumentor._hooks._hooks)
    for library in CLIENT_LIBRARIES:
        module = importlib.import_module(f"otel_wirecap.instrumentation.{library.hook}")
        ours = {hook.module for hook in module.HOOKS if hook.module.partition(".")[0] == library.name}
        assert ours, library
        assert ours <= hooked, f"instrumentor.py does not install the hooks of {library.name}"
    of_hooks = {
        kind.__module__ for kind in ClientAttempt.__subclasses__() if kind.__module__.startswith("otel_wirecap")
    }
    assert of_hooks == {f"otel_wirecap.instrumentation.{library.hook}" for library in CLIENT_LIBRARIES}


def test_the_package_and_its_documentation_name_the_same_libraries() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    since = {library.name: ".".join(map(str, library.since)) for library in CLIENT_LIBRARIES}
    wanted = [f"{name}>={version}" for name, version in since.items()]
    assert project["project"]["optional-dependencies"]["instruments-any"] == wanted
    (contract,) = (one for one in project["tool"]["importlinter"]["contracts"] if one["id"] == "libraries")
    assert set(since) <= set(contract["forbidden_modules"])
    page = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    table = page.partition("## Clients")[2].partition("\n## ")[0]
    assert dict(re.findall(r"^\| (\w+) \| ([\d.]+) \|", table, re.MULTILINE)) == since


def test_every_library_is_tested_in_a_version_that_is_captured() -> None:
    driven = {driver.library for driver in DRIVERS.values()} - {TINY}
    assert driven == {library.name for library in CLIENT_LIBRARIES if library.protocol == "http"}
    assert driven <= set(gateway_app.CLIENTS)
    for library in CLIENT_LIBRARIES:
        assert numbers(importlib.metadata.version(library.name)) >= library.since
