"""Messages for people, without secrets: settings that cannot be used are quoted in them, and any may be a key.

Invariant: what masks a capture masks messages, by the shape of secrets and by the values of the environment. It is
imported only when there is something to say: most processes have no error to tell of.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

FAILED = "a message that could not be redacted"


def without_secrets(message: object, environ: Mapping[str, str] | None = None) -> str:
    """A message, or an error's, with the secrets in it masked.

    Args:
        message: a text, or what has one as ``str``.
        environ: environment variables whose values may be secrets; default: this process's.
    """
    from otel_wirecap.capture.identity import credential_variables
    from otel_wirecap.capture.redaction.redactor import Redactor

    environ = os.environ if environ is None else environ
    try:
        known = [*credential_variables(environ).values(), *environ.get("WIRE_CAPTURE_REDACT_VALUES", "").split(",")]
        quoted = [repr(value)[1:-1] for value in known]  # as messages quote them
        return Redactor(known_values=[*known, *quoted]).text_with_urls(str(message), {})
    except Exception:  # noqa: BLE001  # fail closed
        return FAILED
