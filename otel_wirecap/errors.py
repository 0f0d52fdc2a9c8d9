"""The errors that otel-wirecap raises.

    WireCaptureError
    ├── ConfigurationError    a setting has a value that cannot be used
    └── CaptureFileError      a capture file cannot be opened, read or written

Nothing of this ever reaches an instrumented application from a hook: hooks run under a guard.
"""


class WireCaptureError(Exception):
    """Base of every error that otel-wirecap raises on purpose."""


class ConfigurationError(WireCaptureError):
    """A setting has a value that cannot be used; the text names the setting, the value and what is right."""


class CaptureFileError(WireCaptureError):
    """A capture file cannot be opened, read or written; the text names the file and the reason."""
