"""What the events of a stream say: picks the dialect by the events, adds them up, watches for errors, end and size."""

import copy
from collections.abc import Iterable
from typing import Any, Final

import orjson

from otel_wirecap.frames.framing import FrameReader
from otel_wirecap.frames.lexer import Frame
from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly, objects_in
from otel_wirecap.llm.dialects.registry import event_dialect, ours
from otel_wirecap.llm.dialects.whole_answer import WholeAnswer
from otel_wirecap.llm.errors import ProviderError, error_in, provider_error, raw_error
from otel_wirecap.llm.text import lenient_json, mended

_MAX_BYTES: Final = 1 << 26


class StreamAssembly:
    """What a stream's events add up to; picks the dialect by the shape of the events themselves.

    Args:
        max_bytes: about how much may be held: characters of text, and bytes of JSON that is kept whole. Over
            it, the assembly gives up.
        assembles: whether there is to be a message; without one the rest is the same.

    Attributes:
        model: the answered model, None until it is known.
        error: the first error that the provider sent within the stream, of any format.
        ended: whether the stream has said all it had to say: its end mark has come, or an error.
        dialect: its format, None until that is known.
        is_silent: whether no event has come that says anything.
        overflowed: whether the assembly gave up; the rest is still watched for.
        unreadable: whether an event could not be read, which may have been a part of the message.
    """

    __slots__ = (
        "_asks_always", "_assembles", "_assembly", "_dialect", "_error", "_finished", "_halves", "_max",
        "dialect", "ended", "error", "is_silent", "model", "overflowed", "unreadable",
    )  # fmt: skip

    def __init__(self, *, max_bytes: int, assembles: bool = True) -> None:
        self._max = max_bytes
        self._assembles = assembles
        self._assembly: MessageAssembly | None = None
        self._dialect: Dialect = ours  # what is asked: all of ours, until it is known
        self._asks_always = False  # whether an event is an error: it may be one without a word that ours have
        self._error: object = None  # as the provider sent it
        self._finished: dict[int, bool] = {}
        self._halves = False  # strings may hold one half of a character, whose other half came in another event
        self.model: str | None = None
        self.error: ProviderError | None = None
        self.ended = False
        self.dialect: Dialect | None = None
        self.is_silent = True
        self.overflowed = False
        self.unreadable = False

    def fork(self) -> "StreamAssembly":
        """Another one that goes on from here, without a message."""
        other = copy.copy(self)
        other._finished = dict(self._finished)  # noqa: SLF001  # one of its own kind
        other._assembly, other._assembles = None, False  # noqa: SLF001
        return other

    def add(self, event: Frame) -> None:
        """Takes the next event.

        Args:
            event: the event; data that are not a JSON object say nothing unless they are ``[DONE]``, or its name is
                ``error``.
        """
        name, data = event.name, event.data
        value = self._parsed(data)
        if type(value) is not dict:
            self._add_other(name, data, value)
            return
        if name and "type" not in value and name.startswith(ours.event_types):
            value["type"] = name
        if self.dialect is None:
            self._recognise(value)
        if b"err" in data or name == "error" or self._asks_always:
            error = self._dialect.error_in(name, value)
            if error is not None:
                self._add_error(error)
        if not self.ended:
            self.ended = self._dialect.ends(name, value, self._finished)
        assembly = self._assembly
        if assembly is not None:
            assembly.add(value, len(data))
            if self.model is None:
                self.model = assembly.model
            if assembly.size > self._max:
                self.overflowed = True
                self._assembly = None
        elif self.model is None:
            self.model = self._dialect.answered_model(value)

    def message(self) -> dict[str, Any] | None:
        """The message assembled so far, an error that it does not hold itself as ``error``.

        Returns:
            A message in the shape of the same provider's non-streaming answer, for reading only; None when
            the format is unknown, nothing came, or the assembly gave up.
        """
        if self.overflowed or not self._assembles:
            return None
        message = None if self._assembly is None else self._assembly.message()
        if self._error is not None:
            held = None if message is None else self._dialect.error_in("", message)
            if held is None or held is message:
                message = {**(message or {}), "error": self._error}
        return mended(message) if self._halves else message

    def _parsed(self, data: bytes) -> Any:
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            value = lenient_json(data)
            self._halves = self._halves or value is not None
            return value

    def _recognise(self, event: Json) -> None:
        self.is_silent = self.is_silent and event.get("type") == "ping"
        found = event_dialect(event)
        if found is None:
            return
        self.dialect, assembly = found
        self._dialect = self.dialect
        self._asks_always = self.dialect not in ours.all
        self.ended = self.ended or isinstance(assembly, WholeAnswer)
        if self._assembles:
            self._assembly = assembly

    def _add_other(self, name: str, data: bytes, value: object) -> None:
        """Takes an event that is not a JSON object."""
        if name == "error":
            self._add_error(raw_error(data))
        elif data.strip() == b"[DONE]" or name == "done":
            self.ended = True
        elif value is None:
            self.unreadable = self.unreadable or data.lstrip().startswith(b"{")
        elif isinstance(value, list):  # Gemini's errors
            for one in objects_in(value[:1]):
                error = error_in(name, one)
                if error is not None:
                    self._add_error(error)
        self.is_silent = False

    def _add_error(self, error: object) -> None:
        self.ended = True
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
