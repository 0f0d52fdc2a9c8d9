"""Random ids: of the right length, and never twice, whatever forks."""

import os

from otel_wirecap.tracing.ids import random_hex


def test_ids_have_the_digits_that_were_asked_for():
    for size in (1, 8, 10, 16):
        made = [random_hex(size) for _ in range(500)]
        assert {len(one) for one in made} == {2 * size}
        assert all(int(one, 16) >= 0 for one in made)
    assert len({random_hex(8) for _ in range(10_000)}) == 10_000


def test_a_forked_process_makes_others():
    reading, writing = os.pipe()
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            os.write(writing, random_hex(16).encode() + b"\n")
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        made = pipe.read().split()
    assert len({*made, random_hex(16)}) == 5
