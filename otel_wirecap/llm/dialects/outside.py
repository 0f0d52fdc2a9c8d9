"""The dialects from outside the package, looked for when one of them is first wanted, and not again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from otel_wirecap.llm.dialects.interface import Dialect


class OutsideDialects:
    """The dialects from outside; none until it is said how they are found."""

    def __init__(self) -> None:
        self._find: Callable[[], Iterable[Dialect]] = tuple
        self._found: tuple[Dialect, ...] | None = None

    def look_with(self, find: Callable[[], Iterable[Dialect]]) -> None:
        """Says how they are found; those that were found another way are forgotten.

        Args:
            find: returns them, checked and guarded: none of their methods raises, and all return what `Dialect` says.
        """
        if find is not self._find:
            self._find, self._found = find, None

    @property
    def are_none(self) -> bool:
        """Whether they were looked for, and there are none."""
        return self._found == ()

    def all(self) -> tuple[Dialect, ...]:
        """Those that there are."""
        if self._found is None:
            self._found = ()  # whoever asks while they are looked for, a module of theirs perhaps, gets none
            self._found = tuple(self._find())
        return self._found


outside: Final = OutsideDialects()
"""The dialects from outside the package."""
