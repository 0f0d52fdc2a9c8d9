"""Random ids, of this process's own generator.

The operating system's would let go of the interpreter for each id, and beside a busy thread that takes long to come
back. The ids are no secrets; two processes must not make the same ones.
"""

from __future__ import annotations

import os
import random

_generator = random.Random()  # noqa: S311  # see above; seeded by the operating system
os.register_at_fork(after_in_child=_generator.seed)


def random_hex(size: int) -> str:
    """``size`` random bytes as hexadecimal digits, two for each."""
    return _generator.getrandbits(8 * size).to_bytes(size, "big").hex()  # a third of what formatting takes
