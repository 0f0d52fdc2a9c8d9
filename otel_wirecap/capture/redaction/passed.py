"""What comes of something on its way through the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from otel_wirecap.capture.record import RawJSON

WITHHELD: Final = "withheld"
"""What is counted, and told as the reason, where something could not be redacted."""


class Passed(NamedTuple):
    """What the gate let through.

    Attributes:
        payload: what is left; None where all of it is withheld.
        counts: rule to number of markers, for ``metadata.redactions``.
        withheld: it, or its rest, could not be redacted.
    """

    payload: RawJSON | str | bytes | None
    counts: dict[str, int]
    withheld: bool = False

    @property
    def facts(self) -> dict[str, str]:
        """What a record's metadata say of it, beside the counts."""
        return {"incomplete": WITHHELD} if self.withheld else {}


def withheld() -> Passed:
    """Nothing, for what could not be redacted."""
    return Passed(None, {WITHHELD: 1}, withheld=True)
