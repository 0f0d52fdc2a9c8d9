"""What the reading side asks of providers' formats, those of plugins included.

Imported where a body is looked into: it brings all dialects, which nobody wants where an index has the answers.
"""

from otel_wirecap.dialect_plugins import use_plugins
from otel_wirecap.llm.answers import answer_error, answer_id_of, usage_of, usage_of_message
from otel_wirecap.llm.assembly import assemble
from otel_wirecap.llm.dialects.registry import conversation_dialect

__all__ = ["answer_error", "answer_id_of", "assemble", "conversation_dialect", "usage_of", "usage_of_message"]

use_plugins()
