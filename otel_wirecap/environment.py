"""This process's environment, for all who ask it; apart from the settings, for who reads captures needs few of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

DEFAULT_CAPTURE_FILE = "wire_capture.log"
"""What commands write, and read, where none is named."""


def environment() -> Mapping[str, str]:
    """This process's environment as it is now."""
    return os.environ


def environment_variable(setting: str) -> str:
    """The environment variable of a setting: ``capture_file`` is ``WIRE_CAPTURE_FILE``."""
    return "WIRE_CAPTURE_" + setting.replace("capture_", "", 1).upper()


def default_capture_file() -> str:
    """The capture that is read where none is named: the environment's, else ``DEFAULT_CAPTURE_FILE``."""
    return os.environ.get(environment_variable("capture_file")) or DEFAULT_CAPTURE_FILE


def has_capture_variable() -> bool:
    """Whether the environment sets a variable of ours, or a misspelt one: it may be meant to name a capture file."""
    return any(value for name, value in os.environ.items() if name.startswith("WIRE_CAPTURE_"))


def is_switched_off() -> bool:
    """Whether OpenTelemetry is told to leave this instrumentation out."""
    names = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    return not {"wirecap", "*"}.isdisjoint(name.strip() for name in names)


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's cache folder for what can be made anew, ours in it; it need not be there yet.

    Raises:
        FileNotFoundError: the user has no home.
    """
    named = environ.get("XDG_CACHE_HOME", "")
    # The specification of these folders says that a relative one does not count.
    if named.startswith("/"):
        return Path(named) / "otel-wirecap"
    try:
        return Path(environ.get("HOME") or "~").expanduser() / ".cache" / "otel-wirecap"
    except RuntimeError as error:  # as ``pathlib`` says it
        raise FileNotFoundError(errno.ENOENT, "no HOME, and no entry in the users' database") from error
