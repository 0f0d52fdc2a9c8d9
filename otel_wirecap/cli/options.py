"""The capture's settings as command-line options: their names with dashes."""

from __future__ import annotations

import argparse

from otel_wirecap.config import REMOVED_SETTINGS, SETTINGS
from otel_wirecap.environment import DEFAULT_CAPTURE_FILE


def add_capture_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config`` and an option for every setting."""
    group = parser.add_argument_group("capture settings (they override WIRE_CAPTURE_* variables and --config)")
    group.add_argument("--config", metavar="FILE", help="YAML file with a logging: section")
    for field in SETTINGS.values():
        kind, description = field.metadata["kind"], field.metadata["description"]
        if field.name == "capture_file":
            description = f"the capture file (default: {DEFAULT_CAPTURE_FILE})"
        group.add_argument(
            "--" + field.name.replace("_", "-"),
            metavar=field.name.rpartition("_")[2].upper(),
            help=f"{description}; {kind.expected}".replace("%", "%%"),
        )
    for name in REMOVED_SETTINGS:  # taken, so that the error says what to use instead
        group.add_argument("--" + name.replace("_", "-"), help=argparse.SUPPRESS)


def capture_settings(arguments: argparse.Namespace) -> dict[str, object]:
    """Returns the settings given as options, by name, as ``instrument()`` accepts them."""
    given = {name: getattr(arguments, name) for name in [*SETTINGS, *REMOVED_SETTINGS, "config"]}
    return {name: value for name, value in given.items() if value is not None}
