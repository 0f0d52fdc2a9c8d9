"""Content-decoding, whatever the cuts."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
from backports import zstd
from hypothesis import given, settings, strategies as st
from selection import examples

from otel_wirecap.capture import decoding
from otel_wirecap.capture.decoding import ContentDecoder, TextSplitter, UndecodableError


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip of two members": ("x-gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    "padded gzip": ("gzip", lambda data: gzip.compress(data[:9]) + bytes(5) + gzip.compress(data[9:]) + bytes(5)),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstd.compress),
    "zstd of two frames": ("zstd", lambda data: zstd.compress(data[:9]) + zstd.compress(data[9:])),
    "one on another": ("gzip, br", lambda data: brotli.compress(gzip.compress(data))),
    "identity": ("identity", lambda data: data),
}


@pytest.mark.parametrize("name", CODINGS)
@given(data=st.binary(max_size=300), size=st.integers(1, 40))
@settings(deadline=None, max_examples=examples(40))
def test_the_body_is_the_same_wherever_it_is_cut(name: str, data: bytes, size: int) -> None:
    header, encode = CODINGS[name]
    wire = encode(data)
    decoder = ContentDecoder(header)
    assert b"".join(decoder.decode(wire[i : i + size]) for i in range(0, len(wire), size)) == data


@pytest.mark.parametrize("header", ["gzip", "zstd", "br"])
def test_damaged_bytes_are_told(header: str) -> None:
    with pytest.raises(UndecodableError):
        ContentDecoder(header).decode(b"\x00 these bytes are none of it \xff" * 9)


@pytest.mark.parametrize("header", ["compress", "gzip, unheard-of", ", ".join(["gzip"] * 9)])
def test_codings_that_nobody_knows_are_told(header: str) -> None:
    with pytest.raises(UndecodableError):
        ContentDecoder(header)


@given(text=st.text(max_size=60), size=st.integers(1, 5))
def test_no_character_is_damaged_by_a_cut(text: str, size: int) -> None:
    data, splitter = text.encode(), TextSplitter()
    parts = [splitter.feed(data[i : i + size]) for i in range(0, len(data), size)]
    assert all(isinstance(part, str) for part in parts)
    assert "".join(map(str, parts)) == text
    assert splitter.rest() == b""


@pytest.mark.parametrize(("header", "encode"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_the_work_grows_with_the_bytes_and_not_with_their_square(
    header: str, encode: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = 0

    class Counting:
        """A decoder that tells how many bytes it was given: it copies what follows a member's end."""

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def decompress(self, data: bytes, *most: int) -> bytes:
            nonlocal copied
            copied += len(data)
            return bytes(self.inner.decompress(data, *most))

    def work(members: int) -> int:
        nonlocal copied
        copied = 0
        assert ContentDecoder(header).decode(encode(b"a") * members) == b"a" * members
        return copied

    make_gzip, make_zstd = zlib.decompressobj, zstd.ZstdDecompressor
    monkeypatch.setattr(zlib, "decompressobj", lambda *arguments: Counting(make_gzip(*arguments)))
    monkeypatch.setattr(zstd, "ZstdDecompressor", lambda: Counting(make_zstd()))
    assert 0 < work(16_000) <= 5 * work(4_000)


@pytest.mark.parametrize("name", [name for name in CODINGS if name != "identity"])
def test_a_small_body_cannot_fill_the_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    header, encode = CODINGS[name]
    wire = encode(bytes(200_009))
    monkeypatch.setattr(decoding, "MAX_DECODED", 200_009)
    assert ContentDecoder(header).decode(wire) == bytes(200_009)
    monkeypatch.setattr(decoding, "MAX_DECODED", 200_008)
    with pytest.raises(UndecodableError, match="more than 200008 bytes"):
        ContentDecoder(header).decode(wire)
