"""The credential of a request, and the variable that it comes from.

Invariants:

- ``KeyNames`` keeps no credential in clear, only HMAC digests under a salt that the caller made up.
- The order in which a request's sources are asked is fixed here and nowhere else.
"""

import base64
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import unquote, unquote_plus

from otel_wirecap.capture.hashing import keyed_hash
from otel_wirecap.capture.secret_names import is_secret_name
from otel_wirecap.capture.secret_values import parts_of_variable
from otel_wirecap.llm.providers import PROVIDERS

Headers = Sequence[tuple[str, str]]

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


def credential_variables(environ: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Picks the variables that hold credentials.

    Args:
        environ: Environment variables, name to value.

    Returns:
        Name to the secret parts of the value, stripped, of those whose name has a credential's word as one of its
        parts (``OPENAI_API_KEY``, ``HF_TOKEN``, ``DB_PASSWORD``) and is not merely about one (``TOKEN_URL``,
        ``API_KEY_FILE``), and of those whose value has a secret in it whatever their name: a URL with a password
        (``DATABASE_URL``), a connection string. Each part has 8 characters or more.
    """
    parts = {
        name: parts_of_variable(value.strip(), is_secret=name.upper() not in _NEVER and is_secret_name(name))
        for name, value in environ.items()
    }
    return {name: tuple(found) for name, found in parts.items() if found}


_NEVER: Final = frozenset({"PWD", "OLDPWD"})
"""Directories."""

_PROVIDER_PREFIXES: Final = tuple(
    sorted({f"{variable.partition('_')[0]}_" for entry in PROVIDERS.values() for variable in entry.key_variables})
)


class KeyNames:
    """Names the variable whose value a credential is.

    Args:
        variables: The variables that hold credentials, name to their secret parts; see ``credential_variables``.
        salt: Random bytes of this process, at least 16.

    When two variables have one value, the name of a provider's variable wins, then the shorter, then the
    first of the alphabet.
    """

    __slots__ = ("_names", "_salt")

    def __init__(self, variables: Mapping[str, Sequence[str]], salt: bytes) -> None:
        self._salt = salt
        self._names: dict[bytes, str] = {}
        for name in sorted(variables, key=lambda name: (not name.startswith(_PROVIDER_PREFIXES), len(name), name)):
            for value in variables[name]:
                self._names.setdefault(self._digest(value), name)

    def name_of(self, credential: str) -> str | None:
        """The variable's name, or None when no variable has that value."""
        return self._names.get(self._digest(credential)) if credential else None

    def fingerprint(self, credential: str) -> str:
        """Sixteen characters that are the same for the same credential under the same salt."""
        return keyed_hash(self._salt, "fingerprint", credential)

    def _digest(self, value: str) -> bytes:
        return hmac.digest(self._salt, value.encode("utf-8", "surrogatepass"), "sha256")
