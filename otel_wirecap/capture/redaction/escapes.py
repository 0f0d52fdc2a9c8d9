"""The escapes of JSON's strings (RFC 8259, section 7), wherever a text has such: those of the outermost JSON."""

import re
from array import array
from bisect import bisect_right
from typing import Final

_ESCAPE: Final = re.compile(
    rb"\\(?:([\"\\/bfnrt])|u(?:([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|((?![dD][89a-fA-F])[0-9a-fA-F]{4})))"
)
_LETTERS: Final = dict(zip(b'"\\/bfnrt', [bytes((letter,)) for letter in b'"\\/\b\f\n\r\t'], strict=True))
_CUT: Final = re.compile(
    rb"(?:\\++ud[89ab][0-9a-f]{2})?\\++(?:u[0-9a-f]{0,3})?\Z|\\++ud[89ab][0-9a-f]{2}\Z", re.IGNORECASE
)
_MAX_CUT: Final = 40
_MARKED_ESCAPES: Final = 32


class Places:
    """Where the bytes of a text whose escapes are read begin in the text as it is spelled.

    Kept is one place in ``_MARKED_ESCAPES`` escapes: what is between is read again.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._read, self._spelled = array("Q", (0,)), array("Q", (0,))

    def mark(self, read: int, spelled: int) -> None:
        """Tells what is at the end of an escape."""
        self._read.append(read)
        self._spelled.append(spelled)

    def spelled(self, place: int) -> int:
        """Where the byte, or the end, at a place of the read text begins."""
        mark = bisect_right(self._read, place) - 1
        read, done = self._read[mark], self._spelled[mark]
        for escape in _ESCAPE.finditer(self._data, done):
            plain, size = escape.start() - done, len(_letter(escape))
            if place < read + plain:
                break
            if place < read + plain + size:
                return escape.start()
            read, done = read + plain + size, escape.end()
        return done + place - read

    def read(self, place: int) -> int:
        """The place in the read text of the first byte that begins at a place of the spelled text, or later."""
        mark = bisect_right(self._spelled, place) - 1
        read, done = self._read[mark], self._spelled[mark]
        for escape in _ESCAPE.finditer(self._data, done):
            if place <= escape.start():
                break
            read, done = read + escape.start() - done + len(_letter(escape)), escape.end()
            if place < done:
                return read
        return read + place - done


def read_escapes(data: bytes) -> tuple[bytes, Places]:
    """The data with the escapes read, and where what of it was."""
    text, places, done = bytearray(), Places(data), 0
    for number, escape in enumerate(_ESCAPE.finditer(data), 1):
        text += data[done : escape.start()]
        text += _letter(escape)
        done = escape.end()
        if number % _MARKED_ESCAPES == 0:
            places.mark(len(text), done)
    text += data[done:]
    return bytes(text), places


def _letter(escape: re.Match[bytes]) -> bytes:
    letter, high, low, unit = escape.groups()
    if letter is not None:
        return _LETTERS[letter[0]]
    if unit is not None:
        return chr(int(unit, 16)).encode()
    return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00).encode()


def cut_escape(data: bytes, begin: int) -> int | None:
    """Where an escape begins, at ``begin`` or later, that the data's end may have cut."""
    tail = max(begin, len(data) - _MAX_CUT)
    cut = _CUT.search(data, tail) if data.find(b"\\", tail) >= 0 else None
    return None if cut is None else cut.start()
