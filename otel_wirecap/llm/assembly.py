"""What the events of a stream add up to: picks the dialect by the events, and watches for errors and for the size."""

from collections.abc import Iterable
from typing import Any, Final

import orjson

from otel_wirecap.frames.framing import FrameReader
from otel_wirecap.frames.lexer import Frame
from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly
from otel_wirecap.llm.dialects.registry import event_dialect, ours
from otel_wirecap.llm.errors import ProviderError, error_in, provider_error, raw_error
from otel_wirecap.llm.text import lenient_json, mended

_MAX_BYTES: Final = 1 << 26


class StreamAssembly:
    """What a stream's events add up to; picks the dialect by the shape of the events themselves.

    Args:
        max_bytes: about how much may be held: characters of text, and bytes of JSON that is kept whole. Over
            it, the assembly gives up.

    Attributes:
        model: the answered model, None until it is known.
        error: the first error that the provider sent within the stream, of any format.
        overflowed: whether the assembly gave up; errors are still watched for.
        unreadable: whether an event could not be read, which may have been a part of the message.
    """

    __slots__ = ("_assembly", "_error", "_error_in", "_halves", "_max", "error", "model", "overflowed", "unreadable")

    def __init__(self, *, max_bytes: int) -> None:
        self._max = max_bytes
        self._assembly: MessageAssembly | None = None
        self._error_in = error_in  # the dialect's, when that is known
        self._error: object = None  # as the provider sent it
        self._halves = False  # strings may hold one half of a character, whose other half came in another event
        self.model: str | None = None
        self.error: ProviderError | None = None
        self.overflowed = False
        self.unreadable = False

    def fork(self) -> "StreamAssembly":
        """Another one that knows model and error, and nothing of the message."""
        other = StreamAssembly(max_bytes=self._max)
        other.model, other.error = self.model, self.error
        return other

    def add(self, event: Frame) -> None:
        """Takes the next event.

        Args:
            event: the event; data that are not a JSON object (``[DONE]``) say nothing unless its name is
                ``error``.
        """
        name, data = event.name, event.data
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            value = lenient_json(data)
            self._halves = self._halves or value is not None
        if type(value) is not dict:
            if name == "error":
                self._add_error(raw_error(data))
            elif value is None and data.lstrip().startswith(b"{"):
                self.unreadable = True
            return
        if name and "type" not in value and name.startswith(ours.event_types):
            value["type"] = name
        if self._assembly is None and not self.overflowed:
            self._recognise(value)
        error = self._error_in(name, value)
        if error is not None:
            self._add_error(error)
        assembly = self._assembly
        if assembly is None:
            return
        assembly.add(value, len(data))
        if self.model is None:
            self.model = assembly.model
        if assembly.size > self._max:
            self.overflowed = True
            self._assembly = None

    def message(self) -> dict[str, Any] | None:
        """The message assembled so far, an error within it as ``error``.

        Returns:
            A message in the shape of the same provider's non-streaming answer, for reading only; None when
            the format is unknown, nothing came, or the assembly gave up.
        """
        if self.overflowed:
            return None
        message = None if self._assembly is None else self._assembly.message()
        if self._error is not None:
            message = message or {}
            message["error"] = message.get("error") or self._error
        return mended(message) if self._halves else message

    def _recognise(self, event: Json) -> None:
        found = event_dialect(event)
        if found is not None:
            dialect, self._assembly = found
            if type(dialect).error_in is not Dialect.error_in:  # which would be a call more for each event
                self._error_in = dialect.error_in

    def _add_error(self, error: object) -> None:
        if self.error is None:
            self._error = error
            self.error = provider_error(mended(error) if self._halves else error)


def assemble(content_type: str | None, chunks: Iterable[bytes], *, max_bytes: int = _MAX_BYTES) -> Json | None:
    """The message that a stream adds up to.

    Args:
        content_type: the stream's, with or without parameters; None when only its first bytes say how it is framed.
        chunks: its content-decoded bytes, in pieces of any size. A stream may end anywhere.
        max_bytes: the most that an event, and about the most that the message, may take.

    Returns:
        As `StreamAssembly.message`; None, too, when an event was too large to be read: no message is better than a
        wrong one.
    """
    frames = FrameReader(content_type, max_frame_bytes=max_bytes)
    assembly = StreamAssembly(max_bytes=max_bytes)
    for chunk in chunks:
        for event in frames.feed(chunk):
            assembly.add(event)
    for event in frames.close():
        assembly.add(event)
    return None if frames.overflowed else assembly.message()
