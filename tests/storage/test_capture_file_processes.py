"""Many processes, one capture: nothing torn, lost, twice or out of order, and never beyond the caps."""

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from waiting import MAX_SECONDS, wait_until

from otel_wirecap.storage.capture_file import CaptureFile

NAME = "capture.jsonl"
WRITERS = 4
# Forked, not spawned: a writer is there in a millisecond, so that many can be started and killed.
fork = multiprocessing.get_context("fork")


def record(writer: int, number: int) -> bytes:
    """Of varying length, and telling at its end what it tells at its start."""
    return b"%d %d %s %d %d\n" % (writer, number, b"x" * (number * 37 % 150), writer, number)


def write(directory: Path, caps: dict[str, int], writer: int, count: int, told: Any, batch: int) -> None:
    """Appends ``count`` records; after each batch tells in ``told`` how many it was told are kept."""
    file = CaptureFile(directory / NAME, **caps)
    rng = random.Random(writer)
    number = 0
    while number < count:
        size = rng.randint(1, batch)
        result = file.append([record(writer, n) for n in range(number, min(count, number + size))])
        assert result.error is None
        number += result.written
        told[writer] = number


def start(target: Callable[..., None], *arguments: object) -> Any:
    process = fork.Process(target=target, args=arguments)
    process.start()
    return process


def join(processes: list[Any]) -> None:
    for process in processes:
        process.join(MAX_SECONDS)
        assert process.exitcode == 0


def rotated_number(file: Path) -> int:
    return int(file.name.removeprefix(NAME).removeprefix(".") or 0)


def kept(files: list[Path]) -> dict[int, list[int]]:
    """Writer → numbers, in the order of the files; every line is whole."""
    numbers: dict[int, list[int]] = {}
    for file in files:
        content = file.read_bytes()
        assert not content or content.endswith(b"\n")
        for line in content.splitlines(keepends=True):
            writer, number = map(int, line.split(b" ", 2)[:2])
            assert line == record(writer, number)
            numbers.setdefault(writer, []).append(number)
    return numbers


def oldest_first(directory: Path) -> list[Path]:
    return sorted(directory.iterdir(), key=rotated_number, reverse=True)


class Seen(NamedTuple):
    """A file as it was at a moment; its first record, of which there is no second one, says which it is."""

    size: int
    first: bytes


def snapshot(directory: Path) -> dict[str, Seen]:
    found = {}
    for entry in os.scandir(directory):
        with contextlib.suppress(FileNotFoundError), Path(entry.path).open("rb") as file:
            found[entry.name] = Seen(os.fstat(file.fileno()).st_size, file.readline())
    return found


def generation(files: dict[str, Seen]) -> dict[str, bytes]:
    """Which files these are. Inodes and times do not tell: a file system uses both again within milliseconds."""
    return {name: seen.first for name, seen in files.items()}


def test_processes_that_share_a_capture_lose_nothing(tmp_path: Path) -> None:
    caps = {"max_bytes": 30_000, "max_files": 1000, "total_max_bytes": 100_000_000}
    told = fork.Array("q", WRITERS, lock=False)
    join([start(write, tmp_path, caps, writer, 8000, told, 40) for writer in range(WRITERS)])
    files = oldest_first(tmp_path)
    assert len(files) > 30
    assert kept(files) == {writer: list(range(8000)) for writer in range(WRITERS)}


@pytest.mark.faults
def test_eight_processes_rotate_without_rest_while_others_are_killed(tmp_path: Path) -> None:
    """In small what ``benchmarks/stress.py`` does in full."""
    caps = {"max_bytes": 16_000, "max_files": 9999, "total_max_bytes": 100_000_000}
    rng = random.Random(11)
    victims = range(8, 8 + 30)
    told = fork.Array("q", 8 + len(victims), lock=False)
    steady = [start(write, tmp_path, caps, writer, 2500, told, 30) for writer in range(8)]
    for writer in victims:
        victim = start(write, tmp_path, caps, writer, 1_000_000, told, 50)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        assert max((seen.size for seen in snapshot(tmp_path).values()), default=0) <= 16_000
    join(steady)
    CaptureFile(tmp_path / NAME, **caps).append([record(999, 0)])  # repairs what the last victim left
    numbers = kept(oldest_first(tmp_path))
    for writer in range(8):
        assert numbers[writer] == list(range(2500))
    for writer in victims:
        kept_of_victim = numbers.get(writer, [])
        assert kept_of_victim == list(range(len(kept_of_victim)))
        assert len(kept_of_victim) >= told[writer]


def test_processes_that_share_a_capture_never_pass_its_caps(tmp_path: Path) -> None:
    caps = {"max_bytes": 20_000, "max_files": 4, "total_max_bytes": 70_000}
    told = fork.Array("q", WRITERS, lock=False)
    processes = [start(write, tmp_path, caps, writer, 15000, told, 20) for writer in range(WRITERS)]
    samples = 0
    while any(process.is_alive() for process in processes):
        before, after = snapshot(tmp_path), snapshot(tmp_path)
        # The same files at both ends: none was deleted meanwhile, so all of them were there together.
        if generation(before) == generation(after):
            samples += 1
            sizes = [seen.size for seen in before.values()]
            assert sum(sizes) <= 70_000
            assert max(sizes, default=0) <= 20_000
            assert len(sizes) <= 5
    join(processes)
    assert samples > 20
    for writer, numbers in kept(oldest_first(tmp_path)).items():
        assert numbers == list(range(15000 - len(numbers), 15000)), writer


def test_writers_that_are_killed_tear_and_lose_nothing_they_were_told_is_kept(tmp_path: Path) -> None:
    caps = {"max_bytes": 200_000, "max_files": 1000, "total_max_bytes": 1_000_000_000}
    rng = random.Random(7)
    victims = range(WRITERS, WRITERS + 40)
    told = fork.Array("q", WRITERS + len(victims), lock=False)
    steady = [start(write, tmp_path, caps, writer, 5000, told, 20) for writer in range(WRITERS - 2)]
    for writer in victims:
        victim = start(write, tmp_path, caps, writer, 1_000_000, told, 1000)
        while not told[writer]:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
    join(steady)
    CaptureFile(tmp_path / NAME, **caps).append([record(999, 0)])  # repairs what the last victim left
    numbers = kept(oldest_first(tmp_path))
    for writer in (*range(WRITERS - 2), *victims):
        assert numbers[writer] == list(range(len(numbers[writer])))  # in order, none missing, none twice
        assert len(numbers[writer]) >= told[writer] > 0
    assert all(len(numbers[writer]) == 5000 for writer in range(WRITERS - 2))


def test_a_writer_killed_in_the_middle_of_a_record_is_repaired_by_the_next(tmp_path: Path) -> None:
    """A kill at exactly this point cannot be had from outside: the child ends itself between two bytes."""
    caps = {"max_bytes": 1000, "max_files": 3, "total_max_bytes": 10_000}
    file = CaptureFile(tmp_path / NAME, **caps)
    child = os.fork()
    if not child:
        real = os.write
        os.write = lambda fd, data: os._exit(real(fd, memoryview(data)[:-5]) and 9)
        file.append([record(1, 0), record(1, 1)])
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert file.append([record(2, 0)]) == (1, len(record(1, 1)) - 5, None)
    assert kept([tmp_path / NAME]) == {1: [0], 2: [0]}


@pytest.mark.parametrize("removed", ["file", "directory"])
def test_files_moved_away_while_processes_write_hold_what_is_not_in_the_capture(tmp_path: Path, removed: str) -> None:
    caps = {"max_bytes": 100_000_000, "max_files": 3, "total_max_bytes": 400_000_000}
    captures = tmp_path / "captures"
    told = fork.Array("q", WRITERS, lock=False)
    processes = [start(write, captures, caps, writer, 6000, told, 5) for writer in range(WRITERS)]
    moved: list[Path] = []
    while any(process.is_alive() for process in processes):
        time.sleep(0.002)
        aside = tmp_path / f"moved{len(moved)}"
        try:
            (captures / NAME if removed == "file" else captures).rename(aside)
        except FileNotFoundError:
            continue
        moved.append(aside if removed == "file" else aside / NAME)
    join(processes)
    assert len(moved) > 3
    files = [file for file in [*moved, captures / NAME] if file.exists()]
    numbers = kept(files)
    assert {writer: sorted(kept_) for writer, kept_ in numbers.items()} == {
        writer: list(range(6000)) for writer in range(WRITERS)
    }


def waits_for_a_lock(pid: int) -> bool:
    """Whether the kernel's list of locks has a process among those that wait."""
    return any(
        "->" in line and str(pid) in line for line in map(str.split, Path("/proc/locks").read_text().splitlines())
    )


def test_a_process_that_was_stopped_with_the_lock_only_delays_the_others(tmp_path: Path) -> None:
    caps = {"max_bytes": 1000, "max_files": 3, "total_max_bytes": 10_000}
    held = fork.Event()

    def hold() -> None:
        CaptureFile(tmp_path / NAME, **caps)._lock()
        held.set()
        time.sleep(60)

    def append() -> None:
        CaptureFile(tmp_path / NAME, **caps).append([record(1, 0)])

    holder = start(hold)
    assert held.wait(MAX_SECONDS)
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        waiting = start(append)
        wait_until(lambda: waits_for_a_lock(waiting.pid))
        assert not (tmp_path / NAME).read_bytes()
    finally:
        os.kill(holder.pid, signal.SIGKILL)  # the kernel frees a dead process's lock
        holder.join()
    join([waiting])
    assert kept([tmp_path / NAME]) == {1: [0]}
