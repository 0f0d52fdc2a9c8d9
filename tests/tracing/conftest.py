"""A captured gateway whose backend runs in a process of its own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from traced_gateway import Gateway, Spans, gateway_app, make_spans

import otel_wirecap
from otel_wirecap.instrumentation.runtime import active


@pytest.fixture(autouse=True)
def _no_capture_outlives_its_test() -> Iterator[None]:
    yield
    if active() is not None:
        otel_wirecap.uninstrument()


@pytest.fixture
def spans() -> Spans:
    return make_spans()


@pytest.fixture(scope="session")
def backend_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "otel_wirecap.proxy.demo_backend", "--port", str(port)]
    process = subprocess.Popen(command, cwd=tmp_path_factory.mktemp("backend"), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(60)


@pytest.fixture
def serve() -> Iterator[Callable[..., Gateway]]:
    """Serves an application under uvicorn in a thread; call it when the capture runs."""
    running: list[Gateway] = []

    def start(app: Any) -> Gateway:
        running.append(Gateway(app))
        return running[-1]

    yield start
    for gateway in running:
        gateway.close()


@pytest.fixture
def gateway(spans: Spans, capture_file: Path, backend_url: str, serve: Callable[..., Gateway]) -> Gateway:
    """A gateway that is captured, its spans in ``spans``; ``otel_wirecap.uninstrument()`` brings all of them there."""
    otel_wirecap.instrument(
        capture_file=capture_file, tracer_provider=spans.provider, capture_backends={"127.0.0.1": "openai"}
    )
    return serve(gateway_app(backend_url))
