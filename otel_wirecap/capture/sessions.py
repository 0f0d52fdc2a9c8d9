"""The session that a request belongs to.

Invariant: the order in which the sources are asked is fixed here and nowhere else.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import unquote

import orjson

from otel_wirecap.capture.hashing import keyed_hash
from otel_wirecap.llm.opening import opening_of

_LOOKED_AT: Final = 16384
"""Characters of a value that may become a session's id: long, for a secret in it must be whole to be seen."""
_USER_SESSION: Final = re.compile(r"(?:^|_)session_([A-Za-z0-9-]+)$")


def session_of(
    headers: Sequence[tuple[str, str]],
    body: object,
    *,
    session_headers: Sequence[str],
    client_host: str | None,
    user_agent: str | None,
    credential_fingerprint: str | None,
    flow_id: str,
    salt: bytes,
) -> tuple[str, str]:
    """Finds the session that a request belongs to, when nobody annotated one.

    Args:
        headers: The request's headers in wire order.
        body: Its parsed JSON body; anything else counts as none.
        session_headers: Header names that name a session, in order; case does not matter.
        client_host: The client's address, None on flows without a client leg.
        user_agent: Its user agent.
        credential_fingerprint: What tells its credential from others, see ``KeyNames``.
        flow_id: The id that stands in when nothing else answers.
        salt: Random bytes of this process, at least 16: a conversation's session id cannot be tried out
            against a dictionary of prompts without them.

    Returns:
        The session's id, printable, not redacted and for that reason not cut, and where it came from:
        ``header:<name>``, ``body:<path>``, ``baggage``, ``conversation`` or ``request``.
    """
    sent: dict[str, str] = {}
    for name, value in headers:
        sent.setdefault(name.lower(), value)
    for name in session_headers:
        if session := _presentable(sent.get(name.lower())):
            return session, f"header:{name.lower()}"
    for path, named in _named_in(body):
        if session := _presentable(named):
            return session, f"body:{path}"
    if session := _presentable(_baggage(headers, "session.id")):
        return session, "baggage"
    opening = opening_of(body)
    if opening is not None:
        parts = (*opening, client_host or "", user_agent or "", credential_fingerprint or "")
        return f"conv_{keyed_hash(salt, 'conversation', *parts)}", "conversation"
    return flow_id, "request"


def _named_in(body: object) -> Iterator[tuple[str, object]]:
    if not isinstance(body, dict):
        return
    metadata = body.get("metadata")
    if isinstance(metadata, dict):
        yield "metadata.session_id", metadata.get("session_id")
        yield "metadata.user_id", _session_part(metadata.get("user_id"))
    conversation = body.get("conversation")
    yield "conversation", conversation.get("id") if isinstance(conversation, dict) else conversation
    yield "prompt_cache_key", body.get("prompt_cache_key")


def _session_part(user_id: object) -> object:
    """The session within Anthropic's ``metadata.user_id``.

    Claude Code sends ``user_<hash>_account_<uuid>_session_<uuid>`` or a JSON object with a ``session_id``.
    """
    if not isinstance(user_id, str):
        return None
    if user_id.startswith("{"):
        try:
            parsed: object = orjson.loads(user_id)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            return None
        return parsed.get("session_id") if isinstance(parsed, dict) else None
    found = _USER_SESSION.search(user_id)
    return found[1] if found else None


def _baggage(headers: Sequence[tuple[str, str]], wanted: str) -> str | None:
    """One value out of the W3C ``baggage`` headers: https://www.w3.org/TR/baggage/."""
    for name, value in headers:
        if name.lower() == "baggage":
            for member in value.split(","):
                key, equals, rest = member.partition("=")
                if equals and key.strip() == wanted:
                    return unquote(rest.partition(";")[0].strip())
    return None


def _presentable(value: object) -> str | None:
    """The value as a session's id: printable; None when nothing is left of it."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return None
    return "".join(filter(str.isprintable, value[:_LOOKED_AT])).strip() or None
