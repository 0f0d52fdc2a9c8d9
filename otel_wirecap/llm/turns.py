"""The turns of a conversation in one form for all protocols.

Protocols cut a conversation into messages in different ways: the result of a tool is a message of its own, an item, or
a part of the user's message, with an image in it or behind it; what follows one another of one side is one message or
several. So a turn is here all that one side says until the other one speaks: its words, and in lists of their own what
it calls, returns and shows.

Whatever the shape of a body, nothing here raises.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Self

from otel_wirecap.llm.dialects.interface import Json
from otel_wirecap.llm.dialects.words import SYSTEM_ROLES
from otel_wirecap.llm.text import json_or_text

_ASSISTANTS: Final = frozenset({"assistant", "model"})
_NOT_SAID: Final = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoningContent", "cachePoint"})
_SIGNATURES: Final = frozenset({"thoughtSignature", "thought_signature"})
_MEDIA: Final = {
    "image_url": "image", "input_image": "image", "image": "image", "input_audio": "audio", "audio": "audio",
    "video_url": "video", "video": "video", "input_file": "document", "file": "document", "document": "document",
    "inlineData": "document", "fileData": "document",
}  # fmt: skip
"""What a part shows, by its type or the name of its only member."""
_CALLS: Final = ("function", "custom", "functionCall", "toolUse")
_RESULT_TYPES: Final = frozenset({"tool_result", "function_call_output", "custom_tool_call_output"})
_RESULT_HOLDERS: Final = ("functionResponse", "toolResult")
_WRAPPERS: Final = frozenset({"output", "result", "content", "response", "error", "text", "json"})
"""The only member of an object in which gateways wrap a result that is no object, for protocols that want one."""
_HELD: Final = ("data", "bytes", "fileData", "url", "imageUrl", "fileUrl", "fileUri", "uri", "fileId")
_KINDS: Final = frozenset({"image", "audio", "video"})
_SCHEME: Final = 12  # characters within which a URL has its colon
_BASE64: Final = str.maketrans("-_", "+/", "=\r\n")
_JOINTS: Final = ("\n", "", "\n\n", " ")
_MAX_DEPTH: Final = 8


class Words(str):
    """A text in parts, joined by line breaks.

    Attributes:
        parts: the parts, none of them empty.
    """

    __slots__ = ("parts",)

    parts: tuple[str, ...]

    def __new__(cls, parts: Iterable[str]) -> Self:
        """Joins the parts."""
        kept = tuple(filter(None, parts))
        words = super().__new__(cls, "\n".join(kept))
        words.parts = kept
        return words


def same_words(one: object, other: object) -> bool:
    """Whether two texts differ at most in how their parts were joined."""
    if not isinstance(one, Words) or not isinstance(other, Words):
        return False
    return not {joint.join(one.parts) for joint in _JOINTS}.isdisjoint(joint.join(other.parts) for joint in _JOINTS)


def turns_of(messages: Iterable[tuple[Any, Any]]) -> tuple[Words, list[Json]]:
    """A conversation's system prompt and turns.

    Args:
        messages: of each the role and the message, an object with its content; or only the content.

    Returns:
        The words of all system messages, wherever they are, and of each turn ``role`` (``user`` or ``assistant``),
        ``text``, and where there are any ``tool_calls`` (``name``, ``arguments``), ``tool_results``, ``media``
        (``type`` with ``sha256`` and ``bytes``, or ``url``), and ``parts``: the kinds of all others. What the model
        thought is left out.
    """
    system: list[str] = []
    turns: list[tuple[str, list[tuple[str, Any]]]] = []
    for role, message in messages:
        found = [*_said(message, is_result=role in ("tool", "function"))]
        if isinstance(role, str) and role in SYSTEM_ROLES:
            system += [value for kind, value in found if kind == "text"]
            continue
        side = "assistant" if isinstance(role, str) and role in _ASSISTANTS else "user"
        if found and (not turns or turns[-1][0] != side):
            turns.append((side, []))
        if found:
            turns[-1][1].extend(found)
    return Words(system), [_turn(side, found) for side, found in turns]


def _turn(side: str, found: list[tuple[str, Any]]) -> Json:
    turn: Json = {"role": side, "text": Words(value for kind, value in found if kind == "text")}
    for name in ("tool_calls", "tool_results", "media", "parts"):
        values = [value for kind, value in found if kind == name]
        if values:
            turn[name] = values
    return turn


def _said(message: Any, *, is_result: bool = False) -> Iterator[tuple[str, Any]]:
    """What a message says, each with its kind: ``text``, or the member of a turn."""
    if not isinstance(message, dict):
        message = {"content": message}
    content = message.get("content", message.get("parts"))
    if is_result:
        yield from _result(content, 0)
    else:
        yield from _parts(content, 0)
    if isinstance(message.get("refusal"), str):
        yield "text", message["refusal"]
    for image in _list(message.get("images")):  # Ollama's data, and the answers of gateways to image models
        yield "media", _medium("image", image)
    calls = _list(message.get("tool_calls")) or [{"function": message.get("function_call")}]
    yield from (("tool_calls", call) for call in map(_call, calls) if call is not None)


def _parts(content: Any, depth: int) -> Iterator[tuple[str, Any]]:
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            if part:
                yield "text", part
        elif isinstance(part, dict) and depth < _MAX_DEPTH:
            yield from _part(part, depth)


def _part(part: Json, depth: int) -> Iterator[tuple[str, Any]]:
    kind = part.get("type")
    if not isinstance(kind, str):
        # Gemini takes both spellings.
        part = {_camel_case(name): value for name, value in part.items() if name not in _SIGNATURES}
        kind = next((name for name in part if name in _MEDIA), "")
    holder = next((part[name] for name in _RESULT_HOLDERS if isinstance(part.get(name), dict)), None)
    call = _call(part)
    if part.get("thought") is True or kind in _NOT_SAID or not _NOT_SAID.isdisjoint(part):
        return
    if isinstance(part.get("text"), str):
        yield from _parts(part["text"], depth)
    elif kind in _RESULT_TYPES or holder is not None:
        held = holder or part
        value = next((held[name] for name in ("content", "output", "response") if name in held), "")
        yield from _result(value, depth + 1)
        yield from _parts(_list(held.get("parts")), depth + 1)  # Gemini has there what a result shows
    elif call is not None:
        yield "tool_calls", call
    elif "json" in part:
        yield "text", _spelt(part["json"])
    elif kind == "refusal":
        yield from _parts(part.get("refusal"), depth)
    elif kind in _MEDIA:
        source = part.get("source")
        if isinstance(source, dict) and source.get("type") in ("text", "content"):
            yield from _parts(source.get("data", source.get("content")), depth + 1)
        else:
            yield "media", _medium(_MEDIA[kind], source or part.get(kind) or part)
    elif part:
        yield "parts", kind or next(iter(part))


def _result(content: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """A tool's result, and what it shows."""
    if not isinstance(content, list):
        yield "tool_results", _plain(content)
        return
    found = [*_parts(content, depth)]
    texts = [value for kind, value in found if kind == "text"]
    if all(kind != "tool_results" for kind, _ in found):  # else it is Gemini's message of results
        yield "tool_results", Words(texts) if len(texts) > 1 else _plain("".join(texts))
    yield from (one for one in found if one[0] != "text")


def _plain(value: Any, depth: int = 0) -> Any:
    """A tool's result as JSON or as words, whichever it is, without what it was wrapped in."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        value = json_or_text(value)
    if isinstance(value, dict) and len(value) == 1 and depth < _MAX_DEPTH and not _WRAPPERS.isdisjoint(value):
        return _plain(next(iter(value.values())), depth + 1)
    if isinstance(value, dict) or (isinstance(value, list) and value):
        return value
    return Words([value if isinstance(value, str) else _spelt(value or "")])


def _call(part: Any) -> Json | None:
    """A call of a tool, its name and arguments; None where the part is none."""
    if not isinstance(part, dict):
        return None
    held = next((part[name] for name in _CALLS if isinstance(part.get(name), dict)), None)
    if held is None and part.get("type") in ("tool_use", "function_call", "custom_tool_call"):
        held = part
    if held is None:
        return None
    given: Any = next((held[name] for name in ("arguments", "args", "input") if held.get(name)), {})
    return {"name": held.get("name"), "arguments": json_or_text(given) if isinstance(given, str) else given}


def _medium(kind: str, holder: Any) -> Json:
    """What is shown: inline data by its digest, all else by where it is."""
    for name in ("source", "image_url", "file"):
        if isinstance(holder, dict) and isinstance(holder.get(name), dict | str):
            holder = holder[name]
    if isinstance(holder, str):
        holder = {"url" if ":" in holder[:_SCHEME] else "data": holder}
    if not isinstance(holder, dict):
        return {"type": kind}
    holder = {_camel_case(name): value for name, value in holder.items()}
    held = [(name, holder[name]) for name in _HELD if isinstance(holder.get(name), str)]
    name, value = next(iter(held), ("", ""))
    label = holder.get("mimeType", holder.get("mediaType"))
    if value.startswith("data:"):
        label, _, value = value.removeprefix("data:").partition(",")
        name = "data"
    if kind == "document" and isinstance(label, str) and label.partition("/")[0] in _KINDS:
        kind = label.partition("/")[0]
    if name not in ("data", "bytes", "fileData"):
        return {"type": kind, "url": value} if value else {"type": kind}
    digits = value.translate(_BASE64)
    return {
        "type": kind, "sha256": hashlib.sha256(digits.encode("utf-8", "replace")).hexdigest()[:16],
        "bytes": len(digits) * 3 // 4,
    }  # fmt: skip


def _camel_case(name: Any) -> Any:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name) if isinstance(name, str) else name


def _spelt(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
