"""Redaction: the one gate between what was on the wire and every way out.

spans       what a finding is, and how findings become markers
patterns    secrets known by their shape: the table of prefixes
encoded     the same within base64
escapes     ASCII that JSON has as escapes
known       secrets known by their value, in the spellings that they travel in
names       headers, cookies and query parameters that are secret whatever they hold
fields      JSON fields that are secret by their name
rules       what the user says is secret, and what is none
redactor    the gate: texts, JSON documents, bytes, headers, URLs; each call looks at one whole text
online      the search in a text that comes in parts
stream      the gate for streams: documents finds what they carry, templates what their events have in common
messages    the same for the messages of a websocket
streams     what a stream goes through, the masking of prompts included

prompts     texts of messages taken out, what is structure left; json_masking, structure and edits are its parts
"""

from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.spans import MARKER

__all__ = ["MARKER", "Redactor"]
