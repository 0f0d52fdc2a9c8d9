"""Every server with every client, streaming and not, in real processes: what is captured is what both ends saw.

``pytest -s tests/instrumentation/test_matrix.py`` prints the table that ``docs/coverage.md`` carries, and checks it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gateway_app
import httpx
import pytest
from selection import mostly
from waiting import MAX_SECONDS, wait_until
from wire import DOCUMENT, EVENTS, Received, Server, serving
from writer_processes import writers_of

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent
STREAM = b"".join(EVENTS)

UNDER = ("opentelemetry-instrument",)
RUN = (str(BIN / "otel-wirecap"), "run", "--")
UVICORN = ("uvicorn", "{app}", "--port", "{port}")
GUNICORN = ("gunicorn", "-b", "127.0.0.1:{port}", "--no-control-socket", "{app}")
SERVERS: dict[str, tuple[str, ...]] = {
    "uvicorn, h11": (*UVICORN, "--http", "h11"),
    "uvicorn, httptools": (*UVICORN, "--http", "httptools"),
    "uvicorn --factory": ("uvicorn", "gateway_app:make_{name}", "--factory", "--port", "{port}"),
    "uvicorn --workers 2": (*UVICORN, "--workers", "2"),
    "uvicorn --reload": (*UVICORN, "--reload"),
    "hypercorn": ("hypercorn", "-b", "127.0.0.1:{port}", "{app}"),
    "hypercorn --workers 2": ("hypercorn", "-b", "127.0.0.1:{port}", "--workers", "2", "{app}"),
    "granian": ("granian", "--interface", "asgi", "--port", "{port}", "{app}"),
    "granian --workers 2": ("granian", "--interface", "asgi", "--port", "{port}", "--workers", "2", "{app}"),
    "gunicorn, uvicorn worker": (*GUNICORN, "-k", "uvicorn_worker.UvicornWorker"),
    "gunicorn --preload, uvicorn worker": (*GUNICORN, "-k", "uvicorn_worker.UvicornWorker", "--preload"),
    "gunicorn -k asgi": (*GUNICORN, "-k", "asgi"),
}
PATIENT = (*GUNICORN, "--timeout", "300")  # an import takes long on a busy machine, and no greenlet runs meanwhile
WSGI_SERVERS = {
    "gunicorn -k gevent": (*PATIENT, "-k", "gevent"),
    "gunicorn -k gevent --workers 2": (*PATIENT, "-k", "gevent", "--workers", "2"),
}
AT_ONCE = 4
"""Requests of each kind that a WSGI server answers at the same time."""

FRAMEWORKS = ("starlette", "fastapi", "litestar", "quart", "django")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def served(
    command: Sequence[str], name: str, backend: Server, folder: Path, under: Sequence[str] = UNDER, **settings: str
) -> Iterator[str]:
    """Serves an application of the gateway, by default under ``opentelemetry-instrument``; gives its address."""
    port = free_port()
    filled = [part.format(app=f"gateway_app:{name}", name=name, port=port) for part in command]
    environ = os.environ | {
        "WIRE_CAPTURE_FILE": str(folder / "capture.jsonl"),
        "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)]),
        "BACKEND": backend.url,
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "asgi,fastapi,starlette,httpx,aiohttp-client,django,logging",
        **settings,
    }
    log = (folder / "server.log").open("wb")
    process = subprocess.Popen(
        [BIN / under[0], *under[1:], BIN / filled[0], *filled[1:]],
        cwd=folder, env=environ, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if time.monotonic() > deadline or process.poll() is not None:
                pytest.fail("the server did not start: " + (folder / "server.log").read_text()[-2000:])
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        process.wait(MAX_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "capture.jsonl").read_bytes().splitlines()]


def wait_for_writers(folder: Path) -> None:
    """Waits until all is written: a writer outlives its application by a moment."""
    for pid in {record["metadata"]["pid"] for record in read(folder)}:
        wait_until(lambda: not writers_of(pid))  # noqa: B023  # called at once


def check(records: list[dict[str, Any]], mark: str, got: bytes, sent: bytes, received: Received) -> None:
    """One flow: an exchange on each leg, linked, ended, and exactly the bytes that both ends saw."""
    flow = flow_of(records, "inbound_request", mark)
    (asked,) = [r for r in flow if r["direction"] == "outbound_request"]
    assert asked["payload"] == json.loads(received.body)
    for leg, bytes_seen in (("client", got), ("backend", sent)):
        check_leg(flow, leg, bytes_seen)


def flow_of(records: list[dict[str, Any]], direction: str, mark: str) -> list[dict[str, Any]]:
    """The records of the one flow in which such a request has the mark."""
    (request,) = [r for r in records if r["direction"] == direction and mark in json.dumps(r["payload"])]
    return [r for r in records if r["metadata"].get("request_id") == request["metadata"]["request_id"]]


def check_leg(flow: list[dict[str, Any]], leg: str, bytes_seen: bytes) -> None:
    """One exchange on that leg, ended, with exactly these bytes of an answer."""
    exchange = [r for r in flow if r["metadata"]["leg"] == leg and not r["metadata"].get("assembled")]
    assert len({r["metadata"]["exchange_id"] for r in exchange}) == 1
    ends = [r["metadata"]["outcome"] for r in exchange if "outcome" in r["metadata"]]
    assert ends == ["complete"]
    chunks = [r["payload"] for r in exchange if r["direction"].endswith("stream_chunk")]
    if chunks:
        assert "".join(chunks).encode() == bytes_seen
    else:
        assert exchange[-1]["payload"] == json.loads(bytes_seen)


def run_all(command: Sequence[str], name: str, folder: Path) -> int:
    """Sends one request a client and kind through a served gateway and holds the capture against it; how many."""
    seen: list[tuple[str, bytes, bytes]] = []
    with serving() as backend:
        with served(command, name, backend, folder) as url:
            for number, client in enumerate(gateway_app.CLIENTS):
                for path, sent in (("document", DOCUMENT), ("stream", STREAM)):
                    mark = f"<{client} {path}>"
                    answer = httpx.post(
                        f"{url}/{number}/{path}", json={"model": "m", "mark": mark}, timeout=MAX_SECONDS
                    )
                    assert answer.status_code == 200, answer.text
                    seen.append((mark, answer.content, sent))
        records = read(folder)
        assert len(backend.received) == len(seen)
        for (mark, got, sent), received in zip(seen, backend.received, strict=True):
            assert json.loads(received.body)["mark"] == mark
            check(records, mark, got, sent, received)
    traffic = [r for r in records if not r["direction"].startswith("system_")]
    assert len({r["metadata"]["exchange_id"] for r in traffic}) == 2 * len(seen)
    assert not [r for r in records if r["direction"] == "system_gap"]
    return len(seen)


def run_wsgi(command: Sequence[str], folder: Path, writer: str) -> int:
    """Sends requests of every kind at once through a served WSGI gateway, and holds the capture against them; how many.

    Such an application has no client leg: what it asks its backend is a flow of its own.
    """
    kinds = [(number, path) for number in range(len(gateway_app.SYNC_CLIENTS)) for path in ("document", "stream")]
    asked = [(f"<{number} {path} {turn}>", number, path) for number, path in kinds for turn in range(AT_ONCE)]

    def ask(mark: str, number: int, path: str) -> None:
        answer = httpx.post(f"{url}/{number}/{path}", json={"model": "m", "mark": mark}, timeout=90)
        assert answer.status_code == 200, (folder / "server.log").read_text()[-2000:]
        assert answer.content.count(b"data: ") == (len(EVENTS) if path == "stream" else 0)

    # So that what is in the file at the end was written at the end.
    settings = {"WIRE_CAPTURE_WRITER": writer, "WIRE_CAPTURE_FLUSH_INTERVAL": "60"}
    with serving() as backend:
        with (
            served(command, "flask", backend, folder, ("otel-wirecap", "run", "--"), **settings) as url,
            concurrent.futures.ThreadPoolExecutor(len(asked)) as pool,
        ):
            for _ in pool.map(lambda one: ask(*one), asked):
                pass
        received = [json.loads(request.body) for request in backend.received]
    records = read(folder)
    for mark, _, path in asked:
        flow = flow_of(records, "outbound_request", mark)
        assert flow[0]["payload"] in received
        check_leg(flow, "backend", STREAM if path == "stream" else DOCUMENT)
    traffic = [r for r in records if not r["direction"].startswith("system_")]
    assert {r["metadata"]["leg"] for r in traffic} == {"backend"}
    assert len({r["metadata"]["exchange_id"] for r in traffic}) == len(received) == len(asked)
    verified = subprocess.run(
        [BIN / "otel-wirecap", "verify", folder / "capture.jsonl"], capture_output=True, text=True
    )
    assert verified.returncode == 0, verified.stdout
    return len(asked)


def show(server: str, application: str, exact: int, of: int = 2 * len(gateway_app.CLIENTS)) -> None:
    row = f"| {server} | {application} | {exact} of {of} |"
    print("\n" + row, end="")  # noqa: T201  # the table
    assert row in (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("server", mostly(pytest.mark.servers, SERVERS, "gunicorn, uvicorn worker"))
def test_a_server_with_every_client(server: str, tmp_path: Path) -> None:
    show(server, "raw ASGI", run_all(SERVERS[server], "raw", tmp_path))


def ask_and_end(server: str, folder: Path, number: signal.Signals, **settings: str) -> list[list[str]]:
    """Sends a served gateway a request and ends its processes by a signal; the directions of each one's records."""
    path = folder / "capture.jsonl"
    with serving() as backend, served(SERVERS[server], "raw", backend, folder, RUN, **settings) as url:
        answer = httpx.post(f"{url}/0/document", json={"model": "m"}, timeout=MAX_SECONDS)
        assert answer.status_code == 200, answer.text
        if number == signal.SIGKILL:
            wait_until(lambda: b'"outbound_response"' in path.read_bytes())
            for pid in {r["metadata"]["pid"] for r in read(folder)}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
    wait_for_writers(folder)
    processes: dict[str, list[str]] = {}
    for record in read(folder):
        processes.setdefault(record["metadata"]["process"], []).append(record["direction"])
    return list(processes.values())


@pytest.mark.parametrize("writer", ["process", "thread"])
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.sampled(2, rest="servers")
def test_at_sigterm_every_process_has_exactly_one_stop_and_it_comes_last(
    server: str, writer: str, tmp_path: Path
) -> None:
    """A thread cannot outlive its process: a child of ``multiprocessing`` has one that stops whenever it reports."""
    ended = ask_and_end(server, tmp_path, signal.SIGTERM, WIRE_CAPTURE_WRITER=writer)
    assert any("inbound_request" in directions for directions in ended)
    for directions in ended:
        assert directions[-1] == "system_stop", ended
        assert directions.count("system_stop") == 1 or writer == "thread", ended


@pytest.mark.parametrize("writer", ["process", "thread"])
@pytest.mark.parametrize("server", ["uvicorn, h11", "hypercorn", "granian", "gunicorn -k asgi"])
@pytest.mark.servers
def test_a_server_that_is_killed_has_no_stop(server: str, writer: str, tmp_path: Path) -> None:
    ended = ask_and_end(server, tmp_path, signal.SIGKILL, WIRE_CAPTURE_WRITER=writer)
    (asked,) = (directions for directions in ended if "inbound_request" in directions)
    assert "system_stop" not in asked
    assert ("system_gap" in asked) == (writer == "process")


@pytest.mark.parametrize("writer", ["process", "thread"])
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.sampled(1, rest="servers")
def test_at_sigterm_the_log_says_what_a_full_disk_loses(server: str, writer: str, tmp_path: Path) -> None:
    full = ("/bin/bash", "-c", 'ulimit -f 64; exec "$@"', "--")  # in KB
    with (
        serving() as backend,
        served(SERVERS[server], "raw", backend, tmp_path, (*full, *RUN), WIRE_CAPTURE_WRITER=writer) as url,
    ):
        for _ in range(40):
            answer = httpx.post(f"{url}/0/document", json={"model": os.urandom(1000).hex()}, timeout=MAX_SECONDS)
            assert answer.status_code == 200, answer.text
    assert "are lost" in (tmp_path / "server.log").read_text()


STARTED_LATE = {
    name: tuple(part.replace("{app}", "capturing_gateway_app:raw") for part in command)
    for name, command in SERVERS.items()
    if "--factory" not in command
} | {"a program with uvicorn.run(workers=2)": ("python", str(HERE / "main_gateway.py"), "{port}")}


@pytest.mark.parametrize("server", STARTED_LATE)
@pytest.mark.sampled(2, rest="servers")
def test_both_legs_are_captured_wherever_the_capture_is_started(server: str, tmp_path: Path) -> None:
    """In the application's own module, which the server is loading then; or by the parent of the workers alone."""
    with serving() as backend, served(STARTED_LATE[server], "raw", backend, tmp_path, ("/usr/bin/env",)) as url:
        answer = httpx.post(f"{url}/0/document", json={"model": "m", "mark": "<one>"}, timeout=MAX_SECONDS)
        assert answer.status_code == 200, answer.text
    wait_for_writers(tmp_path)
    records = read(tmp_path)
    check(records, "<one>", answer.content, DOCUMENT, backend.received[0])


# Not granian: it tells nobody but who asks.
@pytest.mark.servers
@pytest.mark.parametrize("server", ["uvicorn, h11", "uvicorn, httptools", "hypercorn", "gunicorn -k asgi"])
def test_a_client_that_leaves_is_noticed_even_where_the_application_never_asks(server: str, tmp_path: Path) -> None:
    with serving() as backend, served(SERVERS[server], "raw", backend, tmp_path) as url:
        with httpx.stream("POST", url + "/endless", content=b"{}", timeout=MAX_SECONDS) as response:
            next(response.iter_raw())
        wait_until(lambda: b'"outbound_stream_end"' in (tmp_path / "capture.jsonl").read_bytes())
    ends = [r["metadata"]["outcome"] for r in read(tmp_path) if r["direction"] == "outbound_stream_end"]
    assert ends == ["client_disconnect"]


@pytest.mark.servers
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_with_every_client(framework: str, tmp_path: Path) -> None:
    show("uvicorn, h11", framework, run_all(SERVERS["uvicorn, h11"], framework, tmp_path))


@pytest.mark.timeout(300)  # two dozen requests at once, each through an SDK that is slow to import
@pytest.mark.parametrize("writer", ["process", "thread"])
@pytest.mark.parametrize("server", WSGI_SERVERS)
@pytest.mark.servers
def test_a_wsgi_server_with_every_client(server: str, writer: str, tmp_path: Path) -> None:
    exact = run_wsgi(WSGI_SERVERS[server], tmp_path, writer)
    show(server, f"Flask | {writer}", exact, 2 * len(gateway_app.SYNC_CLIENTS) * AT_ONCE)
