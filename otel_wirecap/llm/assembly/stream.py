"""The front of the assembly: picks the wire format by the events, and watches for errors and for the size."""

from collections.abc import Iterable
from typing import Any, Final

import orjson

from otel_wirecap.frames.framing import FrameReader
from otel_wirecap.frames.lexer import Frame
from otel_wirecap.llm.assembly.anthropic_messages import AnthropicMessages
from otel_wirecap.llm.assembly.bedrock_converse import EVENTS as CONVERSE_EVENTS
from otel_wirecap.llm.assembly.bedrock_converse import BedrockConverse
from otel_wirecap.llm.assembly.cohere_chat import EVENTS as COHERE_EVENTS
from otel_wirecap.llm.assembly.cohere_chat import CohereChat
from otel_wirecap.llm.assembly.cohere_chat_v1 import CohereChatV1
from otel_wirecap.llm.assembly.errors import ProviderError, error_in, provider_error, raw_error
from otel_wirecap.llm.assembly.gemini_generate import GeminiGenerate
from otel_wirecap.llm.assembly.interface import Json, WireFormat
from otel_wirecap.llm.assembly.openai_chat import OpenAIChat
from otel_wirecap.llm.assembly.openai_responses import OpenAIResponses
from otel_wirecap.llm.assembly.text import lenient_json, mended
from otel_wirecap.llm.assembly.text_chunks import TextChunks
from otel_wirecap.llm.assembly.whole_answer import WholeAnswer, is_whole_answer

_MAX_BYTES: Final = 1 << 26
_TEXT_MEMBERS: Final = ("completion", "generation", "outputText", "response")


class StreamAssembly:
    """What a stream's events add up to; picks the wire format by the shape of the events themselves.

    Args:
        max_bytes: about how much may be held: characters of text, and bytes of JSON that is kept whole. Over
            it, the assembly gives up.

    Attributes:
        model: the answered model, None until it is known.
        error: the first error that the provider sent within the stream, of any format.
        overflowed: whether the assembly gave up; errors are still watched for.
    """

    __slots__ = ("_error", "_format", "_halves", "_max", "error", "model", "overflowed")

    def __init__(self, *, max_bytes: int) -> None:
        self._max = max_bytes
        self._format: WireFormat | None = None
        self._error: object = None  # as the provider sent it
        self._halves = False  # strings may hold one half of a character, whose other half came in another event
        self.model: str | None = None
        self.error: ProviderError | None = None
        self.overflowed = False

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
            return
        error = error_in(name, value)
        if error is not None:
            self._add_error(error)
        if self.overflowed:
            return
        wire_format = self._format
        if wire_format is None:
            wire_format = self._format = _format_of(value)
            if wire_format is None:
                return
        wire_format.add(value, len(data))
        if self.model is None:
            self.model = wire_format.model
        if wire_format.size > self._max:
            self.overflowed = True
            self._format = None

    def message(self) -> dict[str, Any] | None:
        """The message assembled so far, an error within it as ``error``.

        Returns:
            A message in the shape of the same provider's non-streaming answer, for reading only; None when
            the format is unknown, nothing came, or the assembly gave up.
        """
        if self.overflowed:
            return None
        message = None if self._format is None else self._format.message()
        if self._error is not None:
            message = message or {}
            message["error"] = message.get("error") or self._error
        return mended(message) if self._halves else message

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


def _format_of(event: Json) -> WireFormat | None:
    """The format that an event belongs to; None when it could be any."""
    kind = event.get("type")
    if isinstance(kind, str):
        if kind.startswith("response."):
            return OpenAIResponses()
        if kind.startswith(("message_", "content_block_")):
            return AnthropicMessages()
        if kind in COHERE_EVENTS:
            return CohereChat()
    if isinstance(event.get("choices"), list):
        return OpenAIChat()
    inner = event.get("response")
    answer = inner if isinstance(inner, dict) else event
    if "candidates" in answer or "usageMetadata" in answer or "promptFeedback" in answer:
        return GeminiGenerate()
    return _rarer_format_of(event)


def _rarer_format_of(event: Json) -> WireFormat | None:
    if isinstance(event.get("event_type"), str) and "is_finished" in event:
        return CohereChatV1()
    if not CONVERSE_EVENTS.isdisjoint(event):
        return BedrockConverse()
    if is_whole_answer(event):
        return WholeAnswer()
    is_ollama = isinstance(event.get("message"), dict) and "done" in event
    is_llama_cpp = isinstance(event.get("content"), str) and "stop" in event
    is_mistral = isinstance(event.get("outputs"), list)
    if is_ollama or is_llama_cpp or is_mistral or any(isinstance(event.get(key), str) for key in _TEXT_MEMBERS):
        return TextChunks()
    return None
