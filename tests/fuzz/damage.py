"""What goes wrong with bytes on a wire, as strategies: mutations, cuts; and a measure of work that is no clock.

``FUZZ_EXAMPLES=5000 pytest tests/fuzz`` looks longer, at other examples each time.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from hypothesis import HealthCheck, settings, strategies as st
from selection import examples

_WISHED = os.environ.get("FUZZ_EXAMPLES")
fuzz = settings(
    max_examples=int(_WISHED or examples(60)),
    derandomize=_WISHED is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

NASTY: Sequence[bytes] = (
    b"", b"\0", b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r", b"\xef\xbb\xbf", b"\xef\xbb", b"\xff", b"\xc3", b"\xe6\xbc",
    b"\xed\xa0\x80", b'"', b"\\", b"\\u", b"\\ud83d", b"\\q", b"{", b"[", b"}", b"]", b",", b":", b"data:", b"data",
    b"event: error\n", b"null", b"NaN", b"-Infinity", b"1e999", b"-0", b"1.10", b"9" * 400, b"18446744073709551616",
    b'{"a":1,"a":2}', b"[" * 300, b'{"a":' * 1100, b"\x1e", b" ", b"%", b"%ff", b"%2", b"+", b"=", b"&", b";",
    b"\x1f\x8b", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x80\0\0\0",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, good: st.SearchStrategy[bytes]) -> bytes:
    """Good bytes with up to five things done to them: flipped, dropped, repeated, cut off, put in."""
    data = bytearray(draw(good))
    for _ in range(draw(st.integers(0, 5))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        match draw(st.integers(0, 4)):
            case 0 if start < len(data):
                data[start] ^= draw(st.integers(1, 255))
            case 1:
                del data[start:end]
            case 2:
                data[end:end] = data[start:end]
            case 3:
                del data[end:]
            case _:
                data[start:start] = draw(st.sampled_from(NASTY) | st.binary(max_size=8))
    return bytes(data)


def in_pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The data, cut at these places; those beyond the end give empty pieces."""
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


cuts = st.lists(st.integers(0, 3000), max_size=12)


def work(run: Callable[[], object]) -> int:
    """The number of calls that something makes, of Python's functions and C's."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(before)
    return calls


def assert_linear(run: Callable[[int], Callable[[], object]], small: int = 200) -> None:
    """Four times the input is at most five times the work, whatever the fixed part of it."""
    run(small)()  # caches fill, modules are imported
    one, four, sixteen = (work(run(small * factor)) for factor in (1, 4, 16))
    assert sixteen - four <= 5 * (four - one) + 200, (one, four, sixteen)
