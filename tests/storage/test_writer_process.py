"""The writer in a process of its own: what becomes of a capture when that process, or the application's, is gone."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import (
    CHILD_PATH,
    SSE,
    Gateway,
    account,
    check_numbers,
    exchange_on,
    is_gone,
    is_sent,
    open_writer,
    records,
    stream,
    wait_until,
    writers_of,
)
from leftovers import has_failed
from waiting import MAX_SECONDS

from otel_wirecap.capture.events import EventKind, ResponseHead
from otel_wirecap.storage import writer_process
from otel_wirecap.storage.channel import Close, MessageReader
from otel_wirecap.storage.child_process import start_process
from otel_wirecap.storage.in_writer_process import UNSENT, HostProcess, SocketAnswers, SocketChannel, end_in_time
from otel_wirecap.storage.ledger import Loss
from otel_wirecap.storage.writer import CaptureWriter

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "capture.log"


@pytest.fixture(autouse=True)
def _no_descriptor_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    before = set(Path("/proc/self/fd").iterdir())
    yield
    if not has_failed(request.node):
        wait_until(lambda: not writers_of() and set(Path("/proc/self/fd").iterdir()) <= before)


def spanned(gateway: Gateway, name: str) -> Any:
    """An exchange whose span is to be ended."""
    return gateway.exchange(name, body=b'{"model": "m"}', wants_end=True)


def comparable(path: Path) -> list[dict[str, Any]]:
    """Records without what differs from one run to the next."""
    found = []
    for record in records(path):
        if record["direction"].startswith("system_"):
            continue
        metadata = {
            key: value
            for key, value in record["metadata"].items()
            if key not in {"seq", "process"} and not key.endswith("_ms")
        }
        found.append({**record, "timestamp_iso": None, "timestamp_unix": None, "metadata": metadata})
    return found


def test_both_homes_write_the_same_records(tmp_path: Path) -> None:
    def use(writer: CaptureWriter) -> None:
        for number in range(20):
            stream(writer, f"one{number}", 30)
        big = exchange_on(writer, "big")
        big.response(time.monotonic_ns(), ResponseHead(200, "OK", [(b"content-type", b"application/json")], "1.1"))
        for _ in range(3):
            big.chunk(time.monotonic_ns(), b" " * 100_000)
        big.chunk(time.monotonic_ns(), json.dumps({"model": "m", "text": "y" * 300_000}).encode())
        big.end(time.monotonic_ns(), "complete")

    found = {}
    for home in ("process", "thread"):
        file = tmp_path / f"{home}.log"
        writer = open_writer(file, capture_writer=home)
        use(writer)
        assert writer.flush()
        assert len(writers_of()) == (home == "process")
        assert writer.close()
        assert not writers_of()
        found[home] = comparable(file)
    assert len(found["process"]) > 600
    assert found["process"] == found["thread"]


def test_a_writer_that_is_killed_is_told_and_the_capture_goes_on(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = open_writer(path, capture_flush_interval=0.2)
    gateway = Gateway.observing(writer)
    ended = gateway.facts
    first = writer.process
    stream(writer, "before", 10)
    opened = spanned(gateway, "open")
    opened.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
    assert writer.flush()
    (pid,) = writers_of()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: writer.process != first)
    opened.chunk(time.monotonic_ns(), b"data: lost\n\n")
    opened.end(time.monotonic_ns(), "complete")
    after = spanned(gateway, "after")
    after.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
    after.end(time.monotonic_ns(), "complete")
    assert writer.flush()
    assert ended["open"].outcome == ended["after"].outcome == "complete"
    assert ended["after"].requested_model == "m"
    assert ended["open"].requested_model is None, "nothing more than its end is known"
    assert writer.close()
    found = records(path)
    check_numbers(found)
    (gap,) = [record["payload"] for record in found if record["direction"] == "system_gap"]
    assert gap["reason"] == "writer_died"
    assert gap["lost_exchanges"] == 1
    by_process = Counter(record["metadata"]["process"] for record in found)
    assert set(by_process) == {first, writer.process}
    exchanges = {record["metadata"].get("exchange_id") for record in found}
    assert {"before", "open", "after"} <= exchanges
    assert not [record for record in found if record["payload"] == "data: lost\n\n"]
    assert caplog.text.count("writer's process is gone") == 1


def test_what_a_killed_writer_had_not_written_is_counted(path: Path) -> None:
    writer = open_writer(path, capture_flush_interval=0.2)
    stream(writer, "before", 10)
    assert writer.flush()
    (pid,) = writers_of()
    os.kill(pid, signal.SIGSTOP)
    gateway = Gateway.observing(writer)
    ended = gateway.facts
    over = spanned(gateway, "over")
    over.end(time.monotonic_ns(), "complete")
    stream(writer, "lost", 200)
    wait_until(lambda: is_sent(writer))
    before = writer.process
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: writer.process != before)
    assert writer.flush()
    assert ended["over"].outcome == "complete"
    assert writer.stats().waiting_bytes < 5000
    assert writer.close()
    (gap,) = [record["payload"] for record in records(path) if record["direction"] == "system_gap"]
    assert gap["lost_events"] == 205
    assert gap["lost_bytes"] > 200 * 50


@pytest.mark.parametrize("stopped_for", [0.0, 1.0])
def test_a_writer_that_stands_still_keeps_nobody_waiting_and_loses_nothing_silently(
    path: Path, stopped_for: float
) -> None:
    writer = open_writer(path, capture_flush_interval=0.05, capture_max_queue_bytes=300_000)
    assert writer.flush()
    (pid,) = writers_of()
    os.kill(pid, signal.SIGSTOP)
    exchange = exchange_on(writer, "one")
    exchange.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
    for _ in range(2000):  # who waited for the writer would wait for ever
        exchange.chunk(time.monotonic_ns(), b"x" * 1000)
    time.sleep(stopped_for)  # what it stands still for, not what is waited for
    stats = writer.stats()
    assert stats.waiting_bytes <= 310_000
    assert stats.lost_events["queue_full"] > 1000
    os.kill(pid, signal.SIGCONT)
    exchange.end(time.monotonic_ns(), "complete")
    assert writer.close()
    kept, told = account(path)
    assert kept + told == 2000


APPLICATION = """
    import os, sys, time
    from pathlib import Path
    from driving import SSE, exchange_on, is_sent, is_stuck, open_writer, stream, wait_until
    from otel_wirecap.capture.events import ResponseHead

    writer = open_writer(Path(sys.argv[1]), capture_flush_interval=1)
    stream(writer, "whole", 20)
    exchange = exchange_on(writer, "cut")
    exchange.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
    for number in range(100):
        exchange.chunk(time.monotonic_ns(), b"data: %d\\n\\n" % number)
    print("put", flush=True)
"""
SENT = """
    wait_until(lambda: is_sent(writer))
    print("sent", flush=True)
"""


def gaps(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record["payload"] for record in found if record["direction"] == "system_gap"]


def start(program: str, path: Path, stdin: int | None = None, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(path)], stdout=subprocess.PIPE, text=True,
        stdin=stdin, env={**os.environ, "PYTHONPATH": CHILD_PATH, **environ},
    )  # fmt: skip


def test_what_a_killed_application_has_sent_is_written(path: Path) -> None:
    with start(APPLICATION + SENT + "    input()\n", path, stdin=subprocess.PIPE) as application:
        assert application.stdout is not None
        assert application.stdout.readline() == "put\n"
        assert application.stdout.readline() == "sent\n"
        application.kill()
    # By its last word: the process that starts the writer may not have become another program yet.
    wait_until(lambda: path.exists() and b"abandoned" in path.read_bytes())
    wait_until(lambda: not writers_of(application.pid))
    found = records(path)
    check_numbers(found)
    assert found[-1]["direction"] == "stream_end"
    assert found[-1]["metadata"]["outcome"] == "abandoned"
    assert sum(record["direction"] == "stream_chunk" for record in found) == 120
    assert not [record for record in found if record["direction"] == "system_stop"], "it did not end well"
    assert gaps(found) == [{"reason": "application_gone", "error": UNSENT}]


def test_what_of_a_killed_application_was_half_sent_is_told(path: Path) -> None:
    program = APPLICATION + (
        "    writer.flush()\n"
        "    input()\n"
        "    exchange.chunk(time.monotonic_ns(), b'data: ' + b'x' * 9_000_000 + b'\\n\\n')\n"
        "    for number in range(299):\n"
        "        exchange.chunk(time.monotonic_ns(), b'data: ' + b'x' * 30_000 + b'\\n\\n')\n"
        "    wait_until(lambda: is_stuck(writer))  # with the first of them\n"
        "    print('more', flush=True)\n"
        "    input()\n"
    )
    with start(program, path, stdin=subprocess.PIPE) as application:
        assert application.stdout is not None
        assert application.stdin is not None
        assert application.stdout.readline() == "put\n"
        wait_until(lambda: path.exists() and b"stream_chunk" in path.read_bytes())
        (pid,) = writers_of(application.pid)
        os.kill(pid, signal.SIGSTOP)
        application.stdin.write("\n")
        application.stdin.flush()
        assert application.stdout.readline() == "more\n"
        application.kill()
        application.wait()
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: is_gone(pid))
    found = records(path)
    check_numbers(found)
    (gap,) = gaps(found)
    kept = sum(record["direction"] == "stream_chunk" for record in found)
    assert gap["reason"] == "application_gone"
    assert gap["lost_events"] > 0
    assert 120 <= kept <= 420 - gap["lost_events"]


def test_an_application_that_is_killed_before_its_writer_is_there_has_sent_it_all_the_same(path: Path) -> None:
    with start(APPLICATION + SENT + "    os.kill(os.getpid(), 9)\n", path) as application:
        assert application.stdout is not None
        assert application.stdout.readline() == "put\n"
    wait_until(lambda: path.exists() and b'"stream_end"' in path.read_bytes().rpartition(b"abandoned")[0])
    assert sum(record["direction"] == "stream_chunk" for record in records(path)) == 120


ENDING = """
    import os, sys, time
    from pathlib import Path
    from driving import exchange_on, open_writer, wait_until
    from otel_wirecap.capture.events import ResponseHead

    writer = open_writer(Path(sys.argv[1]))
    wait_until(lambda: writer._answers.is_ready.is_set)

    def ask(name):
        exchange = exchange_on(writer, name)
        exchange.response(time.monotonic_ns(), ResponseHead(200, None, []))
        exchange.end(time.monotonic_ns(), "complete")

    def sent():
        wait_until(lambda: not writer._ledger.waiting)
"""


@pytest.mark.parametrize(
    ("steps", "has_ended_well"),
    [
        ("writer.note_end(); sent()", True),
        ("ask('a'); writer.note_end(); sent()", True),
        ("ask('a'); writer.pause()", True),
        ("ask('a'); writer.hand_over(60)", True),
        ("ask('a'); writer.hand_over(60); ask('b'); writer.note_end(); sent()", True),
        ("", False),
        ("ask('a'); sent()", False),
        ("writer.note_end(); ask('a'); sent()", False),
        ("ask('a'); writer.pause(); ask('b'); sent()", False),
        ("ask('a'); exchange_on(writer, 'open'); writer.pause()", False),
        ("ask('a'); writer.note_end(); writer.lose(Loss('x')); writer.flush()", True),
    ],
)
@pytest.mark.sampled(4, rest="faults")
def test_a_process_that_is_gone_has_ended_well_where_nothing_came_after_its_note(
    steps: str, has_ended_well: bool, path: Path
) -> None:
    program = textwrap.dedent(ENDING) + "from otel_wirecap.storage.ledger import Loss\n"
    with start(program + steps + "\nos.kill(os.getpid(), 9)\n", path) as application:
        pass
    wait_until(lambda: not writers_of(application.pid))
    found = records(path)
    check_numbers(found)
    stops = [record for record in found if record["direction"] == "system_stop"]
    assert len(stops) == has_ended_well
    assert not stops or found[-1] == stops[0]
    reasons = [gap["reason"] for gap in gaps(found)]
    assert ("application_gone" in reasons) != has_ended_well


def test_the_first_event_is_sent_at_once_and_so_is_the_first_after_a_note(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the capture of an application that is killed right after it says so."""
    monkeypatch.setattr(writer_process, "MAX_SEND_SECONDS", 900.0)
    writer = open_writer(path, capture_flush_interval=3600)
    for name in ("first", "after the note"):
        exchange = exchange_on(writer, name)
        wait_until(lambda: not writer._ledger.waiting)
        exchange.end(time.monotonic_ns(), "complete")
        assert writer._ledger.waiting, "those that follow wait for more to be sent with them"
        writer.note_end()
        assert writer.flush()
    assert writer.close()


CLOSED_TOO_SOON = """
    import logging, os, signal, sys, time
    from pathlib import Path
    from driving import SSE, exchange_on, is_stuck, open_writer, stream, wait_until, writers_of
    from otel_wirecap.capture.events import ResponseHead

    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    writer = open_writer(Path(sys.argv[1]), capture_flush_interval=0.05)
    stream(writer, "before", 5)
    assert writer.flush()
    (pid,) = writers_of()
    os.kill(pid, signal.SIGSTOP)
    exchange = exchange_on(writer, "cut")
    exchange.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
    for number in range(5000):
        exchange.chunk(time.monotonic_ns(), b"%d " % number * 200)
    exchange.end(time.monotonic_ns(), "complete")
    wait_until(lambda: is_stuck(writer))
    assert not writer.close(timeout=0.3)
    os._exit(0)
"""


def test_what_was_being_sent_when_the_capture_was_closed_is_told_as_lost_too(path: Path) -> None:
    with start(CLOSED_TOO_SOON, path) as application:
        told = application.communicate()[0]
    (pid,) = writers_of(application.pid)
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: b"abandoned" in path.read_bytes())
    lost = int(told.partition(" records or events are lost at the end")[0].rpartition(" ")[2])
    kept = sum(record["direction"] == "stream_chunk" for record in records(path)) - 5
    assert kept + lost == 5001, told


def test_a_fork_that_lives_on_does_not_keep_the_writer_alive(path: Path) -> None:
    program = (
        APPLICATION + "    writer.flush()\n"
        "    if os.fork() == 0: sys.stdin.read(); os._exit(0)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    with start(program, path, stdin=subprocess.PIPE) as application:
        assert application.stdout is not None
        assert application.stdin is not None
        assert application.stdout.readline() == "put\n"
        application.wait()
        wait_until(lambda: b"abandoned" in path.read_bytes())
        application.stdin.close()
        assert application.stdout.read() == ""  # the child had the other end until now: it lived


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_the_application_do_not_end_its_writer(path: Path, number: signal.Signals) -> None:
    writer = open_writer(path)
    assert writer.flush()
    (pid,) = writers_of()
    os.kill(pid, number)
    stream(writer, "one", 10)
    assert writer.flush()
    assert writers_of() == [pid]
    assert os.getsid(pid) != os.getsid(0), "a terminal's Ctrl-C reaches it"
    assert writer.close()


PROGRAMS = {
    "ends at once": "#!/bin/sh\nexit 3\n",
    "is killed": "#!/bin/sh\nkill -9 $$\n",
    "reads and ends": "#!/bin/sh\nhead -c 10 > /dev/null\n",
}


@pytest.mark.parametrize("interpreter", [*PROGRAMS, "is none", "is called after one", "is not there", "may not be run"])
def test_without_a_process_a_thread_writes_and_nothing_is_lost(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, interpreter: str
) -> None:
    program = tmp_path / {"is none": "gateway", "is called after one": "pythonic_gateway"}.get(interpreter, "python3")
    if interpreter != "is not there":
        program.write_text(PROGRAMS.get(interpreter, f"#!/bin/sh\ntouch {tmp_path / 'started'}\n"))
        program.chmod(0o600 if interpreter == "may not be run" else 0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    writer = open_writer(path)
    process = writer.process
    for number in range(10):
        stream(writer, f"one{number}", 100)
    assert writer.flush()
    stream(writer, "later", 100)
    assert writer.close()
    found = records(path)
    check_numbers(found)
    assert {record["metadata"]["process"] for record in found} == {process}
    assert sum(record["direction"] == "stream_chunk" for record in found) == 1100
    assert not [record for record in found if record["direction"] == "system_gap"]
    assert caplog.text.count("is written by a thread") == 1
    assert not (tmp_path / "started").exists(), "the application was started again"


def test_a_frozen_program_is_not_started_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    writer = open_writer(path)
    stream(writer, "one", 10)
    assert writer.close()
    assert "is written by a thread" in caplog.text
    assert sum(record["direction"] == "stream_chunk" for record in records(path)) == 10


def test_a_module_that_instruments_applications_does_not_instrument_the_writer(path: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"import os\nopen({str(tmp_path / 'started')!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
    )
    paths = f"{site}{os.pathsep}{CHILD_PATH}"
    with start(APPLICATION + "    assert writer.close()\n", path, PYTHONPATH=paths) as application:
        application.communicate()
    assert application.returncode == 0
    assert (tmp_path / "started").read_text() == f"{application.pid}\n"
    assert records(path)


def test_a_secret_that_comes_into_the_environment_later_is_known_to_the_writer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "".join(["quite", "-an-", "ordinary-", "word"])
    writer = open_writer(path, capture_flush_interval=0.1)
    assert writer.flush()
    monkeypatch.setenv("SOME_API_KEY", secret)
    names = itertools.count()

    def is_written() -> bool:
        exchange = exchange_on(writer, f"one{next(names)}")
        exchange.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
        exchange.chunk(time.monotonic_ns(), b"data: " + secret.encode() + b"\n\n")
        exchange.end(time.monotonic_ns(), "complete")
        assert writer.flush()
        (*_, last) = [record for record in records(path) if record["direction"] == "stream_chunk"]
        return secret in last["payload"]

    wait_until(lambda: not is_written())
    assert not is_written()
    assert writer.close()


def test_many_threads_put_while_the_writer_is_killed(path: Path) -> None:
    writer = open_writer(path, capture_flush_interval=0.05)
    assert writer.flush()
    (pid,) = writers_of()
    first = writer.process
    is_halfway = threading.Barrier(5)

    def use(number: int) -> None:
        for turn in range(30):
            stream(writer, f"x{number}_{turn}", 20)
            if turn == 15:
                is_halfway.wait(60)
            time.sleep(0.002)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    is_halfway.wait(60)
    os.kill(pid, signal.SIGKILL)
    for thread in threads:
        thread.join()
    wait_until(lambda: writer.process != first)
    stream(writer, "after", 20)
    assert writer.close()
    found = records(path)
    check_numbers(found)
    (gap,) = [record["payload"] for record in found if record["direction"] == "system_gap"]
    whole = sum(record["direction"] == "stream_end" for record in found)
    assert whole + gap["lost_exchanges"] + gap["lost_events"] >= 121
    assert "after" in {record["metadata"].get("exchange_id") for record in found}


def test_the_application_imports_nothing_of_what_makes_records(path: Path) -> None:
    program = """
        import sys, otel_wirecap
        otel_wirecap.instrument(capture_file=sys.argv[1])
        otel_wirecap.uninstrument()
        print(*[name for name in sys.modules if name.startswith("otel_wirecap.capture.redaction")])
    """
    with start(program, path) as application:
        assert application.communicate()[0] == "\n"


def test_an_environment_that_changes_while_it_is_sent_harms_nobody(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = open_writer(path, capture_flush_interval=0.05)
    assert writer.flush()

    class Changing(dict[str, str]):
        def __iter__(self) -> Iterator[str]:
            return iter([*self.keys(), "GONE_MEANWHILE"])

        def keys(self) -> Any:
            return [*super().keys(), "GONE_MEANWHILE"]

    sent: list[Changing] = []
    streams = itertools.count()
    monkeypatch.setattr(
        "otel_wirecap.storage.writer_process.environment", lambda: sent.append(Changing(os.environ)) or sent[-1]
    )
    wait_until(lambda: stream(writer, f"one{next(streams)}", 10) or len(sent) >= 5)  # once a flush interval
    assert writer.flush()
    assert len(writers_of()) == 1
    assert writer.close()
    assert not caplog.text
    assert account(path) == (10 * next(streams), 0)


def test_where_nothing_can_be_sent_any_more_a_thread_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = open_writer(path, capture_flush_interval=0.05)
    stream(writer, "before", 10)
    assert writer.flush()
    first = writer.process

    def no_memory(*_arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("otel_wirecap.storage.channel.marshal", types.SimpleNamespace(dumps=no_memory))
    stream(writer, "lost", 10)
    wait_until(lambda: writer.process != first)
    stream(writer, "after", 10)
    assert writer.flush()
    assert writer.close()
    assert "nothing can be sent to the writer's process: MemoryError" in caplog.text
    found = records(path)
    check_numbers(found)
    (gap,) = [record["payload"] for record in found if record["direction"] == "system_gap"]
    assert gap["lost_events"] == 13
    assert sum(record["direction"] == "stream_chunk" for record in found) == 20


CLOSING = """
    import os, socket, sys
    from pathlib import Path
    from driving import open_writer, stream, wait_until

    writer = open_writer(Path(sys.argv[1]), capture_flush_interval=0.1)
    stream(writer, "before", 5)
    assert writer.flush()
    os.closerange(3, 200)
    pairs = [socket.socketpair() for _ in range(8)]
    home = writer._home
    stream(writer, "lost", 20)
    wait_until(lambda: writer._home is not home)  # a thread has taken over
    stream(writer, "after", 20)
    assert writer.flush() and writer.close()
    for left, right in pairs:
        for end in (left, right):
            end.setblocking(False)
        left.send(b"mine")
        assert right.recv(100) == b"mine"
        right.send(b"mine")
        assert left.recv(100) == b"mine"
    print("unharmed", flush=True)
"""


def test_a_host_that_closes_all_descriptors_and_uses_their_numbers_is_unharmed(path: Path) -> None:
    with start(CLOSING, path) as application:
        assert application.communicate()[0] == "unharmed\n"
    assert application.returncode == 0
    found = records(path)
    check_numbers(found)
    assert sum(record["direction"] == "stream_chunk" for record in found) >= 25


STREAMLESS = """
    import os, sys
    from pathlib import Path
    from driving import open_writer, stream

    out = os.dup(1)
    for number in range(3):
        os.close(number)
    writer = open_writer(Path(sys.argv[1]))
    stream(writer, "one", 5)
    assert writer.flush()
    for number in range(3):
        try:
            os.write(number, b"what the application prints")
        except OSError:
            os.write(out, b"closed ")
    assert writer.close()
"""


def test_what_is_printed_to_closed_standard_streams_does_not_go_to_the_writer(path: Path) -> None:
    with start(STREAMLESS, path) as application:
        assert application.communicate()[0] == "closed closed closed "
    assert application.returncode == 0
    assert account(path) == (5, 0)


def test_what_found_no_room_is_told_although_the_writer_that_was_to_tell_it_is_killed(path: Path) -> None:
    writer = open_writer(path, capture_flush_interval=0.05, capture_max_queue_bytes=100_000)
    assert writer.flush()
    (pid,) = writers_of()
    os.kill(pid, signal.SIGSTOP)
    exchange = exchange_on(writer, "one")
    exchange.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
    for _ in range(2000):
        exchange.chunk(time.monotonic_ns(), b"x" * 1000)
    wait_until(lambda: is_sent(writer))
    refused = writer.stats().lost_events["queue_full"]
    assert refused > 1000
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "writer_died" in writer.stats().lost_events)  # a thread has taken over
    assert writer.flush()
    lost = writer.stats().lost_events
    assert lost["queue_full"] == refused
    assert lost["writer_died"] + refused == 2002
    assert writer.close()
    assert account(path) == (0, 2002)


def test_what_is_put_for_an_exchange_that_is_over_waits_for_nothing(path: Path) -> None:
    writer = open_writer(path, capture_flush_interval=0.05)
    exchange = exchange_on(writer, "one")
    exchange.end(time.monotonic_ns(), "complete")
    assert writer.flush()
    for _ in range(7):  # as another thread does that puts while this one ends
        writer.put(EventKind.CHUNK, exchange.id, time.monotonic_ns(), b"late", 4)
    assert writer.flush()
    wait_until(lambda: writer.stats().waiting_events == writer.stats().waiting_bytes == 0)
    assert writer.close()


def test_a_fork_while_the_writer_is_started_does_not_keep_its_end_from_being_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_starting = threading.Event()

    def start_slowly(*arguments: Any, **options: Any) -> int:
        is_starting.set()
        time.sleep(0.2)  # a fork that comes now waits for the start, for as long as that may take
        return start_process(*arguments, **options)

    monkeypatch.setattr("otel_wirecap.storage.writer_process.start_process", start_slowly)
    writer = open_writer(path, capture_flush_interval=0.05)
    first = writer.process
    assert is_starting.wait(MAX_SECONDS)
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    try:
        assert writer.flush()
        (pid,) = writers_of()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: writer.process != first)
        assert writer.close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_modules_of_the_application_with_names_of_the_library_do_not_run_in_the_writer(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("platform", "queue", "secrets", "select", "socket"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    writer = open_writer(path)
    assert writer.flush()
    assert len(writers_of()) == 1
    assert writer.close()
    assert not (tmp_path / "ran").exists()


def test_an_import_path_with_what_is_no_folder_is_no_hindrance(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "path", ["", None, b"/bytes", 7, *sys.path])
    writer = open_writer(path)
    assert writer.flush()
    assert len(writers_of()) == 1
    assert writer.close()


def test_a_locale_that_is_set_later_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f\u00fcr.log"
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("SOME_API_KEY", "k\u00f6nigs-key-value")
    monkeypatch.setenv("NO_TEXT", "\udcff\udcfe")
    writer = open_writer(path)
    stream(writer, "one", 5)
    assert writer.flush()
    assert len(writers_of()) == 1
    assert writer.close()
    assert account(path) == (5, 0)


WAITING = """
    import os, sys, time
    from pathlib import Path
    from driving import open_writer, stream

    writer = open_writer(Path(sys.argv[1]))
    stream(writer, "one", 5)
    assert writer.flush()
    if not os.fork():
        os._exit(3)
    while True:
        try:
            assert os.wait()[1] == 3 << 8
        except ChildProcessError:
            break
    assert writer.close()
    print("has no children", flush=True)
"""


def test_a_host_that_waits_until_it_has_no_child_does_not_wait_for_the_writer(path: Path) -> None:
    with start(WAITING, path) as application:
        wait_until(lambda: application.poll() is not None)
        assert application.communicate()[0] == "has no children\n"
    assert application.returncode == 0
    assert account(path) == (5, 0)


REPLACED = """
    import os, sys, time
    from pathlib import Path
    from driving import open_writer, stream

    writer = open_writer(Path(sys.argv[1]))
    stream(writer, "one", 5)
    assert writer.flush()
    rest = "import os, sys; sys.stdin.read(); print(len(open('/proc/thread-self/children').read()))"
    os.execv(sys.executable, [sys.executable, "-c", rest])
"""


def test_an_application_that_becomes_another_program_leaves_it_no_children(path: Path) -> None:
    with start(REPLACED, path, stdin=subprocess.PIPE) as application:
        wait_until(lambda: path.exists() and account(path) == (5, 0))
        wait_until(lambda: not writers_of(application.pid))  # it ends with the program that it wrote for
        assert application.communicate()[0] == "0\n"


def test_a_process_that_waits_for_a_file_does_not_outlive_its_application_for_ever() -> None:
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        ours.close()
        end_in_time(theirs, HostProcess(os.getppid()), 0.1)
        os._exit(1)
    try:
        theirs.close()
        wait_until(lambda: Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2].startswith("S"))  # it sleeps
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        ours.close()
        assert os.waitpid(child, 0) == (child, 0)
    finally:
        ours.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_where_another_version_was_installed_meanwhile_a_thread_writes(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("otel_wirecap.storage.writer_process.__version__", "0.0.0")
    writer = open_writer(path)
    stream(writer, "one", 5)
    assert writer.flush()
    assert writer.close()
    assert "is written by a thread" in caplog.text
    assert account(path) == (5, 0)


def test_records_that_a_killed_writer_could_not_write_are_counted(path: Path) -> None:
    writer = open_writer(path, capture_flush_interval=0.05)
    stream(writer, "before", 5)
    assert writer.flush()
    (pid,) = writers_of()
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (path.stat().st_size + 10, resource.RLIM_INFINITY))
    for number in range(3):
        stream(writer, f"one{number}", 20)
        wait_until(lambda: writer.stats().failing)
        wait_until(lambda: is_sent(writer) and writer.stats().waiting_events == 0)  # it holds them as records
    first = writer.process
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: writer.process != first)
    assert writer.close()
    (gap,) = [record["payload"] for record in records(path) if record["direction"] == "system_gap"]
    assert gap["lost_records"] + gap["lost_events"] >= 3 * 20


def test_what_a_killed_writer_has_counted_stays_counted(path: Path) -> None:
    writer = open_writer(path, capture_flush_interval=0.05)
    writer.lose(Loss("some_reason", events=3))
    stream(writer, "before", 10)
    assert writer.flush()
    before = writer.stats()
    first = writer.process
    (pid,) = writers_of()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: writer.process != first)
    stream(writer, "after", 10)
    assert writer.flush()
    assert writer.close()
    after = writer.stats()
    assert after.lost_events["some_reason"] == 3
    assert after.records == len(records(path)) > before.records
    assert after.bytes == path.stat().st_size


def test_the_first_sign_of_the_end_says_what_kind_it_is() -> None:
    """An application that is gone, whose end of the socket somebody else has and closes later, ended without a word."""
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen(["sleep", "60"]) as application:
        process = HostProcess(application.pid)
        channel = SocketChannel(ours, MessageReader(), process, SocketAnswers(ours, 1 << 20))
        application.kill()
        came: list[Any] = []
        wait_until(lambda: came.extend(channel.receive(0.1)) or came)
        assert came == [Close(0.0, killed=True, loss=Loss("application_gone", error=UNSENT))]
        theirs.close()
        assert list(channel.receive(0.1)) == [], "else the capture would say that it ended well"
    for descriptor in process.descriptors:
        os.close(descriptor)
