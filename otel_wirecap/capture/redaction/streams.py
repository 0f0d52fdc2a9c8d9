"""What a stream goes through: the masking of prompts, if that is on, and that of secrets in what is left."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from otel_wirecap.capture.redaction.prompts import PromptMasking
from otel_wirecap.capture.redaction.stream import Released, StreamRedactor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_wirecap.capture.redaction.redactor import Redactor


class StreamRedaction(Protocol):
    """Takes the pieces of a stream and gives them back redacted, in order."""

    def feed(self, pieces: Sequence[bytes], credentials: Sequence[str] = ()) -> Released:
        """Takes the next pieces; returns those, in order, that can be told now."""

    def close(self, credentials: Sequence[str] = ()) -> Released:
        """Returns the pieces that are left: nothing follows."""


def stream_redaction(redactor: Redactor, content_type: str, most_held_bytes: int) -> StreamRedaction:
    """The redaction of a stream of this type (lower case, without parameters)."""
    secrets = StreamRedactor(redactor, content_type, most_held_bytes)
    return _WithoutPrompts(PromptMasking(content_type, most_held_bytes), secrets) if redactor.masks_prompts else secrets


class _WithoutPrompts:
    """Masks prompts, and secrets in what is left."""

    def __init__(self, prompts: PromptMasking, secrets: StreamRedactor) -> None:
        self._prompts = prompts
        self._secrets = secrets
        self._counts: deque[dict[str, int]] = deque()

    def feed(self, pieces: Sequence[bytes], credentials: Sequence[str] = ()) -> Released:
        """See ``StreamRedaction``."""
        return self._counted(self._secrets.feed(self._masked(self._prompts.feed(pieces)), credentials))

    def close(self, credentials: Sequence[str] = ()) -> Released:
        """See ``StreamRedaction``."""
        first = self._counted(self._secrets.feed(self._masked(self._prompts.close()), credentials))
        last = self._counted(self._secrets.close(credentials))
        counts = first.counts | {len(first.pieces) + number: rules for number, rules in last.counts.items()}
        return Released(first.pieces + last.pieces, counts)

    def _masked(self, released: Released) -> list[bytes]:
        self._counts += (released.counts.get(number, {}) for number in range(len(released.pieces)))
        return released.pieces

    def _counted(self, released: Released) -> Released:
        """With what was masked of prompts in each piece."""
        counts: dict[int, dict[str, int]] = {}
        for number in range(len(released.pieces)):
            rules = self._counts.popleft() | released.counts.get(number, {})
            if rules:
                counts[number] = rules
        return Released(released.pieces, counts)
