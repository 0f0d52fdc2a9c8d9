"""A capture in CBOR beside the one in JSON Lines: the same records, and neither in the other's way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import pytest
from driving import check_numbers, open_writer, stream, wait_until
from records import read_records
from test_faults import Feed

from otel_wirecap.capture.formats import CBOR, JSONLines
from otel_wirecap.errors import CaptureFileError, ConfigurationError

pytestmark = pytest.mark.usefixtures("writer_home")


def test_both_hold_the_same_records_and_each_becomes_the_other(tmp_path: Path) -> None:
    path, beside = tmp_path / "capture.log", tmp_path / "capture.cbor"
    writer = open_writer(path, cbor_capture_file=beside)
    stream(writer, "one", 20)
    assert writer.close()
    assert list(read_records(path)) == list(read_records(beside))
    cbor, lines = CBOR(), JSONLines()
    items = [item + cbor.terminator for item in beside.read_bytes().split(cbor.terminator)[:-1]]
    assert b"".join(lines.encode(cbor.decode(item)) for item in items) == path.read_bytes()
    assert b"".join(cbor.encode(lines.decode(line)) for line in path.read_bytes().splitlines(True)) == (
        beside.read_bytes()
    )
    with beside.open("rb") as sequence:  # any decoder of CBOR sequences
        told = []
        while sequence.peek(1):  # type: ignore[attr-defined]
            told.append(cbor2.load(sequence))
    assert [one["metadata"]["seq"] for one in told] == list(range(1, len(told) + 1))
    assert beside.stat().st_size < path.stat().st_size
    assert beside.stat().st_mode & 0o777 == 0o600
    stats = writer.stats()
    assert stats.cbor is not None
    assert (stats.cbor.records, stats.cbor.bytes) == (stats.records, beside.stat().st_size)


def test_each_has_its_caps_for_itself(tmp_path: Path) -> None:
    path, beside = tmp_path / "capture.log", tmp_path / "capture.cbor"
    writer = open_writer(
        path, cbor_capture_file=beside, capture_max_bytes=20_000, capture_max_files=2, capture_total_max_bytes=50_000
    )
    for number in range(20):
        stream(writer, f"s{number}", 20, size=300)
        assert writer.flush()
        for name in ("capture.log", "capture.cbor"):
            sizes = [file.stat().st_size for file in tmp_path.glob(name + "*")]
            assert max(sizes) <= 20_000
            assert sum(sizes) <= 50_000
            assert len(sizes) <= 3
    assert writer.close()
    last = [list(read_records(file))[-1]["metadata"]["seq"] for file in (path, beside)]
    assert last[0] == last[1]


def test_a_cbor_capture_alone_is_as_good(tmp_path: Path) -> None:
    path = tmp_path / "capture.cbor"
    for _ in range(2):
        writer = open_writer(path, capture_format="cbor", capture_max_bytes=20_000, capture_max_files=50)
        stream(writer, "one", 100)
        assert writer.close()
        with path.open("ab") as torn:  # a killed writer's
            torn.write(CBOR.beginning + b"half")
    damaged: list[int] = []
    found = list(read_records(path, on_damage=lambda _, number: damaged.append(number)))
    check_numbers([record for record in found if record["metadata"]["process"] == found[0]["metadata"]["process"]])
    gaps = [record["payload"] for record in found if record["direction"] == "system_gap"]
    assert gaps == [{"lost_bytes": len(CBOR.beginning) + 4, "reason": "torn_tail"}]
    assert len(damaged) == 1, "nobody has written since, to repair the second one"
    assert sum(record["direction"] == "stream_chunk" for record in found) == 200


@pytest.mark.parametrize("full", ["jsonl", "cbor"])
@pytest.mark.both_homes
def test_a_disk_that_is_full_costs_the_other_file_nothing(
    full: str, make_disk: Callable[[str], Path], tmp_path: Path
) -> None:
    small_disk = make_disk("2m")
    on_small, elsewhere = small_disk / "capture", tmp_path / "capture"
    path, beside = (on_small, elsewhere) if full == "jsonl" else (elsewhere, on_small)
    writer = open_writer(path, cbor_capture_file=beside, capture_max_queue_bytes=400_000, capture_flush_interval=0.05)
    assert writer.flush()  # it is there; until it is, only so much may wait
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 2_000_000)
    feed = Feed(writer)

    def put(count: int) -> None:
        """No faster than the writer takes it: that it finds no room is another matter."""
        for _ in range(count // 20):
            feed.put(20)
            wait_until(lambda: writer.stats().waiting_events == 0)

    put(400)

    def failing() -> Any:
        stats = writer.stats()
        assert stats.cbor is not None
        return stats.failing if full == "jsonl" else stats.cbor.failing

    wait_until(lambda: failing() == "ENOSPC")
    put(100)
    ballast.unlink()
    wait_until(lambda: failing() is None)
    feed.put(20)
    feed.end()
    assert writer.close()
    whole, holed = list(read_records(elsewhere)), list(read_records(on_small))
    check_numbers(whole)
    assert sum(record["direction"] == "stream_chunk" for record in whole) == 520
    (gap,) = [record for record in holed if record["direction"] == "system_gap"]
    told = gap["payload"]
    assert (told["capture_file"], told["reason"]) == (str(on_small), "ENOSPC")
    missing = {r["metadata"]["seq"] for r in whole} - {r["metadata"]["seq"] for r in holed}
    assert (min(missing), max(missing), len(missing)) == (told["first_seq"], told["last_seq"], told["lost_records"])
    assert gap in whole


def test_a_second_file_that_cannot_be_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "capture.cbor").mkdir()
    with pytest.raises(CaptureFileError, match=r"capture\.cbor: not a regular file but a directory"):
        open_writer(tmp_path / "capture.log", cbor_capture_file=tmp_path / "capture.cbor")


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    for name in ("capture.log", "capture.log.3.gz"):
        with pytest.raises(ConfigurationError, match=r"cbor_capture_file: .* is a name of capture_file's files"):
            open_writer(tmp_path / "capture.log", cbor_capture_file=tmp_path / name)
