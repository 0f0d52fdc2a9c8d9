"""The errors that otel-wirecap raises.

    WireCaptureError
    ├── ConfigurationError         a setting has a value that cannot be used
    ├── CaptureFileError           a capture file cannot be opened, read or written
    │   └── CaptureFormatError     a file is there, and is no capture that can be read
    ├── FlowNotFoundError          a capture has no such flow, or several
    └── QueryError                 a query over captures cannot be answered

Nothing of this ever reaches an instrumented application from a hook: hooks run under a guard.
"""

from __future__ import annotations


class WireCaptureError(Exception):
    """Base of every error that otel-wirecap raises on purpose."""


class ConfigurationError(WireCaptureError):
    """A setting has a value that cannot be used; the text names the setting, the value and what is right."""


class CaptureFileError(WireCaptureError):
    """A capture file cannot be opened, read or written; the text names the file and the reason."""


class CaptureFormatError(CaptureFileError):
    """A file is there, and is no capture that can be read; the text names the file and what it is."""


class FlowNotFoundError(WireCaptureError):
    """No flow, or more than one, has an id that begins as asked; the text names what there is."""


class QueryError(WireCaptureError):
    """A query over captures cannot be answered; the text says why, in the database's words."""


def place_of(error: BaseException) -> str:
    """Where an error was raised, for a log: the function and the line, never the text, which may quote a payload."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
