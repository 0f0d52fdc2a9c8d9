"""The structural difference of two JSON values: what was moved, added, dropped and changed, by path.

Elements of lists are matched by what they are, not by their number: a message put in front of others is one addition.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

import orjson

MOVED, ADDED, DROPPED, CHANGED = "moved", "added", "dropped", "changed"

_MAX_DEPTH = 150
_MAX_MATCHED = 2000
"""Longer lists are compared by position once their common beginning and end are off: matching them takes too long."""
_MIN_MOVED_TEXT = 8
_PLAIN_KEY = re.compile(r"[A-Za-z_][\w-]*")
_WEAK_KEYS = ("type", "role", "name", "id", "function")

Path = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        kind: ``moved``, ``added``, ``dropped`` or ``changed``.
        path: where: in the first value; of what was added, in the second.
        to: where it stands in the second value, if elsewhere; else None.
        before: what stood there; None of what was added.
        after: what stands there; None of what was dropped.
    """

    kind: str
    path: str
    to: str | None = None
    before: Any = None
    after: Any = None

    def document(self) -> dict[str, Any]:
        """As JSON, without what it has not."""
        told: dict[str, Any] = {"kind": self.kind, "path": self.path}
        if self.to is not None:
            told["to"] = self.to
        if self.kind in {DROPPED, CHANGED}:
            told["before"] = self.before
        if self.kind in {ADDED, CHANGED}:
            told["after"] = self.after
        return told


def differences(before: Any, after: Any) -> list[Difference]:
    """What makes one JSON value of the other, in the order of the first; empty where they say the same.

    The order of an object's members says nothing; ``1`` and ``1.0`` are the same, ``1`` and ``true`` are not.
    """
    return _with_moves(list(_compare(before, after, (), ())))


def path_text(path: Path) -> str:
    """``messages[0].content``; the whole value is ``$``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step, ensure_ascii=False)}]"
    return text or "$"


@dataclasses.dataclass(eq=False, slots=True)
class _RawDifference:
    """A difference whose paths are still steps."""

    kind: str
    before_path: Path
    after_path: Path
    before: Any = None
    after: Any = None

    def told(self) -> Difference:
        path = path_text(self.after_path if self.kind == ADDED else self.before_path)
        to = path_text(self.after_path)
        return Difference(self.kind, path, None if to == path or self.kind == DROPPED else to, self.before, self.after)


def _compare(before: Any, after: Any, here: Path, there: Path) -> Iterator[_RawDifference]:
    is_deep = len(here) >= _MAX_DEPTH
    if isinstance(before, dict) and isinstance(after, dict) and not is_deep:
        for key, value in before.items():
            if key in after:
                yield from _compare(value, after[key], (*here, key), (*there, key))
            else:
                yield _RawDifference(DROPPED, (*here, key), (*there, key), before=value)
        for key, value in after.items():
            if key not in before:
                yield _RawDifference(ADDED, (*here, key), (*there, key), after=value)
    elif isinstance(before, list) and isinstance(after, list) and not is_deep:
        yield from _compare_lists(before, after, here, there)
    elif isinstance(before, bool) is not isinstance(after, bool) or before != after:
        yield _RawDifference(CHANGED, here, there, before, after)


def _compare_lists(before: list[Any], after: list[Any], here: Path, there: Path) -> Iterator[_RawDifference]:
    for start, end, other_start, other_end in _unlike(
        [_spelling(one) for one in before], [_spelling(one) for one in after]
    ):
        weak, other_weak = [
            [_weak_key(one) for one in part] for part in (before[start:end], after[other_start:other_end])
        ]
        for i1, i2, j1, j2 in _paired(weak, other_weak):
            for number in range(max(i2 - i1, j2 - j1)):
                old, new = start + i1 + number, other_start + j1 + number
                if i1 + number >= i2:
                    yield _RawDifference(ADDED, (*here, new), (*there, new), after=after[new])
                elif j1 + number >= j2:
                    yield _RawDifference(DROPPED, (*here, old), (*there, old), before=before[old])
                else:
                    yield from _compare(before[old], after[new], (*here, old), (*there, new))


def _unlike(one: Sequence[str], other: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    """The stretches in which two lists are not the same."""
    first, end, other_end = 0, len(one), len(other)
    while first < min(end, other_end) and one[first] == other[first]:
        first += 1
    while end > first and other_end > first and one[end - 1] == other[other_end - 1]:
        end, other_end = end - 1, other_end - 1
    if first == end and first == other_end:
        return
    if max(end, other_end) - first > _MAX_MATCHED:
        yield first, end, first, other_end
        return
    matcher = SequenceMatcher(None, one[first:end], other[first:other_end], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag != "equal":
            yield first + i1, first + i2, first + j1, first + j2


def _paired(one: Sequence[str], other: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    """Stretches of elements to compare with one another: those of one kind first, then what is left between them."""
    if max(len(one), len(other)) > _MAX_MATCHED:
        yield 0, len(one), 0, len(other)
        return
    for _, i1, i2, j1, j2 in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        yield i1, i2, j1, j2


def _weak_key(value: Any) -> str:
    """What an element is, whatever it says."""
    if not isinstance(value, dict):
        return type(value).__name__
    known = {key: value[key] for key in _WEAK_KEYS if key in value}
    function = known.get("function")
    if isinstance(function, dict):
        known["function"] = function.get("name")
    return _spelling(known)


def _spelling(value: Any) -> str:
    """The same text for values that say the same."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # whole numbers of more than 64 bits, halves of characters
        return json.dumps(value, sort_keys=True, default=str)


def _with_moves(found: list[_RawDifference]) -> list[Difference]:
    """What was dropped in one place and added in another has moved."""
    added: dict[str, list[_RawDifference]] = defaultdict(list)
    for one in found:
        if one.kind == ADDED and _can_move(one.after):
            added[_spelling(one.after)].append(one)
    gone: set[int] = set()
    for one in found:
        if one.kind != DROPPED or not _can_move(one.before):
            continue
        candidates = added.get(_spelling(one.before), [])
        near = [other for other in candidates if other.after_path[:-1] == one.before_path[:-1]]
        if not near and not _is_telling(one.before):
            continue
        for other in near or candidates:
            candidates.remove(other)
            gone.add(id(other))
            one.kind, one.after, one.after_path = MOVED, one.before, other.after_path
            break
    return [one.told() for one in found if id(one) not in gone]


def _can_move(value: Any) -> bool:
    return not isinstance(value, bool) and value not in (None, "", [], {})


def _is_telling(value: Any) -> bool:
    """Whether two of the same in distant places are hardly chance."""
    return isinstance(value, dict | list) or (isinstance(value, str) and len(value) >= _MIN_MOVED_TEXT)
