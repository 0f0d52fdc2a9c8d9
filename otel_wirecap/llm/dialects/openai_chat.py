"""OpenAI's chat completions, and those of all who speak the format.

Source: https://platform.openai.com/docs/api-reference/chat-streaming. Beyond it: Azure's first chunk without
id and model, Groq's usage in ``x_groq``, Mistral's content parts, DeepSeek's ``reasoning_content``,
OpenRouter's ``reasoning_details``, Moonshot's usage in the choice, and the older text completions.
"""

from collections.abc import Iterable
from typing import Any, Final

from otel_wirecap.llm.dialects.deltas import DeltaObject
from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly, objects_in
from otel_wirecap.llm.errors import error_in
from otel_wirecap.llm.text import GrowingText, keep_newest
from otel_wirecap.llm.usage import Usage, usage_in

_HEAD: Final = ("id", "object", "created", "model")  # the first that is not empty counts
_NOT_KEPT: Final = frozenset({"choices", "error", "obfuscation"})
_MEMBER: Final = 64  # about what a member takes beside its value


class OpenAIChat:
    """Adds chat completion chunks up to a chat completion."""

    __slots__ = ("_choices", "_extra", "_head", "_settled", "model", "size")

    def __init__(self) -> None:
        self.model: str | None = None
        self.size = 0
        self._head: Json = {}
        self._extra: Json = {}
        self._settled = set(_NOT_KEPT)  # top-level members that need no look any more
        self._choices: dict[int, _Choice] = {}

    def add(self, event: Json, size: int) -> None:
        """See ``MessageAssembly.add``."""
        choices = event.get("choices")
        if type(choices) is list:
            for position, choice in enumerate(choices):
                if type(choice) is dict:
                    index = choice.get("index")
                    if type(index) is not int:
                        index = position
                    known = self._choices.get(index)
                    if known is None:
                        known = self._choices[index] = _Choice()
                        self.size += _MEMBER
                    self.size += known.add(choice, size)
        settled = self._settled
        extra = self._extra
        for key, value in event.items():
            if value is not None and key not in settled and extra.get(key) != value:
                self._add_top(key, value)

    def message(self) -> Json | None:
        """See ``MessageAssembly.message``."""
        choices = [self._choices[index].value(index) for index in sorted(self._choices)]
        if not choices and not self._head and not self._extra:
            return None
        kind = self._head.get("object")
        message = {
            "id": self._head.get("id", ""),
            # Azure's first chunk has an empty object, and some servers have none at all.
            "object": kind.removesuffix(".chunk") if isinstance(kind, str) and kind else "chat.completion",
            "created": self._head.get("created", 0),
            "model": self._head.get("model", ""),
            "choices": choices,
            **self._extra,
        }
        if not message.get("usage"):
            usage = self._usage_elsewhere(choices)
            if usage:
                message["usage"] = usage
        return message

    def _add_top(self, key: str, value: Any) -> None:
        if key in _HEAD:
            self._head[key] = value
            if value:
                self._settled.add(key)
                if key == "model" and isinstance(value, str):
                    self.model = value
            return
        known = self._extra.get(key)
        if key not in self._extra:
            self.size += _MEMBER
        if key == "x_groq" and isinstance(known, dict) and isinstance(value, dict):
            self._extra[key] = known | value
        else:
            keep_newest(self._extra, key, value)

    def _usage_elsewhere(self, choices: list[Json]) -> object:
        """The usage of providers that don't have it at the top: in Groq's member, in a choice."""
        for holder in (self._extra.get("x_groq"), *choices):
            if isinstance(holder, dict) and holder.get("usage"):
                return holder["usage"]
        return None


class _Choice:
    """One choice: its message and what stands beside it."""

    __slots__ = ("_extra", "_finish_reason", "_logprobs", "_message", "_text", "_whole")

    def __init__(self) -> None:
        self._message = DeltaObject()
        self._text: GrowingText | None = None  # of a text completion
        self._whole: Json | None = None  # a message that came as such, beside or instead of deltas
        self._logprobs: Json | None = None
        self._finish_reason: object = None
        self._extra: Json = {}

    def add(self, choice: Json, size: int) -> int:
        """Takes the choice's part of a chunk; returns about by how much this grew."""
        grown = 0
        for key, value in choice.items():
            if value is None or key == "index":
                continue
            if key == "delta":
                if type(value) is dict:
                    grown += self._message.add(value, size)
            else:
                grown += self._add_other(key, value, size)
        return grown

    def value(self, index: int) -> Json:
        """The choice as a non-streaming answer has it."""
        value: Json = {"index": index}
        if self._text is not None:
            value["text"] = self._text.getvalue()
        else:
            value["message"] = self._message_value()
        value["logprobs"] = self._logprobs
        value["finish_reason"] = self._finish_reason
        value.update(self._extra)
        return value

    def _message_value(self) -> Json:
        deltas = self._message.value()
        if not deltas and self._whole is not None:
            return self._whole
        message = {"role": "assistant", "content": None, **deltas}
        if message.get("refusal") == "":  # says nothing in a stream, but much in a message
            message["refusal"] = None
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            for call in calls:
                if isinstance(call, dict):
                    call.pop("index", None)  # is a stream's alone; the call is ours, made by value()
        return message

    def _add_other(self, key: str, value: Any, size: int) -> int:
        if key == "finish_reason":
            self._finish_reason = value or self._finish_reason  # an empty one says nothing
        elif key == "text" and isinstance(value, str):
            if self._text is None:
                self._text = GrowingText()
            self._text.write(value)
            return len(value)
        elif key == "logprobs" and isinstance(value, dict):
            return self._add_logprobs(value, size)
        elif key == "message":
            self._whole = value if isinstance(value, dict) else None
        else:
            known = key in self._extra
            keep_newest(self._extra, key, value)
            return 0 if known else _MEMBER
        return 0

    def _add_logprobs(self, logprobs: Json, size: int) -> int:
        if self._logprobs is None:
            self._logprobs = {}
        grown = 0
        for key, value in logprobs.items():
            known = self._logprobs.get(key)
            if isinstance(known, list) and isinstance(value, list):
                known.extend(value)
                grown = size
            elif isinstance(value, list):
                self._logprobs[key] = list(value)
                grown = size
            elif value is not None or key not in self._logprobs:
                self._logprobs[key] = value
        return grown


class _OpenAIChat(Dialect):
    name = "openai-chat"
    paths = ((r"/(?:chat|agents)/completions$", "chat"), (r"/embeddings$", "embeddings"))
    model_paths = (
        # Azure's deployments, and the older engines of OpenAI
        r"/(?:deployments|engines)/([^/]+)/(?:chat|completions|embeddings|images|audio|responses|messages"
        r"|extensions|realtime|rerank)(?:/|$)",
    )
    max_tokens_members = ("max_tokens", "max_completion_tokens")
    turn_members = ("messages",)
    cache_order = ("tools", "functions", "messages")
    choice_members = (("choices", "finish_reason"),)
    structure = ("finish_reason", "native_finish_reason", "object", "reasoning_effort", "system_fingerprint")
    index_members = ("choice_index",)
    label_members = ("finish_reason", "object", "system_fingerprint")

    def is_conversation(self, path: str, body: Json) -> bool:
        return isinstance(body.get("messages"), list)

    def is_answer(self, body: Json) -> bool:
        return isinstance(body.get("choices"), list)

    def choices(self, answer: Json) -> Iterable[tuple[Any, Any]]:
        for choice in objects_in(answer.get("choices")):
            yield choice.get("message") or {"content": choice.get("text")}, choice.get("finish_reason")

    def usage(self, answer: Json) -> Usage | None:
        groq, choices = answer.get("x_groq"), answer.get("choices")
        last = choices[-1] if isinstance(choices, list) and choices else None  # Moonshot
        for holder in (answer, groq, last):
            usage = usage_in(holder.get("usage"), answer) if isinstance(holder, dict) else None
            if usage is not None:
                return usage
        return None

    def error_in(self, name: str, event: Json) -> object:
        error = error_in(name, event)
        if error is not None:
            return error
        for choice in objects_in(event.get("choices")):  # OpenRouter's, Mistral's
            if choice.get("error") or choice.get("finish_reason") == "error":
                return choice.get("error") or {"message": "finish_reason: error"}
        return None

    def assembly(self, event: Json) -> MessageAssembly | None:
        return OpenAIChat() if self.is_answer(event) else None


DIALECT: Final = _OpenAIChat()
