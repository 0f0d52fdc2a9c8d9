"""What the events of one stream have in common, so that those which differ in their text only need not be parsed.

An expression made of one event matches every event that has the same members in the same order, the same spaces and
the same indexes; its groups are the strings that add to texts. So what it matches is an event of that structure.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from otel_wirecap.capture.redaction.names import is_secret_name, segments_of

INDEXES: Final = frozenset({
    "index", "output_index", "content_index", "item_id", "summary_index", "contentBlockIndex", "block_index",
    "choice_index", "candidate_index",
})  # fmt: skip
"""Members that tell which of several texts an event adds to."""

NO_TEXT: Final = frozenset({
    *INDEXES, "id", "object", "model", "type", "role", "event", "status", "finish_reason", "finishReason",
    "stop_reason", "stopReason", "created", "created_at", "obfuscation", "p", "service_tier", "system_fingerprint",
    "responseId", "response_id", "modelVersion", "call_id", "tool_use_id", "toolUseId", "event_id", "trafficType",
    "modality",
})  # fmt: skip
"""Strings that are no parts of a text, although they come with each event."""

_DATA: Final = b"\ndata:"
_MOST_TEXTS: Final = 4
_SEPARATOR: Final = 20
_TOKEN: Final = re.compile(
    r'"(?P<string>(?:[^"\\]|\\.)*+)"(?P<is_key>\s*+:)?|(?P<number>-?[0-9][0-9.eE+-]*+)|[^"0-9-]++|.'
)
_TEXT: Final = r'([^"\\\n]*+(?:\\.[^"\\\n]*+)*+)'
_ANY_STRING: Final = r'[^"\\\n]*+'
_ANY_NUMBER: Final = "[0-9.eE+-]++"


class Told(NamedTuple):
    """What events say that have a template.

    Attributes:
        texts: for each event the text, or, of a template with several, a tuple of texts.
        start: from here on the lines are, texts aside, what stands before.
        end: up to here.
    """

    texts: list[Any]
    start: int
    end: int


_NOTHING: Final = Told([], 0, 0)


class Template(NamedTuple):
    r"""What events have in common.

    Attributes:
        pattern: matches the line of such an event and the ``\n`` before it; a group for each text.
        keys: the channel of each text.
        places: path and number of each text.
        has_secret_name: whether the name of a text may tell that it is a secret.
    """

    pattern: re.Pattern[bytes]
    keys: tuple[tuple[str, ...], ...]
    places: tuple[tuple[tuple[str, ...], int], ...]
    has_secret_name: bool

    def told(self, lines: bytes) -> Told:
        r"""What the events say, if all of them have the template; else nothing.

        Args:
            lines: whole lines, with a ``\n`` before each and at the end.
        """
        at = lines.find(_DATA)
        first = self.pattern.match(lines, at) if at >= 0 else None
        if first is None:
            return _NOTHING
        told = self._between(lines, first) if len(self.keys) == 1 else _NOTHING
        if told.texts:
            return told
        found = self.pattern.findall(lines)
        return Told(found, 0, 0) if len(found) == lines.count(_DATA) else _NOTHING

    def _between(self, lines: bytes, line: re.Match[bytes]) -> Told:
        """What the events say if all else is, byte for byte, as in the first, ``line``: at half the price."""
        first, end = line.span(1)
        before, after = lines[line.start() : first], lines[end : line.end() + 1]
        second = lines.find(_DATA, end) + len(before)
        between = lines[end:second]
        third = lines.find(_DATA, second) + len(before)
        if not between.endswith(before) or not lines.endswith(between, 0, max(third, second)):
            return _NOTHING
        # A short separator is found several times faster than a long one.
        rest, separator = between[:-_SEPARATOR], between[-_SEPARATOR:]
        texts = [text[: -len(rest)] for text in lines[first:].split(separator)]
        texts[-1] = lines[max(first, lines.rfind(separator) + len(separator)) :].partition(after)[0]
        joined = between.join(texts) + after
        if not lines.startswith(joined, first) or lines.find(_DATA, first + len(joined) - 1) >= 0:
            return _NOTHING
        # Without a quote of its own and a line end, and no backslash at its end, what stands between is one string.
        plain = b"".join(texts)
        if b"\n" in plain or (b'"' in plain and (b"\\\\" in plain or plain.count(b'"') != plain.count(b'\\"'))):
            return _NOTHING
        if b"\\" in plain and any(text.endswith(b"\\") for text in texts):
            return _NOTHING
        return Told(texts, second, first + len(joined))


def learned(line: bytes, texts: list[tuple[tuple[str, ...], tuple[str, ...], str]]) -> Template | None:
    """The template that an event gives.

    Args:
        line: the line of the event's data.
        texts: its strings that add to texts: the channel, the path, the string.

    Returns:
        None where there is no use for one.
    """
    if not 0 < len(texts) <= _MOST_TEXTS:
        return None
    if len({channel for channel, _, _ in texts}) < len(texts):
        return None  # the strings of one channel alternate with each other from event to event: in no group's order
    expression: list[str] = []
    name, groups = "", 0
    for token in _TOKEN.finditer(line.decode("latin-1")):
        string, number = token["string"], token["number"]
        if string is None and (number is None or name in INDEXES):
            expression.append(re.escape(token[0]))
        elif string is None:
            expression.append(_ANY_NUMBER)
        elif token["is_key"]:
            name = string
            expression.append(re.escape(token[0]))
        elif name in INDEXES:
            expression.append(re.escape(token[0]))
        elif name in NO_TEXT:
            expression.append(f'"{_ANY_STRING}"')
        else:
            groups += 1
            expression.append(f'"{_TEXT}"')
    if groups != len(texts):
        return None
    numbers: dict[tuple[str, ...], int] = {}
    places = []
    for _, path, _ in texts:
        numbers[path] = numbers.get(path, -1) + 1
        places.append((path, numbers[path]))
    pattern = re.compile(rf"\n{''.join(expression)}(?=\n)".encode("latin-1"))
    keys = tuple(key for key, _, _ in texts)
    has_secret_name = any(is_secret_name(segments_of(name)) for key in keys for name in key)
    return Template(pattern, keys, tuple(places), has_secret_name)
