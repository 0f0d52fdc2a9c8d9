"""Of a corpus of secrets in all that they travel in, nothing is written; what merely looks like them comes back.

With ``-s`` the recall of each cell is printed; ``benchmarks/redaction_recall.py`` makes a larger run.
"""

import pytest
from recall import Cell, false_alarms, measured, table

pytestmark = pytest.mark.thorough

SEED = 20260101


@pytest.fixture(scope="module")
def cells() -> dict[tuple[str, str, str, str], Cell]:
    found = measured(SEED, 2)
    print("\n" + table(found))  # noqa: T201  # asked for with -s
    return found


def leaks(cells: dict[tuple[str, str, str, str], Cell], detector: str) -> list[str]:
    return [
        f"{' | '.join(name)}: {case.secret.kind}"
        for name, cell in cells.items()
        for case, _, _ in cell.leaks
        if case.secret.detector == detector
    ]


def test_nothing_of_a_known_value_is_written_in_any_carrier_encoding_and_chunking(cells):
    assert leaks(cells, "known") == []


def test_nothing_of_a_secret_with_a_shape_is_written_in_any_carrier_and_chunking(cells):
    assert leaks(cells, "shape") == []


def test_harmless_texts_are_written_as_they_are():
    count, changed = false_alarms(SEED, 4)
    assert count
    assert [control.kind for control, _ in changed] == []
