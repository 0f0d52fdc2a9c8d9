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
_BLANK = {ord("\n"): " ", ord("\t"): " "}
_UNPRINTABLE = re.compile(rb"[^ -~]|['\\\\]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def curl_command(leg: Leg) -> str:
    """Returns the command that resends a leg's request; without its body if the capture has none.

    The key's place has ``$KEY_NAME``, in double quotes, so that the shell puts the key there. Nothing of the request
    is read by curl as the name of a file or as a pattern, nor by a terminal as a command: bytes that are no printable
    text are spelled for ``printf``, as POSIX has it.
    """
    name = leg.exchange.key_name or ""
    variable = f"${{{name if _VARIABLE.fullmatch(name) else 'API_KEY'}}}"
    url = _quoted(_IN_URLS.split(leg.exchange.url), variable)
    parts = [f"curl --no-buffer --globoff --request {_argument(leg.exchange.method or 'POST')} --url {url}"]
    # A capture has bodies decoded.
    left_out = _LEFT_OUT | {"content-encoding"} if "content_encoding" in leg.metadata("request") else _LEFT_OUT
    for header, value in leg.headers("request"):
        if header.lower() in left_out or header.startswith((":", "@")):
            continue
        if MARKER not in value:
            parts.append("--header " + _argument(f"{header}: {value}" if value else f"{header};"))
        elif header.lower() == "authorization" and value == MARKER:
            parts.append("--header " + _quoted([f"{header}: Bearer ", ""], variable))
        elif header.lower() not in {"cookie", "set-cookie"}:
            parts.append("--header " + _quoted(f"{header}: {value}".split(MARKER), variable))
    body = leg.request_body
    if body and _is_text(body):
        parts.append("--data-raw " + shlex.quote(body.decode()))
    elif body:
        parts[0] = f"printf '%b' '{_spelled(body)}' |\n{parts[0]}"
        parts.append("--data-binary @-")
    return " \\\n  ".join(parts)


def _quoted(pieces: list[str], variable: str) -> str:
    """The pieces as the shell reads them as one word, with the variable between them in double quotes."""
    return f'"{variable}"'.join(_argument(piece) if piece else "" for piece in pieces)


def _argument(text: str) -> str:
    data = text.encode("utf-8", "surrogateescape")
    return shlex.quote(text) if _is_text(data) else f"\"$(printf '%b' '{_spelled(data)}')\""


def _is_text(data: bytes) -> bool:
    try:
        return data.decode().translate(_BLANK).isprintable()
    except UnicodeDecodeError:
        return False


def _spelled(data: bytes) -> str:
    return _UNPRINTABLE.sub(lambda byte: b"\\0%03o" % byte[0][0], data).decode()
