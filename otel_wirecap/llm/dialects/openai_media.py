"""OpenAI's speech, transcriptions and images as streams of events.

Source: openai.types.audio (SpeechAudioDoneEvent, TranscriptionTextDoneEvent, …), openai.types.ImageGenCompletedEvent
and ImageEditCompletedEvent.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly
from otel_wirecap.llm.text import GrowingText
from otel_wirecap.llm.usage import Usage, added, usage_in

_EVENTS: Final = ("speech.audio.", "transcript.text.", "image_generation.", "image_edit.")
_LAST: Final = ("image_edit.completed", "image_generation.completed", "speech.audio.done", "transcript.text.done")
_MEMBER: Final = 64  # about what a member takes beside its value


class MediaAnswer:
    """Adds the events up to a transcription, to images, or to speech, whose audio is a member ``audio``."""

    __slots__ = ("_answer", "_audio", "_images", "_logprobs", "_segments", "_text", "_usage", "model", "size")

    def __init__(self) -> None:
        self.model: str | None = None  # which no event names
        self.size = 0
        self._answer: Json = {}
        self._text: GrowingText | None = None
        self._audio: list[bytes] = []
        self._logprobs: list[Any] = []
        self._segments: list[Json] = []
        self._images: list[Json] = []
        self._usage: Json = {}

    def add(self, event: Json, size: int) -> None:
        """See ``MessageAssembly.add``; images that are not complete are replaced by those that are."""
        kind = str(event.get("type"))
        usage = event.get("usage")
        if isinstance(usage, dict):
            self._usage = added(self._usage, usage)
        members = {name: value for name, value in event.items() if name not in ("type", "usage", "delta", "text")}
        if kind == "transcript.text.segment":
            self._segments.append({name: value for name, value in event.items() if name != "type"})
        elif kind.startswith("transcript."):
            self._add_text(event, members)
        elif kind.startswith("speech."):
            audio = event.get("audio")
            if isinstance(audio, str):
                self._add_audio(audio)
        elif kind.endswith(".completed"):
            self._answer["created"] = members.pop("created_at", 0)
            self._images.append(members)
        else:
            return
        self.size += size

    def message(self) -> Json | None:
        """See ``MessageAssembly.message``."""
        answer = dict(self._answer)
        if self._text is not None:
            answer["text"] = self._text.getvalue()
        for name, values in (("logprobs", self._logprobs), ("segments", self._segments), ("data", self._images)):
            if values:
                answer[name] = list(values)
        if self._audio:
            answer["audio"] = base64.b64encode(b"".join(self._audio)).decode()
        if self._usage:
            answer["usage"] = dict(self._usage)
        return answer or None

    def _add_text(self, event: Json, members: Json) -> None:
        whole, delta = event.get("text"), event.get("delta")
        logprobs = members.pop("logprobs", None)
        if isinstance(whole, str):
            self._text, self._logprobs = GrowingText(whole), []
        elif isinstance(delta, str):
            self._text = self._text or GrowingText()
            self._text.write(delta)
        if isinstance(logprobs, list):
            self._logprobs += logprobs
        self._answer.update(members)

    def _add_audio(self, audio: str) -> None:
        try:
            self._audio.append(base64.b64decode(audio, validate=True))
        except (binascii.Error, ValueError):
            return


class _OpenAIMedia(Dialect):
    name = "openai-media"
    event_types = _EVENTS
    end_marks = (("type", _LAST),)

    def usage(self, answer: Json) -> Usage | None:
        return usage_in(answer.get("usage"), answer)

    def assembly(self, event: Json) -> MessageAssembly | None:
        return MediaAnswer() if str(event.get("type")).startswith(_EVENTS) else None


DIALECT: Final = _OpenAIMedia()
