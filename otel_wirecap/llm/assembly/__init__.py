"""What the events of a stream add up to: one module a wire format, and a front that picks the format."""

from otel_wirecap.llm.assembly.errors import ProviderError
from otel_wirecap.llm.assembly.stream import StreamAssembly, assemble

__all__ = ["ProviderError", "StreamAssembly", "assemble"]
