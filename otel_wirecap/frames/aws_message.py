"""One message of an AWS event stream, as Bedrock sends them: decoded, and encoded again.

A message is a prelude (its length, the length of its headers, the checksum of both), headers, a payload and a checksum.

Sources: https://smithy.io/2.0/aws/amazon-eventstream.html and
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ResponseStream.html
"""

import base64
import binascii
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import orjson

PRELUDE: Final = struct.Struct("!III")
CHECKSUM: Final = struct.Struct("!I")
_LENGTH: Final = struct.Struct("!H")

STRING: Final = 7
BYTES: Final = 6
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""The bytes that a header's value takes, by its type; of strings and bytes the length stands before them."""


class Header(NamedTuple):
    """One header; ``value`` is encoded as its type says."""

    name: bytes
    type: int
    value: bytes


class AWSMessage(NamedTuple):
    """One message.

    Attributes:
        headers: as they are encoded.
        payload: as a rule JSON.
    """

    headers: bytes
    payload: bytes

    @classmethod
    def decoded(cls, data: bytes) -> "AWSMessage":
        """The message that these bytes are, whose prelude is sound."""
        payload = PRELUDE.size + PRELUDE.unpack_from(data)[1]
        return cls(data[PRELUDE.size : payload], data[payload : -CHECKSUM.size])

    @property
    def payload_start(self) -> int:
        """Where the payload begins in the encoded message."""
        return PRELUDE.size + len(self.headers)

    def encoded(self) -> bytes:
        """The bytes of it, with checksums that are right."""
        head = PRELUDE.pack(self.payload_start + len(self.payload) + CHECKSUM.size, len(self.headers), 0)[:8]
        message = b"".join((head, CHECKSUM.pack(zlib.crc32(head)), self.headers, self.payload))
        return message + CHECKSUM.pack(zlib.crc32(message))

    def header_list(self) -> Iterator[Header]:
        """The headers.

        Raises:
            ValueError: from here on they cannot be read.
        """
        data, at = self.headers, 0
        try:
            while at < len(data):
                end = at + 1 + data[at]
                name, kind = data[at + 1 : end], data[end]
                at = end + 1
                if kind in (STRING, BYTES):
                    size = _LENGTH.unpack_from(data, at)[0]
                    at += _LENGTH.size
                else:
                    size = _SIZES[kind]
                if at + size > len(data):
                    raise ValueError("the headers of a message are cut off")
                yield Header(name, kind, data[at : at + size])
                at += size
        except (IndexError, KeyError, struct.error) as error:
            raise ValueError("a header of a message is of no known type, or cut off") from error

    def unwrapped(self) -> bytes | None:
        """The document that the payload has in base64 as its member ``bytes``; None where it has none."""
        value = _json(self.payload) if b"bytes" in self.payload or b"\\" in self.payload else None
        inner = value.get("bytes") if isinstance(value, dict) else None
        if not isinstance(inner, str):
            return None
        try:
            return base64.b64decode(inner, validate=True)
        except (binascii.Error, ValueError):
            return None

    def event(self) -> tuple[str, bytes]:
        """The name and the data of the event that the message is; no data where it is none.

        The payload does not say of which type it is: the header ``:event-type`` does. Hence the data are ``{type:
        payload}``, which is how AWS's own SDKs give it, and how Nova writes it within a message. The type ``chunk``
        only wraps: its payload has the model's own event in base64, which is then the event. An exception that the
        service sends in place of an event is an event of the name ``error``, its data a JSON object with ``type`` and
        ``message``.
        """
        named = self._strings()
        kind = named.get(":message-type")
        if kind == "event":
            name = named.get(":event-type", "")
            inner = self.unwrapped() if name == "chunk" else None
            if inner is not None:
                return "", inner
            return (name, b"{%s:%s}" % (orjson.dumps(name), self.payload)) if self.payload else ("", b"")
        if kind == "exception":
            payload = self.payload
            said = _json(payload)
            if not isinstance(said, dict):
                payload = orjson.dumps({"message": payload.decode("utf-8", "replace")})
            # Spelled, not dumped: what can be read may be nested too deep to be written.
            comma = b"" if said == {} else b","
            kind_of = orjson.dumps(named.get(":exception-type"))
            return "error", b'{"type":%s%s%s' % (kind_of, comma, payload.strip()[1:])
        if kind == "error":
            return "error", orjson.dumps({"type": named.get(":error-code"), "message": named.get(":error-message")})
        return "", b""

    def _strings(self) -> dict[str, str]:
        """The headers that are strings; as far as they can be read."""
        found: dict[str, str] = {}
        try:
            for name, kind, value in self.header_list():
                if kind == STRING:
                    found[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        except ValueError:
            pass  # no stream of today has such headers
        return found


def headers_of(headers: Iterable[Header]) -> bytes:
    """Headers as a message has them."""
    return b"".join(
        b"%c%b%c%b%b" % (len(name), name, kind, _LENGTH.pack(len(value)) if kind in (STRING, BYTES) else b"", value)
        for name, kind, value in headers
    )


def is_prelude(data: bytes | bytearray) -> bool:
    """Whether the first 12 bytes of what may be a message are the prelude of one."""
    return len(data) >= PRELUDE.size and zlib.crc32(data[:8]) == PRELUDE.unpack_from(data)[2]


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
