"""What the default run takes of many: one parameter or a few of each kind, and a part of the examples.

A plugin of pytest, loaded by ``conftest.py``. A test that is marked ``sampled(count, rest=MARKER)`` runs by default
with so many of its parameters, evenly spread; with the others it has the marker that keeps it out.

Continuous integration takes all: ``pytest -m "" --hypothesis-profile=ci``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import hypothesis
import pytest

ALL_EXAMPLES = 100
"""Of a property test that says nothing else, in continuous integration."""

# No deadlines: a busy machine is no failure.
hypothesis.settings.register_profile("ci", deadline=None, max_examples=ALL_EXAMPLES)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=ALL_EXAMPLES // 10)
hypothesis.settings.load_profile("quick")  # --hypothesis-profile names another one


@pytest.hookimpl(tryfirst=True)  # before those with some markers are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    sampled: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sampled"):
            sampled.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for several in sampled.values():
        mark = several[0].get_closest_marker("sampled")
        assert mark is not None
        count = mark.args[0]
        taken = {number * len(several) // count for number in range(count)}
        for number, item in enumerate(several):
            if number not in taken:
                item.add_marker(mark.kwargs["rest"])


def examples(most: int) -> int:
    """How many examples a property test looks at, of which it needs ``most`` in continuous integration."""
    return max(1, most * hypothesis.settings().max_examples // ALL_EXAMPLES)


def mostly(mark: pytest.MarkDecorator, values: Iterable[Any], *kept: Any) -> list[Any]:
    """Parameters of a test that have a mark, but for those that are kept without."""
    return [
        value if value in kept else pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=mark)
        for value in values
    ]
