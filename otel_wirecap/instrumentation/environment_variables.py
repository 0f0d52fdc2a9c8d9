"""What ``opentelemetry-instrument`` loads before it becomes the application: variables, to make options of.

Where a capture is wanted, our start-up module then goes in front of OpenTelemetry's. Theirs gives up all
instrumentation when one of the exporters that are named, by default OTLP's, is not there; ours lets it go first and
starts the capture all the same.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import ModuleType

from otel_wirecap.environment import has_capture_variable, is_switched_off

OTEL_PYTHON_WIRECAP_EXCLUDED_URLS = "OTEL_PYTHON_WIRECAP_EXCLUDED_URLS"
"""URLs that are not captured: regular expressions between commas."""

ATTACH = Path(__file__).parent / "attach"
"""The folder of our start-up module, for ``PYTHONPATH``."""


def stay_first(launcher: ModuleType) -> None:
    """Makes the command that ``launcher`` becomes import our start-up module before OpenTelemetry's."""
    execute = launcher.execl

    def execute_behind_us(path: str, *arguments: str) -> None:
        ours = str(ATTACH)
        before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        # By now the options of the command line are set, too. ``otel-wirecap run`` has put our module there already.
        if ours in before or (has_capture_variable() and not is_switched_off()):
            paths = [path for path in before if path not in {"", ours}]
            os.environ["PYTHONPATH"] = os.pathsep.join([ours, *paths])
        execute(path, *arguments)

    launcher.execl = execute_behind_us  # type: ignore[attr-defined]  # a patch on purpose


_launcher = sys.modules.get("opentelemetry.instrumentation.auto_instrumentation")
if _launcher is not None:
    with contextlib.suppress(Exception):  # another launcher than the one that is known: it goes its own way
        stay_first(_launcher)
