"""The one gate: whether a text may leave, and how, is asked here, by everything.

The recorder, spans, exports, imports, scans and messages of errors each hand their texts to a ``Gate``, to the method
for that kind of text, and pass on what it gives back. Whether prompts are masked, and what is a secret, is decided
within; nothing outside of this package knows its other modules.

Invariants:

- What may leave comes back unchanged, as the very same object where that is cheap to tell.
- Nothing that fails raises: a text becomes the marker, anything larger is withheld, and that is counted. Parts of a
  record (``misplaced``, ``added``, ``metadata``) do raise: ``record``, which asks for them, then withholds all of it.
- What was masked before stays as it is, and is not counted again.
- One thread uses a gate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_wirecap.capture.redaction.edits import Released
from otel_wirecap.capture.redaction.finder import Finder, FoundInStream
from otel_wirecap.capture.redaction.passed import Passed, withheld
from otel_wirecap.capture.redaction.passing import MAX_HELD_BYTES, RecordRedaction
from otel_wirecap.capture.redaction.records import pass_record
from otel_wirecap.capture.redaction.rules import Mode, Pattern, Place, Rules
from otel_wirecap.capture.redaction.spans import MARKER, add_counts
from otel_wirecap.capture.redaction.streams import StreamRedaction
from otel_wirecap.capture.redaction.texts import FAILED, TextGate

if TYPE_CHECKING:
    from otel_wirecap.capture.record import CaptureRecord

__all__ = [
    "FAILED",
    "MARKER",
    "Finder",
    "FoundInStream",
    "Gate",
    "Mode",
    "Passed",
    "Pattern",
    "Place",
    "RecordRedaction",
    "Released",
    "Rules",
    "StreamRedaction",
    "add_counts",
    "withheld",
]


class Gate(TextGate):
    """Lets texts and whole records leave without what the settings mask; for the arguments see ``TextGate``."""

    __slots__ = ()

    def record(self, record: CaptureRecord) -> bool:
        """A whole record that is there already, in place: one that is exported, or that comes from elsewhere.

        Each part of it goes through the method for it, so that what is masked when a capture is written is masked
        when it is passed on. A payload of None stays, for whoever gives pieces of streams to ``stream``.

        Returns:
            Whether it was let through; else nothing is left of it but what it was and when.
        """
        return pass_record(record, self)

    def records(self, max_held_bytes: int = MAX_HELD_BYTES, *, by_flow: bool = False) -> RecordRedaction:
        """What the records of a capture, or of telemetry, go through one after another: each as a whole, streams too.

        Args:
            max_held_bytes: of records that may wait for what a stream says next.
            by_flow: records wait only for those of their own flow; else all keep their order.
        """
        return RecordRedaction(self, max_held_bytes, by_flow=by_flow)

    def finder(self) -> Finder:
        """What looks for secrets in files and changes nothing; prompts are none."""
        return Finder(self._redactor)
