"""What a context is sending: an attempt is recorded once, and who follows a redirect stays in its flow."""

from __future__ import annotations

import contextvars
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from otel_wirecap.instrumentation.flow_context import current_flow, reset

if TYPE_CHECKING:
    from otel_wirecap.capture.exchange import LiveExchange, LiveFlow


@dataclasses.dataclass(eq=False, slots=True)
class Sending:
    """A request on its way, as the context that sends it knows it.

    Whatever the transport does in this context is part of the same attempt. Tasks that the transport starts keep the
    context for good, hence ``over``: what they send later is their own.
    """

    request_id: int
    over: bool = False


_sending: contextvars.ContextVar[Sending | None] = contextvars.ContextVar("otel_wirecap_sending", default=None)


def current_request_id() -> int | None:
    """The ``id()`` of the client's request object that is being recorded in this context; None where none is."""
    sending = _sending.get()
    return None if sending is None or sending.over else sending.request_id


def enter(request_id: int) -> tuple[Sending, contextvars.Token[Sending | None]]:
    """Marks the request object with that ``id()`` as the one that is recorded in this context from now on."""
    sending = Sending(request_id)
    return sending, _sending.set(sending)


def leave(entered: tuple[Sending, contextvars.Token[Sending | None]]) -> bool:
    """Ends what ``enter`` began; returns whether this is the context in which that was called."""
    sending, token = entered
    sending.over = True
    return reset(_sending, token)


class _Redirect(NamedTuple):
    exchange_id: str
    flow: LiveFlow
    url: str
    serving: LiveFlow | None  # the flow that the context belonged to; None in a script


_redirect: contextvars.ContextVar[_Redirect | None] = contextvars.ContextVar("otel_wirecap_redirect", default=None)


def redirected(exchange: LiveExchange, target: Callable[[], str]) -> None:
    """A redirect was answered in this context: who follows it belongs to the same flow.

    Args:
        exchange: the one that was answered.
        target: makes the URL that the client would follow; raises where it could follow none.
    """
    try:
        url = target()
    except Exception:  # noqa: BLE001  # a location that makes no URL: the client raises it to whom it concerns
        return
    _redirect.set(_Redirect(exchange.id, exchange.flow, url, current_flow()))


def followed(url: str) -> tuple[LiveFlow | None, str | None]:
    """The flow, and the exchange whose redirect a request to ``url`` follows; None for both where it follows none."""
    redirect = _redirect.get()
    if redirect is None:
        return None, None
    _redirect.set(None)
    if redirect.url != url or redirect.serving is not current_flow():  # a pool's thread serves one flow after another
        return None, None
    return redirect.flow, redirect.exchange_id
