from __future__ import annotations

import subprocess
import sys

from otel_wirecap.reading.flows import group_flows
from otel_wirecap.reading.reader import read_records


def test_the_demonstration_captures_every_exchange_on_both_legs_and_shows_it(tmp_path):
    capture = tmp_path / "demo.log"
    done = subprocess.run(
        [sys.executable, "-m", "otel_wirecap", "demo", "--capture-file", str(capture)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    flows = group_flows(read_records(capture))
    assert len(flows) == 13
    assert all(flow.client is not None and len(flow.attempts) == 1 for flow in flows)
    assert {flow.attempts[0].backend for flow in flows} == {"openai", "anthropic", "gemini"}
    outcomes = [flow.client.outcome for flow in flows if flow.client is not None]
    assert sorted(set(outcomes)) == ["client_disconnect", "complete"]
    assert "13 flows, 26 exchanges" in done.stdout
    assert "Overloaded" in done.stdout
