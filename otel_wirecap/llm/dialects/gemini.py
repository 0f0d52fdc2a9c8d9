"""Gemini's generateContent and streamGenerateContent, of the Gemini API and of Vertex AI.

Every event of a stream is a whole answer with the next parts. Sources: https://ai.google.dev/api/generate-content and
https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from collections.abc import Iterable
from typing import Any, Final

from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly, objects_in
from otel_wirecap.llm.dialects.partial_calls import PartialCall
from otel_wirecap.llm.text import GrowingText, keep_newest
from otel_wirecap.llm.usage import MAX_COUNT, Usage, usage_in

_TEXT_MEMBERS: Final = frozenset({"text", "thought", "thoughtSignature"})
"""The members of a part that is nothing but text."""

_EVENTS: Final = frozenset({"candidates", "promptFeedback", "usageMetadata"})
_MEMBER: Final = 64  # about what a member or a part takes beside its value


class GeminiGenerate:
    """Adds streamed answers up to one generateContent answer."""

    __slots__ = ("_answer", "_candidates", "_envelope", "model", "size")

    def __init__(self) -> None:
        self.model: str | None = None
        self.size = 0
        self._envelope: Json | None = None  # of Code Assist, which has the answer in a member "response"
        self._answer: Json = {}
        self._candidates: dict[int, _Candidate] = {}

    def add(self, event: Json, size: int) -> None:
        """See ``MessageAssembly.add``."""
        inner = event.get("response")
        if isinstance(inner, dict):
            if self._envelope is None:
                self._envelope = {key: value for key, value in event.items() if key != "error"}
                self.size += size
            event = inner
        for key, value in event.items():
            if key == "candidates":
                if isinstance(value, list):
                    self._add_candidates(value, size)
            elif key != "error" and value is not None:
                if key not in self._answer:
                    self.size += _MEMBER
                keep_newest(self._answer, key, value)
        if self.model is None:
            model = self._answer.get("modelVersion")
            self.model = model if isinstance(model, str) and model else None

    def message(self) -> Json | None:
        """See ``MessageAssembly.message``."""
        if not self._answer and not self._candidates:
            return None
        answer: Json = {}
        if self._candidates:
            answer["candidates"] = [self._candidates[index].value() for index in sorted(self._candidates)]
        answer.update(self._answer)
        return answer if self._envelope is None else {**self._envelope, "response": answer}

    def _add_candidates(self, candidates: list[Any], size: int) -> None:
        for position, candidate in enumerate(candidates):
            if not isinstance(candidate, dict):
                continue
            index = candidate.get("index")
            if not isinstance(index, int):
                index = position
            known = self._candidates.get(index)
            if known is None:
                known = self._candidates[index] = _Candidate()
                self.size += _MEMBER
            self.size += known.add(candidate, size)


class _Candidate:
    """One candidate: the parts of its content and what stands beside them."""

    __slots__ = ("_content", "_logprobs", "_members", "_parts")

    def __init__(self) -> None:
        self._members: Json = {}
        self._logprobs: dict[str, list[Any]] = {}
        self._content: Json | None = None
        self._parts: list[Json | _TextPart | PartialCall] = []

    def add(self, candidate: Json, size: int) -> int:
        """Takes the candidate's next parts; returns about by how much this grew."""
        grown = 0
        for key, value in candidate.items():
            if value is None:
                continue
            if key == "content" and isinstance(value, dict):
                grown += self._add_content(value, size)
            elif key == "logprobsResult" and isinstance(value, dict):
                grown += self._add_logprobs(value, size)
            else:
                grown += 0 if key in self._members else _MEMBER
                keep_newest(self._members, key, value)
        return grown

    def value(self) -> Json:
        """The candidate as a non-streaming answer has it."""
        if self._content is None:
            return dict(self._members)
        parts = [part if isinstance(part, dict) else part.value() for part in self._parts]
        content = {**self._content, "parts": parts} if parts else self._content
        return {"content": content, **self._members}

    def _add_content(self, content: Json, size: int) -> int:
        if self._content is None:
            self._content = {}
        grown = 0
        for key, value in content.items():
            if key == "parts" and isinstance(value, list):
                grown += sum(self._add_part(part, size) for part in value if isinstance(part, dict))
            elif key != "parts" and value is not None:
                keep_newest(self._content, key, value)
        return grown

    def _add_part(self, part: Json, size: int) -> int:
        call = part.get("functionCall")
        if isinstance(call, dict) and self._add_call(part, call):
            return size
        text = part.get("text")
        if type(text) is not str or not part.keys() <= _TEXT_MEMBERS:
            self._parts.append(part)
            return size
        last = self._parts[-1] if self._parts else None
        if isinstance(last, _TextPart) and last.takes(part):
            last.add(part, text)
            return len(text)
        if not text and last is not None and not part.get("thoughtSignature"):
            return 0  # an empty end of a part, not a part
        self._parts.append(_TextPart(part, text))
        return _MEMBER + len(text)

    def _add_call(self, part: Json, call: Json) -> bool:
        """Takes a function call, or a piece of one, that comes in pieces; returns whether it does."""
        last = self._parts[-1] if self._parts else None
        if isinstance(last, PartialCall) and last.takes(call):
            last.add(part, call)
        elif call.get("willContinue") or isinstance(call.get("partialArgs"), list):
            self._parts.append(PartialCall(part, call))
        else:
            return False
        return True

    def _add_logprobs(self, result: Json, size: int) -> int:
        """Takes the log probabilities of the new parts' tokens."""
        for key, value in result.items():
            if isinstance(value, list):
                self._logprobs.setdefault(key, []).extend(value)
        rest = {key: value for key, value in result.items() if not isinstance(value, list)}
        self._members["logprobsResult"] = {**rest, **self._logprobs}
        return size


class _TextPart:
    """A part of nothing but text, which the next events may continue until a signature closes it."""

    __slots__ = ("_members", "_text")

    def __init__(self, part: Json, text: str) -> None:
        self._members = part
        self._text = GrowingText(text)

    def takes(self, part: Json) -> bool:
        """Whether a part is the continuation of this one."""
        return not self._members.get("thoughtSignature") and bool(part.get("thought")) == bool(
            self._members.get("thought")
        )

    def add(self, part: Json, text: str) -> None:
        """Takes the continuation."""
        self._text.write(text)
        if part.get("thoughtSignature"):
            self._members = {**self._members, "thoughtSignature": part["thoughtSignature"]}

    def value(self) -> Json:
        """The part as a non-streaming answer has it."""
        return {**self._members, "text": self._text.getvalue()}


def _embedded(prediction: Json) -> int:
    """The tokens of a text that Vertex embedded (``statistics`` of its text embeddings)."""
    embeddings = prediction.get("embeddings")
    statistics = embeddings.get("statistics") if isinstance(embeddings, dict) else None
    count = statistics.get("token_count") if isinstance(statistics, dict) else None
    return int(count) if isinstance(count, int | float) and 0 <= count < MAX_COUNT else 0


class _Gemini(Dialect):
    name = "gemini"
    paths = (
        (r"(?::|%3A)(?:streamGenerateContent|generateContent)$", "generate_content"),
        (r"(?::|%3A)(?:embedContent|batchEmbedContents|asyncBatchEmbedContent)$", "embeddings"),
    )
    # models/{model}:verb, tunedModels/{model}:verb, and Vertex's endpoints/{id}:verb
    model_paths = (r"/(?:models|tunedModels|endpoints)/([^/]+?)(?::|%3A)[A-Za-z]+$",)
    stream_paths = (r"(?::|%3A)streamGenerateContent$",)
    parameter_members = ("generationConfig",)
    top_p_members = ("topP",)
    max_tokens_members = ("maxOutputTokens",)
    system_members = ("systemInstruction", "system_instruction")
    turn_members = ("contents",)
    cache_order = ("cachedContent", "systemInstruction", "system_instruction", "tools", "toolConfig", "contents")
    model_members = ("modelVersion",)
    model_holders = ("response",)
    id_members = ("responseId",)
    choice_members = (("candidates", "finishReason"),)
    structure = (
        "blockReason", "block_reason", "category", "createTime", "expireTime", "finishReason", "mimeType", "modality",
        "modelVersion", "probability", "responseModalities", "severity", "taskType", "thinkingLevel", "threshold",
        "trafficType", "updateTime",
    )  # fmt: skip
    index_members = ("candidate_index",)
    label_members = ("finishReason", "modality", "modelVersion", "responseId", "trafficType")

    def is_conversation(self, path: str, body: Json) -> bool:
        return isinstance(body.get("contents"), list | dict)

    def is_answer(self, body: Json) -> bool:
        return "candidates" in body or "usageMetadata" in body

    def choices(self, answer: Json) -> Iterable[tuple[Any, Any]]:
        return ((one.get("content"), one.get("finishReason")) for one in objects_in(answer.get("candidates")))

    def usage(self, answer: Json) -> Usage | None:
        inner = answer.get("response")  # of Code Assist, and of a batch
        holder = inner if isinstance(inner, dict) else answer
        usage = usage_in(holder.get("usageMetadata") or holder.get("usage_metadata"), holder)
        if usage is None and "predictions" in holder:
            return usage_in({"input_tokens": sum(_embedded(one) for one in objects_in(holder["predictions"]))})
        grounded = any(one.get("groundingMetadata") for one in objects_in(holder.get("candidates")))
        return usage._replace(unpriced="searches that an answer is grounded on") if usage and grounded else usage

    def ends(self, name: str, event: Json, finished: dict[int, bool]) -> bool:
        inner = event.get("response")
        answer = inner if isinstance(inner, dict) else event
        feedback = answer.get("promptFeedback")
        is_blocked = isinstance(feedback, dict) and bool(feedback.get("blockReason"))
        return is_blocked or super().ends(name, answer, finished)

    def assembly(self, event: Json) -> MessageAssembly | None:
        inner = event.get("response")
        answer = inner if isinstance(inner, dict) else event
        return None if _EVENTS.isdisjoint(answer) else GeminiGenerate()


DIALECT: Final = _Gemini()
