"""What streams and messages go through: the masking of prompts, if that is on, and that of secrets in what is left."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from otel_wirecap.capture.redaction.messages import MessageRedactor
from otel_wirecap.capture.redaction.prompts import PromptMasking, without_prompts
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


class _PromptMasking(Protocol):
    """Masks the content of pieces; ``feed`` and ``close`` as in ``StreamRedaction``."""

    def feed(self, pieces: Sequence[bytes]) -> Released: ...
    def close(self) -> Released: ...


def stream_redaction(
    redactor: Redactor, content_type: str, most_held_bytes: int, *, is_from_start: bool = True
) -> StreamRedaction:
    """The redaction of a stream.

    Args:
        redactor: finds secrets, and says whether prompts are masked.
        content_type: the stream's, in lower case, without parameters.
        most_held_bytes: what waits for the rest of a secret has no more bytes than that.
        is_from_start: the first piece is the stream's first. Else it may begin within a text that looks like
            structure: where prompts are masked, all is then taken for content.
    """
    secrets = StreamRedactor(redactor, content_type, most_held_bytes)
    if not redactor.masks_prompts:
        return secrets
    return _WithoutPrompts(PromptMasking(content_type if is_from_start else "text/plain", most_held_bytes), secrets)


def message_redaction(redactor: Redactor, most_held_bytes: int) -> StreamRedaction:
    """The redaction of the whole messages of one side of a websocket; after ``close`` more may come."""
    secrets = MessageRedactor(redactor, most_held_bytes)
    return _WithoutPrompts(_MessageMasking(), secrets) if redactor.masks_prompts else secrets


class _MessageMasking:
    """Masks the content of messages, each by itself."""

    def feed(self, messages: Sequence[bytes]) -> Released:
        counts: dict[int, dict[str, int]] = {number: {} for number in range(len(messages))}
        return Released([without_prompts(one, "", counts[number]) for number, one in enumerate(messages)], counts)

    def close(self) -> Released:
        return Released([], {})


class _WithoutPrompts:
    """Masks prompts, and secrets in what is left."""

    def __init__(self, prompts: _PromptMasking, secrets: StreamRedaction) -> None:
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
