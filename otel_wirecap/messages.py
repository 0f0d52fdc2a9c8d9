"""Messages for people, without secrets: settings that cannot be used are quoted in them, and any may be a key.

Invariant: what masks a capture masks messages, by the shape of secrets and by the values of the environment. It is
imported only when there is something to say: most processes have no error to tell of.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import chain


class SafeMessage(str):
    """A message that has no secrets in it any more: it is not searched again, wherever else it is told."""

    __slots__ = ()


def without_secrets(message: object, environ: Mapping[str, str] = os.environ, known: Iterable[str] = ()) -> SafeMessage:
    """A message, or an error's, with the secrets in it masked.

    Args:
        message: a text, or what has one as ``str``.
        environ: environment variables whose values may be secrets; default: this process's.
        known: further values that are secrets.
    """
    text = message.args[0] if isinstance(message, BaseException) and len(message.args) == 1 else message
    if isinstance(text, SafeMessage):
        return text

    from otel_wirecap.capture.credentials import credential_variables
    from otel_wirecap.capture.redaction.gate import FAILED, Gate

    try:
        named = environ.get("WIRE_CAPTURE_REDACT_VALUES", "").split(",")
        values = [*chain.from_iterable(credential_variables(environ).values()), *named, *known]
        quoted = [repr(value)[1:-1] for value in values]  # as messages quote them
        return SafeMessage(Gate(known_values=[*values, *quoted]).message(str(message)))
    except Exception:  # noqa: BLE001  # fail closed
        return SafeMessage(FAILED)
