"""How flows and what they are made of are told in a few words, alike by all commands."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from otel_wirecap.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_wirecap.reading.flows import Exchange, Flow

OUTCOMES = {"client_disconnect": "client left"}
SHORT_ID = 12
"""Characters of an id that are shown where they tell it from others."""

_ERROR_STATUS = 500


def unique_length(names: Sequence[str]) -> int:
    """How many characters of each name tell it from the others, and no fewer than are easy to see."""
    ordered = sorted(set(names))
    longest = 0
    for one, other in itertools.pairwise(ordered):
        same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        longest = max(longest, same + 1)
    return max(longest, SHORT_ID)


def clock(seconds: float) -> str:
    """A moment, seconds since the epoch, as date and time in UTC to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%m-%d %H:%M:%S.%f")[:-3] if seconds else "-"


def attempts(flow: Flow) -> str:
    """The backends that were asked, each with the statuses of its attempts: ``openai 503 200``."""
    told: list[str] = []
    before = None
    for one in flow.attempts:
        if one.backend != before:
            told.append(printable(one.backend or "?"))
            before = one.backend
        told.append("-" if one.status_code is None else str(one.status_code))
    return " ".join(told) or "-"


def dollars(cost: float | None) -> str:
    """A cost, or ``-``."""
    return "-" if cost is None else f"${cost:.2f}" if cost >= 1 else f"${cost:.4f}"


def outcome(flow: Flow) -> str:
    """How a flow ended, in a word or two."""
    outer = flow.outer
    told = "not ended" if outer.outcome is None else OUTCOMES.get(outer.outcome, printable(outer.outcome))
    if flow.error_type is not None:
        kind = printable(flow.error_type)
        return kind if told in {"complete", kind} else f"{told}: {kind}"
    return told


def outcome_style(exchange: Exchange) -> str:
    """The colour for how an exchange went."""
    if exchange.failed:
        return "red" if exchange.error is not None or (exchange.status_code or 0) >= _ERROR_STATUS else "yellow"
    return "green" if exchange.outcome == "complete" else "yellow"
