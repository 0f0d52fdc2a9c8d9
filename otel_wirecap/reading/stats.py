"""What many flows have in common, in numbers: how many, what went wrong, tokens and cost, and how long all took."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Any

from otel_wirecap.llm.usage import Usage
from otel_wirecap.reading.distribution import Distribution
from otel_wirecap.reading.flows import CLIENT
from otel_wirecap.reading.prices import Cost, exchange_cost
from otel_wirecap.reading.summaries import usage_document
from otel_wirecap.reading.timeline import added_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_wirecap.reading.flows import Exchange, Flow

TIMES = (
    "duration_ms", "ttfb_ms", "first_chunk_ms", "backend_ttfb_ms", "backend_gap_ms", "client_gap_ms", "added_ms",
    "tokens_per_second",
)  # fmt: skip
"""What is told as a distribution."""


@dataclasses.dataclass(slots=True)
class Statistics:
    """Flows in numbers.

    Attributes:
        requests: flows with a client; ``direct``: flows of scripts that called a backend themselves.
        failed: flows that went wrong for whoever asked.
        attempts: exchanges with backends.
        open: flows that have not ended.
        client_errors: what went wrong for whoever asked, by type; ``backend_errors``: attempts likewise.
        usage: the tokens of all attempts.
        cost: of all attempts.
        unpriced: answers whose cost is not known, or not all of it; ``cost_missing``: how many, by reason.
        duration_ms: from a request to the end of its response, as whoever asked saw it.
        ttfb_ms: from a request to the headers of its response, likewise; ``backend_ttfb_ms``: of each attempt.
        first_chunk_ms: from a request to the first chunk of its stream, as whoever asked saw it.
        backend_gap_ms: between two chunks of a stream from a backend; ``client_gap_ms``: to a client.
        added_ms: what the proxy itself took of the time until the client got its headers.
        tokens_per_second: output tokens of a stream in the time from its first chunk to its last.
    """

    requests: int = 0
    direct: int = 0
    failed: int = 0
    attempts: int = 0
    open: int = 0
    client_errors: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    backend_errors: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    usage: Usage = dataclasses.field(default_factory=Usage)
    cost: Cost = Cost()
    unpriced: int = 0
    cost_missing: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    duration_ms: Distribution = dataclasses.field(default_factory=Distribution)
    ttfb_ms: Distribution = dataclasses.field(default_factory=Distribution)
    first_chunk_ms: Distribution = dataclasses.field(default_factory=Distribution)
    backend_ttfb_ms: Distribution = dataclasses.field(default_factory=Distribution)
    backend_gap_ms: Distribution = dataclasses.field(default_factory=Distribution)
    client_gap_ms: Distribution = dataclasses.field(default_factory=Distribution)
    added_ms: Distribution = dataclasses.field(default_factory=Distribution)
    tokens_per_second: Distribution = dataclasses.field(default_factory=Distribution)

    def add(self, flow: Flow) -> None:
        """Takes one flow."""
        outer = flow.outer
        self.requests += flow.client is not None
        self.direct += flow.client is None
        self.failed += flow.failed
        self.open += outer.outcome is None
        self.attempts += len(flow.attempts)
        if flow.error_type is not None:
            self.client_errors[flow.error_type] += 1
        self.usage = self.usage.plus(flow.usage)
        for answer in flow.counted:
            cost = exchange_cost(answer)
            self.cost = self.cost.plus(cost)
            self.unpriced += bool(cost.missing)
            self.cost_missing.update(cost.missing)
        _add(self.duration_ms, outer.duration_ms)
        _add(self.ttfb_ms, outer.ttfb_ms)
        if outer.streamed and outer.started_unix is not None and outer.first_chunk_unix is not None:
            self.first_chunk_ms.add((outer.first_chunk_unix - outer.started_unix) * 1000)
        _add(self.added_ms, added_ms(flow))
        for one in flow.exchanges:
            if one.gaps is not None:
                (self.client_gap_ms if one.leg == CLIENT else self.backend_gap_ms).merge(one.gaps.ms)
            if one.leg != CLIENT:
                self._add_attempt(one)

    def _add_attempt(self, one: Exchange) -> None:
        if one.error_type is not None:
            self.backend_errors[one.error_type] += 1
        _add(self.backend_ttfb_ms, one.ttfb_ms)
        if (
            one.streamed
            and one.usage is not None
            and one.first_chunk_unix is not None
            and one.last_chunk_unix is not None
        ):
            seconds = one.last_chunk_unix - one.first_chunk_unix
            if seconds > 0 and one.usage.output > 1:
                self.tokens_per_second.add(one.usage.output / seconds)

    def document(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        names = ("requests", "direct", "attempts", "failed", "open")
        return {
            **{name: getattr(self, name) for name in names},
            "client_errors": dict(self.client_errors.most_common()),
            "backend_errors": dict(self.backend_errors.most_common()),
            "usage": usage_document(self.usage),
            "cost": self.cost.dollars,
            "unpriced": self.unpriced,
            "cost_missing": dict(self.cost_missing.most_common()),
            **{name: getattr(self, name).document() for name in TIMES},
        }


def statistics_of(flows: Iterable[Flow]) -> Statistics:
    """Flows in numbers."""
    statistics = Statistics()
    for flow in flows:
        statistics.add(flow)
    return statistics


def _add(distribution: Distribution, value: float | None) -> None:
    if value is not None:
        distribution.add(value)
