"""The client token: what it is made of, where it is looked for in a request, and how it is taken out. Pure.

Invariant: the token is only ever compared in full (``hmac.compare_digest``), so that the time an answer takes does not
tell how much of a guess is right. A search that stops at the first wrong byte would.

Source: RFC 6750, section 2.1 (what a bearer token is made of).
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from otel_wirecap.errors import ConfigurationError

MIN_TOKEN_LENGTH = 16
"""A shorter one could be guessed, and one of less than 8 characters would not be masked in a capture."""

MAX_TOKEN_LENGTH = 256
"""The search for a token takes time in proportion to its length."""

_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_RUN = re.compile(rb"[A-Za-z0-9._~+/=-]{%d,}" % MIN_TOKEN_LENGTH)
_BASIC = re.compile(rb"(?i:basic)[ \t=]+([A-Za-z0-9+/_-]+)")
_URL_ALPHABET = bytes.maketrans(b"-_", b"+/")


def checked_token(content: bytes, place: str) -> bytes:
    """The client token that a file or a variable holds.

    Args:
        content: what it holds; blanks and line ends around the token do not count.
        place: where it stands, for the message.

    Raises:
        ConfigurationError: it is no token; the message does not quote it.
    """
    token = content.strip()
    if not token:
        wrong = "is empty"
    elif b"\n" in token or b"\r" in token:
        wrong = "has several lines"
    elif not MIN_TOKEN_LENGTH <= len(token) <= MAX_TOKEN_LENGTH:
        wrong = f"has {len(token)} characters"
    elif not _TOKEN.fullmatch(token):
        wrong = "has characters that a token cannot have"
    else:
        return token
    raise ConfigurationError(
        f"{place} {wrong}; expected one line, a token of {MIN_TOKEN_LENGTH} to {MAX_TOKEN_LENGTH} letters, digits and "
        "-._~+/ with = at its end at most, such as the output of: openssl rand -hex 32"
    )


def is_among(token: bytes, credentials: Sequence[bytes]) -> bool:
    """Whether one of the credentials that a request carries is the token, with ``Bearer`` before it or without.

    ``Basic`` is no way to bring it: browsers remember its passwords, and send them for other sites' pages, too.
    """
    return any(hmac.compare_digest(_without_scheme(value), token) for value in credentials)


def holds(token: bytes, data: bytes) -> bool:
    """Whether the token stands anywhere in the data, as it is or percent-encoded."""
    size = len(token)
    forms = (data, unquote_to_bytes(data)) if b"%" in data else (data,)
    for form in forms:
        # Only what is long enough, and of a token's characters, can hold one: most headers cost nothing more.
        for run in _RUN.findall(form):
            if len(run) >= size and any(
                hmac.compare_digest(run[start : start + size], token) for start in range(len(run) - size + 1)
            ):
                return True
    return False


def header_holds(token: bytes, name: bytes, value: bytes) -> bool:
    """Whether the token stands anywhere in a header, the user and password of ``Basic`` included."""
    return holds(token, name + b":" + value) or (b"asic" in value.lower() and holds(token, _decoded_basic(value)))


def _without_scheme(value: bytes) -> bytes:
    scheme, _, rest = value.strip().partition(b" ")
    return rest.strip() if scheme.lower() == b"bearer" else value.strip()


def _decoded_basic(value: bytes) -> bytes:
    """What ``Basic`` credentials in a header's value say, user and password; nothing where there are none."""
    said = []
    for found in _BASIC.finditer(value):
        text = found[1].translate(_URL_ALPHABET)
        text = text[:-1] if len(text) % 4 == 1 else text  # no base64 has that length
        said.append(base64.b64decode(text + b"=" * (-len(text) % 4)))
    return b"\n".join(said)
