"""Short texts for flows and their parts, shared by all commands."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from otel_wirecap.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_wirecap.reading.flows import Exchange, Flow
    from otel_wirecap.reading.prices import Cost

_OUTCOMES = {None: "not ended", "client_disconnect": "client left"}
SHORT_ID = 12
"""Characters of an id that are shown where they tell it from others."""

_ERROR_STATUS = 500


def unique_length(names: Sequence[str]) -> int:
    """Returns how many characters make each name unique, with a readable minimum."""
    ordered = sorted(set(names))
    longest = 0
    for one, other in itertools.pairwise(ordered):
        same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        longest = max(longest, same + 1)
    return max(longest, SHORT_ID)


def clock(seconds: float) -> str:
    """Formats a time (seconds since the epoch) as date and time in UTC to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%m-%d %H:%M:%S.%f")[:-3] if seconds else "-"


def attempts(flow: Flow) -> str:
    """Formats the backends with the statuses of their attempts: ``openai 503 200``."""
    told: list[str] = []
    before = None
    for one in flow.attempts:
        if one.backend != before:
            told.append(printable(one.backend or "?"))
            before = one.backend
        told.append("-" if one.status_code is None else str(one.status_code))
    return " ".join(told) or "-"


def dollars(cost: Cost) -> str:
    """Formats a cost, or ``-``; with a plus where it is more, of which the price is not known."""
    if cost.dollars is None:
        return "-"
    return (f"${cost.dollars:.2f}" if cost.dollars >= 1 else f"${cost.dollars:.4f}") + ("+" if cost.missing else "")


def ended(exchange: Exchange) -> str:
    """Returns how an exchange ended, in a word or two."""
    return _OUTCOMES.get(exchange.outcome) or printable(str(exchange.outcome))


def error_text(error: Mapping[str, Any]) -> str:
    """Formats an exchange's error: its type and its message."""
    return printable(": ".join(str(error[part]) for part in ("type", "message") if error.get(part)))


def outcome(flow: Flow) -> str:
    """Returns a flow's outcome in a word or two."""
    told = ended(flow.outer)
    if flow.error_type is not None:
        kind = printable(flow.error_type)
        return kind if told in {"complete", kind} else f"{told}: {kind}"
    return told


def outcome_style(exchange: Exchange) -> str:
    """Returns the colour for an exchange's outcome."""
    if exchange.failed:
        return "red" if exchange.error is not None or (exchange.status_code or 0) >= _ERROR_STATUS else "yellow"
    return "green" if exchange.outcome == "complete" else "yellow"
