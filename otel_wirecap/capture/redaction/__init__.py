"""Redaction: the one gate between what was on the wire and every way out.

gate        what everything that leaves goes through, and all that the rest of the package may import of this one

bodies      bodies by what they are: JSON, forms, texts, bytes
streams     what a stream goes through, the masking of prompts included; fails closed
records     records that are there already: exported ones, and those from elsewhere
passing     the same one after another, in order, their streams as streams
passed      what comes of something: what is left, or that it is withheld
finder      what is secret in files, for ``scan``

redactor    the search: texts, JSON documents, bytes, headers, URLs; each call looks at one whole text
spans       what a finding is, and how findings become markers
literals    the search for what secrets begin with
patterns    secrets known by their shape: the table of prefixes
encoded     the same within base64
escapes     ASCII that JSON has as escapes
known       secrets known by their value, in the spellings that they travel in
names       headers, cookies and query parameters that are secret whatever they hold
fields      JSON fields that are secret by their name
rules       what the user says is secret, and what is none
online      the search in a text that comes in parts
stream      the search in streams: documents finds what they carry, templates what their events have in common
messages    the same for the messages of a websocket

prompts     texts of messages taken out, what is structure left; json_masking, structure and edits are its parts
"""
