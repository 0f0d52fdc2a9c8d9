"""How values are spread: percentiles of any number of them in bounded memory, and exact to one part in a hundred.

The buckets grow by a constant ratio (as those of DDSketch, https://arxiv.org/abs/1908.10693, do), so a percentile is
off by at most ``ACCURACY`` of itself, and of two distributions one is made as if their values had been added to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Self

ACCURACY: Final = 0.01

_RATIO: Final = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_RATIO: Final = math.log(_RATIO)
_LEAST: Final = 1e-6
"""Values below are one."""


class Distribution:
    """Values of one kind, none negative.

    Attributes:
        count: how many; ``total``: their sum.
        least: the smallest; ``most``: the largest; both 0 where there is none.
    """

    __slots__ = ("_buckets", "count", "least", "most", "total")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.total = self.least = self.most = 0.0

    def add(self, value: float) -> None:
        """Takes a value; what is negative, by clocks that were set meanwhile, is 0."""
        value = max(value, 0.0)
        bucket = math.ceil(math.log(max(value, _LEAST)) / _LOG_RATIO)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.least = value if not self.count else min(self.least, value)
        self.most = max(self.most, value)
        self.count += 1
        self.total += value

    def merge(self, other: Distribution) -> None:
        """Takes all values of another one."""
        if not other.count:
            return
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self.least = other.least if not self.count else min(self.least, other.least)
        self.most = max(self.most, other.most)
        self.count += other.count
        self.total += other.total

    def percentile(self, percent: float) -> float | None:
        """The value that so many percent of the values are not above; None where there is none."""
        if not self.count:
            return None
        rank, seen = percent / 100 * (self.count - 1), 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen > rank:
                middle = 2 * _RATIO**bucket / (_RATIO + 1)
                return min(max(middle, self.least), self.most)
        return self.most

    def histogram(self, columns: int) -> list[int]:
        """How many values are in each of so many columns, from the smallest to the largest, each wider by one ratio."""
        found = [0] * columns
        if self.count:
            first, last = min(self._buckets), max(self._buckets)
            for bucket, count in self._buckets.items():
                found[(bucket - first) * columns // (last - first + 1)] += count
        return found

    def packed(self) -> list[float]:
        """All of it as a list of numbers, for ``unpacked``."""
        buckets = [number for bucket in self._buckets.items() for number in bucket]
        return [self.count, self.total, self.least, self.most, *buckets]

    @classmethod
    def unpacked(cls, packed: Sequence[Any]) -> Self:
        """The distribution that ``packed`` gave so."""
        made = cls()
        made.count, made.total, made.least, made.most, *buckets = packed
        made._buckets = dict(zip(buckets[::2], buckets[1::2], strict=True))
        return made

    def __repr__(self) -> str:
        told = {name: value for name, value in self.document().items() if name != "mean"}  # which depends on the order
        return f"Distribution({told})"

    def document(self) -> dict[str, Any]:
        """What is known of them, ready for JSON."""
        told: dict[str, Any] = {"count": self.count}
        if self.count:
            told |= {"mean": self.total / self.count, "min": self.least}
            told |= {f"p{percent}": self.percentile(percent) for percent in (50, 90, 95, 99)}
            told["max"] = self.most
        return told
