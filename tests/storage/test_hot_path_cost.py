"""What capture does for a relayed chunk and for a request does not grow unnoticed: counted, not timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import hot_path
import pytest

import otel_wirecap

MORE_CALLS_A_CHUNK = 0.5
"""Less than one call for every chunk."""
MORE = {"calls": 1.02, "instructions": 1.05}
"""How much more a figure may be than the recorded one."""
LESS = 0.85
"""How much less, before the recorded one has to be renewed: else what was won could be lost again."""

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(
        hot_path.PYTHON not in hot_path.recorded(),
        reason=f"no figures are recorded for Python {hot_path.PYTHON}, whose instructions are others",
    ),
]


def counted(*options: str) -> hot_path.Figures:
    """The figures as they are now, of a process of its own: nothing that other tests set up takes part."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(otel_wirecap.__file__).parents[1])}
    command = [sys.executable, hot_path.__file__, "--json", *options]
    return json.loads(subprocess.run(command, env=environ, check=True, capture_output=True).stdout)


def complaints(now: hot_path.Figures) -> list[str]:
    """What differs from the recorded figures by more than the margins."""
    found = []
    for name, figures in hot_path.recorded()[hot_path.PYTHON].items():
        for measure, before in figures.items():
            figure = now[name][measure]
            a_chunk = measure == "calls" and "chunk" in name
            if figure > (before + MORE_CALLS_A_CHUNK if a_chunk else before * MORE[measure]):
                found.append(f"{name}: {figure:,.2f} {measure}, more than the {before:,.2f} that are recorded")
            elif figure < before * LESS:
                found.append(f"{name}: {figure:,.2f} {measure}, far fewer than the {before:,.2f} that are recorded")
    return found


def test_a_chunk_and_a_request_cost_what_is_recorded() -> None:
    found = complaints(counted())
    assert not found, "\n".join(
        [
            *found,
            "If that is meant (benchmarks/proxy_cost.py says what it costs in time), renew the figures with every",
            f"version of Python that {hot_path.FIGURES.name} knows: python tests/storage/hot_path.py --record",
        ]
    )


@pytest.mark.parametrize("path", ["host", "writer"])
def test_one_more_call_for_each_chunk_is_noticed(path: str) -> None:
    found = complaints(counted("--with-one-more-call", path))
    assert any(one.startswith(f"{path}, relayed chunk") and "more than" in one for one in found), found
