"""The syntaxes in which the wire carries many documents in one stream: each has one lexer, which everything reads.

PURE: bytes come in as arguments, frames go out.
"""
