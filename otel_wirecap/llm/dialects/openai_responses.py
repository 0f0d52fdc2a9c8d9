"""OpenAI's Responses.

A stream's last event brings the whole response. Until then (a stream may be cut, and some servers leave the last
response's output empty) the output is put together from the items, their parts and their deltas.

Source: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from collections.abc import Iterable
from typing import Any, Final

from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly, objects_in
from otel_wirecap.llm.dialects.whole_answer import WholeAnswer
from otel_wirecap.llm.errors import error_in
from otel_wirecap.llm.text import GrowingText
from otel_wirecap.llm.usage import Usage, added, usage_in


class _Place:
    """Where in an output item a text grows; one place is another's equal only if it is the same object.

    Attributes:
        parts: the item's list of parts; None when the text is a member of the item itself.
        type: the type of the part, or of the item.
        member: the member that the text is.
        index: the member of an event that numbers the part.
    """

    __slots__ = ("index", "member", "parts", "type")

    def __init__(self, parts: str | None, type_: str, member: str, index: str = "content_index") -> None:
        self.parts, self.type, self.member, self.index = parts, type_, member, index


_DELTAS: Final = {
    "response.output_text": _Place("content", "output_text", "text"),
    "response.refusal": _Place("content", "refusal", "refusal"),
    "response.reasoning_text": _Place("content", "reasoning_text", "text"),
    "response.reasoning_summary_text": _Place("summary", "summary_text", "text", "summary_index"),
    "response.function_call_arguments": _Place(None, "function_call", "arguments"),
    "response.mcp_call_arguments": _Place(None, "mcp_call", "arguments"),
    "response.custom_tool_call_input": _Place(None, "custom_tool_call", "input"),
    "response.code_interpreter_call_code": _Place(None, "code_interpreter_call", "code"),
}
_PLACES: Final = {f"{name}.delta": place for name, place in _DELTAS.items()}
_WHOLE: Final = {f"{name}.done": place for name, place in _DELTAS.items()}
_PARTS: Final = {
    "response.content_part.added": ("content", "content_index"),
    "response.content_part.done": ("content", "content_index"),
    "response.reasoning_summary_part.added": ("summary", "summary_index"),
    "response.reasoning_summary_part.done": ("summary", "summary_index"),
}
_FINAL: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done"}
)
_MESSAGE_PARTS: Final = frozenset({"output_text", "refusal"})
_MEMBER: Final = 64  # about what a text or a part takes beside its value


class OpenAIResponses:
    """Adds Responses events up to a response."""

    __slots__ = ("_base_size", "_before", "_final", "_items", "_places", "_response", "model", "size")

    def __init__(self) -> None:
        self.model: str | None = None
        self.size = 0
        self._base_size = 0
        self._response: Json = {}
        self._final = False
        self._items: dict[int, _Item] = {}
        self._places: dict[int, int] = {}  # of items that have an index which another one has already
        self._before: Json = {}  # what the responses before the last add up to: gateways send several in one stream

    def add(self, event: Json, size: int) -> None:
        """See ``MessageAssembly.add``."""
        kind = event.get("type")
        if not isinstance(kind, str):
            return
        place = _PLACES.get(kind)
        if place is not None:
            delta = event.get("delta")
            if isinstance(delta, str):
                index = event.get(place.index)
                item = self._item(event)
                self.size += item.grow(place, index if type(index) is int else 0, delta)
            return
        response = event.get("response")
        if isinstance(response, dict):
            self._add_response(response, size, final=kind in _FINAL)
        elif kind in _WHOLE:
            whole = _WHOLE[kind]
            text = event.get(whole.member)
            if isinstance(text, str):
                item = self._item(event)
                self.size += item.settle(whole, _number(event, whole.index), text)
        else:
            self._add_structure(kind, event, size)

    def message(self) -> Json | None:
        """See ``MessageAssembly.message``."""
        if not self._response and not self._items:
            return self._before or None
        last = self._last()
        if not self._before:
            return last
        return {
            **last,
            "output": [*self._before["output"], *last.get("output", ())],
            "usage": added(self._before.get("usage") or {}, last.get("usage") or {}),
        }

    def _last(self) -> Json:
        if self._final and not self._items:
            return dict(self._response)
        known = self._response.get("output")
        output = dict(enumerate(known)) if isinstance(known, list) else {}
        output |= {index: item.value() for index, item in self._items.items()}
        return {
            "object": "response",
            **self._response,
            "output": [output[index] for index in sorted(output)],
        }

    def _add_response(self, response: Json, size: int, *, final: bool) -> None:
        """Takes a response as it stands; each one is newer than the last, and the final one is all."""
        if self._final and response.get("id") != self._response.get("id"):
            whole = self.message() or {}
            self._before = {"output": whole.get("output") or [], "usage": whole.get("usage")}
            self._final, self._base_size = False, 0
            self._items.clear()
            self._places.clear()
        if self._final and not final:
            return
        self._response = response
        self._final = final
        if final and response.get("output"):
            self._items.clear()
            self._places.clear()
            self.size = size
        else:
            self.size += size - self._base_size
        self._base_size = size
        model = response.get("model")
        if isinstance(model, str) and model:
            self.model = model

    def _add_structure(self, kind: str, event: Json, size: int) -> None:
        """Takes an item, a part of one, or an annotation."""
        if kind in {"response.output_item.added", "response.output_item.done"}:
            value = event.get("item")
            if isinstance(value, dict):
                item = self._item(event)
                if kind.endswith("added") and item.is_another(value):
                    self._places[_number(event, "output_index")] = max(self._items) + 1
                    item = self._item(event)
                self.size += item.renew(value, size)
        elif kind in _PARTS:
            parts, index = _PARTS[kind]
            value = event.get("part")
            if isinstance(value, dict):
                self.size += self._item(event).renew_part((parts, _number(event, index)), value, size)
        elif kind == "response.output_text.annotation.added":
            key = ("content", _number(event, "content_index"))
            self.size += self._item(event).annotate(key, event.get("annotation"), size)

    def _item(self, event: Json) -> "_Item":
        index = _number(event, "output_index")
        index = self._places.get(index, index)
        item = self._items.get(index)
        if item is None:
            item = self._items[index] = _Item()
            self.size += _MEMBER
        return item


class _Item:
    """One output item: its newest form, with the texts and parts that came since."""

    __slots__ = ("_annotations", "_parts", "_size", "_texts", "_value")

    def __init__(self) -> None:
        self._value: Json = {}
        self._size = 0
        self._parts: dict[tuple[str, int], Json] = {}
        self._annotations: dict[tuple[str, int], list[Any]] = {}
        self._texts: dict[tuple[_Place, int], GrowingText] = {}

    def is_another(self, value: Json) -> bool:
        """Whether an item is not this one, by their ids."""
        known, ident = self._value.get("id"), value.get("id")
        return bool(known and ident and known != ident)

    def grow(self, place: _Place, index: int, delta: str) -> int:
        """Takes a text's next piece; returns, as all the methods do, about by how much this grew."""
        text = self._texts.get((place, index))
        grown = len(delta)
        if text is None:
            text = self._texts[place, index] = GrowingText()
            grown += _MEMBER
        text.write(delta)
        self._size += grown
        return grown

    def settle(self, place: _Place, index: int, whole: str) -> int:
        """Takes a text that is complete."""
        text = self._texts.get((place, index))
        grown = len(whole) + (_MEMBER if text is None else -text.tell())
        self._texts[place, index] = GrowingText(whole)
        self._size += grown
        return grown

    def renew(self, value: Json, size: int) -> int:
        """Takes the item as it stands now, in place of all that came before."""
        grown = size - self._size
        self._value = value
        self._size = size
        self._parts.clear()
        self._annotations.clear()
        self._texts.clear()
        return grown

    def renew_part(self, key: tuple[str, int], part: Json, size: int) -> int:
        """Takes a part as it stands now."""
        grown = size
        for known in [known for known in self._texts if (known[0].parts, known[1]) == key]:
            grown -= self._texts.pop(known).tell()
        self._annotations.pop(key, None)
        self._parts[key] = part
        self._size += grown
        return grown

    def annotate(self, key: tuple[str, int], annotation: object, size: int) -> int:
        """Takes an annotation of a part."""
        self._annotations.setdefault(key, []).append(annotation)
        self._size += size
        return size

    def value(self) -> Json:
        """The item as a response has it."""
        value = dict(self._value)
        parts: dict[str, dict[int, Json]] = {}
        for name in ("content", "summary"):
            known = value.get(name)
            if isinstance(known, list):
                parts[name] = {i: dict(part) for i, part in enumerate(known) if isinstance(part, dict)}
        for (name, index), part in self._parts.items():
            parts.setdefault(name, {})[index] = dict(part)
        for (place, index), text in self._texts.items():
            if place.parts is None:
                value.setdefault("type", place.type)
                value[place.member] = text.getvalue()
            else:
                value.setdefault("type", "message" if place.type in _MESSAGE_PARTS else "reasoning")
                part = parts.setdefault(place.parts, {}).setdefault(index, {"type": place.type})
                part[place.member] = text.getvalue()
        for (name, index), annotations in self._annotations.items():
            part = parts.setdefault(name, {}).setdefault(index, {"type": "output_text"})
            known = part.get("annotations")
            part["annotations"] = [*(known if isinstance(known, list) else []), *annotations]
        for name, by_index in parts.items():
            value[name] = [by_index[index] for index in sorted(by_index)]
        return value


def _number(event: Json, key: str) -> int:
    number = event.get(key)
    return number if isinstance(number, int) else 0


def parts_of(item: Json) -> list[Any]:
    """An item of the output, or of the input, as parts of a message."""
    content = item.get("content")
    if item.get("type") != "message":
        return [item]
    return content if isinstance(content, list) else []


def _action(call: Json) -> object:
    """What a search did: only a search is billed, not to open a page; older answers do not say."""
    action = call.get("action")
    return action.get("type", "search") if isinstance(action, dict) else "search"


class _OpenAIResponses(Dialect):
    name = "openai-responses"
    event_types = ("response.",)
    paths = ((r"/responses$", "chat"),)
    max_tokens_members = ("max_output_tokens",)
    system_members = ("instructions",)
    turn_members = ("input",)
    prompt_members = ("input",)
    cache_order = ("previous_response_id", "tools", "instructions", "input")
    model_holders = ("response",)
    end_marks = (("type", tuple(sorted(_FINAL))),)
    structure = ("completed_at", "include", "truncation", "verbosity")
    index_members = ("content_index", "item_id", "output_index", "summary_index")
    label_members = ("call_id", "event_id")

    def is_conversation(self, path: str, body: Json) -> bool:
        return "input" in body and "messages" not in body and path.rstrip("/").endswith("/responses")

    def is_answer(self, body: Json) -> bool:
        return isinstance(body.get("output"), list)

    def choices(self, answer: Json) -> Iterable[tuple[Any, Any]]:
        details = answer.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        parts = [part for item in objects_in(answer.get("output")) for part in parts_of(item)]
        return (({"content": parts}, reason or answer.get("status")),)

    def usage(self, answer: Json) -> Usage | None:
        holder = answer.get("response")
        holder = holder if isinstance(holder, dict) else answer
        usage = usage_in(holder.get("usage"), holder)
        calls = [item for item in objects_in(holder.get("output")) if item.get("type") == "web_search_call"]
        searches = sum(1 for call in calls if _action(call) == "search")
        return usage if usage is None or not searches else usage._replace(web_searches=searches)

    def assembly(self, event: Json) -> MessageAssembly | None:
        kind = event.get("type")
        if isinstance(kind, str) and kind.startswith("response."):
            return OpenAIResponses()
        return WholeAnswer() if event.get("object") == "response" and self.is_answer(event) else None

    def error_in(self, name: str, event: Json) -> object:
        inner = event.get("response")
        response = inner if isinstance(inner, dict) else event
        failed = event.get("type") == "response.failed" or response.get("status") == "failed"
        return error_in(name, event) or response.get("error") or ({"type": "response.failed"} if failed else None)


DIALECT: Final = _OpenAIResponses()
