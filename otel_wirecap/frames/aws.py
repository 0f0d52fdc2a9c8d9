"""AWS event streams: binary messages one after the other."""

from otel_wirecap.frames.aws_message import CHECKSUM, PRELUDE, AWSMessage, is_prelude
from otel_wirecap.frames.lexer import Frame, Lexer


class AWSLexer(Lexer):
    """Finds the messages of an AWS event stream; one that is cut off by the end is none.

    Attributes:
        is_damaged: a message's prelude is not sound, so that nothing more can be found.
    """

    def __init__(self, max_frame_bytes: int, *, begin: int = 0) -> None:
        super().__init__(max_frame_bytes, begin=begin)
        self._skipped = 0  # bytes that are still to come of a message that is too large
        self.is_damaged = False

    def read(self, data: bytes | bytearray, *, is_end: bool) -> list[Frame]:
        """See ``Lexer``."""
        frames: list[Frame] = []
        place, size = self.consumed, len(data)
        at = min(self._skipped, size)
        self._skipped -= at
        while not self.is_damaged and size - at >= PRELUDE.size:
            total, headers, _ = PRELUDE.unpack_from(data, at)
            if not is_prelude(data[at : at + PRELUDE.size]) or total < PRELUDE.size + headers + CHECKSUM.size:
                self.is_damaged = True
            elif total > self.max_frame_bytes:
                self._drop(place + at)
                self._skipped = max(0, total - (size - at))
                at = min(size, at + total)
            elif size - at < total:
                break
            else:
                message = AWSMessage.decoded(bytes(data[at : at + total]))
                name, content = message.event()
                frames.append(Frame(name, content, place + at, place + at + total, (), message))
                at += total
        if self.is_damaged or is_end:
            at = size
        self.consumed = place + at
        return frames
