r"""Characters that are spelled in another way: a text with these read, and where each byte of it begins in the text.

Read at once are the escapes of JSON's strings (RFC 8259, section 7), percent-encoding (RFC 3986, section 2.1) and
HTML's character references; characters without a width are left out. Quoted-printable (RFC 2045, section 6.7) is read
only where it is asked for: what follows a ``=`` is more often something else.

Invariants:

- Whether a text hides anything, and what it says, depends only on a few bytes around each place: the same in a stream,
  however it is cut.
- A text with few spellings of that kind takes little more memory than its size.
"""

import enum
import html
import re
from array import array
from bisect import bisect_left, bisect_right
from typing import Final

_HEX: Final = "[0-9A-Fa-f]"
_USUAL: Final = "(?:2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|5[0-9AaFf]|7[0-9AaEe])"
"""The codes of letters, digits and ``-._~``, which nobody has to encode."""
_KEY: Final = "[A-Za-z0-9_=+/-]"

# These are the characters of Unicode's category Cf that texts have, and variation selectors.
_NO_WIDTH_CODES: Final = (
    "(?:00[aA][dD]|034[fF]|180[eE]|20(?:0[b-fB-F]|2[a-eA-E]|6[0-9])|[fF][eE](?:0[0-9A-Fa-f]|[fF]{2}))"
)
_NO_WIDTH: Final = (
    r"(?:\xc2\xad|\xcd\x8f|\xe1\xa0\x8e|\xe2\x80[\x8b-\x8f\xaa-\xae]|\xe2\x81[\xa0-\xa9]|"
    r"\xef\xb8[\x80-\x8f]|\xef\xbb\xbf)"
)
_ENDS: Final = (r"\r\n", r"\n", r"\\r\\n", r"\\n", r"\\\\r\\\\n", r"\\\\n")
_LINE_ENDS: Final = "|".join(rf"{end}(?<=[A-Za-z0-9+/_-]{{40}}{end})" for end in _ENDS)
_LINE_END: Final = rf"(?:{_LINE_ENDS})(?=[A-Za-z0-9+/_-])"
"""Within base64: lines of fewer characters are seldom parts of one text."""
_SOFT_END: Final = r"=(?:\r?\n|(?:\\+r)?\\+n)"


def _bytes(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode("latin-1"))


_UNITS: Final = (
    rf"(?P<hidden>(?:{_NO_WIDTH}|\\u{_NO_WIDTH_CODES})+(?=[!-~]))"
    r"|\\(?P<letter>[\"\\/bfnrt])"
    r"|\\u(?P<high>[dD][89abAB]HH)\\u(?P<low>[dD][c-fC-F]HH)"
    r"|\\u(?P<unit>(?![dD][89a-fA-F])HHHH)"
    r"|%(?P<percent>HH)"
    r"|(?P<reference>&(?:#[xX]H{1,6}|#[0-9]{1,7}|amp|lt|gt|quot|apos|shy);)"
).replace("H", _HEX)


class Way(enum.Enum):
    """In which way a text is read."""

    ESCAPED = _bytes(_UNITS)
    QUOTED = _bytes(f"(?P<soft>{_SOFT_END})|=(?P<quoted>[2-7]{_HEX})|{_UNITS}")
    """As quoted-printable, too."""
    ON_LINES = _bytes(f"(?P<end>{_LINE_END})")
    """With the lines of base64 joined."""


_LETTERS: Final = dict(zip(b'"\\/bfnrt', [bytes((letter,)) for letter in b'"\\/\b\f\n\r\t'], strict=True))
_INVISIBLE: Final = _bytes(_NO_WIDTH)

_HIDING_PERCENT: Final = _bytes(rf"%(?:{_USUAL}|25{_HEX}{{2}}|[eE]2%8[01]%[89aA]|[eE][fF]%[bB][8bB]|[cC]2%[aA][dD])")
_HIDING_REFERENCE: Final = _bytes(
    rf"&(?:#[xX]0*(?:{_USUAL}|{_NO_WIDTH_CODES}|[aA][dD]);|#0*(?:4[5-9]|5[0-7]|6[5-9]|[7-9][0-9]|1[0-2][0-9]);"
    r"|#0*(?:173|82[0-9]{2}|65279);|shy;|amp;(?:#|amp;))"
)
_HIDING_WIDTH: Final = _bytes(
    r"[\xc2\xcd\xe1\xe2\xef](?:(?<=\xc2)\xad|(?<=\xcd)\x8f|(?<=\xe1)\xa0\x8e|"
    rf"(?<=\xe2)(?:\x80[\x8b-\x8f\xaa-\xae]|\x81[\xa0-\xa9])|(?<=\xef)(?:\xb8[\x80-\x8f]|\xbb\xbf))(?={_KEY})"
)
_HIDING_ESCAPED: Final = _bytes(rf"\\u{_NO_WIDTH_CODES}(?={_KEY})")
_ESCAPED_LEADS: Final = (rb"\u20", rb"\ufe", rb"\uFE", rb"\u00")
_HIDING_QUOTED: Final = _bytes(rf"=3D|{_SOFT_END}(?=[!-~])|={_USUAL}(?=[A-Za-z_=-]|[A-Za-z0-9_.=+/-]{{8}})")

_CUT: Final = re.compile(
    (
        rf"(?:(?:\\+u[dD][89abAB]{_HEX}{{2}})?\\+(?:u{_HEX}{{0,3}})?|\\+u[dD][89abAB]{_HEX}{{2}}"
        rf"|%(?:25)*{_HEX}?|%(?:[eE][1fF2]|[cC][2dD])(?:%(?:[89abAB]{_HEX}?)?){{0,2}}"
        rf"|&(?:amp;)*(?:#[xX]?{_HEX}{{0,7}}|[a-z]{{0,4}})"
        rf"|=(?:[A-Za-z0-9_.+/-]{{0,10}}|\r\n?|\n|\\+n|\\+r(?:\\+n?)?|\\+)"
        rf"|(?:{_NO_WIDTH}|\\+u{_NO_WIDTH_CODES})|\xe2[\x80\x81]?|\xef[\xb8\xbb]?|[\xc2\xcd]|\xe1\xa0?)\Z"
    ).encode("latin-1")
)
_CUT_BYTES: Final = re.compile(rb"[\\%&=\r\x80-\xff]")
_MAX_CUT: Final = 40
_MARKED_UNITS: Final = 32


class Reading:
    """A text with its escapes and encodings read.

    Of the places of its bytes in the text one in ``_MARKED_UNITS`` is kept: what is between is read again.

    Attributes:
        data: what the text says.
        is_same: whether that is the text itself.
    """

    __slots__ = ("_marks", "_places", "_text", "_way", "data", "is_same")

    def __init__(self, text: bytes, way: Way) -> None:
        self._text, self._way = text, way
        self._marks, self._places = array("Q", (0,)), array("Q", (0,))  # in the data and in the text
        data, done = bytearray(), 0
        for number, unit in enumerate(way.value.finditer(text), 1):
            data += text[done : unit.start()]
            data += _meaning(unit)
            done = unit.end()
            if number % _MARKED_UNITS == 0:
                self._marks.append(len(data))
                self._places.append(done)
        self.is_same = not done
        data += text[done:]
        self.data = bytes(data)

    def place(self, at: int) -> int:
        """Where in the text a byte of the data begins; for the data's length, where the text ends."""
        mark = bisect_right(self._marks, at) - 1
        read, done = self._marks[mark], self._places[mark]
        for unit in self._way.value.finditer(self._text, done):
            begin = read + unit.start() - done
            end = begin + len(_meaning(unit))
            if at < begin or at < end:
                return done + at - read if at < begin else unit.start()
            read, done = end, unit.end()
        return done + at - read

    def end(self, at: int) -> int:
        """Where in the text the byte before a place of the data ends: what says nothing there follows it."""
        mark = max(0, bisect_left(self._marks, at) - 1)
        read, done = self._marks[mark], self._places[mark]
        for unit in self._way.value.finditer(self._text, done):
            begin = read + unit.start() - done
            end = begin + len(_meaning(unit))
            if at <= begin:
                break
            if at <= end:
                return unit.end()
            read, done = end, unit.end()
        return done + at - read

    def at(self, place: int) -> int:
        """The first byte of the data that begins at a place of the text, or later."""
        mark = bisect_right(self._places, place) - 1
        read, done = self._marks[mark], self._places[mark]
        for unit in self._way.value.finditer(self._text, done):
            if place <= unit.start():
                break
            read, done = read + unit.start() - done + len(_meaning(unit)), unit.end()
            if place < done:
                return read
        return read + place - done


def _meaning(unit: re.Match[bytes]) -> bytes:
    kind = unit.lastgroup
    if kind == "letter":
        return _LETTERS[unit["letter"][0]]
    if kind == "unit":
        return chr(int(unit["unit"], 16)).encode()
    if kind in {"percent", "quoted"}:
        return bytes.fromhex(unit[kind].decode())
    if kind == "low":
        return chr(0x10000 + ((int(unit["high"], 16) - 0xD800) << 10) + int(unit["low"], 16) - 0xDC00).encode()
    if kind == "reference":
        meaning = html.unescape(unit["reference"].decode()).encode("utf-8", "replace")
        return b"" if _INVISIBLE.fullmatch(meaning) else meaning
    return b""


def without_invisible(value: str) -> str:
    """What is left of a value where the characters without a width in it are not seen."""
    return _INVISIBLE.sub(b"", value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def hides(text: bytes) -> bool:
    """Whether it has usual characters spelled in an unusual way, or has some between them that are not seen."""
    return (
        (b"%" in text and _HIDING_PERCENT.search(text) is not None)
        or (b"&" in text and _HIDING_REFERENCE.search(text) is not None)
        or (not text.isascii() and _HIDING_WIDTH.search(text) is not None)
        or (b"\\" in text and any(lead in text for lead in _ESCAPED_LEADS) and _HIDING_ESCAPED.search(text) is not None)
    )


def is_quoted(text: bytes) -> bool:
    """Whether it may be quoted-printable."""
    return b"=" in text and _HIDING_QUOTED.search(text) is not None


def has_lines(text: bytes) -> bool:
    """Whether there is base64 on lines in it."""
    return (b"\n" in text or (b"\\" in text and b"\\n" in text)) and Way.ON_LINES.value.search(text) is not None


def cut_escape(data: bytes, begin: int) -> int | None:
    """Where an escape begins, at ``begin`` or later, that the data's end may have cut."""
    tail = max(begin, len(data) - _MAX_CUT)
    cut = _CUT.search(data, tail) if _CUT_BYTES.search(data, tail) else None
    return None if cut is None else cut.start()
