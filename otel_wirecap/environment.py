"""This process's environment, for all who ask it; apart from the settings, for who reads captures needs few of them."""

from __future__ import annotations

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


def capture_is_named() -> bool:
    """Whether the environment names a capture file, or a configuration file that may name one."""
    return any(os.environ.get(environment_variable(name)) for name in ("capture_file", "capture_config"))


def is_switched_off() -> bool:
    """Whether OpenTelemetry is told to leave this instrumentation out."""
    names = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    return not {"wirecap", "*"}.isdisjoint(name.strip() for name in names)


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's cache folder for what can be made anew, ours in it; it need not be there yet."""
    named = environ.get("XDG_CACHE_HOME", "")
    # The specification of these folders says that a relative one does not count.
    base = Path(named) if named.startswith("/") else Path(environ.get("HOME") or "~").expanduser() / ".cache"
    return base / "otel-wirecap"
