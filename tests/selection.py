"""What the default run takes of many: one parameter or a few of each kind, and a part of the examples.

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
hypothesis.settings.register_profile("quick", deadline=None, max_examples=ALL_EXAMPLES // 5)


def examples(most: int) -> int:
    """How many examples a property test looks at, of which it needs ``most`` in continuous integration."""
    return max(1, most * hypothesis.settings().max_examples // ALL_EXAMPLES)


def mostly(mark: pytest.MarkDecorator, values: Iterable[Any], *kept: Any) -> list[Any]:
    """Parameters of a test that have a mark, but for those that are kept without."""
    return [
        value if value in kept else pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=mark)
        for value in values
    ]
