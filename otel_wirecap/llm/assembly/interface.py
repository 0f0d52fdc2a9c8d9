"""What the front and the wire formats agree on."""

from typing import Any, Protocol, TypeAlias

Json: TypeAlias = dict[str, Any]
"""A parsed JSON object."""


class WireFormat(Protocol):
    """The events of one stream in one provider's format.

    Events are JSON from the network: whatever their shape, no method raises.

    Attributes:
        model: the answered model, None until an event names it.
        size: about how much is held: characters of collected text, and bytes of JSON kept whole.
    """

    model: str | None
    size: int

    def add(self, event: Json, size: int) -> None:
        """Takes the next event.

        Args:
            event: the event's data. It is kept, in whole or in part: the caller does not change it.
            size: the bytes that it had as JSON.
        """

    def message(self) -> Json | None:
        """The message so far, in the shape of the provider's non-streaming answer; None when nothing came.

        Objects within it are shared with what is held, so it is for reading only; its top level may be added
        to.
        """
