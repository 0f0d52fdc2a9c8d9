"""The corpus of secrets has some of every shape that is searched for."""

from __future__ import annotations

import random

from secrets_corpus import SHAPES as KINDS
from secrets_corpus import shaped

from otel_wirecap.capture.redaction.patterns import SHAPES, Shape

SEED = 20260103


def is_in(shape: Shape, text: bytes) -> bool:
    return any(shape.expression(literal).search(text) for literal in shape.literals)


def test_the_corpus_has_secrets_of_every_shape() -> None:
    rng = random.Random(SEED)
    made_up = [shaped(rng, kind).value.encode() for kind in KINDS for _ in range(8)]
    without = [f"{shape.rule}: {shape.literals}" for shape in SHAPES if not any(is_in(shape, text) for text in made_up)]
    assert not without, f"tests/capture/secrets_corpus.py makes up none of {without}"
