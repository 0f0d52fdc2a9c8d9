"""Faults of the machine, for real: what was put is in the capture or told as lost, and nobody is kept waiting."""

from __future__ import annotations

import gc
import json
import logging
import os
import pwd
import re
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import (
    CHILD_PATH,
    SSE,
    account,
    check_numbers,
    exchange_on,
    open_writer,
    record_writer_of,
    records,
    stream,
    wait_until,
)
from selection import mostly

from otel_wirecap.capture.events import ResponseHead
from otel_wirecap.capture.record import CaptureRecord
from otel_wirecap.errors import CaptureFileError
from otel_wirecap.reading.captures import Captures
from otel_wirecap.storage.writer import CaptureWriter

pytestmark = pytest.mark.usefixtures("writer_home")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


class Feed:
    """One stream into a writer: chunks are put one at a time and counted."""

    def __init__(self, writer: CaptureWriter, size: int = 1000) -> None:
        self.exchange = exchange_on(writer, "feed-" + secrets.token_hex(4))
        self.exchange.response(time.monotonic_ns(), ResponseHead(200, None, SSE))
        self.chunk = b"data: %s.\n\n" % (b"x" * (size - 9))
        self.count = 0

    def put(self, count: int, pause: float = 0.0) -> None:
        for _ in range(count):
            self.exchange.chunk(time.monotonic_ns(), self.chunk)
            self.count += 1
            if pause:
                time.sleep(pause)

    def end(self) -> None:
        self.exchange.end(time.monotonic_ns(), "complete")


def show(fault: str, put: int, kept: int, told: int) -> None:
    print(f"\n{fault}: {put} put = {kept} kept + {told} told lost", end="")  # noqa: T201  # the figures
    assert put == kept + told


# -- the disk ------------------------------------------------------------------------------------------------


@pytest.mark.both_homes
def test_a_disk_that_fills_up_and_empties(make_disk: Callable[[str], Path], caplog: pytest.LogCaptureFixture) -> None:
    disk = make_disk("512k")
    path = disk / "capture.log"
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * 300_000)
    writer = open_writer(path, capture_flush_interval=0.05, capture_max_queue_bytes=200_000)
    feed = Feed(writer)

    def is_full_up() -> bool:
        feed.put(20)  # who waited for the disk would wait for ever
        return writer.stats().failing == "ENOSPC" and "queue_full" in writer.stats().lost_events

    wait_until(is_full_up)
    assert path.read_bytes().endswith(b"\n"), "torn while the disk was full"
    ballast.unlink()
    wait_until(lambda: writer.stats().failing is None)
    feed.end()
    assert writer.close()
    kept, told = account(path)
    assert told > 0
    show("disk full", feed.count, kept, told)
    messages = [message for message in caplog.messages if "cannot be written" in message]
    assert messages == [
        f"otel-wirecap: {path} cannot be written: No space left on device; records wait in memory, up to 200000 bytes "
        "(capture_max_queue_bytes)"
    ]
    assert "written again" in caplog.text
    (end,) = [record for record in records(path) if record["direction"] == "stream_end"]
    assert end["metadata"]["incomplete"] == "dropped"
    assert end["metadata"]["lost_chunks"] == told


def test_a_file_system_that_is_read_only_for_a_while(make_disk: Callable[[str], Path]) -> None:
    disk = make_disk("512k")
    path = disk / "capture.log"
    writer = open_writer(path, capture_flush_interval=0.05)
    feed = Feed(writer, size=100)
    feed.put(70)
    assert writer.flush()
    # The kernel makes no file system read-only as long as a file on it is open for writing.
    record_writer_of(writer).outputs[0].file.close()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    feed.put(70)
    wait_until(lambda: writer.stats().failing == "EROFS")
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    feed.put(70)
    feed.end()
    assert writer.close()
    show("read-only for a while", feed.count, *account(path))
    assert account(path).told == 0


@pytest.mark.parametrize("fault", ["removed", "moved", "truncated", "directory removed"])
def test_a_file_that_somebody_takes_away(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "captures" / "capture.log"
    writer = open_writer(path)
    feed = Feed(writer)
    feed.put(50)
    assert writer.flush()
    if fault == "removed":
        path.unlink()
    elif fault == "moved":
        path.rename(tmp_path / "elsewhere.log")
    elif fault == "truncated":
        os.truncate(path, 0)
    else:
        path.parent.rename(tmp_path / "elsewhere")
    feed.put(50)
    feed.end()
    assert writer.close()
    after = [record for record in records(path) if record["direction"] == "stream_chunk"]
    assert len(after) == 50, "what comes later is kept"
    if fault == "moved":
        before = [json.loads(line) for line in (tmp_path / "elsewhere.log").read_text().splitlines()]
        assert sum(record["direction"] == "stream_chunk" for record in before) == 50


def test_rotated_files_that_others_delete_are_nobody_s_trouble(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_max_bytes=20_000, capture_max_files=4)
    feed = Feed(writer)
    for _ in range(60):
        feed.put(20)
        assert writer.flush()
        for file in tmp_path.glob("capture.log.*"):
            file.unlink()
    feed.end()
    assert writer.close()
    newest = [record["metadata"]["chunk_number"] for record in records(path) if record["direction"] == "stream_chunk"]
    assert newest == list(range(feed.count - len(newest) + 1, feed.count + 1))
    assert not caplog.messages


def test_a_device_is_refused_and_the_application_runs_on(tmp_path: Path) -> None:
    program = """
        import otel_wirecap
        otel_wirecap.instrument(capture_file="/dev/full")
        print("runs on")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "runs on\n"
    assert "/dev/full: not a regular file but a device" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.both_homes
def test_a_hung_disk_holds_up_the_writer_alone_and_close_tells(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, writer_home: str
) -> None:
    """A disk that answers nothing cannot be had here; a process that was stopped with the lock hangs the same call."""
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_max_queue_bytes=200_000, capture_flush_interval=0.05)
    assert writer.flush()
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl, time; f = open({str(path)!r}); fcntl.flock(f, fcntl.LOCK_EX);"
         "print('held', flush=True); time.sleep(60)"], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        feed = Feed(writer)
        feed.put(1000)  # who waited for the file would wait for ever, as the holder is stopped
        assert not writer.flush(timeout=0.2)
        assert not writer.close(timeout=0.3)
        assert ("the writer still waits for the file", "still writes what it was sent")[writer_home == "process"] in (
            caplog.text
        )
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    # The writer is not ended: the kernel gives it the lock, and it finishes all the same.
    wait_until(lambda: not writer._home.is_alive())
    feed.end()
    show("hung disk", feed.count, *account(path))


def test_a_clock_that_is_set_back_disturbs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's clock is not ours to set: ``time`` plays it."""
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_flush_interval=0.05, capture_max_age="1h")
    feed = Feed(writer)
    feed.put(50)
    assert writer.flush()
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() - 86400)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() - 86400 * 10**9)
    feed.put(50)
    wait_until(lambda: account(path).kept == 100)  # within seconds, not when the clock has caught up
    feed.end()
    assert writer.close()
    show("clock set back", feed.count, *account(path))


# -- limits and permissions ----------------------------------------------------------------------------------


def run_as_nobody(program: str, path: Path) -> str:
    """Runs a program as another user, from its imports on: root is refused nothing."""
    program = "import otel_wirecap.storage.record_writer  # what nobody may not read\n" + textwrap.dedent(program)
    imports, become, rest = program.partition("# nobody from here on\n")
    nobody = pwd.getpwnam("nobody")
    become = f"os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})\n"
    done = subprocess.run(
        [sys.executable, "-c", imports + become + rest, str(path)], cwd="/", capture_output=True, text=True,
        check=False, env=os.environ | {"PYTHONPATH": CHILD_PATH}, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def nobodys_folder() -> Iterator[Path]:
    """A directory of another user's, where that user can get at it."""
    folder = Path(tempfile.mkdtemp(prefix="wirecap-", dir="/tmp"))
    folder.chmod(0o755)
    inner = folder / "captures"
    inner.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(inner, nobody.pw_uid, nobody.pw_gid)
    try:
        yield inner
    finally:
        shutil.rmtree(folder)


PERMISSION = """
    import os, sys, time
    from pathlib import Path
    from driving import account, open_writer, wait_until
    from test_faults import Feed
    # nobody from here on
    path = Path(sys.argv[1])
    writer = open_writer(path, capture_flush_interval=0.05, capture_max_bytes=20_000, capture_max_files=50)
    feed = Feed(writer, 100)
    feed.put(10)
    assert writer.flush()
    path.parent.chmod(0o500)  # no rotation is possible
    feed.put(200, pause=0.001)
    wait_until(lambda: writer.stats().failing == "EACCES")
    path.parent.chmod(0o700)
    wait_until(lambda: writer.stats().failing is None)
    feed.put(10)
    feed.end()
    assert writer.close()
    print(feed.count, *account(path))
"""


@needs_root
@pytest.mark.sampled(1, rest="faults")
@pytest.mark.both_homes
@pytest.mark.faults
def test_a_permission_that_is_lost_and_regained(nobodys_folder: Path) -> None:
    put, kept, told = map(int, run_as_nobody(PERMISSION, nobodys_folder / "capture.log").split())
    assert told == 0
    show("permission lost", put, kept, told)


def test_no_file_descriptors_are_left_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path, capture_flush_interval=0.05, capture_max_bytes=20_000, capture_max_files=50)
    feed = Feed(writer, 100)
    feed.put(10)
    assert writer.flush()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        feed.put(200)
        wait_until(lambda: writer.stats().failing == "EMFILE")
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    feed.end()
    assert writer.close()
    assert account(path).told == 0
    show("no file descriptors", feed.count, *account(path))


THREADS = """
    import os, resource, sys, threading, time
    from pathlib import Path
    from driving import account, open_writer, wait_until
    from otel_wirecap.errors import CaptureFileError
    from test_faults import Feed
    # nobody from here on
    path = Path(sys.argv[1])
    limits = resource.getrlimit(resource.RLIMIT_NPROC)
    writer = open_writer(path)
    assert writer.flush()  # it has what it needs
    resource.setrlimit(resource.RLIMIT_NPROC, (1, limits[1]))
    try:
        open_writer(path.with_name("other.log"))
    except CaptureFileError as error:
        print("refused:", "new thread" in str(error))
    resource.setrlimit(resource.RLIMIT_NPROC, limits)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_NPROC, (1, limits[1]))
            feed = Feed(writer, 100)
            feed.put(50)
            resource.setrlimit(resource.RLIMIT_NPROC, limits)
            feed.put(50)
            feed.end()
            code = 0 if writer.close() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert writer.close()
    print(100, *account(path))
"""


@needs_root
@pytest.mark.sampled(1, rest="faults")
@pytest.mark.both_homes
@pytest.mark.faults
def test_no_threads_are_left_for_a_while(nobodys_folder: Path) -> None:
    told_refused, figures = run_as_nobody(THREADS, nobodys_folder / "capture.log").splitlines()
    assert told_refused == "refused: True"
    show("no threads", *map(int, figures.split()))


def test_a_record_that_cannot_become_bytes_leaves_a_gap_in_its_place(tmp_path: Path) -> None:
    """The recorder makes no such record; whatever made one some day would be told like this."""
    path = tmp_path / "capture.log"
    writer = open_writer(path)
    assert writer.flush()
    metadata: dict[str, Any] = {"what": object()}
    record_writer_of(writer)._take_record(
        CaptureRecord(time.time_ns(), "inbound_request", "c", "proxy", None, "b", None, None, 0, None, metadata)
    )
    stream(writer, "one", 3)
    assert writer.close()
    found = records(path)
    check_numbers(found)
    assert [record["payload"] for record in found if record["direction"] == "system_gap"] == [
        {"lost_records": 1, "reason": "unserialisable", "error": "TypeError"}
    ]
    assert (writer.stats().lost_events, writer.stats().lost_records) == ({}, {"unserialisable": 1})


# -- processes that end and multiply -------------------------------------------------------------------------

ENDING = """
    import os, signal, sys
    from pathlib import Path
    from otel_wirecap.config import load_config
    from otel_wirecap.storage.registry import open_writer
    from test_faults import Feed

    writer = open_writer(load_config({{"capture_file": sys.argv[1], "capture_flush_interval": 30}}, os.environ))
    feed = Feed(writer, 100)
    feed.put(100)
    feed.end()
    {how}
"""


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("pass", 0),
        ("sys.exit(3)", 3),
        ("raise LookupError", 1),
        ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    ],
)
@pytest.mark.sampled(2, rest="faults")
@pytest.mark.both_homes
def test_a_process_that_ends_by_itself_writes_everything(how: str, code: int, tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ENDING).format(how=how), str(path)], capture_output=True, check=False,
        env=os.environ | {"PYTHONPATH": CHILD_PATH}, timeout=100,
    )  # fmt: skip
    assert done.returncode == code
    show(f"ended by {how}", 100, *account(path))


CHILDREN = """
    import multiprocessing, sys
    from pathlib import Path

    def work(path, number):
        from driving import stream
        from otel_wirecap.config import load_config
        from otel_wirecap.storage.registry import open_writer
        writer = open_writer(load_config({"capture_file": path, "capture_flush_interval": 30}, {}))
        stream(writer, f"child{number}", 25)

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[2])
        children = [context.Process(target=work, args=(sys.argv[1], number)) for number in range(4)]
        for child in children:
            child.start()
        for child in children:
            child.join(90)
        sys.exit(max(child.exitcode for child in children))
"""


@pytest.mark.parametrize("method", mostly(pytest.mark.faults, ["fork", "forkserver", "spawn"], "fork"))
@pytest.mark.sampled(1, rest="faults")
@pytest.mark.both_homes
@pytest.mark.faults
def test_children_of_multiprocessing_write_everything(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(CHILDREN))
    path = tmp_path / "capture.log"
    subprocess.run(
        [sys.executable, program, str(path), method], check=True, timeout=110,
        env=os.environ | {"PYTHONPATH": CHILD_PATH},
    )  # fmt: skip
    found = records(path)
    assert len({record["metadata"]["process"] for record in found}) == 4
    assert sum(record["direction"] == "system_stop" for record in found) == 4
    show(f"multiprocessing by {method}", 100, *account(path))


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.both_homes
def test_forks_in_the_middle_of_writes_lose_and_double_nothing(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(
        path, capture_buffer_size=2000, capture_max_bytes=100_000, capture_max_files=1000, capture_flush_interval=0.01
    )
    feed = Feed(writer, 300)
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            feed.put(20)
            time.sleep(0.001)

    thread = threading.Thread(target=busy)
    thread.start()
    children = []
    try:
        for number in range(25):
            time.sleep(0.004)
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    gc.disable()  # the parent's half-done things are not for the child to finish
                    stream(writer, f"child{number}", 10)
                    code = 0 if writer.close() else 2
                finally:
                    os._exit(code)
            children.append(child)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 25
    finally:
        stop.set()
        thread.join()
    feed.end()
    assert writer.close()
    show("forks in the middle of writes", feed.count + 250, *account(path))


SHUTDOWN = """
    import sys, threading, time
    import httpx
    import otel_wirecap

    otel_wirecap.instrument(capture_file=sys.argv[1])

    class Slow(httpx.SyncByteStream):
        def __iter__(self):
            for _ in range(100_000):
                time.sleep(0.001)
                yield b"data: x\\n\\n"

    def answer(request):
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Slow())

    def ask():
        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            with client.stream("POST", "http://backend.example/v1/chat/completions", json={}) as response:
                for number, _ in enumerate(response.iter_bytes()):
                    if number == 20:
                        are_streaming.wait(60)

    are_streaming = threading.Barrier(9)
    for _ in range(8):
        threading.Thread(target=ask, daemon=True).start()
    are_streaming.wait(60)
"""


@pytest.mark.sampled(1, rest="faults")
@pytest.mark.both_homes
def test_an_interpreter_that_ends_while_requests_run_ends_them_in_the_capture(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SHUTDOWN), str(path)], capture_output=True, text=True, timeout=100,
        check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = records(path)
    check_numbers(found)
    assert found[-1]["direction"] == "system_stop"
    ends = [record for record in found if record["direction"] == "stream_end"]
    assert [end["metadata"]["outcome"] for end in ends] == ["abandoned"] * 8
    chunks = [record for record in found if record["direction"] == "stream_chunk"]
    assert sum(end["payload"]["total_chunks"] for end in ends) == len(chunks) > 100


# -- several processes with different settings ---------------------------------------------------------------


def test_each_process_keeps_to_its_own_caps(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    generous = open_writer(path, capture_max_files=50)
    strict = open_writer(path, capture_max_bytes=30_000, capture_max_files=2, capture_total_max_bytes=80_000)
    first, second = Feed(generous), Feed(strict)
    assert strict.flush()  # what it has to write is written, or it might rotate what comes now
    first.put(300)
    assert generous.flush()
    assert path.stat().st_size > 80_000  # the other one's caps are not its own
    for _ in range(20):
        first.put(5)
        assert generous.flush()
        second.put(5)
        assert strict.flush()
        sizes = [file.stat().st_size for file in tmp_path.iterdir()]
        assert path.stat().st_size <= 30_000  # whoever writes rotates by its own caps, what others wrote as well
        assert len(sizes) <= 3
        assert sum(sizes) <= 80_000
    first.end()
    second.end()
    assert generous.close()
    assert strict.close()


def test_processes_with_different_caps_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    caps = ({}, {"capture_max_bytes": 15_000}, {"capture_max_bytes": 40_000, "capture_compression": "gzip"})
    writers = [open_writer(path, capture_max_files=500, capture_flush_interval=0.02, **one) for one in caps]
    feeds = [Feed(writer) for writer in writers]
    for _ in range(60):
        for feed, writer in zip(feeds, writers, strict=True):
            feed.put(7)
            assert writer.flush()
    for feed, writer in zip(feeds, writers, strict=True):
        feed.end()
        assert writer.close()
    with Captures([path], use_index=False) as captures:
        found = [pair[0] for pair in captures.lines(lambda file, line: pytest.fail(f"{file}:{line} is torn"))]
    check_numbers(found)
    assert sum(record["direction"] == "stream_chunk" for record in found) == sum(feed.count for feed in feeds)
    assert not [record for record in found if record["direction"] == "system_gap"]
    assert len(list(tmp_path.iterdir())) > 20


def test_a_record_longer_than_a_file_may_be_is_shortened_by_its_own_process_s_caps(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    generous = open_writer(path, capture_max_files=50)
    strict = open_writer(path, capture_max_bytes=30_000, capture_max_files=50)
    for writer in (generous, strict):
        feed = Feed(writer, size=50_000)
        feed.put(2)
        feed.end()
        assert writer.close()
    found = records(path)
    check_numbers(found)
    chunks = [record for record in found if record["direction"] == "stream_chunk"]
    assert ["truncated" in chunk["metadata"] for chunk in chunks] == [False, False, True, True]


def test_a_file_that_may_not_even_hold_a_gap_is_said_to_be_too_small(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = open_writer(tmp_path / "capture.log", capture_max_bytes=100, capture_flush_interval=0.05)
    stream(writer, "a", 3)
    wait_until(lambda: writer.stats().failing)
    assert writer.stats().failing == "EFBIG"
    assert not writer.close()  # and it ends: it does not try without rest
    assert re.search(r"cannot be written: a record of \d+ bytes, 100 are allowed", caplog.text)


def test_one_file_is_of_one_format(tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    writer = open_writer(path)
    assert writer.flush()
    with pytest.raises(CaptureFileError, match="no capture of this format"):
        open_writer(path, capture_format="cbor")
    assert writer.close()


@pytest.mark.sampled(1, rest="faults")
def test_a_setting_without_its_package_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['cbor2'] = None\n"
         "import otel_wirecap; otel_wirecap.instrument(capture_file='x', capture_format='cbor')"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "capture_format: 'cbor' needs the package cbor2; install otel-wirecap[cbor]" in done.stderr
    assert not list(tmp_path.iterdir())


def test_messages_of_faults_are_few(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One message a change of state, however many records wait."""
    path = tmp_path / "captures" / "capture.log"
    writer = open_writer(path, capture_flush_interval=0.01, capture_max_queue_bytes=100_000)
    assert writer.flush()
    path.rename(tmp_path / "aside")
    path.mkdir()
    feed = Feed(writer)
    with caplog.at_level(logging.WARNING):
        feed.put(1000, pause=0.0005)
        assert len([m for m in caplog.messages if "cannot be written" in m]) == 1
        path.rmdir()
        (tmp_path / "aside").rename(path)
        wait_until(lambda: writer.stats().failing is None)
    feed.end()
    assert writer.close()
    show("a directory in the file's place", feed.count, *account(path))
    assert len(caplog.messages) <= 6
