"""Reads captures from Python: flows, exchanges, records.

    from otel_wirecap.reading import open_capture

    with open_capture("logs/wire_capture.log") as capture:
        for flow in capture.flows():
            print(flow.started, flow.model, flow.status_code, flow.duration_ms)

The names in ``__all__`` are public, the modules are not. They are imported when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_wirecap.llm.usage import Usage as Usage
    from otel_wirecap.reading.flows import Exchange as Exchange, Flow as Flow
    from otel_wirecap.reading.library import Capture as Capture, open_capture as open_capture
    from otel_wirecap.reading.messages import Chunk as Chunk, Message as Message
    from otel_wirecap.reading.records import Record as Record

_HOMES = {
    "Capture": "reading.library",
    "Chunk": "reading.messages",
    "Exchange": "reading.flows",
    "Flow": "reading.flows",
    "Message": "reading.messages",
    "Record": "reading.records",
    "Usage": "llm.usage",
    "open_capture": "reading.library",
}
"""The public names, each with the module that it is from; type checkers read the same from the imports above."""

__all__ = [*_HOMES]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"otel_wirecap.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
