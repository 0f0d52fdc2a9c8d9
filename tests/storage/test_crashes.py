"""Writers that are killed at random moments: nothing unreadable after the next start, nothing lost that was safe."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from driving import CHILD_PATH, check_numbers, open_writer, wait_until, writers_of
from records import read_records

pytestmark = [pytest.mark.usefixtures("writer_home"), pytest.mark.faults]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KILLS = 20
FLUSH_INTERVAL = 0.1
MAX_RUN_SECONDS = 1.0

PROGRAM = f"""
    import sys, time
    from pathlib import Path
    from driving import chunks_safe, exchange_on, open_writer
    from otel_wirecap.capture.events import ResponseHead

    writer = open_writer(
        Path(sys.argv[1]), capture_flush_interval={FLUSH_INTERVAL}, capture_max_bytes=2_000_000, capture_max_files=2000,
        capture_total_max_bytes="4GB", capture_compression=sys.argv[2],
    )
    exchange = exchange_on(writer, sys.argv[3])
    exchange.response(time.monotonic_ns(), ResponseHead(200, None, [(b"content-type", b"text/event-stream")]))
    size, pause = int(sys.argv[4]), float(sys.argv[5])
    number = 0
    while True:
        number += 1
        exchange.chunk(time.monotonic_ns(), b"data: %d %s.\\n\\n" % (number, b"x" * size))
        print(number, chunks_safe(writer), flush=True)
        time.sleep(pause)
"""


@pytest.mark.both_homes
def test_kills_at_random_moments(tmp_path: Path, writer_home: str) -> None:
    path = tmp_path / "capture.log"
    rng = random.Random(4)
    all_safe = 0
    for kill in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(path), rng.choice(("none", "zstd")), f"victim{kill}",
             *rng.choice((("300", "0.0002"), ("30000", "0.002")))],
            stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": CHILD_PATH},
        ) as victim:  # fmt: skip
            assert victim.stdout is not None
            put, safe, end = 0, 0, float("inf")
            if writer_home == "process":
                wait_until(lambda: writers_of(victim.pid))
            while time.monotonic() < end:
                number, safe = map(int, victim.stdout.readline().split())
                put += 1
                assert number == put
                if put == 1:
                    end = time.monotonic() + rng.uniform(0.02, MAX_RUN_SECONDS)
            victim.kill()
        wait_until(lambda: not writers_of(victim.pid))  # it still writes what it was sent
        after = open_writer(path, capture_max_files=2000, capture_total_max_bytes="4GB")
        assert after.close()
        found = list(read_records(path, on_damage=lambda *where: pytest.fail(f"unreadable: {where}")))
        mine = [record for record in found if record["metadata"].get("exchange_id") == f"victim{kill}"]
        numbers = [int(record["payload"].split()[1]) for record in mine if record["direction"] == "stream_chunk"]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= safe
        all_safe += safe
        check_numbers(found)
    assert all_safe > 0
