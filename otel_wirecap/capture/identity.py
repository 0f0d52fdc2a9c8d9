"""Who speaks: the credential of a request, the variable it comes from, the session it belongs to.

Invariants:

- ``KeyNames`` keeps no credential in clear, only HMAC digests under a salt that the caller made up.
- What is shown of a credential (a fingerprint) or of a prompt (a session made from an opening) is keyed
  with that same salt: equal under one salt, useless to whoever has the capture alone.
- The order in which sources are asked is fixed here and nowhere else.
"""

import base64
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote, unquote_plus

import orjson

from otel_wirecap.llm.opening import opening_of
from otel_wirecap.llm.providers import PROVIDERS

Headers = Sequence[tuple[str, str]]

MIN_CREDENTIAL_LENGTH: Final = 8
"""Shorter values are no credentials: a one-letter "secret" would mangle every text it occurs in."""

# --- the credential of a request ---------------------------------------------------------------------


_KEY_HEADERS: Final = (
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
    "x-litellm-api-key",
    "xi-api-key",
    "x-functions-key",
    "x-portkey-api-key",
    "helicone-auth",
    "cf-aig-authorization",
    "x-auth-token",
    "x-access-token",
    "x-vault-token",
    "x-amz-security-token",
    "private-token",
)
_QUERY_NAMES: Final = ("key", "api_key", "api-key", "apikey", "access_token", "token")
_SUBPROTOCOL_KEY: Final = re.compile(
    r"(?:openai-insecure-api-key|.*[Bb]earer(?:\.authorization\.k8s\.io)?)\.(.+)", re.DOTALL
)
_SUBPROTOCOL_SCHEMES: Final = frozenset(
    {"token", "bearer", "authorization", "access_token", "jwt", "apikey", "api-key"}
)
_RANDOM: Final = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9_=-]{24,}")
# The id of an access key has 128 characters at most; the bound keeps a header of nothing but beginnings linear.
_SIGV4: Final = re.compile(r"AWS4-[A-Z0-9-]+\s.*?Credential=([^/,\s]{1,128})/")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]*)[ \t]+(\S+)$")


def credentials(headers: Headers, query: str) -> list[str]:
    """Finds the credentials in a request.

    Args:
        headers: Names and values in wire order.
        query: The URL's query as it was sent, without the question mark.

    Returns:
        All of them, each value once; the first is the one that the request is made under: the access key id
        of a SigV4 signature, then ``Authorization`` (the password of Basic, else its user), then the key
        headers in the order of ``SCHEMA``, then the query.
    """
    stripped = (value.strip() for value in _carried(headers, query))
    return list(dict.fromkeys(value for value in stripped if value))


def _carried(headers: Headers, query: str) -> Iterator[str]:
    sent: dict[str, list[str]] = {}
    for name, value in headers:
        sent.setdefault(name.lower(), []).append(value)
    for value in sent.get("authorization", ()):
        yield from _authorization(value)
    for name in _KEY_HEADERS:
        for value in sent.get(name, ()):
            # Some of these carry "Bearer <key>" too.
            scheme = _SCHEME.fullmatch(value.strip())
            yield scheme[2] if scheme else value
    for value in sent.get("proxy-authorization", ()):
        yield from _authorization(value)
    for value in sent.get("sec-websocket-protocol", ()):
        yield from _in_subprotocols(value)
    yield from _in_query(query)


def _in_query(query: str) -> Iterator[str]:
    if not query:
        return
    parameters = [pair.partition("=") for pair in query.split("&")]
    for wanted in _QUERY_NAMES:
        for name, _, value in parameters:
            if unquote_plus(name).lower() == wanted:
                yield unquote(value)
    for name, _, value in parameters:
        if name.lower() == "x-amz-credential":
            yield unquote(value).partition("/")[0]


def _in_subprotocols(value: str) -> Iterator[str]:
    """Keys among the subprotocols of a websocket, where browsers must put them.

    OpenAI (``openai-insecure-api-key.<key>``), Deepgram (``token, <key>``), Kubernetes
    (``base64url.bearer.authorization.k8s.io.<key>``), and whatever looks like no name.
    """
    before = ""
    for item in map(str.strip, value.split(",")):
        prefixed = _SUBPROTOCOL_KEY.fullmatch(item)
        if prefixed:
            yield prefixed[1]
        elif before.lower() in _SUBPROTOCOL_SCHEMES or _RANDOM.fullmatch(item):
            yield item
        before = item


def _authorization(value: str) -> Iterator[str]:
    value = value.strip()
    if signed := _SIGV4.match(value):
        yield signed[1]
    elif scheme := _SCHEME.fullmatch(value):
        token = scheme[2]
        if scheme[1].lower() != "basic":
            yield token
            return
        try:
            user, _, password = base64.b64decode(token, validate=True).decode().partition(":")
        except ValueError:  # no base64, not even ASCII, or no text in it
            yield token
            return
        yield password or user
        yield token
    elif value and not re.search(r"\s", value):
        yield value


# --- the variable that a credential comes from --------------------------------------------------------

# fmt: off
_SECRET_WORDS: Final = frozenset({
    "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "APIKEY",
    "APIKEYS", "AUTH", "PAT", "DSN", "JWT", "BEARER",
})
_KEY_KINDS: Final = frozenset({
    "API", "ACCESS", "SECRET", "PRIVATE", "MASTER", "ADMIN", "SERVICE", "SUBSCRIPTION", "ENCRYPTION",
    "SIGNING", "SHARED", "ACCOUNT", "CLIENT", "VIRTUAL", "LICENSE", "SALT",
})
_NOT_SECRET_KEYS: Final = frozenset({
    "PUBLIC", "PUBLISHABLE", "PRIMARY", "PARTITION", "SORT", "FOREIGN", "CACHE", "GROUP", "HOT",
    "SHORTCUT", "IDEMPOTENCY",
})
_ABOUT_A_SECRET: Final = frozenset({
    "FILE", "FILES", "PATH", "DIR", "URL", "URI", "NAME", "LIMIT", "LIMITS", "COUNT", "SIZE", "LENGTH",
    "TTL", "HEADER", "HEADERS", "PREFIX", "SUFFIX", "TYPE", "EXPIRY", "EXPIRES", "EXPIRATION", "TIMEOUT",
    "ENABLED", "DISABLED", "REGION", "USER", "USERNAME", "ENDPOINT", "HOST", "PORT", "SOCK", "SOCKET",
    "PROVIDER", "BACKEND", "ID", "ARN", "VERSION", "ALGORITHM", "METHOD", "MODE", "SCOPE", "AUDIENCE",
    "ISSUER", "DOMAIN", "LOCATION", "CACHE", "HELPER", "COMMAND", "CMD",
})
# fmt: on
_NEVER: Final = frozenset({"GOOGLE_APPLICATION_CREDENTIALS", "PWD", "OLDPWD"})


def credential_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Picks the variables that look like credentials.

    Args:
        environ: Environment variables, name to value.

    Returns:
        Name to value, stripped, of those whose name has a credential's word as one of its parts
        (``OPENAI_API_KEY``, ``HF_TOKEN``, ``DB_PASSWORD``) and is not merely about one (``TOKEN_URL``,
        ``API_KEY_FILE``), and whose value has 8 characters or more.
    """
    return {
        name: value.strip()
        for name, value in environ.items()
        if len(value.strip()) >= MIN_CREDENTIAL_LENGTH and _names_a_credential(name)
    }


def _names_a_credential(name: str) -> bool:
    upper = name.upper()
    parts = [part for part in upper.split("_") if part]
    while len(parts) > 1 and parts[-1].isdigit():  # OPENAI_API_KEY_2
        parts.pop()
    if not parts or upper in _NEVER:
        return False
    if parts[-3:] == ["ACCESS", "KEY", "ID"]:
        return True
    if parts[-1] in _ABOUT_A_SECRET:
        return False
    if not _SECRET_WORDS.isdisjoint(parts) or (len(parts) > 1 and parts[-1] in {"PWD", "PASS"}):
        return True
    for place, part in enumerate(parts):
        if part in {"KEY", "KEYS"}:
            kind = parts[place - 1] if place else ""
            if kind in _KEY_KINDS or (place == len(parts) - 1 and kind not in _NOT_SECRET_KEYS):
                return True
    return False


_PROVIDER_PREFIXES: Final = tuple(
    sorted({f"{variable.partition('_')[0]}_" for entry in PROVIDERS.values() for variable in entry.key_variables})
)


class KeyNames:
    """Names the variable whose value a credential is.

    Args:
        environ: Environment variables; those that look like credentials count.
        salt: Random bytes of this process, at least 16.

    When two variables have one value, the name of a provider's variable wins, then the shorter, then the
    first of the alphabet.
    """

    __slots__ = ("_names", "_salt")

    def __init__(self, environ: Mapping[str, str], salt: bytes) -> None:
        self._salt = salt
        values = credential_variables(environ)
        self._names: dict[bytes, str] = {}
        for name in sorted(values, key=lambda name: (not name.startswith(_PROVIDER_PREFIXES), len(name), name)):
            self._names.setdefault(self._digest(values[name]), name)

    def name_of(self, credential: str) -> str | None:
        """The variable's name, or None when no variable has that value."""
        return self._names.get(self._digest(credential)) if credential else None

    def fingerprint(self, credential: str) -> str:
        """Sixteen characters that are the same for the same credential under the same salt."""
        return _keyed(self._salt, "fingerprint", credential)

    def _digest(self, value: str) -> bytes:
        return hmac.digest(self._salt, value.encode("utf-8", "surrogatepass"), "sha256")


# --- the session --------------------------------------------------------------------------------------

_LOOKED_AT: Final = 16384
"""Characters of a value that may become a session's id: long, for a secret in it must be whole to be seen."""
_USER_SESSION: Final = re.compile(r"(?:^|_)session_([A-Za-z0-9-]+)$")


def session_of(
    headers: Headers,
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
        return f"conv_{_keyed(salt, 'conversation', *parts)}", "conversation"
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


def _baggage(headers: Headers, wanted: str) -> str | None:
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


_HASH_PIECE: Final = 2000


@lru_cache(maxsize=8)
def _beginning(salt: bytes) -> hmac.HMAC:
    return hmac.new(salt, digestmod="sha256")


def _keyed(salt: bytes, purpose: str, *parts: str) -> str:
    """Sixteen characters that stand for the parts; their lengths are hashed too: none runs over."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in (purpose, *parts)]
    message = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
    digest = _beginning(salt).copy()
    # In pieces: from 2,048 bytes on hashlib lets go of the interpreter, and a busy host is slow to give it back.
    for start in range(0, len(message), _HASH_PIECE):
        digest.update(message[start : start + _HASH_PIECE])
    return base64.b32encode(digest.digest()[:10]).decode().lower()
