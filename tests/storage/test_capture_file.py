"""One process and its capture file: what is kept, what is refused, what is repaired."""

import contextlib
import errno
import fcntl
import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otel_wirecap.errors import CaptureFileError
from otel_wirecap.storage.capture_file import AppendResult, Boundaries, CaptureFile

DONE = (0, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "capture.jsonl"


def capture(path: Path, *, max_bytes: int = 1 << 20, max_files: int = 5, total: int = 10 << 20) -> CaptureFile:
    return CaptureFile(path, max_bytes=max_bytes, max_files=max_files, total_max_bytes=total)


def lines(*numbers: int, length: int = 20) -> list[bytes]:
    return [b"%0*d\n" % (length - 1, number) for number in numbers]


def numbers_in(*files: Path) -> list[int]:
    return [int(line) for file in files for line in file.read_bytes().splitlines()]


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_nothing_is_opened_before_it_is_needed(path: Path) -> None:
    capture(path)
    assert not path.exists()


@pytest.mark.parametrize("held", [b"some text", b"some text\n", b'{"a": 1}\n', b"\0" * 100])
def test_somebody_else_s_file_is_not_touched(held: bytes, path: Path) -> None:
    path.write_bytes(held)
    file = CaptureFile(path, max_bytes=999, max_files=1, total_max_bytes=999, boundaries=Boundaries(b'{"time'))
    with pytest.raises(CaptureFileError, match="holds something that is no capture of this format"):
        file.check()
    result = file.append(lines(1))
    assert (result.written, result.error.errno if result.error else None) == (0, errno.EEXIST)
    assert path.read_bytes() == held


@pytest.mark.parametrize("held", [b"", b'{"ti', b'{"timestamp": 1}\n'])
def test_a_capture_that_exists_or_had_just_begun_goes_on(held: bytes, path: Path) -> None:
    path.write_bytes(held)
    file = CaptureFile(path, max_bytes=999, max_files=1, total_max_bytes=999, boundaries=Boundaries(b'{"time'))
    assert file.append([b'{"timestamp": 2}\n']).written == 1
    assert path.read_bytes() == (held if held.endswith(b"\n") else b"") + b'{"timestamp": 2}\n'


def test_lines_are_appended_in_order(path: Path) -> None:
    file = capture(path)
    assert file.append(lines(1, 2)) == AppendResult(2, 0, None)
    assert file.append([]) == AppendResult(0, 0, None)
    assert file.append(lines(3)) == AppendResult(1, 0, None)
    assert numbers_in(path) == [1, 2, 3]


def test_a_batch_is_written_with_one_call(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = capture(path)
    calls: list[int] = []
    write = os.write

    def counted(fd: int, data: bytes) -> int:
        calls.append(len(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", counted)
    file.append(lines(*range(2000)))
    assert calls == [40_000]


def test_the_directory_is_not_read_again_while_nothing_rotates(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = capture(path)
    file.append(lines(1))
    monkeypatch.setattr(os, "scandir", lambda _: pytest.fail("read the directory"))
    assert file.append(lines(2)).error is None


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_file_and_directories_are_private_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "new" / "newer" / "capture.jsonl"
    with umask(mask):
        capture(path).check()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(d.stat().st_mode) for d in path.parents[:2]] == [0o700, 0o700]


def test_what_exists_keeps_its_mode(path: Path) -> None:
    path.touch()
    path.chmod(0o640)
    path.parent.chmod(0o755)
    assert capture(path).append(lines(1)).error is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_the_file_is_found_after_the_host_changed_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    file = capture(Path("capture.jsonl"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    file.append(lines(1))
    assert numbers_in(tmp_path / "capture.jsonl") == [1]


def refused(path: Path) -> str:
    """The reason that ``check`` gives; ``append`` must give it too, and write nothing."""
    file = capture(path)
    with pytest.raises(CaptureFileError) as raised:
        file.check()
    assert str(path) in str(raised.value)
    written, torn, error = file.append(lines(1))
    assert (written, torn) == (0, 0)
    assert error is not None
    assert str(error.strerror) in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_is_refused_and_its_target_untouched(path: Path, *, exists: bool) -> None:
    target = path.with_name("target")
    if exists:
        target.write_bytes(b"precious, no newline")
    path.symlink_to(target)
    assert "a symbolic link" in refused(path)
    assert target.exists() == exists
    assert not exists or target.read_bytes() == b"precious, no newline"


def test_a_fifo_is_refused_and_its_reader_sees_nothing(path: Path) -> None:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert "a named pipe" in refused(path)
        assert os.read(reader, 10) == b""
    finally:
        os.close(reader)


def test_directories_and_devices_are_refused(path: Path) -> None:
    path.mkdir()
    assert "a directory" in refused(path)
    assert "a device" in refused(Path("/dev/null"))


def test_a_file_in_the_place_of_the_directory_is_told(path: Path) -> None:
    path.write_bytes(b"")
    assert "Not a directory" in refused(path / "capture.jsonl")


def test_a_name_that_no_file_can_have_is_told() -> None:
    assert "not a file name" in refused(Path("/tmp/capture\0.jsonl"))


def test_check_does_not_wait_for_another_writers_lock(path: Path) -> None:
    holder = capture(path)
    holder.append(lines(1))
    holder._lock()
    capture(path).check()  # if it waited, it would do so for ever
    with path.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder.close()


def test_check_writes_nothing_into_a_file_that_exists(path: Path) -> None:
    path.write_bytes(b"whole\ntorn")
    capture(path).check()
    assert path.read_bytes() == b"whole\ntorn"


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        (b"1\n2\n3", b"1\n2\n"),
        (b"1\n" + b"x" * 200_000, b"1\n"),
        (b"no newline at all", b""),
        (b"x" * 65_536, b""),
        (b"1\n" + b"x" * 65_535, b"1\n"),
        (b"1\n\0\0\0", b"1\n"),
    ],
)
def test_a_torn_tail_is_cut_away_and_told(path: Path, found: bytes, kept: bytes) -> None:
    path.write_bytes(found)
    assert capture(path).append(lines(4)) == AppendResult(1, len(found) - len(kept), None)
    assert path.read_bytes() == kept + lines(4)[0]


def test_a_torn_tail_that_appears_later_is_cut_away(path: Path) -> None:
    file = capture(path)
    file.append(lines(1))
    with path.open("ab") as other:
        other.write(b"torn")
    assert file.append(lines(2)) == AppendResult(1, 4, None)
    assert numbers_in(path) == [1, 2]


def test_a_removed_file_is_made_anew(path: Path) -> None:
    file = capture(path)
    file.append(lines(1))
    path.unlink()
    assert file.append(lines(2))[1:] == DONE
    assert numbers_in(path) == [2]


def test_a_renamed_file_is_left_to_whoever_renamed_it(path: Path) -> None:
    file = capture(path)
    file.append(lines(1))
    moved = path.rename(path.with_name("moved"))
    assert file.append(lines(2))[1:] == DONE
    assert (numbers_in(moved), numbers_in(path)) == ([1], [2])


def test_a_truncated_file_is_filled_from_its_start(path: Path) -> None:
    file = capture(path)
    file.append(lines(1, 2, 3))
    os.truncate(path, 0)
    assert file.append(lines(4))[1:] == DONE
    assert path.read_bytes() == lines(4)[0]


def test_a_removed_directory_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "captures" / "capture.jsonl"
    file = capture(path)
    file.append(lines(1))
    path.unlink()
    path.parent.rmdir()
    assert file.append(lines(2))[1:] == DONE
    assert numbers_in(path) == [2]
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_link_put_in_the_place_of_the_running_file_is_refused(path: Path) -> None:
    file = capture(path)
    file.append(lines(1))
    moved = path.rename(path.with_name("moved"))
    path.symlink_to(moved)
    written, _, error = file.append(lines(2))
    assert written == 0
    assert error is not None
    assert "a symbolic link" in str(error)
    assert numbers_in(moved) == [1]


def test_a_descriptor_that_the_host_closed_and_used_again_is_left_alone(path: Path) -> None:
    file = capture(path)
    file.append(lines(1))
    os.close(file._fd)
    assert file.append(lines(2))[1:] == DONE
    others = path.with_name("database")
    number = file._fd
    other = os.open(others, os.O_RDWR | os.O_CREAT, 0o600)
    os.dup2(other, number)
    try:
        assert file.append(lines(3))[1:] == DONE
        assert others.read_bytes() == b""
        assert os.fstat(number).st_ino == others.stat().st_ino
    finally:
        os.close(other)
        os.close(number)
    assert numbers_in(path) == [1, 2, 3]


def test_a_closed_file_is_opened_again_by_the_next_append(path: Path) -> None:
    file = capture(path)
    file.append(lines(1))
    file.close()
    file.close()
    file.append(lines(2))
    assert numbers_in(path) == [1, 2]


def test_a_child_that_forgets_leaves_the_parents_lock_alone(path: Path) -> None:
    parent = capture(path)
    parent._lock()
    child = os.fork()
    if not child:
        parent.forget()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with path.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    parent.close()
    assert capture(path).append(lines(1)).written == 1
    assert numbers_in(path) == [1]


def test_a_child_that_never_forgets_does_not_keep_the_lock(path: Path) -> None:
    parent = capture(path)
    parent._lock()
    ready, done = os.pipe()
    child = os.fork()
    if not child:
        os.close(done)
        os.read(ready, 1)
        os._exit(0)
    try:
        parent.close()
        assert capture(path).append(lines(1)).error is None
    finally:
        os.close(done)
        os.close(ready)
        os.waitpid(child, 0)


def test_a_line_that_no_file_can_hold_stops_after_the_lines_before_it(path: Path) -> None:
    file = capture(path, max_bytes=100)
    written, torn, error = file.append([*lines(1, 2), b"x" * 100 + b"\n", *lines(3)])
    assert (written, torn) == (2, 0)
    assert error is not None
    assert error.errno == errno.EFBIG
    assert "101" in str(error)
    assert numbers_in(path) == [1, 2]
    assert not path.with_name("capture.jsonl.1").exists()


def test_a_line_of_exactly_the_limit_fits(path: Path) -> None:
    assert capture(path, max_bytes=100).append(lines(1, 2, length=100)) == AppendResult(2, 0, None)
    assert numbers_in(path.with_name("capture.jsonl.1"), path) == [1, 2]


@contextlib.contextmanager
def file_size_limit() -> Iterator[int]:
    """Real short writes, then ``EFBIG``: Python ignores SIGXFSZ.

    It holds for the whole process, hence no fixture: pytest's own output may go to a file that is longer.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5010, before[1]))
    try:
        yield 5010
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_short_write_keeps_whole_lines_and_counts_them(path: Path) -> None:
    file = capture(path)
    with file_size_limit() as limit:
        written, torn, error = file.append(lines(*range(1000)))
        then = file.append(lines(250))
    assert (written, torn) == (limit // 20, 0)
    assert error is not None
    assert error.errno == errno.EFBIG
    assert numbers_in(path) == list(range(250))
    assert then.written == 0
    assert path.stat().st_size == 5000


def test_a_full_disk_keeps_whole_lines_and_goes_on_once_there_is_room(
    make_disk: Callable[[str], Path],
) -> None:
    small_disk = make_disk("64k")
    file = capture(small_disk / "capture.jsonl")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 32_768)
    todo = lines(*range(200), length=1000)
    written, torn, error = file.append(todo)
    assert 0 < written < 200
    assert torn == 0
    assert error is not None
    assert error.errno == errno.ENOSPC
    assert numbers_in(small_disk / "capture.jsonl") == list(range(written))
    assert file.append(todo[written : written + 20]).error is not None
    ballast.unlink()
    result = file.append(todo[written : written + 20])
    assert result == AppendResult(20, 0, None)
    assert numbers_in(small_disk / "capture.jsonl") == list(range(written + 20))
    file.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_error_after_a_part_was_written_leaves_no_torn_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A disk that fails in the middle of a line cannot be had for the asking: ``os.write`` plays it."""
    write = os.write
    script = iter([70, code])

    def failing(fd: int, data: bytes) -> int:
        step = next(script)
        if step == code:
            raise OSError(code, os.strerror(code))
        return write(fd, data[:step])

    file = capture(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing)
        written, torn, error = file.append(lines(1, 2, 3, 4, 5))
    assert (written, torn) == (3, 0)
    assert error is not None
    assert error.errno == code
    assert path.read_bytes() == b"".join(lines(1, 2, 3))
    assert file.append(lines(4, 5)) == AppendResult(2, 0, None)
    assert numbers_in(path) == [1, 2, 3, 4, 5]


def test_short_writes_without_an_error_are_completed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local disks write all or fail; network file systems need not: ``os.write`` plays one."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:7]))
    assert capture(path).append(lines(1, 2, 3)) == AppendResult(3, 0, None)
    assert numbers_in(path) == [1, 2, 3]
