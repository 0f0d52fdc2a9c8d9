"""How an exchange ended, of how its connection ended and of what its stream said.

The rules: a stream that has given its end mark, or an error, is complete, whoever closed the connection, and how. One
that the answering side ended without either is truncated, where its format has an end mark. In all other cases the
outcome is how the connection ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_wirecap.capture.events import CAPTURE_FAILURE, TRUNCATED_STREAM
from otel_wirecap.capture.identity import PROXY

if TYPE_CHECKING:
    from otel_wirecap.capture.events import End
    from otel_wirecap.capture.identity import ExchangeIdentity
    from otel_wirecap.capture.response_stream import ResponseStream


def ended_stream(end: End, stream: ResponseStream, identity: ExchangeIdentity | None) -> End:
    """How a stream ended.

    Args:
        end: how its connection ended.
        stream: the stream, all of which has been read.
        identity: says which format was asked for: that of a stream that says nothing. None where no events were
            promised.
    """
    if end.error == CAPTURE_FAILURE:
        return end
    reader = stream.reader
    said = reader.assembly
    if said.ended:
        return end._replace(outcome="complete", error=None)
    if end.outcome != "complete" or end.lost_chunks or reader.overflowed or stream.decoder.undecodable:
        return end
    dialect = said.dialect
    if said.is_silent and identity is not None:
        dialect = identity.requested_dialect
    if dialect is None or not dialect.has_end_mark:
        return end
    return end._replace(outcome="error", error=TRUNCATED_STREAM)


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
