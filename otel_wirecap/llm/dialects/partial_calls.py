"""Function calls whose arguments come in pieces, each with the place that it has among them.

Source: google.genai.types.PartialArg; the paths are those of RFC 9535, of which there are names and indices here.
"""

from __future__ import annotations

import re
from typing import Any, Final

from otel_wirecap.llm.dialects.interface import Json, objects_in
from otel_wirecap.llm.text import GrowingText

_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[([0-9]{1,4})\]|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]")
_VALUES: Final = ("stringValue", "numberValue", "boolValue", "nullValue")
_PIECES: Final = frozenset({"args", "partialArgs", "willContinue"})
_MAX_STEPS: Final = 100


class PartialCall:
    """A function call, with what its pieces add up to."""

    def __init__(self, part: Json, call: Json) -> None:
        self._part: Json = {}
        self._call: Json = {}
        self._args: Any = {}
        self._lost: list[Json] = []  # pieces whose place is not understood
        self._growing: str | None = None  # the path of the text that goes on
        self._continues = True
        self.add(part, call)

    def takes(self, call: Json) -> bool:
        """Whether what comes next is a piece of this call."""
        same = all(call.get(name) in (None, "", self._call.get(name)) for name in ("name", "id"))
        return self._continues and same

    def add(self, part: Json, call: Json) -> None:
        """Takes the next piece, which is in a part of its own."""
        self._part |= part
        self._call |= {name: value for name, value in call.items() if name not in _PIECES}
        if isinstance(call.get("args"), dict):
            self._args |= call["args"]
        for piece in objects_in(call.get("partialArgs")):
            path = str(piece.get("jsonPath"))
            name = next((name for name in _VALUES if name in piece), None)
            value = None if name == "nullValue" else piece.get(name or "")
            if not self._set(path, value):
                self._lost.append(piece)
            self._growing = path if piece.get("willContinue") else None
        self._continues = bool(call.get("willContinue"))

    def value(self) -> Json:
        """The part as an answer that is not streamed has it."""
        call = {**self._call, "args": _whole(self._args)}
        return {**self._part, "functionCall": {**call, "partialArgs": self._lost} if self._lost else call}

    def _set(self, path: str, value: Any) -> bool:
        """Puts a value where a path says; returns whether that is possible."""
        steps = _steps(path)
        if not steps:
            return False
        holder = {"": self._args}
        place: Any = holder
        key: Any = ""
        for step in steps:
            inner = _member(place, key)
            if not isinstance(inner, list if isinstance(step, int) else dict):
                inner = [] if isinstance(step, int) else {}
                _put(place, key, inner)
            place, key = inner, step
        known = _member(place, key)
        if isinstance(value, str):
            if path == self._growing and isinstance(known, GrowingText):
                known.write(value)
                return True
            value = GrowingText(value)
        _put(place, key, value)
        self._args = holder[""]
        return True


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    place = 1
    while path.startswith("$") and place < len(path) and len(steps) < _MAX_STEPS:
        step = _STEP.match(path, place)
        if step is None:
            return []
        name = next(group for group in step.groups() if group is not None)
        steps.append(int(name) if step[2] is not None else name)
        place = step.end()
    return steps if place == len(path) else []


def _member(holder: Any, key: Any) -> Any:
    if isinstance(holder, dict):
        return holder.get(key)
    return holder[key] if key < len(holder) else None


def _put(holder: Any, key: Any, value: Any) -> None:
    if isinstance(holder, list):
        holder.extend([None] * (key + 1 - len(holder)))
    holder[key] = value


def _whole(value: Any) -> Any:
    if isinstance(value, GrowingText):
        return value.getvalue()
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return [_whole(one) for one in value] if isinstance(value, list) else value
