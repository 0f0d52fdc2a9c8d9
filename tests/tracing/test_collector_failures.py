"""A collector that fails, or an exporter that is not there: the application and the capture go on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from collected_gateway import (
    BIN,
    CONTRIB,
    SECONDS,
    Planted,
    ask_with_sdks,
    assert_whole,
    collected_gateway,
    environ,
    records_of,
)
from otlp_collectors import GRPC, HTTP, grpc_collector, http_collector
from redaction_backend import Backend, Words

from otel_wirecap.config import EXCLUDED_URLS_VARIABLES
from otel_wirecap.instrumentation import environment_variables

pytestmark = pytest.mark.telemetry

ANSWERS_SECONDS = 60
"""What a client waits for an answer: far less than ``EXPORTER_SECONDS``."""

EXPORTER_SECONDS = 300
END_SECONDS = 90


# -- collectors that fail ----------------------------------------------------------------------------------------------


@contextmanager
def down() -> Iterator[str]:
    with socket.socket() as taken:  # bound, so that nobody else gets the port, and closed to all
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # connections are made, and nobody ever reads
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def refusing(answer: int | grpc.StatusCode) -> Iterator[str]:
    with http_collector(answer) if isinstance(answer, int) else grpc_collector(answer) as received:
        yield received.endpoint
        assert received.data, "nobody asked"


Failing = Callable[[], AbstractContextManager[str]]
UNAVAILABLE, UNAUTHENTICATED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
def planted() -> Planted:
    return Planted.make()


@pytest.fixture
def backend(planted: Planted) -> Iterator[Backend]:
    backend = Backend(Words("Let me see.", f"It is {planted.answer}.", json.dumps({"city": "Paris"})))
    yield backend
    backend.close()


def sending(capture_file: Path, protocol: str, endpoint: str, seconds: int) -> dict[str, str]:
    """Spans and log records are sent at once and often, so that exports fail or hang while clients are served."""
    return environ(
        capture_file,
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_TIMEOUT=str(seconds),
        OTEL_BSP_SCHEDULE_DELAY="20",
        OTEL_BLRP_SCHEDULE_DELAY="20",
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=CONTRIB,
        OTEL_METRICS_EXPORTER="none",
        WIRE_CAPTURE_SPAN_PAYLOADS="both",
    )


@pytest.mark.parametrize(
    ("failing", "protocol"),
    [
        pytest.param(down, GRPC, id="down, gRPC"),
        pytest.param(down, HTTP, id="down, HTTP"),
        pytest.param(silent, GRPC, id="silent, gRPC"),
        pytest.param(silent, HTTP, id="silent, HTTP"),
        pytest.param(lambda: refusing(UNAVAILABLE), GRPC, id="UNAVAILABLE"),
        pytest.param(lambda: refusing(UNAUTHENTICATED), GRPC, id="UNAUTHENTICATED"),
        pytest.param(lambda: refusing(503), HTTP, id="503"),
        pytest.param(lambda: refusing(401), HTTP, id="401"),
    ],
)
def test_a_collector_that_fails_costs_telemetry_only(
    failing: Failing, protocol: str, planted: Planted, backend: Backend, capture_file: Path
) -> None:
    with failing() as endpoint:
        env = sending(capture_file, protocol, endpoint, 1)
        with collected_gateway(backend.url, env, END_SECONDS) as gateway:
            ask_with_sdks(gateway.url, planted, timeout=ANSWERS_SECONDS)
    assert gateway.done.code == 0
    assert_whole(records_of(capture_file))
    # The exporters say what is wrong with the collector; we have nothing to add, and nothing is broken.
    assert "xport" in gateway.done.stderr
    assert "otel-wirecap" not in gateway.done.stderr
    assert "Traceback" not in gateway.done.stderr


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_nobody_waits_for_a_collector_that_never_answers(
    protocol: str, planted: Planted, backend: Backend, capture_file: Path
) -> None:
    """Neither the clients nor, when the application ends, the capture: the exporters are still waiting by then."""
    with silent() as endpoint:
        env = sending(capture_file, protocol, endpoint, EXPORTER_SECONDS)
        with collected_gateway(backend.url, env) as gateway:
            ask_with_sdks(gateway.url, planted, timeout=ANSWERS_SECONDS)
            gateway.end()
            deadline = time.monotonic() + ANSWERS_SECONDS
            while b'"system_stop"' not in capture_file.read_bytes() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert gateway.is_running()
            gateway.kill()
    assert_whole(records_of(capture_file))


# -- exporters that are not there --------------------------------------------------------------------------------------

CALL = """
    import httpx
    from opentelemetry import trace
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"model": "m"}))
    httpx.Client(transport=transport).post("http://backend.example/v1/chat/completions", json={"model": "m"})
    print("ran on")
"""
WHOLE = ["system_start", "outbound_request", "inbound_response", "system_stop"]
TOLD = "OpenTelemetry's set-up gave up"


RUN = (str(BIN / "otel-wirecap"), "run", "--")


def launch(
    *options: str, before: tuple[str, ...] = (), program: str = CALL, **environ: str
) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    command = [*before, str(BIN / "opentelemetry-instrument"), *options, sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, env=kept | environ, capture_output=True, text=True, timeout=SECONDS)


def directions(path: Path) -> list[str]:
    return [record["direction"] for record in records_of(path)]


def of_ours(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("otel-wirecap")]


NO_METRICS_OR_LOGS = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}


@pytest.mark.parametrize(
    ("options", "environ"),
    [
        ([], {"OTEL_TRACES_EXPORTER": "oltp"}),
        (["--traces_exporter", "wirecap,oltp"], {}),
        ([], {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}),
        ([], {"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "oltp"}),
    ],
    ids=["wrong name", "wrong name as an option", "wrong protocol", "wrong name for logs"],
)
def test_a_wrong_exporter_is_told_in_one_message_and_the_capture_runs(
    options: list[str], environ: dict[str, str], capture_file: Path
) -> None:
    done = launch(*options, **NO_METRICS_OR_LOGS | environ, WIRE_CAPTURE_FILE=str(capture_file))
    assert (done.returncode, done.stdout) == (0, "ran on\n")
    assert directions(capture_file) == WHOLE
    (told,) = of_ours(done)
    assert TOLD in told
    assert str(capture_file) in told
    assert done.stderr.rstrip().endswith(told)  # what OpenTelemetry itself says of it stands above


@pytest.fixture
def without_otlp(tmp_path: Path) -> dict[str, str]:
    """An environment in which the OTLP exporters are not installed, as far as anybody who asks can see."""
    for name in ("opentelemetry_exporter_otlp_proto_grpc", "opentelemetry_exporter_otlp_proto_http"):
        folder = tmp_path / "hiding" / f"{name}-99.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99\n")
        (folder / "entry_points.txt").write_text("")
    paths = [str(tmp_path / "hiding"), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def test_opentelemetrys_default_without_its_package_is_no_reason_not_to_capture(
    without_otlp: dict[str, str], capture_file: Path
) -> None:
    done = launch(**without_otlp, WIRE_CAPTURE_FILE=str(capture_file))
    assert (done.returncode, done.stdout) == (0, "ran on\n")
    assert "'otlp_proto_grpc' not found" in done.stderr
    assert directions(capture_file) == WHOLE
    assert [TOLD in line for line in of_ours(done)] == [True]


@pytest.mark.parametrize("before", [(), RUN], ids=["", "otel-wirecap run"])
def test_processes_that_a_captured_one_starts_are_captured_too(before: tuple[str, ...], capture_file: Path) -> None:
    """A server's workers, say: OpenTelemetry, too, gives up in each of them."""
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {textwrap.dedent(CALL)!r}])"
    wrong = NO_METRICS_OR_LOGS | {"OTEL_TRACES_EXPORTER": "oltp"}
    done = launch(before=before, program=program, **wrong, WIRE_CAPTURE_FILE=str(capture_file))
    assert (done.returncode, done.stdout) == (0, "ran on\n")
    assert sorted(directions(capture_file)) == sorted([*WHOLE, "system_start", "system_stop"])


def test_who_asks_for_a_capture_gets_one_though_opentelemetry_is_to_leave_it_out(capture_file: Path) -> None:
    switched_off = NO_METRICS_OR_LOGS | {"OTEL_TRACES_EXPORTER": "none", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"}
    done = launch(before=RUN, **switched_off, WIRE_CAPTURE_FILE=str(capture_file))
    assert (done.returncode, done.stdout) == (0, "ran on\n")
    assert directions(capture_file) == WHOLE


@pytest.mark.parametrize("before", [(), RUN], ids=["", "otel-wirecap run"])
def test_a_set_up_that_works_is_left_as_it_is(before: tuple[str, ...], capture_file: Path) -> None:
    exporters = NO_METRICS_OR_LOGS | {"OTEL_TRACES_EXPORTER": "console", "OTEL_LOGS_EXPORTER": "console"}
    settings = {"WIRE_CAPTURE_FILE": str(capture_file), "WIRE_CAPTURE_SPAN_PAYLOADS": "logs"}
    done = launch(before=before, **exporters, **settings)
    assert done.returncode == 0
    assert done.stderr == (f"otel-wirecap: 1 exchange captured in {capture_file}\n" if before else "")
    assert directions(capture_file) == WHOLE
    assert '"name": "chat m"' in done.stdout
    assert [f'"event_name": "wirecap.{name}"' in done.stdout for name in WHOLE] == [True] * 4


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WIRE_CAPTURE_FILE": "capture.log", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "asgi, wirecap"},
        {"WIRE_CAPTURE_FILE": "capture.log", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
    ],
    ids=["no file", "switched off", "all switched off"],
)
def test_who_wants_no_capture_gets_none(environ: dict[str, str], tmp_path: Path) -> None:
    environ = {name: value.replace("capture.log", str(tmp_path / "capture.log")) for name, value in environ.items()}
    done = launch(**environ, OTEL_TRACES_EXPORTER="oltp")
    assert (done.returncode, done.stdout) == (0, "ran on\n")
    assert of_ours(done) == []
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_setting_is_told_once_whatever_else_is_wrong(capture_file: Path) -> None:
    done = launch(OTEL_TRACES_EXPORTER="oltp", WIRE_CAPTURE_FILE=str(capture_file), WIRE_CAPTURE_FORMAT="xml")
    assert (done.returncode, done.stdout) == (0, "ran on\n")
    (told,) = of_ours(done)
    assert "capture is off: capture_format: 'xml'" in told


def test_the_launcher_has_an_option_for_our_variable(capture_file: Path) -> None:
    assert EXCLUDED_URLS_VARIABLES[0] == environment_variables.OTEL_PYTHON_WIRECAP_EXCLUDED_URLS
    off: Any = NO_METRICS_OR_LOGS | {"OTEL_TRACES_EXPORTER": "none", "WIRE_CAPTURE_FILE": str(capture_file)}
    assert launch("--wirecap_excluded_urls", "backend[.]example", **off).returncode == 0
    assert directions(capture_file) == ["system_start", "system_stop"]
