"""How an exchange ended, of how its connection ended and of what its stream said.

The rules: a stream that has given its end mark, or an error, is complete, whoever closed the connection, and how. One
that the answering side ended without either is truncated, where its format has an end mark. In all other cases the
outcome is how the connection ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_wirecap.capture.events import CAPTURE_FAILURE, ErrorInfo

if TYPE_CHECKING:
    from otel_wirecap.capture.events import End

PROXY: Final = "proxy"


def ended_stream(end: End, *, ended: bool, truncated: bool) -> End:
    """How a stream ended.

    Args:
        end: how its connection ended.
        ended: whether the stream gave its end mark, or an error.
        truncated: whether it should have given its end mark and did not.
    """
    if end.error == CAPTURE_FAILURE:
        return end
    if ended:
        return end._replace(outcome="complete", error=None)
    if truncated and end.outcome == "complete" and not end.lost_chunks:
        error = ErrorInfo("truncated_stream", "the stream ended without its end mark")
        return end._replace(outcome="error", error=error)
    return end


def closed_by(end: End, *, is_client: bool) -> str | None:
    """Who closed a connection before the answering side had closed it after its last byte; None where nobody did.

    Args:
        end: how the connection ended.
        is_client: whether it is the one between client and proxy.
    """
    if end.outcome == "complete" or end.error == CAPTURE_FAILURE:
        return None
    if is_client:
        return "client" if end.outcome == "client_disconnect" else PROXY
    # Of the errors that reading meets, only the end of the proxy's patience is not the backend's.
    is_backend = end.error is not None and "timeout" not in end.error.type.lower()
    return "backend" if is_backend else PROXY
