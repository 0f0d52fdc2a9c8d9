"""Content-decoding, a chunk at a time, for the record only: the application's bytes are never touched.

Brotli and zstd come with the extra ``encodings``; where a decoder is missing, or the bytes are not what their header
says, the body is recorded as undecodable.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Protocol

MAX_LAYERS = 5
"""Content codings one on another; RFC 9110 sets no limit, nobody sends more than two."""


class UndecodableError(Exception):
    """The body cannot be decoded: an unknown coding, a missing decoder or damaged bytes."""


class _Layer(Protocol):
    def decode(self, data: bytes) -> bytes: ...


class _Gzip:
    """Gzip with any number of members (RFC 1952 §2.2)."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def decode(self, data: bytes) -> bytes:
        decoded = self._inner.decompress(data)
        while self._inner.eof and self._inner.unused_data.strip(b"\0"):
            rest = self._inner.unused_data
            self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16)
            decoded += self._inner.decompress(rest)
        return decoded


class _Deflate:
    """Deflate as zlib format (RFC 9110 §8.4.1.2) or, as some servers send it, raw."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj()
        self._first = b""
        self._decided = False

    def decode(self, data: bytes) -> bytes:
        if self._decided:
            return self._inner.decompress(data)
        self._first += data
        if len(self._first) < 2:
            return b""
        self._decided = True
        is_zlib = self._first[0] & 0x0F == 8 and int.from_bytes(self._first[:2], "big") % 31 == 0
        if not is_zlib:
            self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
        return self._inner.decompress(self._first)


class _Brotli:
    def __init__(self) -> None:
        try:
            import brotli  # type: ignore[import-untyped, unused-ignore]  # ships no types
        except ImportError:
            raise UndecodableError("br: install otel-wirecap[encodings]") from None
        self._process: Callable[[bytes], bytes] = brotli.Decompressor().process

    def decode(self, data: bytes) -> bytes:
        return self._process(data)


class _Zstd:
    def __init__(self) -> None:
        try:
            from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
        except ImportError:
            try:
                from backports import zstd
            except ImportError:
                raise UndecodableError("zstd: install otel-wirecap[encodings]") from None
        self._inner = zstd.ZstdDecompressor()

    def decode(self, data: bytes) -> bytes:
        decoded = b""
        while data:
            if self._inner.eof:  # frames may follow one another (RFC 8878 §3)
                self._inner = type(self._inner)()
            decoded += self._inner.decompress(data)
            data = self._inner.unused_data if self._inner.eof else b""
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
            UndecodableError: the bytes are damaged.
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
    return any(coding.strip() not in ("", "identity") for coding in content_encoding.lower().split(","))


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

    def rest(self) -> bytes:
        """The bytes that are left over when the stream ends."""
        rest, self._kept = self._kept, b""
        return rest


def cut_text(data: bytes) -> str | bytes:
    """The beginning of a truncated body: text, less a character cut at the end; bytes where it is no text."""
    return TextSplitter().feed(data)
