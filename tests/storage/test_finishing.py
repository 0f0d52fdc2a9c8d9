"""Rotated files that are compressed, encrypted, brought to the disk and let go of when they are too old."""

from __future__ import annotations

import errno
import gzip
import json
import os
import secrets
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pyrage
import pytest
from driving import CHILD_PATH, exchange_on, open_writer
from records import read_records
from waiting import MAX_SECONDS, wait_until

from otel_wirecap.capture.events import ResponseHead
from otel_wirecap.errors import ConfigurationError
from otel_wirecap.reading.sources import capture_files
from otel_wirecap.storage import finishing
from otel_wirecap.storage.capture_file import CaptureFile
from otel_wirecap.storage.finishing import Finisher, Finishing

pytestmark = pytest.mark.usefixtures("writer_home")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAME = "capture.log"


class Captured:
    """A capture file whose rotated files are finished, driven without a writer."""

    def __init__(self, folder: Path, compression: str = "zstd", encrypt_to: str | None = None, **caps: int) -> None:
        self.path = folder / NAME
        self.caps = {"max_bytes": 20_000, "max_files": 9, "total_max_bytes": 10**9} | caps
        self.told: list[str] = []
        self.log_refuses = False
        how = Finishing(compression, encrypt_to)
        self.finisher = Finisher(how, self.open, self.tell)
        self.file = self.open()

    def tell(self, reason: str) -> bool:
        self.told.append(reason)
        return not self.log_refuses

    def open(self) -> CaptureFile:
        return CaptureFile(self.path, finisher=self.finisher, **self.caps)

    def append(self, *numbers: int) -> None:
        result = self.file.append([line(number) for number in numbers])
        assert result.error is None

    def settle(self) -> None:
        self.finisher.close(MAX_SECONDS)
        self.finisher._stopped = False


def line(number: int) -> bytes:
    return json.dumps({"n": number, "x": secrets.token_hex(20) + "y" * 350}).encode() + b"\n"


def numbers(path: Path, damaged: list[tuple[Path, int]] | None = None) -> list[int]:
    """What was recorded; places that hold no record are added to ``damaged``, without which there must be none."""
    places: list[tuple[Path, int]] = [] if damaged is None else damaged
    found = [record["n"] for record in read_records(path, on_damage=lambda *where: places.append(where))]
    assert damaged is not None or not places
    return found


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.fixture
def identity() -> Any:
    return pyrage.x25519.Identity.generate()


@pytest.mark.parametrize(("compression", "suffix"), [("gzip", ".gz"), ("zstd", ".zst")])
def test_rotated_files_are_compressed_and_read_like_any_other(compression: str, suffix: str, tmp_path: Path) -> None:
    captured = Captured(tmp_path, compression)
    for start in range(0, 200, 20):
        captured.append(*range(start, start + 20))
        captured.settle()
    assert numbers(captured.path) == list(range(200))
    rotated = capture_files(captured.path)[:-1]
    assert len(rotated) > 2
    assert {file.name.removeprefix(NAME)[2:] for file in rotated} == {suffix}
    assert all(file.stat().st_size < 20_000 / 2 for file in rotated)
    assert not captured.told


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_damaged_compressed_file_costs_its_own_rest_and_is_told(
    compression: str, damage: str, tmp_path: Path
) -> None:
    captured = Captured(tmp_path, compression)
    for start in range(0, 120, 20):
        captured.append(*range(start, start + 20))
        captured.settle()
    broken = capture_files(captured.path)[0]
    whole = [record["n"] for record in read_records(captured.path)]
    content = broken.read_bytes()
    middle = len(content) // 2
    broken.write_bytes(content[:middle] + (b"" if damage == "cut" else bytes(200) + content[middle + 200 :]))
    told: list[str] = []
    found = [r["n"] for r in read_records(captured.path, on_damage=lambda file, _number: told.append(file.name))]
    assert told
    assert set(told) == {broken.name}
    assert found[-60:] == whole[-60:]  # the files after it are read to the end
    assert len(found) < len(whole)


def test_common_tools_read_what_was_compressed(tmp_path: Path) -> None:
    captured = Captured(tmp_path, "gzip")
    captured.append(*range(60))
    captured.settle()
    lines = subprocess.run(["gzip", "-dc", tmp_path / f"{NAME}.1.gz"], capture_output=True, check=True).stdout
    assert [json.loads(one)["n"] for one in lines.splitlines()] == list(range(lines.count(b"\n")))


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_rotated_files_are_encrypted_to_a_public_key(compression: str, tmp_path: Path, identity: Any) -> None:
    captured = Captured(tmp_path, compression, str(identity.to_public()))
    captured.append(*range(200))
    captured.settle()
    suffix = ".age" if compression == "none" else ".zst.age"
    rotated = [file for file in capture_files(captured.path)[:-1] if file.name.endswith(suffix)]
    assert rotated
    for file in rotated:
        content = file.read_bytes()
        assert content.startswith(b"age-encryption.org/v1")
        assert b"yyyy" not in content
        (tmp_path / file.name.removesuffix(".age")).write_bytes(pyrage.decrypt(content, [identity]))
        file.unlink()
    assert numbers(captured.path) == list(range(200))


def test_the_age_command_decrypts_and_the_reader_says_what_it_cannot_read(tmp_path: Path, identity: Any) -> None:
    captured = Captured(tmp_path, "none", str(identity.to_public()))
    captured.append(*range(60))
    captured.settle()
    encrypted = tmp_path / f"{NAME}.1.age"
    damaged: list[tuple[str, int]] = []
    list(read_records(captured.path, on_damage=lambda file, number: damaged.append((file.name, number))))
    assert damaged == [(encrypted.name, 0)]
    key = tmp_path / "key.txt"
    key.write_text(str(identity))
    try:
        done = subprocess.run(["age", "-d", "-i", key, encrypted], capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("age is not installed")
    assert json.loads(done.stdout.splitlines()[0])["n"] == 0


def test_a_finished_file_keeps_mode_and_time_of_its_source(tmp_path: Path) -> None:
    captured = Captured(tmp_path)
    captured.append(0)
    captured.path.chmod(0o640)
    os.utime(captured.path, (10**9, 10**9))
    source = captured.path.stat()
    big = CaptureFile(captured.path, finisher=captured.finisher, **captured.caps | {"max_bytes": 500})
    assert big.append([line(1)]).error is None
    captured.settle()
    finished = (tmp_path / f"{NAME}.1.zst").stat()
    assert (finished.st_mode, finished.st_mtime_ns) == (source.st_mode, source.st_mtime_ns)


def test_files_that_were_left_plain_are_taken_up_later(tmp_path: Path) -> None:
    plain = CaptureFile(tmp_path / NAME, max_bytes=20_000, max_files=9, total_max_bytes=10**9)
    plain.append([line(number) for number in range(150)])
    plain.close()
    assert names(tmp_path) == [NAME, f"{NAME}.1", f"{NAME}.2", f"{NAME}.3"]
    captured = Captured(tmp_path)
    captured.append(*range(150, 200))
    captured.settle()
    assert numbers(captured.path) == list(range(200))
    assert all(file.suffix == ".zst" for file in capture_files(captured.path)[:-1])


def test_a_name_that_a_crash_left_wrong_is_set_right(tmp_path: Path) -> None:
    captured = Captured(tmp_path, "gzip")
    captured.append(*range(60))
    captured.settle()
    (tmp_path / f"{NAME}.1.gz").rename(tmp_path / f"{NAME}.1")
    assert numbers(captured.path) == list(range(60))
    captured.append(*range(60, 120))
    captured.settle()
    assert numbers(captured.path) == list(range(120))
    assert all(gzip.decompress(file.read_bytes()).endswith(b"\n") for file in capture_files(captured.path)[:-1])


def test_what_a_killed_process_left_half_made_goes(tmp_path: Path) -> None:
    half = tmp_path / f"{NAME}.5000.0123abcd.tmp"
    half.write_bytes(b"x" * 100)
    captured = Captured(tmp_path)
    captured.append(0)
    assert not half.exists()


def test_the_room_of_a_file_in_the_making_counts_and_data_goes_before_nothing_else(tmp_path: Path) -> None:
    """Whoever needs room takes that of a file in the making first; its maker notices, and its source stays."""
    held = threading.Event()
    captured = Captured(tmp_path, max_bytes=10_000, max_files=9, total_max_bytes=35_000)
    settle = CaptureFile.settle
    try:
        CaptureFile.settle = lambda *arguments: held.wait(MAX_SECONDS) and settle(*arguments)  # type: ignore[method-assign]
        captured.append(*range(30))  # one file is full, and being compressed
        wait_until(lambda: list(tmp_path.glob("*.tmp")))
        made = list(tmp_path.glob("*.tmp"))
        captured.append(*range(30, 75))
        assert not made[0].exists()
        assert numbers(captured.path) == list(range(75))
        held.set()
        captured.settle()
    finally:
        held.set()
        CaptureFile.settle = settle  # type: ignore[method-assign]
    kept = numbers(captured.path)
    assert kept == list(range(75 - len(kept), 75))
    assert not captured.told


def test_a_finished_file_that_finds_no_room_leaves_its_source(tmp_path: Path) -> None:
    captured = Captured(tmp_path, total_max_bytes=22_000)  # a rotated file, and no second one beside it
    captured.append(*range(50))
    captured.settle()
    assert [file.name for file in capture_files(captured.path)] == [f"{NAME}.1", NAME]
    assert not list(tmp_path.glob("*.tmp"))


def test_a_failure_is_told_once_and_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up just now: ``os.write`` plays it in the finisher's target alone."""
    captured = Captured(tmp_path)

    def full(self: Any, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(finishing._Target, "write", full)
    captured.append(*range(200))
    captured.settle()
    assert captured.told == ["No space left on device"]
    assert numbers(captured.path) == list(range(200))
    assert not list(tmp_path.glob("*.tmp"))


def test_a_failure_that_the_log_refused_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = Captured(tmp_path)

    def full(self: Any, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(finishing._Target, "write", full)
    captured.log_refuses = True
    captured.append(*range(200))
    captured.settle()
    assert len(captured.told) > 1
    captured.log_refuses = False
    captured.told.clear()
    captured.append(*range(200))
    captured.settle()
    assert captured.told == ["No space left on device"]


POLLED = """
    import sys, time
    from pathlib import Path
    from driving import open_writer, stream
    writer = open_writer(
        Path(sys.argv[1]), capture_compression=sys.argv[2], capture_encrypt_to=sys.argv[3] or None,
        capture_max_bytes=40_000, capture_max_files=4, capture_total_max_bytes=200_000, capture_flush_interval=0.02,
    )
    number = 0
    while True:
        stream(writer, f"s{number}", 40, size=200)
        writer.flush()
        number += 1
        print(number, flush=True)
        time.sleep(0.1)  # a finished file is brought to the disk, which takes longer than to fill the next one
"""


@pytest.mark.faults
@pytest.mark.parametrize("what", ["zstd", "gzip", "age"])
@pytest.mark.both_homes
def test_processes_that_finish_and_die_keep_the_caps_at_every_moment(what: str, tmp_path: Path, identity: Any) -> None:
    path = tmp_path / NAME
    arguments = ("none", str(identity.to_public())) if what == "age" else (what, "")
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(POLLED), str(path), *arguments], stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": CHILD_PATH},
        )  # fmt: skip
        started.append(process)
        return process

    samples, is_finished = 0, False
    try:
        running = [start(), start()]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline()
        began = kill_at = time.monotonic()
        while (now := time.monotonic()) < began + 6 or (not (is_finished and samples > 100) and now < began + 60):
            if now > kill_at + 2:
                kill_at = now
                running[0].kill()
                running = [running[1], start()]
            before = sizes(tmp_path)
            if before.keys() == sizes(tmp_path).keys():  # else a file was renamed while the sizes were read
                samples += 1
                is_finished |= any(name.endswith((".age", ".zst", ".gz")) for name in before)
                assert sum(before.values()) <= 200_000
                assert before.get(NAME, 0) <= 40_000
                rotated = {name for name in before if name != NAME and not name.endswith(".tmp")}
                assert len(rotated) <= 4, before
    finally:
        for process in started:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    assert samples > 100
    CaptureFile(path, max_bytes=40_000, max_files=4, total_max_bytes=200_000).append([line(1)])  # repairs
    assert is_finished
    if what != "age":
        list(read_records(path, on_damage=lambda *where: pytest.fail(str(where))))


def sizes(folder: Path) -> dict[str, int]:
    found = {}
    for entry in os.scandir(folder):
        try:
            found[entry.name] = entry.stat().st_size
        except FileNotFoundError:
            continue
    return found


def test_a_reader_misses_nothing_while_files_are_rotated_and_compressed(tmp_path: Path) -> None:
    captured = Captured(tmp_path, max_files=400)
    stop = threading.Event()
    written = [0]

    def write() -> None:
        while not stop.is_set() and written[0] < 20_000:
            captured.append(*range(written[0], written[0] + 50))
            written[0] += 50

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while not written[0]:
            time.sleep(0.001)
        for _ in range(15):
            at_least = written[0]
            damaged: list[tuple[Path, int]] = []
            found = numbers(captured.path, damaged)
            assert found == list(range(len(found)))
            assert len(found) >= at_least
            # A reader may see a part of what is being written at this moment, behind all that is whole.
            assert [file for file, _ in damaged] in ([], [captured.path])
    finally:
        stop.set()
        thread.join()
    captured.settle()


@pytest.mark.both_homes
def test_the_end_waits_for_files_in_the_making_and_gives_up_in_time(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / NAME, capture_compression="zstd", capture_max_bytes=50_000)
    feed(writer, 200)
    assert writer.close()
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]
    assert len([name for name in names(tmp_path) if name.endswith(".zst")]) >= 2


def feed(writer: Any, count: int) -> None:
    exchange = exchange_on(writer, secrets.token_hex(4))
    exchange.response(time.monotonic_ns(), ResponseHead(200, None, [(b"content-type", b"text/event-stream")]))
    for _ in range(count):
        exchange.chunk(time.monotonic_ns(), b"x" * 500)
    exchange.end(time.monotonic_ns(), "complete")


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.both_homes
def test_a_forked_child_leaves_the_parent_s_files_in_the_making_alone(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / NAME, capture_compression="gzip", capture_max_bytes=200_000, capture_max_files=100)
    for _ in range(10):
        feed(writer, 100)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                feed(writer, 100)
                code = 0 if writer.close() else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert writer.close()
    found = [r for r in read_records(tmp_path / NAME) if r["direction"] == "stream_chunk"]
    assert len({(r["metadata"]["process"], r["metadata"]["seq"]) for r in found}) == len(found) == 2000
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]


# -- age and fsync -------------------------------------------------------------------------------------------


def test_what_is_older_than_the_age_goes(tmp_path: Path) -> None:
    path = tmp_path / NAME
    writer = open_writer(path, capture_max_age="2s", capture_max_bytes=20_000, capture_flush_interval=0.05)
    feed(writer, 100)
    assert writer.flush()
    assert writer.stats().bytes > 2 * 20_000
    wait_until(lambda: not any("x" * 500 in file.read_text() for file in tmp_path.iterdir()))
    feed(writer, 5)
    assert writer.close()
    assert "x" * 500 in path.read_text()


def test_a_young_capture_keeps_everything(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / NAME, capture_max_age="1h", capture_max_bytes=20_000, capture_flush_interval=0.05)
    feed(writer, 100)
    assert writer.flush()
    assert writer.close()
    assert sum(r["direction"] == "stream_chunk" for r in read_records(tmp_path / NAME)) == 100


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was brought to the disk; whether it got there, only a power failure could show."""
    seen: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        seen.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return iter([seen])


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("never", lambda seen, folder: not seen),
        ("rotate", lambda seen, folder: {f"{NAME}.1", folder} == set(seen)),
        ("interval", lambda seen, folder: {f"{NAME}.1", folder, NAME} == set(seen)),
    ],
)
def test_the_file_is_brought_to_the_disk_when_it_is_asked_for(
    setting: str, expected: Callable[[list[str], str], bool], synced: Iterator[list[str]], tmp_path: Path
) -> None:
    writer = open_writer(tmp_path / NAME, capture_fsync=setting, capture_max_bytes=20_000, capture_flush_interval=0.05)
    feed(writer, 50)
    assert writer.close()
    seen = next(synced)
    assert expected(seen, tmp_path.name), seen


def test_a_disk_that_does_not_sync_is_told_and_the_capture_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that fails so cannot be had here: ``os.fsync`` plays it."""

    def failing(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    writer = open_writer(tmp_path / NAME, capture_fsync="interval", capture_flush_interval=0.05)
    feed(writer, 50)
    assert writer.close()
    assert "not brought to the disk: Input/output error" in caplog.text
    assert writer.stats().write_errors >= 1
    assert sum(r["direction"] == "stream_chunk" for r in read_records(tmp_path / NAME)) == 50


# -- settings ------------------------------------------------------------------------------------------------


def test_a_key_that_is_none_is_told() -> None:
    with pytest.raises(ConfigurationError, match="capture_encrypt_to: 'age1nonsense' cannot be used; expected an age"):
        Finishing("none", "age1nonsense")


@pytest.mark.parametrize(
    ("module", "arguments", "told"),
    [
        ("pyrage", ("none", "age1x"), r"install otel-wirecap\[encryption\]"),
        ("backports.zstd", ("zstd", None), r"install otel-wirecap\[encodings\], or take gzip"),
    ],
)
def test_a_missing_package_is_told(module: str, arguments: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    monkeypatch.delattr("backports.zstd")
    with pytest.raises(ConfigurationError, match=told):
        Finishing(*arguments)


def test_pieces_of_any_size_are_read_of_a_compressed_stream() -> None:
    content = os.urandom(1000) * 600
    compressed = finishing._Compressed(BytesIO(content), finishing._compressor("gzip")())  # type: ignore[arg-type, misc]
    pieces = iter(lambda: compressed.read(777), b"")
    assert gzip.decompress(b"".join(pieces)) == content
