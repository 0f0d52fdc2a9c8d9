"""Dialects of other distributions, found by their entry points.

Invariants:

- Nothing is looked up or imported before something is not recognised by our own dialects, and not twice.
- One that cannot be imported, is no dialect, has the name of another, raises (anything but ``KeyboardInterrupt``), or
  answers in wrong types is reported once, by its name, and not asked again: its traffic is that of a format that nobody
  knows. Nothing is reported that stood in a body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from otel_wirecap.llm.dialects.outside import outside

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from otel_wirecap.llm.dialects.interface import Dialect

GROUP: Final = "otel_wirecap.dialects"
"""The entry points' group; a value is ``module:object``, and the object a `Dialect`."""

_NOT_USED: Final = "the dialect %s (%s) is not used: %s"

Report = Callable[..., object]
"""Takes a message for the log, and its arguments."""

_report: Report | None = None


def use_plugins(report: Report | None = None) -> None:
    """Has traffic that none of our dialects recognises shown to those of other distributions.

    Args:
        report: takes what is wrong with one of them; without it, this process's log does.
    """
    global _report
    _report = report or _report
    outside.look_with(find_dialects)


def find_dialects() -> Iterator[Dialect]:
    """The dialects that the entry points on this process's import path name, guarded."""
    from importlib import metadata  # these are wanted where there is such traffic, and not where a capture is listed

    from otel_wirecap.llm.dialects.registry import OURS

    try:
        entries = sorted(metadata.entry_points(group=GROUP))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # as the invariants say
        _warn("no dialect of another distribution is used: reading the entry points raised %s", type(error).__name__)
        return
    taken = {one.name: "" for one in OURS}  # with what has the name
    for entry in entries:
        if taken.get(entry.name) == entry.value:
            continue  # the same one, from another folder of the import path
        if entry.name in taken:
            _warn(_NOT_USED, entry.name, entry.value, "there is one of this name already; give it another name")
            continue
        taken[entry.name] = entry.value
        dialect = _loaded(entry)
        if dialect is not None:
            yield dialect


def _loaded(entry: EntryPoint) -> Dialect | None:
    from otel_wirecap.llm.dialects.guarded import GuardedDialect
    from otel_wirecap.llm.dialects.interface import Dialect

    not_used = partial(_warn, _NOT_USED, entry.name, entry.value)
    try:
        dialect = entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # as the invariants say
        not_used(f"importing it raised {type(error).__name__}")
        return None
    if isinstance(dialect, Dialect):
        return GuardedDialect(entry.name, dialect, not_used)
    is_class = isinstance(dialect, type) and issubclass(dialect, Dialect)
    not_used("it is a class; name an object of it" if is_class else f"it is no Dialect but a {type(dialect).__name__}")
    return None


def _warn(message: str, *arguments: object) -> None:
    if _report is None:
        from otel_wirecap.log import warn_once  # as above

        warn_once(message, *arguments)
    else:
        _report(message, *arguments)
