"""What every lexer of a stream is like, and what it yields."""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

from otel_wirecap.frames.aws_message import AWSMessage

MAX_FRAME_BYTES = 1 << 24
"""Of a frame that is yielded, unless somebody says otherwise."""


class Frame(NamedTuple):
    r"""One frame of a stream: a server-sent event, a JSON value of several, a message of an AWS event stream.

    Attributes:
        name: what kind of event the frame says it is; "" where it says nothing.
        data: what it carries, as a rule one JSON document; UTF-8, not decoded.
        start: where it begins in the stream.
        end: where it ends in the stream, what closes it included.
        parts: where the parts of ``data`` stand, in order: the place in ``data``, the place in the stream. Between two
            parts ``data`` has a line feed. Empty where ``message`` carries the data in another form.
        message: the message of an AWS event stream that it is.
    """

    name: str
    data: bytes
    start: int = 0
    end: int = 0
    parts: tuple[tuple[int, int], ...] = ()
    message: AWSMessage | None = None

    def places(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Where ``data[begin:end]`` stands in the stream: one place for each part that it touches."""
        parts = self.parts
        last = len(parts) - 1
        for number in range(max(0, bisect_right(parts, begin, key=itemgetter(0)) - 1), len(parts)):
            at, place = parts[number]
            if at > end:
                break
            stop = len(self.data) if number == last else parts[number + 1][0] - 1
            first, to = max(at, begin), min(stop, end)
            if first <= to:
                yield place + first - at, place + to - at


class Lexer(ABC):
    """Finds the frames of one stream. Who reads it keeps the stream's bytes from ``consumed`` on.

    Invariants:

    - What comes out does not depend on where the bytes were cut.
    - To be kept are at most one frame, of at most ``max_frame_bytes``, and the bytes that end it.
    - Every byte is looked at a fixed number of times, however small the pieces are.

    Args:
        max_frame_bytes: the most that a frame may take. One over it is dropped.

    Attributes:
        consumed: where the next reading begins. All frames that begin before are yielded or dropped.
        dropped_from: where the first frame begins that was dropped because it was too large; None if none was.
    """

    def __init__(self, max_frame_bytes: int, *, begin: int = 0) -> None:
        self.max_frame_bytes = max_frame_bytes
        self.consumed = begin
        self.dropped_from: int | None = None

    @property
    def overflowed(self) -> bool:
        """Whether a frame was dropped because it was too large."""
        return self.dropped_from is not None

    def _drop(self, place: int) -> None:
        """A frame that begins there is too large."""
        self.dropped_from = place if self.dropped_from is None else min(place, self.dropped_from)

    @abstractmethod
    def read(self, data: bytes | bytearray, *, is_end: bool) -> list[Frame]:
        """Takes the next bytes.

        Args:
            data: the stream from ``consumed`` on, as far as it came.
            is_end: nothing follows.

        Returns:
            The frames that are whole, in order; at the end also the one that it cuts off.
        """
