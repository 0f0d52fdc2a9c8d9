r"""ASCII characters as JSON's escapes, also of JSON within JSON, however deep: ``\u0073`` and ``\\u0073`` are an s."""

import re
from typing import Final

_ESCAPE: Final = re.compile(rb"\\++u00([2-7][0-9A-Fa-f])")
_CUT: Final = re.compile(rb"\\++(?:u(?:0(?:0[2-7]?)?)?)?\Z")
_MOST_CUT: Final = 24


def read_escapes(data: bytes) -> tuple[bytes, list[int]]:
    """The data with these escapes read, and where each of its bytes begins there; last, where all of them end."""
    parts: list[bytes] = []
    places: list[int] = []
    done = 0
    for escape in _ESCAPE.finditer(data):
        begin, end = escape.span()
        parts += (data[done:begin], bytes([int(escape[1], 16)]))
        places += range(done, begin + 1)
        done = end
    parts.append(data[done:])
    places += range(done, len(data) + 1)
    return b"".join(parts), places


def cut_escape(data: bytes, begin: int) -> int | None:
    """Where an escape begins, at ``begin`` or later, that the data's end may have cut."""
    tail = max(begin, len(data) - _MOST_CUT)
    cut = _CUT.search(data, tail) if data.find(b"\\", tail) >= 0 else None
    return None if cut is None else cut.start()
