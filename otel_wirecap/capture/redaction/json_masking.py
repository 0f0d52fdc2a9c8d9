"""The masking of what JSON says, while it comes, so that its structure is left.

Invariants:

- What is kept: brackets, names that are names, numbers and words (``true``) of members, and strings that the name of
  their member says are structure. Of every other string the marker stands in its quotes; an empty one stays.
- An array that begins with a number or word is one of tokens or of an embedding: one marker stands in it for all. So
  it does in an object or array whose name says that all in it is content, for an object as a member.
- What is no JSON is content from there on: everything after the first byte that cannot be is masked.
- Where the data were cut does not change what comes of them. What is not decided is a name, a string that may be
  structure, or a number: a few hundred bytes at most.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_wirecap.capture.redaction.spans import MARKER
from otel_wirecap.capture.redaction.structure import MAX_BYTES, NAME, VALUE, is_content, is_structure, spells

if TYPE_CHECKING:
    from otel_wirecap.capture.redaction.edits import Edits

_MARKER: Final = MARKER.encode()
_STRING: Final = b'"%s"' % _MARKER
_MARKED_MEMBER: Final = b"%s:%s" % (_STRING, _STRING)

_SCALARS: Final = rb"(?:-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+|true|false|null|NaN|-?Infinity)"
_BLANKS: Final = re.compile(rb"[ \t\r\n]++")
_BETWEEN_DOCUMENTS: Final = re.compile(rb"(?:[ \t\r\n\x1e]|\xef\xbb\xbf)++")
_WHOLE_STRING: Final = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*+"')
_REST_OF_STRING: Final = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*+')
_SKIPPED: Final = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*+")*+')
_MEMBER: Final = re.compile(
    rb'"(?P<name>%s)":[ ]?(?:"(?P<string>(?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*+)"|(?P<scalar>%s)(?=[,}]))'
    % (NAME.pattern, _SCALARS)
)
_WORD: Final = re.compile(rb"[A-Za-z0-9.+-]++")
_SCALAR: Final = re.compile(_SCALARS)
_MAX_SCALAR: Final = 64
_MAX_DEPTH: Final = 1100
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")

# What may come next. DONE: a comma, or the end of what it stands in.
_VALUE, _FIRST_VALUE, _NAME, _FIRST_NAME, _COLON, _DONE = range(6)


class _Level(NamedTuple):
    """An object or array: its name, and that of the one it is in."""

    is_object: bool
    name: str | None
    parent: str | None


class JSONMasking:
    """Masks JSON documents, one after the other.

    Attributes:
        failed: what came is no JSON; everything is masked until ``reset``.
    """

    def __init__(self, edits: Edits) -> None:
        self._edits = edits
        self.reset()

    def reset(self) -> None:
        """A document may begin; what was open is over."""
        self.failed = False
        self._levels: list[_Level] = []
        self._next = _VALUE
        self._name: str | None = None
        self._string: int | None = None
        self._hidden = 0
        self._is_marked = False
        self._depth = 0

    @property
    def is_in_string(self) -> bool:
        """Whether a string is open."""
        return self._string is not None

    @property
    def is_between(self) -> bool:
        """Whether no document is open."""
        return not self._levels and not self.failed and self._string is None

    def read(self, data: bytes, at: int, end: int, base: int, *, is_end: bool) -> int:
        """Takes ``data[at:end]``.

        Args:
            data: a part of the stream.
            at: where to begin.
            end: where to end.
            base: the place of the data in the stream.
            is_end: no name, string or number goes on after the end.

        Returns:
            Where it got to; from there on the data must come again, with what follows.
        """
        while at < end:
            if self.failed:
                self._edits.drop(base + at, base + end)
                return end
            if self._string is not None:
                stop = self._in_string(data, at, end, base, is_end=is_end)
            elif self._hidden and self._is_marked:
                stop = self._skip(data, at, end, base)
            else:
                stop = self._token(data, at, end, base, is_end=is_end)
            if stop == at and not self.failed:
                return at
            at = stop
        return at

    def _skip(self, data: bytes, at: int, end: int, base: int) -> int:
        """Takes more of what is content as a whole, up to a bracket or a string that goes on, of whatever grammar."""
        skipped = _SKIPPED.match(data, at, end)
        stop = skipped.end() if skipped is not None else at
        self._edits.drop(base + at, base + stop)
        if stop == end:
            return stop
        byte = data[stop : stop + 1]
        if byte in b"}]" and not self._depth:
            self._next = _DONE
            return self._close(stop, base, is_object=byte == b"}")
        if byte == b'"':
            self._string = _VALUE
        else:
            self._depth += 1 if byte in b"{[" else -1
        self._edits.drop(base + stop, base + stop + 1)
        return stop + 1

    # -- tokens ------------------------------------------------------------------------------------------------------

    def _token(self, data: bytes, at: int, end: int, base: int, *, is_end: bool) -> int:
        """Takes one token; returns where it ends, or ``at`` if that is not known yet."""
        blanks = (_BLANKS if self._levels else _BETWEEN_DOCUMENTS).match(data, at, end)
        if blanks is not None:
            return blanks.end()
        byte = data[at : at + 1]
        if byte == b'"':
            if self._next in (_NAME, _FIRST_NAME) and not self._hidden:
                member = _MEMBER.match(data, at, end)
                if member is not None and len(member["scalar"] or b"") <= _MAX_SCALAR:
                    return self._member(member, base)
            return self._begin_string(data, at, end, base, is_end=is_end)
        if byte in b"{[":
            return self._open(at, base, is_object=byte == b"{")
        if byte in b"}]":
            return self._close(at, base, is_object=byte == b"}")
        if byte in b",:":
            expected = _DONE if byte == b"," else _COLON
            if self._next != expected or not self._levels:
                return self._fail(at, end, base)
            self._next = _VALUE if byte == b":" or not self._levels[-1].is_object else _NAME
            return at + 1
        if byte == b"\xef" and not self._levels and end - at < len(b"\xef\xbb\xbf") and not is_end:
            return at
        return self._scalar(data, at, end, base, is_end=is_end)

    def _member(self, member: re.Match[bytes], base: int) -> int:
        """Takes a member whose value is a string or scalar, in one go: the way of most of them."""
        name, string = member["name"], member["string"]
        self._name = name.decode()
        if string:
            if not (is_structure(*self._names()) and VALUE.fullmatch(string)):
                self._edits.replace(base + member.start("string"), base + member.end("string"), _MARKER)
        elif string is None and spells(self._name) and member["scalar"][0] not in b"tfn":
            self._edits.replace(base + member.start("scalar"), base + member.end(), _STRING)
        self._next = _DONE
        return member.end()

    def _open(self, at: int, base: int, *, is_object: bool) -> int:
        if self._next not in (_VALUE, _FIRST_VALUE) or len(self._levels) >= _MAX_DEPTH:
            return self._fail(at, at + 1, base)
        if self._hidden:
            self._hide(base + at, base + at + 1)
            self._depth = 1
            return at + 1
        name, parent = self._names()
        self._levels.append(_Level(is_object, name, parent))
        self._next = _FIRST_NAME if is_object else _FIRST_VALUE
        if is_content(name, parent, is_object=is_object):
            self._hidden, self._is_marked = len(self._levels), False
        return at + 1

    def _close(self, at: int, base: int, *, is_object: bool) -> int:
        first = _FIRST_NAME if is_object else _FIRST_VALUE
        if not self._levels or self._levels[-1].is_object != is_object or self._next not in (_DONE, first):
            return self._fail(at, at + 1, base)
        self._hidden = 0
        self._levels.pop()
        self._next = _DONE if self._levels else _VALUE
        return at + 1

    def _scalar(self, data: bytes, at: int, end: int, base: int, *, is_end: bool) -> int:
        """A number or a word."""
        word = _WORD.match(data, at, end)
        stop = word.end() if word is not None else at
        if stop == end and not is_end and stop - at <= _MAX_SCALAR:
            return at
        can_be = self._levels and self._next in (_VALUE, _FIRST_VALUE) and stop - at <= _MAX_SCALAR
        if not can_be or not _SCALAR.fullmatch(data, at, stop):
            return self._fail(at, end, base)
        start, place = base + at, base + stop
        if self._hidden:
            self._hide(start, place)
        elif not self._levels[-1].is_object:
            if self._next == _FIRST_VALUE:
                self._hidden, self._is_marked = len(self._levels), False
                self._hide(start, place)
            else:
                self._edits.replace(start, place, _STRING)
        elif spells(self._name) and data[at] not in b"tfn":
            self._edits.replace(start, place, _STRING)
        self._next = _DONE
        return stop

    def _names(self) -> tuple[str | None, str | None]:
        """The name of the value that comes next, and that of the object it is a member of."""
        if not self._levels:
            return None, None
        level = self._levels[-1]
        return (self._name, level.name) if level.is_object else (level.name, level.parent)

    def _hide(self, start: int, end: int) -> None:
        """Masks a token within what is content as a whole: the first of them, or the end of a string."""
        if self._is_marked:
            self._edits.drop(start, end)
            return
        self._is_marked = True
        self._depth = 0
        is_object = self._levels[self._hidden - 1].is_object
        self._edits.replace(start, end, _MARKED_MEMBER if is_object else _STRING, 2 if is_object else 1)

    def _fail(self, at: int, end: int, base: int) -> int:
        self.failed = True
        if self._hidden and self._is_marked:
            self._edits.drop(base + at, base + end)
        else:
            self._edits.replace(base + at, base + end, _MARKER)
        return end

    # -- strings -----------------------------------------------------------------------------------------------------

    def _begin_string(self, data: bytes, at: int, end: int, base: int, *, is_end: bool) -> int:
        is_name = self._next in (_NAME, _FIRST_NAME)
        if not is_name and self._next not in (_VALUE, _FIRST_VALUE):
            return self._fail(at, end, base)
        may_stay = not self._hidden and (is_name or is_structure(*self._names()))
        whole = _WHOLE_STRING.match(data, at, end)
        if whole is not None:
            stop = whole.end()
            if self._hidden:
                self._hide(base + at, base + stop)
            elif not self._stays(data, at + 1, stop - 1, is_name=is_name, may_stay=may_stay):
                self._edits.replace(base + at + 1, base + stop - 1, _MARKER)
            self._end_string(is_name=is_name)
            return stop
        if not is_end and end - at <= (MAX_BYTES + 2 if may_stay else 1):
            return at
        self._string = self._next
        if self._hidden:
            self._hide(base + at, base + at + 1)
        else:
            self._edits.replace(base + at + 1, base + at + 1, _MARKER)
        return at + 1

    def _stays(self, data: bytes, begin: int, stop: int, *, is_name: bool, may_stay: bool) -> bool:
        """Whether a string is kept; tells its name, if it is one."""
        shape = NAME if is_name else VALUE
        kept = begin == stop or (may_stay and shape.fullmatch(data, begin, stop) is not None)
        if is_name:
            self._name = data[begin:stop].decode() if kept else None
        return kept

    def _in_string(self, data: bytes, at: int, end: int, base: int, *, is_end: bool) -> int:
        """Takes more of a string that is masked."""
        rest = _REST_OF_STRING.match(data, at, end)
        stop = rest.end() if rest is not None else at
        self._edits.drop(base + at, base + stop)
        if stop == end:
            return stop
        if data[stop] == _QUOTE:
            if self._hidden:
                self._hide(base + stop, base + stop + 1)
            is_name = self._string in (_NAME, _FIRST_NAME)
            if is_name:
                self._name = None
            self._end_string(is_name=is_name)
            return stop + 1
        if data[stop] == _BACKSLASH and stop + 1 == end and not is_end:
            return stop
        self.failed = True  # the marker stands already
        self._edits.drop(base + stop, base + end)
        return end

    def _end_string(self, *, is_name: bool) -> None:
        self._string = None
        self._next = _COLON if is_name else _DONE if self._levels else _VALUE
