"""Providers' formats: one module a format, each with one object that knows all of it.

A new format is a module here with a ``DIALECT``, and its place among ``OURS`` in ``registry``; or a module anywhere
else, with an entry point in the group ``otel_wirecap.dialects``.
"""

from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly, Opening, Parameters
from otel_wirecap.llm.usage import Usage

__all__ = ["Dialect", "Json", "MessageAssembly", "Opening", "Parameters", "Usage"]
