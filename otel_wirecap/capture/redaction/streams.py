"""What streams and messages go through: the masking of prompts, if that is on, and that of secrets in what is left.

Invariant: every piece that went in comes out once, in order, or is counted as withheld. Where anything fails, all that
is held is withheld, and all that follows: what was held may go on there.
"""

from __future__ import annotations

import contextlib
import copy
from collections import deque
from typing import TYPE_CHECKING, Protocol

from otel_wirecap.capture.redaction.edits import Released
from otel_wirecap.capture.redaction.messages import MessageRedactor
from otel_wirecap.capture.redaction.prompts import PromptMasking, without_prompts
from otel_wirecap.capture.redaction.stream import StreamRedactor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_wirecap.capture.redaction.redactor import Redactor


class _Masking(Protocol):
    """Takes the pieces of a stream and gives them back masked, in order; raises where it cannot."""

    def feed(self, pieces: Sequence[bytes], credentials: Sequence[str] = ()) -> Released: ...
    def close(self, credentials: Sequence[str] = ()) -> Released: ...


class _PromptMasking(Protocol):
    """Masks the content of pieces; ``feed`` and ``close`` as in ``_Masking``."""

    def feed(self, pieces: Sequence[bytes]) -> Released: ...
    def close(self) -> Released: ...


class StreamRedaction:
    """The pieces of one stream, or the messages of one side of a websocket, on their way through the gate."""

    __slots__ = ("_held", "_masking")

    def __init__(self, masking: _Masking | None, held: int = 0) -> None:
        self._masking = masking
        self._held = held

    def feed(self, pieces: Sequence[bytes], credentials: Sequence[str] = ()) -> Released:
        """Takes the next pieces; returns those, in order, that may leave now, or are withheld."""
        self._held += len(pieces)
        return self._released(lambda masking: masking.feed(pieces, credentials))

    def close(self, credentials: Sequence[str] = ()) -> Released:
        """Returns the pieces that are left: nothing follows, but for messages."""
        return self._released(lambda masking: masking.close(credentials))

    def _released(self, go_on: Callable[[_Masking], Released]) -> Released:
        masking, self._masking = self._masking, None  # as long as it may fail
        if masking is None:
            return self._withheld()
        try:
            released = go_on(masking)
        except Exception:  # noqa: BLE001  # fail closed
            return self._withheld()
        self._masking = masking
        self._held -= len(released.pieces)
        return released

    def fork(self) -> StreamRedaction:
        """One that goes on by itself from here, with what is held; all is withheld of it where that fails."""
        masking = None
        with contextlib.suppress(Exception):
            masking = copy.deepcopy(self._masking)
        return StreamRedaction(masking, self._held)

    def _withheld(self) -> Released:
        held, self._held = self._held, 0
        return Released([], {}, held)


def stream_redaction(
    redactor: Redactor, content_type: str, max_held_bytes: int, *, is_from_start: bool = True
) -> StreamRedaction:
    """The redaction of a stream; for the arguments see ``Gate.stream``."""
    secrets = StreamRedactor(redactor, content_type, max_held_bytes)
    if not redactor.masks_prompts:
        return StreamRedaction(secrets)
    prompts = PromptMasking(content_type, max_held_bytes, is_text=not is_from_start)
    return StreamRedaction(_WithoutPrompts(prompts, secrets))


def message_redaction(redactor: Redactor, max_held_bytes: int) -> StreamRedaction:
    """The redaction of messages; see ``Gate.messages``."""
    secrets = MessageRedactor(redactor, max_held_bytes)
    return StreamRedaction(_WithoutPrompts(_MessageMasking(), secrets) if redactor.masks_prompts else secrets)


class _MessageMasking:
    """Masks the content of messages, each by itself."""

    def feed(self, messages: Sequence[bytes]) -> Released:
        counts: dict[int, dict[str, int]] = {number: {} for number in range(len(messages))}
        return Released([without_prompts(one, "", counts[number]) for number, one in enumerate(messages)], counts)

    def close(self) -> Released:
        return Released([], {})


class _WithoutPrompts:
    """Masks prompts, and secrets in what is left."""

    def __init__(self, prompts: _PromptMasking, secrets: _Masking) -> None:
        self._prompts = prompts
        self._secrets = secrets
        self._counts: deque[dict[str, int]] = deque()

    def feed(self, pieces: Sequence[bytes], credentials: Sequence[str] = ()) -> Released:
        """See ``_Masking``."""
        return self._counted(self._secrets.feed(self._masked(self._prompts.feed(pieces)), credentials))

    def close(self, credentials: Sequence[str] = ()) -> Released:
        """See ``_Masking``."""
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
