"""The escapes of JSON's strings (RFC 8259, section 7), wherever a text has such: those of the outermost JSON."""

import re
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


def read_escapes(data: bytes) -> tuple[bytes, list[int]]:
    """The data with the escapes read, and where each of its bytes begins there; last, where all of them end."""
    parts: list[bytes] = []
    places: list[int] = []
    done = 0
    for escape in _ESCAPE.finditer(data):
        begin, end = escape.span()
        letter = _read(escape)
        parts += (data[done:begin], letter)
        places += range(done, begin)
        places += [begin] * len(letter)
        done = end
    parts.append(data[done:])
    places += range(done, len(data) + 1)
    return b"".join(parts), places


def _read(escape: re.Match[bytes]) -> bytes:
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
