"""Redaction: the one gate between what was on the wire and every way out.

    spans       what a finding is, and how findings become markers
    patterns    secrets known by their shape: the table of prefixes
    known       secrets known by their value, in the spellings that they travel in
    names       headers, cookies and query parameters that are secret whatever they hold
    fields      JSON fields that are secret by their name
    redactor    the gate: texts, JSON documents, bytes, headers, URLs

    prompts     texts of messages taken out, what is structure left; json_masking, structure and edits are its parts

Each call looks at one whole text. What is cut over several texts (the chunks of a stream) is joined before it
comes here.
"""

from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.spans import MARKER

__all__ = ["MARKER", "Redactor"]
