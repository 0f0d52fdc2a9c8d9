"""Flows told in short: as JSON, chosen by what they were, and added up by what they have in common."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from otel_wirecap.llm.usage import Usage
from otel_wirecap.reading.flows import CLIENT, Exchange
from otel_wirecap.reading.prices import Cost, cost_of, exchange_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from otel_wirecap.reading.flows import Flow
    from otel_wirecap.reading.lines import RawRecord

GROUPINGS = ("session", "backend", "model", "error", "key_name")

_BY_FLOW: dict[str, Callable[[Flow], str | None]] = {
    "session": lambda flow: flow.session_id,
    "model": lambda flow: flow.model,
    "error": lambda flow: flow.error_type,
}
_BY_ATTEMPT: dict[str, Callable[[Exchange], str | None]] = {
    "backend": lambda one: one.backend or None,
    "key_name": lambda one: one.key_name,
}


@dataclasses.dataclass(frozen=True, slots=True)
class FlowFilter:
    """Which flows are wanted. What is None, or False, chooses nothing.

    Attributes:
        failed: those that went wrong for whoever asked.
        slow_ms: those that took longer, milliseconds.
        session: those whose session's id begins so.
        backend: those that asked this backend, at any attempt.
        model: those in whose model's name, asked for or answered, this stands.
        status: those that got such a status on any leg: ``429`` or ``5xx``.
        since: those that began at this moment or later, seconds since the epoch; ``until``: before this one.
        direction: those with a record of this direction.
        among: those with these ids.
    """

    failed: bool = False
    slow_ms: float | None = None
    session: str | None = None
    backend: str | None = None
    model: str | None = None
    status: str | None = None
    since: float | None = None
    until: float | None = None
    direction: str | None = None
    among: frozenset[str] | None = None

    def takes(self, flow: Flow) -> bool:
        """Whether a flow is one of them."""
        return all(test(flow) for test in self._tests())

    def takes_record(self, record: RawRecord) -> bool:
        """Whether a record is of one of them, as far as it tells itself; times and ids choose no records."""
        metadata = record["metadata"]
        one = Exchange("", str(metadata.get("leg", "")), status_code=metadata.get("status_code"))
        one.add(record)
        return (
            (not self.failed or one.failed)
            and (self.session is None or str(record.get("session_id") or "").startswith(self.session))
            and (self.backend is None or record.get("backend") == self.backend)
            and (self.model is None or self.model in str(record.get("model") or ""))
            and (self.status is None or _has_status(one, self.status))
            and (self.direction is None or record["direction"] == self.direction)
        )

    def _tests(self) -> Iterable[Callable[[Flow], bool]]:
        if self.failed:
            yield lambda flow: flow.failed
        if (slow := self.slow_ms) is not None:
            yield lambda flow: (flow.outer.duration_ms or 0.0) > slow
        if (session := self.session) is not None:
            yield lambda flow: (flow.session_id or "").startswith(session)
        if (backend := self.backend) is not None:
            yield lambda flow: backend in {one.backend for one in flow.exchanges}
        if (model := self.model) is not None:
            yield lambda flow: any(
                model in (name or "") for one in flow.exchanges for name in (one.requested_model, one.answered_model)
            )
        if (status := self.status) is not None:
            yield lambda flow: any(_has_status(one, status) for one in flow.exchanges)
        if (since := self.since) is not None:
            yield lambda flow: flow.started_unix >= since
        if (until := self.until) is not None:
            yield lambda flow: flow.started_unix < until
        if (direction := self.direction) is not None:
            yield lambda flow: any(direction in _directions(one) for one in flow.exchanges)
        if (among := self.among) is not None:
            yield lambda flow: flow.request_id in among


def _has_status(exchange: Exchange, status: str) -> bool:
    told = "" if exchange.status_code is None else str(exchange.status_code)
    return bool(told) and all(a == b or b in "xX" for a, b in zip(told, status, strict=False))


def _directions(exchange: Exchange) -> set[str]:
    """The directions of the records that an exchange has."""
    into, out = ("inbound", "outbound") if exchange.leg == "client" else ("outbound", "inbound")
    stream = "outbound_stream" if exchange.leg == "client" else "stream"
    found = set()
    if exchange.method or exchange.request_bytes:
        found.add(f"{into}_request")
    if exchange.streamed:
        found.add(f"{stream}_start")
        if exchange.seen_chunks:
            found.add(f"{stream}_chunk")
        if exchange.outcome is not None:
            found.add(f"{stream}_end")
        if exchange.usage is not None:
            found.add(f"{out}_response")
    elif exchange.outcome is not None:
        found.add(f"{out}_response")
    return found


def document(flow: Flow) -> dict[str, Any]:
    """What is known of a flow, ready for JSON."""
    outer = flow.outer
    return {
        "request_id": flow.request_id,
        "session_id": flow.session_id,
        "started": flow.started_unix,
        "client": flow.client_name or None,
        "backend": flow.backend,
        "model": flow.model,
        "key_name": flow.key_name,
        "status": outer.status_code,
        "outcome": outer.outcome,
        "error": flow.error_type,
        "ttfb_ms": outer.ttfb_ms,
        "duration_ms": outer.duration_ms,
        "chunks": outer.chunk_count,
        "usage": usage_document(flow.usage),
        **cost_document(cost_of(flow)),
        "exchanges": [_exchange(one) for one in flow.exchanges],
    }


_ATTRIBUTES = {
    "id": "exchange_id", "status": "status_code", "started": "started_unix", "bytes": "response_bytes",
    "chunks": "chunk_count", "first_chunk": "first_chunk_unix", "last_chunk": "last_chunk_unix",
}  # fmt: skip
"""What is called otherwise in JSON than in Python."""


def exchange_facts(one: Exchange, *names: str) -> dict[str, Any]:
    """Facts of an exchange by their names in JSON."""
    return {name: getattr(one, _ATTRIBUTES.get(name, name)) for name in names}


def _exchange(one: Exchange) -> dict[str, Any]:
    told = exchange_facts(
        one, "id", "leg", "attempt", "backend", "method", "url", "requested_model", "answered_model", "key_name",
        "status", "started", "ttfb_ms", "duration_ms", "request_bytes", "bytes", "streamed", "chunks", "first_chunk",
        "last_chunk", "outcome", "error", "error_type",
    )  # fmt: skip
    return told | {"usage": usage_document(one.usage), **cost_document(exchange_cost(one))}


def usage_document(usage: Usage | None) -> dict[str, int] | None:
    """Tokens, ready for JSON: input, output and what most answers report, of the rest what there is."""
    if usage is None:
        return None
    return {name: count for name, count in usage.counts.items() if count or name in _ALWAYS}


_ALWAYS = frozenset({"input", "output", "cached", "cache_written", "reasoning"})


def cost_document(cost: Cost) -> dict[str, Any]:
    """A cost, ready for JSON."""
    return {"cost": cost.dollars, "cost_missing": list(cost.missing)}


@dataclasses.dataclass(slots=True)
class Group:
    """Flows, or attempts, that have something in common, added up.

    Attributes:
        name: what they have in common; None for those that have none.
        by_attempt: whether attempts are grouped. Flows are then those that made one of them.
        flows: number of flows; ``failed_flows``: of those that failed for whoever asked.
        attempts: number of backend exchanges; ``failed_attempts``: of those that failed.
        usage: tokens of all.
        cost: of all.
        first: when the first flow, or attempt, began, seconds since the epoch; ``last``: when the last did.
        ended: number of flows, or attempts, whose duration is known.
        duration_ms: these durations together, milliseconds.
    """

    name: str | None
    by_attempt: bool = False
    flows: int = 0
    failed_flows: int = 0
    attempts: int = 0
    failed_attempts: int = 0
    usage: Usage = dataclasses.field(default_factory=Usage)
    cost: Cost = Cost()
    first: float | None = None
    last: float | None = None
    ended: int = 0
    duration_ms: float = 0.0

    def add(self, flow: Flow, answers: Sequence[Exchange]) -> None:
        """Takes one flow, of which these are the exchanges that belong to the group."""
        attempts = [one for one in answers if one.leg != CLIENT]
        self.flows += 1
        self.failed_flows += flow.failed
        self.attempts += len(attempts)
        self.failed_attempts += sum(one.failed for one in attempts)
        for one in answers:
            self.usage = self.usage.plus(one.usage)
            self.cost = self.cost.plus(exchange_cost(one))
        counted = attempts if self.by_attempt else [flow.outer]
        durations = [one.duration_ms for one in counted if one.duration_ms is not None]
        self.ended += len(durations)
        self.duration_ms += sum(durations)
        begun = [one.started_unix for one in answers if one.started_unix] if self.by_attempt else [flow.started_unix]
        self.first = min((*begun, *([] if self.first is None else [self.first])), default=None)
        self.last = max((*begun, *([] if self.last is None else [self.last])), default=None)

    @property
    def count(self) -> int:
        """How many there are of what is grouped."""
        return self.attempts if self.by_attempt else self.flows

    @property
    def failed(self) -> int:
        """How many failed of what is grouped."""
        return self.failed_attempts if self.by_attempt else self.failed_flows

    @property
    def mean_ms(self) -> float | None:
        """The mean duration of what is grouped, milliseconds; None where none has ended."""
        return self.duration_ms / self.ended if self.ended else None

    def document(self, by: str) -> dict[str, Any]:
        """What is known of it, ready for JSON; ``by`` is one of ``GROUPINGS``."""
        names = (
            "flows", "failed_flows", "attempts", "failed_attempts", "failed", "first", "last", "ended",
            "duration_ms",
        )  # fmt: skip
        told = {name: getattr(self, name) for name in names} | cost_document(self.cost)
        return {by: self.name, **told, "usage": usage_document(self.usage)}


def grouped(flows: Iterable[Flow], by: str) -> list[Group]:
    """Adds flows up by one of ``GROUPINGS``; the groups with most in them first.

    By ``backend`` and ``key_name``, each attempt counts where it was made. A flow without attempts counts by what its
    client's exchange names, with the tokens that the client got.
    """
    attempt_key, groups = _BY_ATTEMPT.get(by), dict[str | None, Group]()
    for flow in flows:
        answers, parts = flow.counted, dict[str | None, list[Exchange]]()
        if attempt_key is None:
            parts[_BY_FLOW[by](flow)] = answers
        else:
            for one in answers:
                parts.setdefault(attempt_key(one), []).append(one)
        for name, part in parts.items():
            groups.setdefault(name, Group(name, attempt_key is not None)).add(flow, part)
    return sorted(groups.values(), key=lambda group: (-group.count, -group.flows, group.name or ""))
