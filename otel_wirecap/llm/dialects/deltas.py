"""JSON objects that come as deltas, as the OpenAI chat format and all who speak it send them.

A delta names the members that grow. Which way they grow, the format does not say; the providers' practice is:

- strings continue, but for the labels (``id``, ``role``, …), which come once or are repeated, and names, which come
  once, in pieces, or are repeated whole;
- objects grow by the same rules, member by member;
- elements of a list are told apart by their ``index``; where there is none, text continues text of the same
  type, and anything else is an element of its own;
- of anything else the last one counts, and null says nothing.
"""

from typing import Any, Final

from otel_wirecap.llm.dialects.interface import Json
from otel_wirecap.llm.text import GrowingText

_LABELS: Final = frozenset({"call_id", "channel", "format", "id", "index", "object", "role", "signature", "type"})
_GROWING_LISTS: Final = frozenset({"content", "reasoning_details", "thinking", "tool_calls"})
"""Lists whose elements come in pieces. Of other lists an element with a known index is a newer form of it."""

_TEXT_TYPES: Final = frozenset({"reasoning.summary", "reasoning.text", "text", "thinking"})
_DEPTH: Final = 8  # that deltas may nest; below it, the last value counts
_MEMBER: Final = 64  # about what a member takes beside its value


class DeltaObject:
    """A JSON object that grows by deltas."""

    __slots__ = ("_depth", "_members", "_texts")

    def __init__(self, depth: int = _DEPTH) -> None:
        self._depth = depth
        self._members: Json = {}
        self._texts: dict[str, GrowingText] = {}  # of the members, those that are text

    def add(self, delta: Json, size: int) -> int:
        """Takes the next delta.

        Args:
            delta: the delta.
            size: the bytes of JSON that it came in.

        Returns:
            About by how much this object grew, in characters and bytes.
        """
        grown = 0
        texts = self._texts
        for name, piece in delta.items():
            text = texts.get(name)
            if text is not None and type(piece) is str:
                text.write(piece)
                grown += len(piece)
            elif piece is not None:
                grown += self._add_member(name, piece, size)
        return grown

    def get(self, name: str) -> Any:
        """A label or a number among the members; None where there is none."""
        return self._members.get(name)

    def child(self, name: str) -> "DeltaObject | None":
        """An object among the members."""
        member = self._members.get(name)
        return member if isinstance(member, DeltaObject) else None

    def value(self) -> Json:
        """The object as it stands."""
        return {name: _value(member) for name, member in self._members.items()}

    def _add_member(self, name: str, piece: Any, size: int) -> int:
        """Takes a piece of a member that is new, or is not text."""
        member = self._members.get(name)
        if isinstance(piece, str):
            if isinstance(member, DeltaList):
                return member.add([{"type": "text", "text": piece}] if piece else [], size)
            if name == "name":  # no text that grows by every piece: some send it whole with each
                known = member if isinstance(member, str) else ""
                self._members[name] = known if known == piece else known + piece
                return _MEMBER + len(piece) if member is None else 0
            if name in _LABELS:
                self._members[name] = member or piece
                return _MEMBER + len(piece) if member is None else 0
            self._members[name] = self._texts[name] = GrowingText(piece)
            return _MEMBER + len(piece)
        if isinstance(piece, dict) and self._depth:
            if not isinstance(member, DeltaObject):
                member = self._replace(name, DeltaObject(self._depth - 1))
            return _MEMBER + int(member.add(piece, size))
        if isinstance(piece, list) and self._depth:
            grown = 0
            if not isinstance(member, DeltaList):
                text = self._texts.get(name)
                member = self._replace(name, DeltaList(self._depth - 1, grows=name in _GROWING_LISTS))
                if text is not None and text.tell():
                    grown = member.add([{"type": "text", "text": text.getvalue()}], size)
            return grown + int(member.add(piece, size))
        self._replace(name, piece)
        return size if isinstance(piece, dict | list) else _MEMBER if member is None else 0

    def _replace(self, name: str, member: Any) -> Any:
        self._texts.pop(name, None)
        self._members[name] = member
        return member


class DeltaList:
    """A JSON list that grows by deltas.

    Args:
        depth: how deep its elements may nest.
        grows: whether elements come in pieces.
    """

    __slots__ = ("_by_index", "_depth", "_elements", "_grows")

    def __init__(self, depth: int, *, grows: bool) -> None:
        self._depth = depth
        self._grows = grows
        self._elements: list[Any] = []
        self._by_index: dict[int, Any] = {}  # the newest element of each index

    def add(self, pieces: list[Any], size: int) -> int:
        """Takes the next pieces; arguments and result as in `DeltaObject.add`."""
        grown = 0
        kept_whole = False
        for piece in pieces:
            if type(piece) is not dict:
                self._elements.append(piece)
                kept_whole = True
                continue
            index = piece.get("index")
            if type(index) is not int:
                index = None
            if self._grows:
                grown += self._grow(index, piece, size)
            else:
                self._renew(index, piece)
                kept_whole = True
        return grown + size if kept_whole else grown

    def value(self) -> list[Any]:
        """The list as it stands."""
        return [_value(element) for element in self._elements]

    def _grow(self, index: int | None, piece: Json, size: int) -> int:
        if index is None:
            element = self._elements[-1] if self._elements else None
            continued = isinstance(element, DeltaObject) and _continues(element, piece)
        else:
            element = self._by_index.get(index)
            continued = element is not None and _same(element, piece)
        if not continued:
            element = DeltaObject(self._depth)
            self._elements.append(element)
            if index is not None:
                self._by_index[index] = element
        assert isinstance(element, DeltaObject)  # noqa: S101 - only these are made where elements grow
        return element.add(piece, size) + (0 if continued else _MEMBER)

    def _renew(self, index: int | None, piece: Json) -> None:
        known = None if index is None else self._by_index.get(index)
        if known is not None:
            known.update(piece)
            return
        element = dict(piece)
        self._elements.append(element)
        if index is not None:
            self._by_index[index] = element


def _same(element: DeltaObject, piece: Json) -> bool:
    """Whether a piece with the element's index belongs to it.

    Some servers give all parallel tool calls the index 0; each then comes with an id and a name of its own.
    """
    kind, known_kind = piece.get("type"), element.get("type")
    if kind and known_kind and kind != known_kind:
        return False
    ident, known_ident = piece.get("id"), element.get("id")
    if not ident or not known_ident or ident == known_ident:
        return True
    function = piece.get("function")
    return isinstance(function, dict) and not function.get("name")


def _continues(element: DeltaObject, piece: Json) -> bool:
    """Whether a piece without an index continues the last element."""
    if element.child("function") is not None:
        function = piece.get("function")
        ident = piece.get("id")
        if isinstance(function, dict) and (not ident or ident == element.get("id")):
            return not function.get("name") or bool(ident)
        return False
    kind = piece.get("type")
    return isinstance(kind, str) and kind in _TEXT_TYPES and element.get("type") == kind


def _value(member: Any) -> Any:
    if isinstance(member, GrowingText):
        return member.getvalue()
    if isinstance(member, DeltaObject | DeltaList):
        return member.value()
    return member
