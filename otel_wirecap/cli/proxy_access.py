"""The options of ``otel-wirecap proxy`` that control who may use the keys in its environment."""

from __future__ import annotations

import logging
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from otel_wirecap.config import PROXY_TOKEN_VARIABLE
from otel_wirecap.errors import ConfigurationError
from otel_wirecap.proxy.access import Access
from otel_wirecap.proxy.authority import (
    Authority,
    Origin,
    is_address,
    is_any_address,
    is_loopback,
    parsed_authority,
    parsed_origin,
)
from otel_wirecap.proxy.client_token import checked_token

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

logger = logging.getLogger("otel_wirecap.proxy")

MAX_TOKEN_FILE_BYTES = 4096


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--client-token``, ``--no-environment-keys``, ``--allow-host`` and ``--allow-origin``."""
    group = parser.add_argument_group("access to API keys in the environment")
    group.add_argument(
        "--client-token",
        metavar="FILE",
        help=f"file with a token that clients send instead of a key; or set {PROXY_TOKEN_VARIABLE}",
    )
    group.add_argument(
        "--no-environment-keys", action="store_true", help="add no keys: clients send their own, or none"
    )
    group.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="also accept this Host header (any port if none is given); may be repeated",
    )
    group.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="also accept web pages from this origin, such as https://app.example; may be repeated",
    )


def listening_address(host: str) -> str:
    """Resolves a host name to an IP address, so that the proxy listens on the address its rules are for.

    Raises:
        ConfigurationError: it does not resolve.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigurationError(
            f"--host: {host!r} cannot be listened on: {reason}; expected an address or a name of this machine"
        ) from None
    return str(found[0][4][0])


def access_from(arguments: argparse.Namespace, address: str, environ: Mapping[str, str]) -> Access:
    """Returns the rules given by the options and the environment.

    Args:
        arguments: the parsed command line.
        address: the IP address to listen on.
        environ: may also hold the client token.

    Raises:
        ConfigurationError: an option is invalid, two options contradict each other, or other machines could use
            the keys without a token.
    """
    token = _client_token(arguments.client_token, environ)
    hosts = frozenset(map(_host, arguments.allow_host))
    origins = frozenset(map(_origin, arguments.allow_origin))
    if arguments.no_environment_keys:
        token_name = "--client-token" if arguments.client_token else PROXY_TOKEN_VARIABLE
        given = {token_name: token, "--allow-host": hosts, "--allow-origin": origins}
        useless = [name for name, value in given.items() if value]
        if useless:
            raise ConfigurationError(
                f"{useless[0]}: has no use with --no-environment-keys, with which no request gets a key; expected one "
                "of the two"
            )
    if token is None and not arguments.no_environment_keys and not is_loopback(address):
        raise ConfigurationError(
            f"--host: {arguments.host!r} ({address}) can be reached from other machines, and whoever reaches it could "
            f"use the keys of the environment; expected a token for clients (--client-token FILE or "
            f"{PROXY_TOKEN_VARIABLE}), --no-environment-keys, or a loopback address such as 127.0.0.1"
        )
    name = parsed_authority(arguments.host)  # None for an IPv6 address without brackets
    if name is not None and not is_address(name.host) and not is_loopback(address):
        hosts |= {Authority(name.host, None)}
    return Access(token, hosts, origins, any_host=is_any_address(address))


def access_note(arguments: argparse.Namespace, access: Access) -> str:
    """Returns a note for the start-up line if the rules are not the default ones."""
    if arguments.no_environment_keys:
        return "; no keys from the environment"
    further = sorted(map(str, access.allowed_hosts)) + sorted(map(str, access.allowed_origins))
    note = "; keys for clients with the token" if access.client_token is not None else ""
    return f"{note}; keys also for {', '.join(further)}" if further else note


def _host(text: str) -> Authority:
    host = parsed_authority(text)
    if host is None:
        raise ConfigurationError(
            f"--allow-host: {text!r} cannot be used; expected HOST or HOST:PORT, such as llm.example or [fd00::1]:4000"
        )
    return host


def _origin(text: str) -> Origin:
    origin = parsed_origin(text)
    if origin is None:
        why = ": pages of any site can send it" if text.lower() == "null" else ""
        raise ConfigurationError(
            f"--allow-origin: {text!r} cannot be used{why}; expected SCHEME://HOST[:PORT] without a path, such as "
            "https://app.example"
        )
    return origin


def _client_token(file: str | None, environ: Mapping[str, str]) -> bytes | None:
    variable = environ.get(PROXY_TOKEN_VARIABLE, "").strip()
    from_variable = checked_token(os.fsencode(variable), PROXY_TOKEN_VARIABLE) if variable else None
    if file is None:
        return from_variable
    from_file = checked_token(_content(file), f"--client-token: {file!r}")
    if from_variable is not None and from_variable != from_file:
        # Neither wins: clients that send the other one would have it sent on to a backend.
        raise ConfigurationError(
            f"--client-token: {file!r} and {PROXY_TOKEN_VARIABLE} hold different tokens; expected one of them, or the "
            "same in both"
        )
    return from_file


def _content(file: str) -> bytes:
    try:
        with Path(file).expanduser().open("rb") as opened:
            status = os.fstat(opened.fileno())
            content = opened.read(MAX_TOKEN_FILE_BYTES)
    except OSError as error:
        # The name is not quoted: it may be the token itself.
        raise ConfigurationError(
            f"--client-token: the file cannot be read: {error.strerror}; expected the name of a file with a token in it"
        ) from None
    # Not refused: in containers, secrets are mounted so, and there is no other user there.
    if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
        logger.warning(
            "--client-token: every user of this machine can read %r (mode %03o); expected mode 600",
            file,
            stat.S_IMODE(status.st_mode),
        )
    return content
