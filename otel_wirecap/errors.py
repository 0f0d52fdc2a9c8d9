"""The errors that otel-wirecap raises.

    WireCaptureError
    ├── ConfigurationError         a setting has an invalid value
    ├── CaptureFileError           a capture file cannot be opened, read or written
    │   └── CaptureFormatError     a file exists but is not a readable capture
    ├── FlowNotFoundError          no flow, or more than one, matches an id
    └── QueryError                 a query over captures failed

None of these ever reaches an instrumented application from a hook: hooks run under a guard.
"""

from __future__ import annotations


class WireCaptureError(Exception):
    """Base of every error that otel-wirecap raises on purpose."""


class ConfigurationError(WireCaptureError):
    """A setting has an invalid value; the message names the setting, the value and the expected values."""


class CaptureFileError(WireCaptureError):
    """A capture file cannot be opened, read or written; the message names the file and the reason."""


class CaptureFormatError(CaptureFileError):
    """A file exists but is not a readable capture; the message names the file and what it contains."""


class FlowNotFoundError(WireCaptureError):
    """No flow, or more than one, has an id with the given beginning; the message lists the candidates."""


class QueryError(WireCaptureError):
    """A query over captures failed; the message is the database's own."""


def place_of(error: BaseException) -> str:
    """Returns where an error was raised, for a log: function and line, never its text, which may quote a payload."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
