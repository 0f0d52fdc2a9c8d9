"""Rotation: order, caps at every moment, and what a crash between two steps leaves."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from selection import examples, mostly

from otel_wirecap.storage.capture_file import AppendResult, CaptureFile

NAME = "capture.jsonl"
STEPS = ("open", "write", "rename", "unlink", "ftruncate")


def record(number: int, length: int = 10) -> bytes:
    return b"%0*d\n" % (length - 1, number)


def records(*numbers: int) -> list[bytes]:
    return [record(number) for number in numbers]


def rotated(directory: Path, number: int) -> Path:
    return directory / f"{NAME}.{number}"


def captured(directory: Path) -> dict[str, list[int]]:
    """Name → numbers, the live file as ''."""
    return {
        file.name.removeprefix(NAME).removeprefix("."): [int(line) for line in file.read_bytes().splitlines()]
        for file in directory.iterdir()
    }


def in_order(directory: Path) -> list[int]:
    """All numbers, oldest file first."""
    files = captured(directory)
    return [n for name in sorted(files, key=lambda name: -int(name or 0)) for n in files[name]]


def total_size(directory: Path) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(directory))


@contextmanager
def each_step(hook: Callable[[], None], patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Calls ``hook`` before and after each system call that changes files."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            hook()
            result = function(*args, **kwargs)
            hook()
            return result

        return step

    with patch.context() as context:
        for name in STEPS:
            context.setattr(os, name, wrap(getattr(os, name)))
        yield


def test_the_newest_rotated_file_is_number_one(tmp_path: Path) -> None:
    file = CaptureFile(tmp_path / NAME, max_bytes=20, max_files=3, total_max_bytes=1000)
    assert file.append(records(*range(1, 10))) == AppendResult(9, 0, None)
    assert captured(tmp_path) == {"3": [3, 4], "2": [5, 6], "1": [7, 8], "": [9]}


def test_rotated_files_are_private_too(tmp_path: Path) -> None:
    CaptureFile(tmp_path / NAME, max_bytes=20, max_files=3, total_max_bytes=1000).append(records(1, 2, 3))
    assert rotated(tmp_path, 1).stat().st_mode & 0o777 == 0o600


def test_a_missing_number_ends_the_shift(tmp_path: Path) -> None:
    file = CaptureFile(tmp_path / NAME, max_bytes=20, max_files=5, total_max_bytes=1000)
    file.append(records(*range(1, 10)))
    rotated(tmp_path, 2).unlink()
    file.append(records(10, 11))
    assert captured(tmp_path) == {"4": [1, 2], "3": [3, 4], "2": [7, 8], "1": [9, 10], "": [11]}


def test_without_rotated_files_a_full_file_is_replaced(tmp_path: Path) -> None:
    file = CaptureFile(tmp_path / NAME, max_bytes=30, max_files=0, total_max_bytes=1000)
    file.append(records(1, 2, 3))
    before = os.open(tmp_path / NAME, os.O_RDONLY)
    file.append(records(4))
    assert captured(tmp_path) == {"": [4]}
    assert os.read(before, 100) == b"".join(records(1, 2, 3))  # whoever reads it can read on
    os.close(before)


def test_the_oldest_goes_before_the_total_is_passed(tmp_path: Path) -> None:
    file = CaptureFile(tmp_path / NAME, max_bytes=20, max_files=9, total_max_bytes=50)
    file.append(records(*range(1, 6)))
    assert captured(tmp_path) == {"2": [1, 2], "1": [3, 4], "": [5]}
    file.append(records(6))
    assert captured(tmp_path) == {"1": [3, 4], "": [5, 6]}


def test_the_total_is_the_limit_of_a_file_too(tmp_path: Path) -> None:
    file = CaptureFile(tmp_path / NAME, max_bytes=1000, max_files=5, total_max_bytes=30)
    assert file.append(records(1, 2, 3, 4)).written == 4
    assert captured(tmp_path) == {"": [4]}
    error = file.append([record(5, length=31)]).error
    assert error is not None
    assert error.errno == errno.EFBIG


def test_a_capture_found_over_its_caps_is_brought_under_them(tmp_path: Path) -> None:
    before = CaptureFile(tmp_path / NAME, max_bytes=20, max_files=9, total_max_bytes=1000)
    before.append(records(*range(1, 20)))
    file = CaptureFile(tmp_path / NAME, max_bytes=20, max_files=5, total_max_bytes=60)
    file.append(records(20))
    assert captured(tmp_path) == {"2": [15, 16], "1": [17, 18], "": [19, 20]}


def test_rotated_files_beyond_the_number_to_keep_are_removed(tmp_path: Path) -> None:
    before = CaptureFile(tmp_path / NAME, max_bytes=20, max_files=9, total_max_bytes=1000)
    before.append(records(*range(1, 12)))
    CaptureFile(tmp_path / NAME, max_bytes=20, max_files=2, total_max_bytes=1000).append(records(12))
    assert captured(tmp_path) == {"2": [7, 8], "1": [9, 10], "": [11, 12]}


def test_a_live_file_larger_than_the_cap_is_rotated_and_kept(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"".join(records(*range(10))))
    CaptureFile(tmp_path / NAME, max_bytes=20, max_files=2, total_max_bytes=200).append(records(10))
    assert captured(tmp_path) == {"1": list(range(10)), "": [10]}


def test_a_live_file_larger_than_the_total_goes(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"".join(records(*range(10))))
    rotated(tmp_path, 1).write_bytes(record(99))
    CaptureFile(tmp_path / NAME, max_bytes=20, max_files=2, total_max_bytes=90).append(records(10))
    assert captured(tmp_path) == {"": [10]}


@pytest.mark.parametrize("suffix", ["20250110", "01", "1.bz2", "1.age.gz", "0", "bak", "-1", "²", ""])
def test_what_others_put_beside_the_capture_stays(tmp_path: Path, suffix: str) -> None:
    other = tmp_path / f"{NAME}.{suffix}"
    other.write_bytes(b"1\n" * 100)
    CaptureFile(tmp_path / NAME, max_bytes=20, max_files=0, total_max_bytes=20).append(records(1, 2, 3))
    assert other.stat().st_size == 200


def test_links_and_directories_with_a_rotated_files_name_are_not_removed(tmp_path: Path) -> None:
    rotated(tmp_path, 7).mkdir()
    rotated(tmp_path, 8).symlink_to("/nowhere")
    file = CaptureFile(tmp_path / NAME, max_bytes=20, max_files=1, total_max_bytes=40)
    assert file.append(records(1, 2, 3)).error is None
    assert rotated(tmp_path, 7).is_dir()
    assert rotated(tmp_path, 8).is_symlink()


def test_a_rotation_that_cannot_be_done_is_told_and_loses_nothing(tmp_path: Path) -> None:
    rotated(tmp_path, 1).mkdir()
    file = CaptureFile(tmp_path / NAME, max_bytes=20, max_files=1, total_max_bytes=1000)
    written, _, error = file.append(records(1, 2, 3))
    assert written == 2
    assert isinstance(error, IsADirectoryError)
    rotated(tmp_path, 1).rmdir()
    assert file.append(records(3)) == AppendResult(1, 0, None)
    assert captured(tmp_path) == {"1": [1, 2], "": [3]}


@given(
    max_bytes=st.integers(10, 120),
    max_files=st.integers(0, 4),
    total=st.integers(10, 400),
    batches=st.lists(st.lists(st.integers(10, 40), max_size=12), max_size=8),
    writers=st.integers(1, 3),
    earlier=st.integers(0, 6),
)
@settings(max_examples=examples(150), deadline=None)
def test_the_caps_hold_at_every_step_and_the_newest_records_are_kept_whole_and_in_order(
    max_bytes: int, max_files: int, total: int, batches: list[list[int]], writers: int, earlier: int
) -> None:
    limit = min(max_bytes, total)
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        directory = Path(name)
        files = [
            CaptureFile(directory / NAME, max_bytes=max_bytes, max_files=max_files, total_max_bytes=total)
            for _ in range(writers)
        ]
        # What stands there from before, within the total, is not to be passed either.
        for number in range(1, min(earlier, total // 10) + 1):
            rotated(directory, number).write_bytes(record(0))
        sizes: list[int] = []
        sent: list[bytes] = []
        with each_step(lambda: sizes.append(total_size(directory)), patch):
            for turn, lengths in enumerate(batches):
                batch = [record(len(sent) + i + 1, min(length, limit)) for i, length in enumerate(lengths)]
                assert files[turn % writers].append(batch) == AppendResult(len(batch), 0, None)
                sent += batch
        assert max(sizes, default=0) <= total
        kept = [number for number in in_order(directory) if number]
        assert kept == list(range(len(sent) - len(kept) + 1, len(sent) + 1))
        assert bool(kept) == bool(sent)
        if sent:
            names = [entry.name for entry in os.scandir(directory)]
            assert len(names) <= max_files + 1
            assert all((directory / name).stat().st_size <= limit for name in names)
        for file in files:
            file.close()


def crash_at(step: int, file: CaptureFile, lines: list[bytes]) -> bool:
    """Appends in a child that ends, as if killed, at the given step; False where it came to its end.

    A kill at exactly this point cannot be had from outside: the patched call ends the process with
    ``os._exit``, which flushes and cleans up nothing.
    """
    child = os.fork()
    if not child:
        taken = 0

        def count() -> None:
            nonlocal taken
            if taken == step:
                os._exit(9)
            taken += 1

        with each_step(count, pytest.MonkeyPatch()):
            failed = file.append(lines).error is not None
        os._exit(int(failed))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


@pytest.mark.parametrize(
    ("max_files", "total", "missing"),
    mostly(
        pytest.mark.faults,
        [(3, 1000, None), (3, 1000, 2), (4, 70, None), (4, 60, None), (1, 1000, None), (0, 1000, None)],
        (3, 1000, 2),
        (1, 1000, None),
    ),
)
def test_a_crash_at_any_step_of_a_rotation_loses_only_what_was_due(
    tmp_path: Path, max_files: int, total: int, missing: int | None
) -> None:
    # What an undisturbed run keeps of the records before is what no crash may lose.
    def prepared(name: str) -> tuple[Path, CaptureFile]:
        directory = tmp_path / name
        caps = {"max_bytes": 20, "max_files": max_files, "total_max_bytes": total}
        first = CaptureFile(directory / NAME, **caps)
        first.append(records(*range(100, 110)))
        first.close()
        if missing:
            rotated(directory, missing).unlink()
        return directory, CaptureFile(directory / NAME, **caps)

    directory, file = prepared("undisturbed")
    before = in_order(directory)
    file.append(records(110, 111))
    due = set(before) - set(in_order(directory))
    step = 0
    while True:
        directory, file = prepared(f"crash{step}-{secrets.token_hex(4)}")
        if not crash_at(step, file, records(110, 111)):
            break
        left = in_order(directory)
        assert left == sorted(set(left))
        assert set(before) - set(left) <= due
        assert total_size(directory) <= total
        # Whoever comes next goes on as if nothing had happened.
        todo = [number for number in range(110, 120) if number not in left]
        assert file.append(records(*todo)) == AppendResult(len(todo), 0, None)
        after = in_order(directory)
        assert after == sorted(set(after))
        assert after[-2:] == [118, 119]
        assert total_size(directory) <= total
        step += 1
    assert step > 4
