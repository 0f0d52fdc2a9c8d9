"""Many requests at a time, some left and some cancelled: nothing is left over, every exchange is in the capture."""

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.timeout(240)
@pytest.mark.thorough
def test_nothing_is_left_over_after_many_streams() -> None:
    # In full by hand: python benchmarks/soak.py
    command = [sys.executable, str(SOAK), "--requests", "1200", "--concurrency", "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "left over: nothing" in done.stdout
