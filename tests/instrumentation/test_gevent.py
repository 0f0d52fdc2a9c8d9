"""gevent replaces threads, locks, sockets and the clock of a process: before the capture, after it, in a forked worker.

Every application here is a process of its own, since what gevent has replaced stays replaced.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from wire import DOCUMENT, EVENTS, serving

HERE = Path(__file__).parent
GREENLETS = 8
SECONDS = 100
"""An application that hangs is ended after so long; one that does not takes three."""

ORDERS = {
    "patched first": """
        from gevent import monkey
        monkey.patch_all()
        import otel_wirecap
        otel_wirecap.instrument()
    """,
    "patched afterwards": """
        import otel_wirecap
        otel_wirecap.instrument()
        import httpx
        httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))).get("http://backend.example/")
        from gevent import monkey
        monkey.patch_all()
    """,
    "patched in a forked child": """
        import os
        import otel_wirecap
        otel_wirecap.instrument()
        child = os.fork()
        if child:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        from gevent import monkey
        monkey.patch_all()
    """,
}

ASKING = """
    import os, threading
    import gevent, httpx

    def ask(number):
        otel_wirecap.annotate(session_id=f"session {number}")
        sent = {"mark": number}
        with httpx.Client(timeout=60) as client:
            size = len(client.post(os.environ["BACKEND"] + "/document", json=sent).content)
            with client.stream("POST", os.environ["BACKEND"] + "/stream", json=sent) as response:
                return size + sum(map(len, response.iter_raw()))

    greenlets = [gevent.spawn(ask, number) for number in range(8)]
    gevent.joinall(greenlets, timeout=60)
    print([greenlet.value for greenlet in greenlets])
"""


def run(folder: Path, *parts: str, **environ: str) -> subprocess.CompletedProcess[str]:
    program = "import sys\n" + "".join(map(textwrap.dedent, parts))
    variables = {"WIRE_CAPTURE_FILE": str(folder / "capture.log"), **environ}
    return subprocess.run(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", program],  # forks
        cwd=folder, env=os.environ | variables, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "capture.log").read_text().splitlines()]


def check_whole(folder: Path) -> None:
    command = [sys.executable, "-m", "otel_wirecap", "verify", str(folder / "capture.log")]
    verified = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert verified.returncode == 0, verified.stdout


def check_greenlets(folder: Path) -> None:
    """Both exchanges of each greenlet are there, whole, and are those of its session."""
    flows: dict[str, list[dict[str, Any]]] = {}
    for record in records(folder):
        if record["metadata"].get("url", "").startswith("http://127.0.0.1") or "request_id" in record["metadata"]:
            flows.setdefault(record["metadata"]["request_id"], []).append(record)
    seen = []
    for first, *others in flows.values():
        if not isinstance(first["payload"], dict):  # the request before gevent came
            continue
        mark = first["payload"]["mark"]
        seen.append(mark)
        for record in (first, *others):
            assert record["session_id"] == f"session {mark}"
        assert {r["metadata"]["outcome"] for r in others if "outcome" in r["metadata"]} == {"complete"}
    assert sorted(seen) == sorted([*range(GREENLETS)] * 2)


@pytest.mark.parametrize("interpreter", ["python", "launcher"])  # no second process can be started with the latter
@pytest.mark.parametrize("writer", ["process", "thread"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.sampled(1, rest="servers")
def test_greenlets_get_their_answers_and_all_of_it_is_captured(
    order: str, writer: str, interpreter: str, tmp_path: Path
) -> None:
    renamed = "sys.executable = '/opt/launcher'\n" if interpreter == "launcher" else ""
    with serving() as backend:
        done = run(tmp_path, renamed, ORDERS[order], ASKING, BACKEND=backend.url, WIRE_CAPTURE_WRITER=writer)
    assert done.stdout == f"{[len(DOCUMENT) + sum(map(len, EVENTS))] * GREENLETS}\n", done.stderr
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if not line.startswith("otel-wirecap: ")] == []
    check_whole(tmp_path)
    check_greenlets(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for threads in /proc")
@pytest.mark.parametrize(("writer", "threads"), [("process", ["receiver", "sender"]), ("thread", ["writer"])])
@pytest.mark.parametrize("order", [*ORDERS][:2])
@pytest.mark.servers
def test_the_application_meets_none_of_the_captures_threads(
    order: str, writer: str, threads: list[str], tmp_path: Path
) -> None:
    # gevent leaves locks as they are, and some then block for ever, where the application seems to have threads.
    telling = """
        import threading
        from pathlib import Path
        assert otel_wirecap.instrumentation.runtime.active().exporter.force_flush()
        print([thread.name for thread in threading.enumerate()])
        names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
        print(sorted(name for name in names if name.startswith("wirecap-")))
    """
    done = run(tmp_path, ORDERS[order], telling, WIRE_CAPTURE_WRITER=writer)
    expected = [f"wirecap-{thread}"[:15] for thread in threads]
    assert done.stdout == f"['MainThread']\n{expected}\n", done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("order", [*ORDERS][:2])
@pytest.mark.servers
def test_threads_of_the_captures_warn_past_handlers_whose_locks_greenlets_hold(
    order: str, threads: int, tmp_path: Path
) -> None:
    logging = """
        import logging, os, gevent
        from otel_wirecap import native
        from otel_wirecap.storage.registry import open_writers

        class Slow(logging.Handler):
            def emit(self, record):
                told.append(record.getMessage())
                gevent.sleep(0.001)  # the handler's lock is held meanwhile

        told = []
        logging.getLogger().addHandler(Slow())
        (writer,) = open_writers()

        def log_ours():
            for number in range(30):
                writer.log("ours %d", number)

        def log_theirs():
            for number in range(50):
                logging.getLogger("application").warning("theirs %d", number)

        threads = [native.start_thread("otel-wirecap-test", log_ours) for _ in range(int(os.environ["THREADS"]))]
        gevent.joinall([gevent.spawn(log_theirs) for _ in range(4)], raise_error=True)
        while any(thread.is_alive() for thread in threads):
            gevent.sleep(0.01)
        print(len(told), sum(message.startswith("theirs") for message in told))
    """
    done = run(tmp_path, ORDERS[order], logging, THREADS=str(threads))
    assert done.stdout == "200 200\n", done.stderr
    ours = [f"otel-wirecap: ours {number}" for number in range(30)]
    assert sorted(done.stderr.splitlines()) == sorted(ours * threads)


@pytest.mark.parametrize("order", [*ORDERS][:2])
@pytest.mark.sampled(1, rest="servers")
def test_every_kind_of_line_of_our_threads_passes_the_log_by(order: str, tmp_path: Path) -> None:
    logging = """
        import logging
        from otel_wirecap import native
        from otel_wirecap.log import WarnOnce, log_error, warn

        class Kept(logging.Handler):
            def emit(self, record):
                told.append(record.getMessage())

        told = []
        logging.getLogger().addHandler(Kept())
        warn_once = WarnOnce()

        def log_each(where):
            log_error("error in %s", where)
            warn("warning in %s", where)
            for _ in range(2):
                warn_once("once in %s", where)

        native.start_thread("otel-wirecap-test", log_each, "ours").join(60)
        log_each("theirs")
        print(told)
    """
    done = run(tmp_path, ORDERS[order], logging)
    lines = [f"otel-wirecap: {line} in %s" for line in ("error", "warning", "once")]
    assert done.stdout == f"{[line % 'theirs' for line in lines]}\n", done.stderr
    assert done.stderr.splitlines() == [line % "ours" for line in lines]


@pytest.mark.parametrize("order", [*ORDERS][:2])
@pytest.mark.servers
def test_spans_reach_the_applications_processors(order: str, tmp_path: Path) -> None:
    providers = """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        exporters = InMemorySpanExporter(), InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporters[0]))
        provider.add_span_processor(BatchSpanProcessor(exporters[1], schedule_delay_millis=100))
        trace.set_tracer_provider(provider)
    """
    ending = """
        otel_wirecap.uninstrument()
        provider.shutdown()
        print([len(exporter.get_finished_spans()) for exporter in exporters])
    """
    with serving() as backend:
        done = run(tmp_path, ORDERS[order], providers, ASKING, ending, BACKEND=backend.url)
    assert done.stdout.splitlines()[1:] == ["[16, 16]"], done.stderr
    assert done.stderr == ""
    check_whole(tmp_path)


@pytest.mark.parametrize("writer", ["process", "thread"])
@pytest.mark.parametrize("order", [*ORDERS][:2])
@pytest.mark.sampled(1, rest="servers")
def test_a_process_that_a_greenlet_starts_runs_no_greenlet(order: str, writer: str, tmp_path: Path) -> None:
    starting = """
        import os, subprocess
        import gevent

        application, ticks = os.getpid(), 0

        def tick():
            global ticks
            while True:
                gevent.sleep(0)
                ticks += 1
                if os.getpid() != application:
                    print("a greenlet runs in the child", flush=True)
                    os._exit(1)

        gevent.spawn(tick)
        for _ in range(5):
            subprocess.run(["true"], check=True)
        print(ticks > 0)
    """
    done = run(tmp_path, ORDERS[order], starting, WIRE_CAPTURE_WRITER=writer)
    assert done.stdout == "True\n", done.stderr
    assert done.stderr == ""
