"""What the events of one stream have in common, so that those which differ in their text only need not be parsed.

An expression made of one event matches every event that has the same members in the same order, the same spaces and
the same indexes; its groups are the strings that add to texts. So what it matches is an event of that structure.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

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


class Template(NamedTuple):
    r"""What events have in common.

    Attributes:
        pattern: matches the line of such an event and the ``\n`` before it; a group for each text.
        keys: the channel of each text.
        places: path and number of each text.
        around: the bytes before and after the text in the event that it was made of, if that has one text.
    """

    pattern: re.Pattern[bytes]
    keys: tuple[tuple[str, ...], ...]
    places: tuple[tuple[tuple[str, ...], int], ...]
    around: tuple[bytes, bytes] | None

    def texts(self, lines: bytes) -> list[Any]:
        r"""What the events say, if all of them have the template; else nothing.

        Args:
            lines: whole lines, with a ``\n`` before each and at the end.

        Returns:
            For each event the text, or, of a template with several, a tuple of texts.
        """
        found = self._between(lines)
        if not found:
            found = self.pattern.findall(lines)
            if len(found) != lines.count(_DATA):
                return []
        return found

    def _between(self, lines: bytes) -> list[bytes]:
        """The texts, if the events have all else in common, byte for byte: to be had at half the price."""
        if self.around is None:
            return []
        before, after = self.around
        first = lines.find(_DATA) + len(before)
        end = lines.find(after, first)
        second = lines.find(_DATA, end) + len(before)
        between = lines[end:second]
        if not lines.startswith(before, first - len(before)) or end < 0 or not between.endswith(before):
            return []
        # A short separator is found several times faster than a long one.
        said = lines[first:]
        rest, separator = between[:-_SEPARATOR], between[-_SEPARATOR:]
        texts = [text[: -len(rest)] for text in said.split(separator)]
        texts[-1] = said[said.rfind(separator) + len(separator) :].partition(after)[0]
        joined = between.join(texts) + after
        if not said.startswith(joined) or _DATA in said[len(joined) - 1 :]:
            return []
        # Without a quote of its own and a line end, and no backslash at its end, what stands between is one string.
        plain = b"".join(texts)
        if b"\n" in plain:
            return []
        if b"\\" not in plain:
            return [] if b'"' in plain else texts
        if b"\\\\" in plain or plain.count(b'"') != plain.count(b'\\"'):
            return []
        return texts if b"\\" + after[:_SEPARATOR] not in said else []


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
    expression: list[str] = []
    name, groups = "", 0
    around = None
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
            around = b"\n" + line[: token.start() + 1], line[token.end() - 1 :] + b"\n"
            expression.append(f'"{_TEXT}"')
    if groups != len(texts):
        return None
    numbers: dict[tuple[str, ...], int] = {}
    places = []
    for _, path, _ in texts:
        numbers[path] = numbers.get(path, -1) + 1
        places.append((path, numbers[path]))
    pattern = re.compile(rf"\n{''.join(expression)}(?=\n)".encode("latin-1"))
    return Template(pattern, tuple(key for key, _, _ in texts), tuple(places), around if groups == 1 else None)
