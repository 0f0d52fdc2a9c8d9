"""A request as a curl command, with a shell variable in place of a masked key."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from otel_wirecap.capture.redaction.gate import MARKER

if TYPE_CHECKING:
    from otel_wirecap.reading.legs import Leg

# What curl makes itself, or what belonged to that one connection.
_LEFT_OUT = frozenset(
    {"host", "content-length", "connection", "accept-encoding", "transfer-encoding", "keep-alive", "traceparent"}
)
_IN_URLS = re.compile(r"%5BREDACTED%5D|\[REDACTED\]", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def curl_command(leg: Leg) -> str:
    """Returns the command that resends a leg's request; without its body if the capture has none.

    The key is ``$KEY_NAME`` in double quotes, so that the shell inserts it.
    """
    name = leg.exchange.key_name or ""
    variable = f"${{{name if _VARIABLE.fullmatch(name) else 'API_KEY'}}}"
    url = _IN_URLS.split(leg.exchange.url)
    parts = [f"curl --no-buffer --request {shlex.quote(leg.exchange.method or 'POST')} {_quoted(url, variable)}"]
    for header, value in leg.headers("request"):
        if header.lower() in _LEFT_OUT or header.startswith(":"):
            continue
        if MARKER not in value:
            parts.append("--header " + shlex.quote(f"{header}: {value}"))
        elif header.lower() == "authorization" and value == MARKER:
            parts.append("--header " + _quoted([f"{header}: Bearer ", ""], variable))
        elif header.lower() not in {"cookie", "set-cookie"}:
            parts.append("--header " + _quoted(f"{header}: {value}".split(MARKER), variable))
    if leg.request_body:
        parts.append("--data-binary " + shlex.quote(leg.request_body.decode("utf-8", "replace")))
    return " \\\n  ".join(parts)


def _quoted(pieces: list[str], variable: str) -> str:
    """Quotes the pieces with single quotes, and the variable between them with double quotes."""
    return f'"{variable}"'.join(shlex.quote(piece) if piece else "" for piece in pieces)
