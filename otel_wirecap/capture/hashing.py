"""Short names for what must not be read in a capture: equal under one salt, useless without it."""

import base64
import hmac
from functools import lru_cache
from typing import Final

_PIECE: Final = 2000


@lru_cache(maxsize=8)
def _beginning(salt: bytes) -> hmac.HMAC:
    return hmac.new(salt, digestmod="sha256")


def keyed_hash(salt: bytes, purpose: str, *parts: str) -> str:
    """Sixteen characters that stand for the parts; their lengths are hashed too: none runs over."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in (purpose, *parts)]
    message = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
    digest = _beginning(salt).copy()
    # In pieces: from 2,048 bytes on hashlib lets go of the interpreter, and a busy host is slow to give it back.
    for start in range(0, len(message), _PIECE):
        digest.update(message[start : start + _PIECE])
    return base64.b32encode(digest.digest()[:10]).decode().lower()
