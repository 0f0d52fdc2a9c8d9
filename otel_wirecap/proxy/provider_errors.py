"""The bodies of errors as providers shape them, so that their SDKs and whoever reads them understand.

Sources: the providers' public API references (errors of OpenAI, Anthropic, Google's ``google.rpc.Status``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from otel_wirecap.proxy.access import Refusal

Body: TypeAlias = dict[str, Any]

_ANTHROPIC_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error"}
_GOOGLE_STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}
_GOOGLES = frozenset({"gemini", "vertex"})


def openai_error(message: str, kind: str, code: str | None = None) -> Body:
    """The body of an error of OpenAI's, which most providers copy."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic_error(message: str, kind: str) -> Body:
    """The body of an error of Anthropic's."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def gemini_error(code: int, message: str, status: str) -> Body:
    """The body of an error of Gemini's."""
    return {"error": {"code": code, "message": message, "status": status}}


def refusal_body(backend: str, refusal: Refusal) -> Body:
    """The body for a request that the proxy refuses, as the backend would shape it.

    Args:
        backend: the backend's name.
        refusal: with one of the statuses 400, 401 and 403.
    """
    if backend == "anthropic":
        return anthropic_error(refusal.message, _ANTHROPIC_TYPES[refusal.status])
    if backend in _GOOGLES:
        return gemini_error(refusal.status, refusal.message, _GOOGLE_STATUSES[refusal.status])
    return openai_error(refusal.message, "invalid_request_error", refusal.code)
