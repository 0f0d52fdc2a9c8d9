"""AWS event streams, as Bedrock sends them.

A frame is a prelude (total length, length of the headers, checksum of both), headers, a payload and a checksum. The
payload of an event is JSON that does not say of which type it is: the header ``:event-type`` does. Hence the data of
an event here are ``{type: payload}``, which is how AWS's own SDKs give it, and how Nova writes it within a frame. The
event type ``chunk`` only wraps: its payload has the model's own event in base64, which is then the event.

Sources: https://smithy.io/2.0/aws/amazon-eventstream.html and
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ResponseStream.html

Invariants:

- What comes out does not depend on where the bytes were cut.
- Held at any time: at most one frame, of at most ``max_event_bytes``.
- Every byte is looked at a fixed number of times, however small the pieces are.
"""

import binascii
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

import orjson

from otel_wirecap.llm.events import Event

PRELUDE: Final = struct.Struct("!III")
_CHECKSUM: Final = 4
_LENGTH: Final = struct.Struct("!H")

_STRING: Final = 7
_BYTES: Final = 6
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""The bytes that a header's value takes, by its type; of strings and bytes the length stands before them."""


class AWSFramesParser:
    """Parses one AWS event stream; see `EventParser`.

    An exception that the service sends in place of an event is an event of the name ``error``, its data a JSON object
    with ``type`` and ``message``. After a frame whose prelude is damaged nothing more is told.

    Args:
        max_event_bytes: the most that a frame may take. One over it is dropped.

    Attributes:
        overflowed: whether an event was dropped because it was too large.
    """

    __slots__ = ("_held", "_is_damaged", "_limit", "_skipped", "overflowed")

    def __init__(self, *, max_event_bytes: int = 1 << 24) -> None:
        self._limit = max_event_bytes
        self._held = bytearray()
        self._skipped = 0  # bytes that are still to come of a frame that is too large
        self._is_damaged = False
        self.overflowed = False

    def feed(self, data: bytes) -> list[Event]:
        """See ``EventParser.feed``."""
        held = self._held
        held += data[self._skipped :]
        self._skipped = max(0, self._skipped - len(data))
        events: list[Event] = []
        at = 0
        while not self._is_damaged and len(held) - at >= PRELUDE.size:
            total, headers, _ = PRELUDE.unpack_from(held, at)
            payload = PRELUDE.size + headers
            if not is_prelude(held[at : at + PRELUDE.size]) or total < payload + _CHECKSUM:
                self._is_damaged = True
            elif len(held) - at >= total:
                if total > self._limit:
                    self.overflowed = True
                else:
                    frame = bytes(held[at : at + total])
                    events += _events_in(frame[PRELUDE.size : payload], frame[payload:-_CHECKSUM])
                at += total
            elif total > self._limit:
                self.overflowed = True
                self._skipped = total - (len(held) - at)
                at = len(held)
            else:
                break
        if self._is_damaged:
            held.clear()
        del held[:at]
        return events

    def close(self) -> list[Event]:
        """See ``EventParser.close``; a frame is not told before it is whole."""
        return []


def is_prelude(data: bytes | bytearray) -> bool:
    """Whether the first 12 bytes of what may be a frame are the prelude of one."""
    return len(data) >= PRELUDE.size and zlib.crc32(data[:8]) == PRELUDE.unpack_from(data)[2]


def _events_in(headers: bytes, payload: bytes) -> Iterator[Event]:
    named = _headers(headers)
    kind = named.get(":message-type")
    if kind == "event":
        name = named.get(":event-type", "")
        wrapped = _json(payload) if name == "chunk" else None
        inner = wrapped.get("bytes") if isinstance(wrapped, dict) else None
        if isinstance(inner, str):
            try:
                yield Event("", binascii.a2b_base64(inner))
            except ValueError:
                return
        elif payload:
            yield Event(name, b"{%s:%s}" % (orjson.dumps(name), payload))
    elif kind == "exception":
        told = _json(payload)
        if not isinstance(told, dict):
            payload = orjson.dumps({"message": payload.decode("utf-8", "replace")})
        # Spelled, not dumped: what can be read may be nested too deep to be written.
        comma = b"" if told == {} else b","
        kind_of = orjson.dumps(named.get(":exception-type"))
        yield Event("error", b'{"type":%s%s%s' % (kind_of, comma, payload.strip()[1:]))
    elif kind == "error":
        error = {"type": named.get(":error-code"), "message": named.get(":error-message")}
        yield Event("error", orjson.dumps(error))


def _headers(data: bytes) -> dict[str, str]:
    """The headers that are strings; as far as they can be read."""
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            end = at + 1 + data[at]
            name, kind = data[at + 1 : end], data[end]
            at = end + 1
            if kind in (_STRING, _BYTES):
                size = _LENGTH.unpack_from(data, at)[0]
                at += _LENGTH.size
            else:
                size = _SIZES[kind]
            if kind == _STRING:
                found[name.decode("utf-8", "replace")] = data[at : at + size].decode("utf-8", "replace")
            at += size
    except (IndexError, KeyError, struct.error):
        pass  # no stream of today has such headers
    return found


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
