"""What errors quote of a request. Pure."""

from __future__ import annotations

MAX_QUOTED = 64


def quoted(value: bytes) -> str:
    """A value as errors quote it; of a long one its length alone.

    A part of it must not be quoted: of a secret that is cut, the rest would no longer be known as one and masked.
    """
    return repr(value.decode("latin-1")) if len(value) <= MAX_QUOTED else f"{len(value)} characters"
