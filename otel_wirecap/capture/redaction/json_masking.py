"""The masking of what a JSON document says, so that its structure is left.

What is kept: brackets, names that are names, numbers and words (``true``) of members, and strings that the name of
their member says are structure. Of every other string the marker stands in its quotes; an empty one stays. An array
that begins with a number or word is one of tokens or of an embedding: one marker stands in it for all. So it does in an
object or array whose name says that all in it is content, for an object as a member.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final, NamedTuple

import orjson

from otel_wirecap.capture.redaction.edits import Edit
from otel_wirecap.capture.redaction.spans import MARKER
from otel_wirecap.capture.redaction.structure import NAME, VALUE, is_content, is_structure, spells

RULE: Final = "prompt"
"""What markers are counted under."""

_MARKER: Final = MARKER.encode()
_STRING: Final = b'"%s"' % _MARKER
_MARKED_MEMBER: Final = b"%s:%s" % (_STRING, _STRING)

_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]|[A-Za-z0-9.+-]++|"', re.DOTALL)
_CLOSING: Final = {b"{": b"}", b"[": b"]"}


class _Level(NamedTuple):
    """An object or array: its name, and that of the one it is in."""

    is_object: bool
    name: str | None
    parent: str | None


def marking(start: int, end: int) -> Edit:
    """The marker instead of a part."""
    return Edit(start, end, _MARKER, (RULE,))


def document_edits(content: bytes) -> Iterator[Edit] | None:
    """What masks a JSON document, in order; None for what is no object, array or string as a whole.

    The edits of a document of short strings take many times its room, so that they are made one by one.
    """
    return _edits_of(content) if isinstance(_value_of(content), dict | list | str) else None


def beginning_edits(content: bytes) -> Iterator[Edit] | None:
    """What masks the beginning of a JSON document that was cut off: its structure stays as far as it is known.

    The document is closed where the last of its values ends, or begins as a string, and the rest of it is masked. None
    for what is no such beginning. What was masked like this before stays as it is.
    """
    open_: list[bytes] = []
    end, valid, depth, quote = 0, 0, 0, b""  # what stays, and what of it is valid once these are closed
    is_name = False
    for token in _TOKEN.finditer(content, 0, len(content.removesuffix(_MARKER))):
        kind = token[0][:1]
        if kind in b"{[":
            open_.append(kind)
        elif kind in b"}]":
            if not open_:
                return None
            open_.pop()
        elif kind == b",":
            end, valid, depth = token.end(), token.start(), len(open_)
        if kind in b'{[}]"' and not (kind == b'"' and is_name):
            end, valid, depth = token.end(), token.end(), len(open_)
            quote = b'"' if token[0] == b'"' else b""
        if token[0] == b'"':  # of a string that is cut off
            break
        is_name = open_[-1:] == [b"{"] and kind in b"{,"
    closed = content[:valid] + quote + b"".join(_CLOSING[kind] for kind in reversed(open_[:depth]))
    edits = document_edits(closed)
    if edits is None:
        return None
    rest = () if content[end:].strip() in (b"", _MARKER) else (marking(end, len(content)),)
    return chain((edit._replace(end=min(edit.end, end)) for edit in edits), rest)


def _value_of(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    try:  # halves of surrogate pairs, which orjson refuses, and NaN; of bytes it would take UTF-16, too
        return json.loads(content.decode("utf-8-sig", "surrogatepass"))
    except (ValueError, RecursionError):
        return None


def _edits_of(content: bytes) -> Iterator[Edit]:
    levels: list[_Level] = []
    name: str | None = None
    is_name = False  # whether the next string is a name
    is_first = False  # whether the next value is the first of an array
    tokens = _TOKEN.finditer(content)
    for token in tokens:
        kind, start, end = token[0][:1], token.start(), token.end()
        if kind in b",:":
            is_name, is_first = kind == b"," and levels[-1].is_object, False
            continue
        if kind in b"}]":
            levels.pop()
            is_first = False
            continue
        level = levels[-1] if levels else _Level(is_object=True, name=None, parent=None)
        if kind == b'"' and is_name:
            is_kept = NAME.fullmatch(content, start + 1, end - 1) is not None
            name = content[start + 1 : end - 1].decode() if is_kept else None
            if not is_kept and end - start > len(b'""'):
                yield marking(start + 1, end - 1)
            continue
        named = (name, level.name) if level.is_object else (level.name, level.parent)
        was_first, is_first = is_first, False
        if kind in b"{[":
            is_object = kind == b"{"
            if is_content(*named, is_object=is_object):
                yield from _hidden(tokens, end, end, is_object=is_object)
            else:
                levels.append(_Level(is_object, *named))
                is_name, is_first = is_object, not is_object
        elif kind == b'"':
            is_kept = is_structure(*named) and VALUE.fullmatch(content, start + 1, end - 1) is not None
            if not is_kept and end - start > len(b'""'):
                yield marking(start + 1, end - 1)
        elif not level.is_object and was_first:
            yield from _hidden(tokens, start, end, is_object=False)
            levels.pop()
        elif not level.is_object or (spells(name) and kind not in b"tfn"):
            yield Edit(start, end, _STRING, (RULE,))


def _hidden(tokens: Iterator[re.Match[bytes]], start: int, end: int, *, is_object: bool) -> list[Edit]:
    """What masks all in an object or array from ``start`` on, up to ``end`` taken already; the rest is taken."""
    depth = 0
    for token in tokens:
        kind = token[0][:1]
        depth += (kind in b"{[") - (kind in b"}]")
        if depth < 0:
            break
        start = token.start() if end == start else start
        end = token.end()
    if is_object:
        return [Edit(start, end, _MARKED_MEMBER, (RULE, RULE))] if end > start else []
    return [Edit(start, end, _STRING, (RULE,))] if end > start else []
