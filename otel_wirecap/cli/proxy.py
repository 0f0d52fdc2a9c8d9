"""``otel-wirecap proxy``: a ready-made proxy in front of LLM backends that captures its traffic."""

from __future__ import annotations

import argparse

import otel_wirecap
from otel_wirecap.cli.options import add_capture_options, capture_settings
from otel_wirecap.cli.proxy_access import access_from, access_note, add_access_options, listening_address
from otel_wirecap.config import load_config
from otel_wirecap.environment import DEFAULT_CAPTURE_FILE, environment
from otel_wirecap.errors import ConfigurationError
from otel_wirecap.instrumentation.runtime import active
from otel_wirecap.proxy.backends import backends_from

MAX_PORT = 65535

OTHER_BACKENDS = "other backends at /to/NAME/… (before: /NAME/…)"
"""What is in brackets is for those who come from a version without ``/to/``, and goes in the one after the next."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "proxy",
        help="run a capturing proxy",
        description="Runs a transparent proxy in front of LLM backends and captures what passes. "
        "/to/NAME/... (/to/anthropic/v1/messages) goes to the backend NAME, without that prefix; every other path goes "
        "whole to the default backend. Requests without a credential get the backend's key from the environment.",
    )
    parser.add_argument(
        "--default-backend",
        metavar="NAME",
        help="backend for paths outside /to/ (default: the only --backend; openai without any; none with several)",
    )
    parser.add_argument(
        "--backend",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="add a backend, or change the URL of a known one; may be repeated",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port",
        default=4000,
        type=_port,
        help="port to listen on; 0 picks a free one (default: %(default)s)",
    )
    add_access_options(parser)
    add_capture_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the proxy until it is interrupted or terminated.

    Raises:
        ConfigurationError: an option or a setting is invalid, or the proxy's libraries are not installed.
    """
    backends = backends_from(arguments.backend, arguments.default_backend)
    address = listening_address(arguments.host)
    access = access_from(arguments, address, environment())
    settings = capture_settings(arguments)
    config = load_config(settings)
    if config.capture_file is None:
        settings["capture_file"] = DEFAULT_CAPTURE_FILE
    if access.client_token is not None:  # one that comes from a file is masked, too
        settings["capture_redact_values"] = [*config.capture_redact_values, access.client_token.decode("ascii")]
    otel_wirecap.instrument(**settings)
    runtime = active()
    if runtime is None:  # it has said why; a capturing proxy that captures nothing is of no use to anybody
        return 2
    try:
        # Only now: what is imported after instrument() is captured from its first moment.
        from otel_wirecap.proxy.app import create_app
        from otel_wirecap.proxy.server import serve
    except ImportError as error:
        raise ConfigurationError(
            f"proxy: {error.name} is not installed; install it with: pip install 'otel-wirecap[proxy]'"
        ) from None
    keys = {} if arguments.no_environment_keys else environment()
    app = create_app(backends.by_name, backends.default, environ=keys, access=access)
    note = (
        f" → {backends.default or 'no default backend'}; {OTHER_BACKENDS}; capture: {runtime.config.capture_file}"
        f"{access_note(arguments, access)}"
    )
    serve(app, address, arguments.port, what="otel-wirecap proxy", note=note)
    return 0


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text} is no port; expected 0 to {MAX_PORT}")
    return port
