"""Content-decoding, a chunk at a time, for the record only: the application's bytes are never touched.

Brotli and zstd come with the extra ``encodings``; where a decoder is missing, or the bytes are not what their header
says, the body is recorded as undecodable.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from otel_wirecap.llm.text import json_value

MAX_LAYERS = 5
"""Content codings one on another; RFC 9110 sets no limit, nobody sends more than two."""

MAX_DECODED = 128 << 20
"""Bytes that one call may decode to, twice what gzip can make of 64 KiB. More is made to exhaust the memory."""

_SLICE = 8192
"""Bytes that a decoder gets at once: it copies what follows the end of a member, and many may end in one chunk."""

_FIELD: Final = re.compile(
    rb' name="?(model|stream)"?(?=[;\r])[^\r\n]{0,200}+\r\n(?:[^\r\n]{1,200}+\r\n){0,8}+\r\n([^\r\n]{1,200}+)\r\n--'
)
"""A field of a multipart form, from its name on."""


NOT_JSON: Final = object()
"""The value of a body that is no JSON (JSON's null is None)."""


class UndecodableError(Exception):
    """The body cannot be decoded: an unknown coding, a missing decoder or damaged bytes."""


class _Layer(Protocol):
    def decode(self, data: bytes) -> bytes: ...


class _Inner(Protocol):
    """What zlib and zstd have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Decoded:
    """The bytes that one call decodes to, within the bound."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._room = MAX_DECODED

    @property
    def most(self) -> int:
        """The bytes to ask a decoder for: one more than may be, which tells that there are too many."""
        return self._room + 1

    def add(self, part: bytes) -> None:
        """Takes what a decoder gave."""
        self._room -= len(part)
        if self._room < 0:
            raise UndecodableError(f"more than {MAX_DECODED} bytes at once")
        self._parts.append(part)

    def all(self) -> bytes:
        return b"".join(self._parts)


def _members(inner: _Inner, anew: Callable[[], _Inner], data: bytes, padding: bytes = b"") -> tuple[_Inner, bytes]:
    """Decodes any number of members, one after the other; ``padding`` may stand between them.

    Returns:
        The decoder that is to go on, and what was decoded.
    """
    decoded = _Decoded()
    for start in range(0, len(data), _SLICE):
        piece = data[start : start + _SLICE]
        while piece:
            if inner.eof:
                piece = piece.lstrip(padding) if padding else piece
                if not piece:
                    break
                inner = anew()
            decoded.add(inner.decompress(piece, decoded.most))
            piece = inner.unused_data if inner.eof else b""
    return inner, decoded.all()


class _Gzip:
    """Gzip with any number of members (RFC 1952 §2.2), zeros between and behind them."""

    def __init__(self) -> None:
        self._inner = self._anew()

    def decode(self, data: bytes) -> bytes:
        self._inner, decoded = _members(self._inner, self._anew, data, b"\0")
        return decoded

    @staticmethod
    def _anew() -> _Inner:
        return zlib.decompressobj(zlib.MAX_WBITS | 16)


class _Deflate:
    """Deflate as zlib format (RFC 9110 §8.4.1.2) or, as some servers send it, raw."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj()
        self._first = b""
        self._decided = False

    def decode(self, data: bytes) -> bytes:
        if self._decided:
            return self._decompressed(data)
        self._first += data
        if len(self._first) < 2:
            return b""
        self._decided = True
        is_zlib = self._first[0] & 0x0F == 8 and int.from_bytes(self._first[:2], "big") % 31 == 0
        if not is_zlib:
            self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
        return self._decompressed(self._first)

    def _decompressed(self, data: bytes) -> bytes:
        decoded = _Decoded()
        if not self._inner.eof:  # what follows the end says nothing
            decoded.add(self._inner.decompress(data, decoded.most))
        return decoded.all()


class _Brotli:
    def __init__(self) -> None:
        try:
            import brotli  # type: ignore[import-untyped, unused-ignore]  # ships no types
        except ImportError:
            raise UndecodableError("br: install otel-wirecap[encodings]") from None
        self._process: Callable[..., bytes] = brotli.Decompressor().process

    def decode(self, data: bytes) -> bytes:
        decoded = _Decoded()
        decoded.add(self._process(data, output_buffer_limit=decoded.most))
        return decoded.all()


class _Zstd:
    """Zstd with any number of frames, one after the other (RFC 8878 §3)."""

    def __init__(self) -> None:
        try:
            from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
        except ImportError:
            try:
                from backports import zstd
            except ImportError:
                raise UndecodableError("zstd: install otel-wirecap[encodings]") from None
        self._anew: Callable[[], _Inner] = zstd.ZstdDecompressor
        self._inner = self._anew()

    def decode(self, data: bytes) -> bytes:
        self._inner, decoded = _members(self._inner, self._anew, data)
        return decoded


_LAYERS: dict[str, Callable[[], _Layer]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}


class ContentDecoder:
    """Undoes the codings of one ``content-encoding`` header, incrementally.

    Args:
        content_encoding: the header's value, codings in the order in which they were applied.

    Raises:
        UndecodableError: a coding is unknown or its decoder is not installed.
    """

    def __init__(self, content_encoding: str) -> None:
        codings = [coding for item in content_encoding.lower().split(",") if (coding := item.strip())]
        codings = [coding for coding in codings if coding != "identity"]
        if len(codings) > MAX_LAYERS:
            raise UndecodableError(f"{len(codings)} content codings")
        try:
            self._layers = [_LAYERS[coding]() for coding in reversed(codings)]
        except KeyError as error:
            raise UndecodableError(f"content coding {error.args[0]!r}") from None

    def decode(self, data: bytes) -> bytes:
        """The decoded bytes that ``data`` adds; may be empty.

        Raises:
            UndecodableError: the bytes are damaged, or more than ``MAX_DECODED`` come out of them.
        """
        try:
            for layer in self._layers:
                data = layer.decode(data)
        except UndecodableError:
            raise
        except Exception as error:  # noqa: BLE001  # every library has an error type of its own
            raise UndecodableError(f"{type(error).__name__}: {error}") from None
        return data


def needs_decoding(content_encoding: str) -> bool:
    """Whether a ``content-encoding`` header's value names anything but identity."""
    return bool(content_encoding) and any(
        coding.strip() not in ("", "identity") for coding in content_encoding.lower().split(",")
    )


class TextSplitter:
    """Turns the chunks of a text body into strings without ever damaging a character.

    The bytes of a character that a chunk's end cuts stay here and go with the later chunk; what is not UTF-8 at all
    comes back as bytes.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> str | bytes:
        """The text, or the bytes where they are no text, that can be told with this chunk."""
        if self._kept:
            data, self._kept = self._kept + data, b""
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                return data
            self._kept = data[error.start :]
            return data[: error.start].decode()

    def are_texts(self, chunks: list[bytes]) -> bool:
        """Whether each of the chunks is text as it is, the first with nothing before it."""
        if self._kept:
            return False
        joined = b"".join(chunks)
        if joined.isascii():
            return True
        try:
            joined.decode()
        except UnicodeDecodeError:
            return False
        # Where all of them are text together, one that begins a character's later byte is the only way to cut it.
        return not any(chunk and chunk[0] & 0xC0 == 0x80 for chunk in chunks)

    def rest(self) -> bytes:
        """The bytes that are left over when the stream ends."""
        rest, self._kept = self._kept, b""
        return rest


def text_or_bytes(content: bytes) -> str | bytes:
    """The text of ``content`` where it is UTF-8, else the bytes themselves."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def cut_text(data: bytes) -> str | bytes:
    """The beginning of a truncated body: text, less a character cut at the end; bytes where it is no text."""
    return TextSplitter().feed(data)


def parse_json(content: bytes, content_type: str) -> Any:
    """The JSON value of a body, NOT_JSON where it is none: said by its type, or an object or array by its looks."""
    if "json" not in content_type and content.lstrip(b" \t\r\n")[:1] not in (b"{", b"["):
        return NOT_JSON
    try:
        # Within something, as it stands in a record: a parser's limit of nesting must hold for the record, too.
        values = json_value(b"[%b]" % content)
    except ValueError:
        return NOT_JSON
    return values[0] if len(values) == 1 else NOT_JSON


def form_fields(content: bytes, content_type: str) -> dict[str, Any] | None:
    """What a multipart form says of what it asks for, as JSON would have it; None where it is no such form.

    Source: RFC 7578. Transcriptions and edits of images are asked for so, their model beside a file of any size.
    """
    if not content_type.lower().startswith("multipart/form-data"):
        return None
    fields: dict[str, Any] = {}
    for match in _FIELD.finditer(content):
        fields.setdefault(match[1].decode(), match[2].decode("utf-8", "replace"))
    if "stream" in fields:
        fields["stream"] = fields["stream"].lower() == "true"
    return fields


def without_end(content: str | bytes, size: int) -> str | bytes:
    """The content less ``size`` bytes at its end, and less the rest of a character that this cuts."""
    if not size:
        return content
    if isinstance(content, bytes):
        return content[:-size]
    return cut_text(content.encode()[:-size])
