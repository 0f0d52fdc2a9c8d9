"""The backends of the ready-made proxy: where they are, and how a key travels to them."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from otel_wirecap.errors import ConfigurationError
from otel_wirecap.llm.providers import PROVIDERS, Provider
from otel_wirecap.proxy.authority import Origin

AUTHORIZATION = "authorization"
BEARER = "Bearer "

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BEFORE_HOST = re.compile(r"\A((?:[A-Za-z0-9._-]+=)?(?:[A-Za-z][A-Za-z0-9+.-]*://)?).*@", re.DOTALL)
"""An option or a URL up to its host; a password may have any character in it."""

_NOT_A_KEY = frozenset({"AWS_ACCESS_KEY_ID"})
"""Names a key that signs requests; it is no credential by itself."""


_DEFAULT_NAME: Final = "openai"


@dataclasses.dataclass(frozen=True)
class Backend:
    """One backend of the proxy.

    Attributes:
        name: what ``/to/NAME/…`` calls it, and its name in the capture.
        base_url: scheme, host, port and a path that every request's path is put behind; no slash at the end.
        credential_header: the lower-case header that a key travels in.
        credential_prefix: what stands before the key in that header: ``"Bearer "`` or nothing.
        key_variables: environment variables that may hold the key; the first that is set wins.
    """

    name: str
    base_url: str
    credential_header: str = AUTHORIZATION
    credential_prefix: str = BEARER
    key_variables: tuple[str, ...] = ()

    @functools.cached_property
    def origin(self) -> Origin:
        """Where its requests, and with them its key, are sent."""
        parts = urlsplit(self.base_url)
        return Origin.of(parts.scheme, parts.hostname or "", parts.port)

    @functools.cached_property
    def base_path(self) -> bytes:
        """The path of the base URL as it was given, without a slash at its end."""
        return urlsplit(self.base_url).path.rstrip("/").encode("ascii")

    def credential(self, environ: Mapping[str, str]) -> tuple[str, str] | None:
        """The header, name and value, that carries the environment's key; None when there is no key."""
        for variable in self.key_variables:
            key = environ.get(variable, "").strip()
            if not key:
                continue
            # Anthropic's SDKs send ANTHROPIC_AUTH_TOKEN as a bearer token, ANTHROPIC_API_KEY in x-api-key.
            if variable.endswith("_AUTH_TOKEN"):
                return AUTHORIZATION, BEARER + key
            return self.credential_header, self.credential_prefix + key
        return None


class Backends(NamedTuple):
    """The backends of a proxy.

    Attributes:
        by_name: all of them.
        default: the name of the one for paths outside ``/to/``; None: there is none.
    """

    by_name: dict[str, Backend]
    default: str | None


def backends_from(options: Sequence[str], default: str | None = None) -> Backends:
    """The known providers with the user's own backends added or put in their place.

    Args:
        options: ``NAME=URL``, each the value of one ``--backend``. A known provider's name keeps that
            provider's way to send a key; any other takes ``<NAME>_API_KEY`` as a bearer token.
        default: the name of the default backend. None: the only backend in ``options``; ``openai`` where there is
            no option; no default where there are several.

    Raises:
        ConfigurationError: an option is no ``NAME=URL``, or ``default`` is not among the backends.
    """
    backends = {
        provider.name: _of_provider(provider, provider.base_url)
        for provider in PROVIDERS.values()
        if provider.base_url is not None
    }
    own = []
    for option in options:
        name, separator, url = option.partition("=")
        if not separator or not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"--backend: {_without_password(option)!r} cannot be used; expected NAME=URL, NAME of "
                "letters, digits, '.', '_' and '-', such as local=http://127.0.0.1:8000"
            )
        own.append(name)
        base_url = _checked_url(url)
        provider = PROVIDERS.get(name)
        backends[name] = (
            _of_provider(provider, base_url)
            if provider is not None
            else Backend(name, base_url, key_variables=(re.sub(r"[^A-Z0-9]", "_", name.upper()) + "_API_KEY",))
        )
    if default is None:
        names = set(own) or {_DEFAULT_NAME}
        default = names.pop() if len(names) == 1 else None
    elif default not in backends:
        raise ConfigurationError(
            f"--default-backend: {default!r} is no known backend; expected one of: "
            f"{', '.join(sorted(backends))}; or add it with --backend NAME=URL"
        )
    return Backends(backends, default)


def _of_provider(provider: Provider, base_url: str) -> Backend:
    return Backend(
        provider.name,
        base_url.rstrip("/"),
        provider.credential_header,
        BEARER if provider.credential_header == AUTHORIZATION else "",
        tuple(name for name in provider.key_variables if name not in _NOT_A_KEY),
    )


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and parts.port != 0
            and "@" not in parts.netloc
            and "?" not in url
            and "#" not in url
            and url.isascii()
            and url.isprintable()
            and " " not in url
        )
    except ValueError:  # a port that is no number, a bracket that is not closed
        usable = False
    if not usable:
        raise ConfigurationError(
            f"--backend: the URL {_without_password(url)!r} cannot be used; expected "
            "http://HOST[:PORT][/PATH] or https://..., without user name, query and fragment"
        )
    return url.rstrip("/")


def _without_password(text: str) -> str:
    """The text without what could be a password or a key in it, so that a message can quote it."""
    return _BEFORE_HOST.sub(r"\1***@", text).partition("?")[0]
