"""An answer that is not streamed, though a stream was asked for: one event that is all of it.

Providers whose chunks have the shape of the answer need none of this: what they send whole adds up to itself.
"""

from otel_wirecap.llm.assembly.interface import Json


class WholeAnswer:
    """Takes the event as the message."""

    __slots__ = ("_answer", "model", "size")

    def __init__(self) -> None:
        self.model: str | None = None
        self.size = 0
        self._answer: Json | None = None

    def add(self, event: Json, size: int) -> None:
        """See ``WireFormat.add``; only the first event counts."""
        if self._answer is None:
            self._answer = event
            self.size = size
            model = event.get("model")
            self.model = model if isinstance(model, str) and model else None

    def message(self) -> Json | None:
        """See ``WireFormat.message``."""
        return None if self._answer is None else dict(self._answer)


def is_whole_answer(event: Json) -> bool:
    """Whether an event is an Anthropic message, an OpenAI response, or an answer of Converse or of Cohere's chat."""
    if event.get("type") == "message" and isinstance(event.get("content"), list):
        return True
    if event.get("object") == "response" and isinstance(event.get("output"), list):
        return True
    output, message = event.get("output"), event.get("message")
    if isinstance(output, dict) and isinstance(output.get("message"), dict):
        return True
    if isinstance(message, dict) and "finish_reason" in event:
        return True
    return isinstance(event.get("text"), str) and "generation_id" in event
