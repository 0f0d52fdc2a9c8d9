"""The events of a stream, whatever frames them on the wire."""

from typing import NamedTuple, Protocol


class Event(NamedTuple):
    r"""One event: of server-sent events, a JSON object of several, or a frame of an AWS event stream.

    Attributes:
        name: what kind of event its frame says it is; "" where it says nothing.
        data: what it carries, as a rule JSON; UTF-8, not decoded.
    """

    name: str
    data: bytes


class EventParser(Protocol):
    """Finds the events in one stream, fed in pieces of any size; what comes does not depend on the cuts."""

    @property
    def overflowed(self) -> bool:
        """Whether an event was dropped because it was too large."""

    def feed(self, data: bytes) -> list[Event]:
        """Takes the next bytes.

        Args:
            data: any number of bytes, none included.

        Returns:
            The events that they complete, in order.
        """

    def close(self) -> list[Event]:
        """Ends the stream.

        Returns:
            The event that was cut off by it, as far as it came, where it has data; the parser takes nothing more.
        """
