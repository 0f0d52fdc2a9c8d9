"""Text for terminals: escaping, width, colours; tables; progress on stderr.

Colours never carry information alone; terminal control characters in the data are escaped.
"""

from __future__ import annotations

import contextlib
import sys
import time
import unicodedata
from typing import TYPE_CHECKING, NamedTuple, TextIO

from otel_wirecap.environment import environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_wirecap.reading.flow_parts import Progress

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_PROGRESS_AFTER_SECONDS, _PROGRESS_EVERY_SECONDS, _BAR = 0.5, 0.1, 30
_MIN_COLUMNS = 40


class Style:
    """Colours, or none, depending on ``NO_COLOR``, ``FORCE_COLOR`` and the stream."""

    def __init__(self, stream: TextIO) -> None:
        environ = environment()
        if environ.get("FORCE_COLOR"):
            self.is_on = True
        else:
            self.is_on = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"

    def __call__(self, text: str, *styles: str) -> str:
        """The text in these styles: ``bold``, ``dim``, ``red``, ``green``, ``yellow``, ``cyan``; none is allowed."""
        codes = ";".join(_STYLES[style] for style in styles if style)
        return f"\x1b[{codes}m{text}\x1b[0m" if self.is_on and codes else text


def columns_of(stream: TextIO) -> int | None:
    """Returns the terminal's width in columns; None if the stream is not a terminal, so nothing needs truncating."""
    if not stream.isatty() and not environment().get("COLUMNS"):
        return None
    import shutil

    return max(shutil.get_terminal_size().columns, _MIN_COLUMNS)


def printable(text: str) -> str:
    """Escapes every character that a terminal would interpret instead of show."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def printable_lines(text: str) -> list[str]:
    """Returns the lines of a text, each printable, with tabs as spaces."""
    return [printable(line.expandtabs(4).rstrip("\r")) for line in text.split("\n")]


def width_of(text: str) -> int:
    """Returns the width of a printable text in columns."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def cut(text: str, width: int) -> str:
    """Truncates the text to a number of columns, with a mark."""
    if len(text) <= width // 2 or (len(text) <= width * 4 and width_of(text) <= width):
        return text
    room, kept = width - 1, 0
    for kept, character in enumerate(text):  # noqa: B007  # how far it came is used below
        room -= width_of(character)
        if room < 0:
            break
    return text[:kept] + "…"


def milliseconds(value: float | None) -> str:
    """Formats a duration in milliseconds, in at most six characters."""
    if value is None:
        return "-"
    for limit, divisor, digits, unit in ((10, 1, 1, "ms"), (1000, 1, 0, "ms"), (100_000, 1000, 1, "s")):
        if round(value / divisor, digits) < limit / divisor:
            return f"{value / divisor:.{digits}f}{unit}"
    return f"{value / 60_000:.0f}min"


def size(value: int) -> str:
    """Formats a number of bytes, in at most six characters."""
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if round(amount, 1) < 1000:
            return f"{amount:.0f}{unit}" if unit == "B" or round(amount, 1) >= 100 else f"{amount:.1f}{unit}"
        amount /= 1000
    return f"{amount:.0f}TB"


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: its heading.
        rank: if there is not enough room, columns with the highest rank are dropped first; 0 is never dropped.
        right: whether its cells are right-aligned.
        least: minimum width in columns.
    """

    title: str
    rank: int = 0
    right: bool = False
    least: int = 8


class Cell(NamedTuple):
    """A cell of a table: its text, and its style, ``""`` for none."""

    text: str
    style: str = ""


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], style: Style, width: int | None) -> Iterator[str]:
    """Returns a table's lines. On a terminal, drops empty columns and those that do not fit, and truncates cells."""
    widths = shown_columns(columns, rows, width)
    shown = list(widths)
    yield style(_row(columns, shown, widths, [Cell(column.title) for column in columns], None), "dim")
    for row in rows:
        yield _row(columns, shown, widths, row, style)


def shown_columns(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None) -> dict[int, int]:
    """Returns the columns shown within a given table width, each with its own width."""
    shown = [
        number
        for number, column in enumerate(columns)
        if width is None or column.rank == 0 or any(row[number].text not in {"", "-"} for row in rows)
    ]
    widths = {
        number: max([width_of(columns[number].title), *(width_of(row[number].text) for row in rows)])
        for number in shown
    }
    if width is not None:
        _fit(columns, shown, widths, width)
    return {number: widths[number] for number in shown}


def _fit(columns: Sequence[Column], shown: list[int], widths: dict[int, int], width: int) -> None:
    def over() -> int:
        return sum(widths[number] for number in shown) + 2 * (len(shown) - 1) - width

    while over() > 0:
        widest = max(shown, key=lambda number: (widths[number] - columns[number].least, widths[number]))
        room = widths[widest] - max(columns[widest].least, width_of(columns[widest].title))
        if room > 0 and not columns[widest].right:
            widths[widest] -= min(room, over())
            continue
        last = max(shown, key=lambda number: columns[number].rank)
        if columns[last].rank == 0:
            return
        shown.remove(last)


def _row(
    columns: Sequence[Column], shown: list[int], widths: dict[int, int], row: Sequence[Cell], style: Style | None
) -> str:
    cells = []
    for number in shown:
        text = cut(row[number].text, widths[number])
        blank = " " * (widths[number] - width_of(text))
        styled = style(text, row[number].style) if style is not None else text
        cells.append(blank + styled if columns[number].right else styled + blank)
    return "  ".join(cells).rstrip()


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """Shows on stderr how much is read, where that takes longer; none if stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    began, shown = time.monotonic(), 0.0

    def tell(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - began < _PROGRESS_AFTER_SECONDS or now - shown < _PROGRESS_EVERY_SECONDS or not total:
            return
        shown = now
        filled = _BAR * done // total
        sys.stderr.write(f"\rreading [{'#' * filled}{'.' * (_BAR - filled)}] {100 * done // total:3d} %")
        sys.stderr.flush()

    try:
        yield tell
    finally:
        if shown:
            sys.stderr.write("\r" + " " * (_BAR + 17) + "\r")
            sys.stderr.flush()
