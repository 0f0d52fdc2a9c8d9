"""A program that starts the capture for itself alone, below the usual condition, and then serves by two workers."""

from __future__ import annotations

import sys

import uvicorn

import otel_wirecap

if __name__ == "__main__":
    otel_wirecap.instrument()
    uvicorn.run("gateway_app:raw", port=int(sys.argv[1]), workers=2)
