"""The secrets that this process can know of: of its environment, of files like ``.env``, of the settings."""

from __future__ import annotations

import contextlib
import fnmatch
import re
from pathlib import Path
from typing import TYPE_CHECKING

from otel_wirecap.capture.credentials import credential_variables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MAX_BYTES = 1 << 20
_ASSIGNMENT = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*
    (?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<bare>[^\n#]*))""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


class KnownSecrets:
    """Looks for secrets, again and again, for environments and files change while a process runs.

    Args:
        names: globs of variables that are secrets, whatever they are named like.
        files: files like ``.env``; those that cannot be read count as empty.
    """

    def __init__(self, names: Sequence[str], files: Sequence[str]) -> None:
        self._names = [re.compile(fnmatch.translate(name), re.IGNORECASE) for name in names]
        self._files = {Path(file).absolute(): _EnvironmentFile() for file in files}

    def variables(self, environ: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        """Name to the secret parts of variables; the environment's rank before those of files."""
        found: dict[str, tuple[str, ...]] = {}
        for variables in (*(file.variables(path) for path, file in self._files.items()), environ):
            found |= credential_variables(variables)
            found |= {name: (value.strip(),) for name, value in variables.items() if self._is_named(name)}
        return found

    def _is_named(self, name: str) -> bool:
        return any(expression.match(name) for expression in self._names)


class _EnvironmentFile:
    """What was read of a file, and the state that it had then."""

    def __init__(self) -> None:
        self._state: tuple[int, int, int] | None = None
        self._variables: dict[str, str] = {}

    def variables(self, path: Path) -> dict[str, str]:
        # A file that is gone or cannot be read for a moment makes no secret known before a harmless text.
        with contextlib.suppress(OSError):
            status = path.stat()
            state = (status.st_ino, status.st_mtime_ns, status.st_size)
            if state != self._state:
                with path.open("rb") as file:
                    content = file.read(_MAX_BYTES)
                self._state, self._variables = state, variables_in(content.decode("utf-8", "surrogateescape"))
        return self._variables


def variables_in(content: str) -> dict[str, str]:
    """The variables that a file like ``.env`` sets: ``NAME=value``, quoted or not, with ``export`` or not."""
    found: dict[str, str] = {}
    for assignment in _ASSIGNMENT.finditer(content):
        single, double, bare = assignment["single"], assignment["double"], assignment["bare"]
        if double is not None:
            value = re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), double, flags=re.DOTALL)
        else:
            value = single if single is not None else bare.strip()
        found[assignment["name"]] = value
    return found
