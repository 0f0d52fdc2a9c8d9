"""An answer that is not streamed, though a stream was asked for: one event that is all of it.

Providers whose chunks have the shape of the answer need none of this: what they send whole adds up to itself.
"""

from otel_wirecap.llm.dialects.interface import Json


class WholeAnswer:
    """Takes the event as the message."""

    __slots__ = ("_answer", "model", "size")

    def __init__(self) -> None:
        self.model: str | None = None
        self.size = 0
        self._answer: Json | None = None

    def add(self, event: Json, size: int) -> None:
        """See ``MessageAssembly.add``; only the first event counts."""
        if self._answer is None:
            self._answer = event
            self.size = size
            model = event.get("model")
            self.model = model if isinstance(model, str) and model else None

    def message(self) -> Json | None:
        """See ``MessageAssembly.message``."""
        return None if self._answer is None else dict(self._answer)
