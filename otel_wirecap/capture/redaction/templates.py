r"""What the events of one stream have in common, so that those which differ in a few strings only need not be parsed.

A template is made of one event. Of others a short expression takes what may differ, and the template made anew with
that says whether it is all that does: then the events have the same members in the same order, byte for byte.

Invariants:

- What is between two events, and in them beside what may differ, is the same for all that ``told`` answers for.
- What may differ is the inside of a string as JSON spells it, or digits: nothing that could be read as structure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, NamedTuple

from otel_wirecap.capture.secret_names import header_rule
from otel_wirecap.llm.dialects.registry import ours

INDEXES: Final = frozenset(ours.index_members) | {"block_index", "index"}
"""Members that tell which of several texts an event adds to."""

_PADDED: Final = frozenset({"obfuscation", "p"})
"""Members that hold something new in each event and say nothing."""

NO_TEXT: Final = _PADDED | INDEXES | frozenset(ours.label_members) | {
    "created", "created_at", "event", "id", "model", "role", "service_tier", "status", "type",
}  # fmt: skip
"""Strings that are no parts of a text, although they come with each event."""

DATA: Final = b"\ndata:"
"""How an event's data begin, with the line end before them."""

_MAX_TEXTS: Final = 4
_LINE_END: Final = ord("\n")
_TOKEN: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"(\s*+:)?|-?[0-9][0-9.eE+-]*+')
_TEXT: Final = r'([^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+)'
_PADDING: Final = r'([^"\\\n]*+)'
_COUNT: Final = "([0-9]{1,7}+)"
_IS_COUNT: Final = re.compile("[0-9]{1,7}")
"""Numbers that count something: too short for a secret. Longer ones are the same in all events, or there is no use."""


class Told(NamedTuple):
    """What events say that have a template.

    Attributes:
        texts: for each text of the template its part in each event.
        strings: all strings that differ from event to event.
        constant: what stands around that, from event to event.
        start: from here on the lines are nothing else.
        end: up to here.
    """

    texts: list[tuple[bytes, ...]]
    strings: Sequence[bytes]
    constant: bytes
    start: int
    end: int


class Template:
    """What events have in common.

    Attributes:
        keys: the channel of each text.
        places: path and number of each text.
        has_secret_name: whether the name of a text may tell that it is a secret.
    """

    __slots__ = (
        "_constant",
        "_groups",
        "_head",
        "_line",
        "_padding",
        "_pattern",
        "_texts",
        "has_secret_name",
        "keys",
        "places",
    )

    def __init__(self, parts: list[str], texts: list[tuple[tuple[str, ...], tuple[str, ...], str]]) -> None:
        groups = parts[1::2]
        constants = [part.encode("latin-1") for part in parts[::2]]
        constants[0] = constants[0].removeprefix(DATA[1:])
        # To jump over what is the same costs nothing, and to compare it here would cost most.
        jumps = [f".{{{len(constant)}}}{group}" for constant, group in zip(constants, groups, strict=False)]
        self._pattern = re.compile(DATA + "".join(jumps).encode(), re.DOTALL)
        self._head = DATA + constants[0]
        self._line = DATA + b"%b".join(constant.replace(b"%", b"%%") for constant in constants)
        self._constant = DATA + b"".join(constants)
        self._groups = len(groups)
        self._texts = [number for number, group in enumerate(groups) if group == _TEXT]
        self._padding = [number for number, group in enumerate(groups) if group == _PADDING]
        self.keys = tuple(key for key, _, _ in texts)
        self.has_secret_name = any(header_rule(name) for key in self.keys for name in key)
        self.places = _numbered(path for _, path, _ in texts)

    def told(self, lines: bytes) -> Told | None:
        r"""What the events say, if all of them have the template.

        Args:
            lines: whole lines, with a ``\n`` before each and at the end.
        """
        first = lines.find(DATA)
        if first < 0 or not lines.startswith(self._head, first):
            return None
        found = self._pattern.findall(lines, first)
        values = tuple(found) if self._groups == 1 else tuple(chain.from_iterable(found))
        before = lines[:first]
        second = lines.find(DATA, first + 1)
        between = b"\n" + before if second < 0 else lines[lines.find(b"\n", first + 1) : second]
        line, between_them = self._line, between.replace(b"%", b"%%")
        whole = (line + (between_them + line) * (len(found) - 1)) % values if found else b""
        end = first + len(whole)
        if not whole or not lines.startswith(whole, first) or lines.find(DATA, end) >= 0 or lines[end] != _LINE_END:
            return None
        texts = [values[number :: self._groups] for number in self._texts]
        strings = [*texts, *(values[number :: self._groups] for number in self._padding)]
        return Told(
            texts,
            strings[0] if len(strings) == 1 else [*chain.from_iterable(strings)],
            between + self._constant + between + DATA,
            0 if between.endswith(before) else first,
            len(lines) if (between + DATA).startswith(lines[end:]) else end,
        )

    def texts_of(self, lines: bytes, at: int) -> list[bytes] | None:
        """The texts of the event whose data begin after ``at``; None if it has not the template."""
        found = self._pattern.match(lines, at) if lines.startswith(self._head, at) else None
        if found is None or not lines.startswith(self._line % found.groups() + b"\n", at):
            return None
        values = found.groups()
        return [values[number] for number in self._texts]


def learned(line: bytes, texts: list[tuple[tuple[str, ...], tuple[str, ...], str]]) -> Template | None:
    """The template that an event gives.

    Args:
        line: the line of the event's data.
        texts: its strings that add to texts: the channel, the path, the string.

    Returns:
        None where there is no use for one.
    """
    if not 0 < len(texts) <= _MAX_TEXTS:
        return None
    if len({channel for channel, _, _ in texts}) < len(texts):
        return None  # the strings of one channel alternate with each other from event to event: in no group's order
    text = line.decode("latin-1")
    parts: list[str] = []
    name, done = "", 0
    for token in _TOKEN.finditer(text):
        string, colon = token.groups()
        if colon is not None:
            name = string
            continue
        if string is not None:
            group = _TEXT if name not in NO_TEXT else _PADDING if name in _PADDED else None
        else:
            group = _COUNT if name not in INDEXES and _IS_COUNT.fullmatch(token[0]) else None
        if group is not None:
            begin, end = token.span(1 if string is not None else 0)
            parts += (text[done:begin], group)
            done = end
    parts.append(text[done:])
    return Template(parts, texts) if parts[1::2].count(_TEXT) == len(texts) else None


def _numbered(paths: Iterable[tuple[str, ...]]) -> tuple[tuple[tuple[str, ...], int], ...]:
    """Each path, and which one it is of those that are the same."""
    seen = list(paths)
    return tuple((path, seen[:number].count(path)) for number, path in enumerate(seen))
