"""What a request asks of a model, whatever the provider's dialect.

Everything is read from JSON that is parsed already; whatever its shape, nothing here raises.
"""

import re
from typing import Final

from otel_wirecap.llm.dialects.interface import Parameters
from otel_wirecap.llm.dialects.registry import ours, outside_request

_STREAM_PATH: Final = re.compile("|".join(ours.stream_paths))
_STREAM_QUERY: Final = re.compile(r"(?:^|&)(?:stream=(?:true|1)|alt=sse)(?:&|$)", re.IGNORECASE)


def operation_of(path: str, body: object) -> str | None:
    """The kind of operation that a request asks a model for.

    Args:
        path: the URL's path as it was sent.
        body: the parsed JSON body; anything else counts as none.

    Returns:
        ``chat``, ``generate_content``, ``text_completion`` or ``embeddings``; None where it asks for none of these.
    """
    operation = ours.operation(path, body)
    if operation is None and (dialect := outside_request(path, body)) is not None:
        return dialect.operation(path, body)
    return operation


def parameters_of(path: str, body: object) -> Parameters:
    """How the model is asked to answer.

    Args:
        path: the URL's path as it was sent.
        body: the parsed JSON body; anything else counts as none.
    """
    if not isinstance(body, dict):
        return Parameters()
    return (outside_request(path, body) or ours).parameters(body)


def requested_model(path: str, body: object) -> str | None:
    """Finds the model that a request asks for.

    Args:
        path: the URL's path as it was sent, percent-encoded, without the query.
        body: the parsed JSON body; anything else counts as none.

    Returns:
        The body's ``model``, else the model (or Azure deployment) that the path names, percent-decoded.
    """
    model = ours.requested_model(path, body)
    if model is None and (dialect := outside_request(path, body)) is not None:
        return dialect.requested_model(path, body)
    return model


def asks_for_stream(path: str, query: str, body: object) -> bool:
    """Whether a request asks for a streamed answer.

    Args:
        path: the URL's path as it was sent.
        query: the URL's query, without the question mark.
        body: the parsed JSON body; anything else counts as none.
    """
    if isinstance(body, dict) and body.get("stream") is True:
        return True
    return bool(_STREAM_PATH.search(path)) or bool(query and _STREAM_QUERY.search(query))
