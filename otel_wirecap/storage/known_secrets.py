"""The secrets that this process can know of: of its environment, of files like ``.env``, of the settings.

Invariants:

- Only regular files are read, without waiting, and no more than ``MAX_FILE_BYTES`` of each; a file is read again only
  when it has changed.
- No more than ``MAX_SECRETS`` are known, those of the environment first: each makes every search longer.
- What is left out for such a reason is reported.
"""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_wirecap.capture.credentials import credential_variables
from otel_wirecap.regular_file import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_FILE_BYTES: Final = 1 << 20
MAX_SECRETS: Final = 2000

_SETTING: Final = "capture_redact_env_files"
_ASSIGNMENT: Final = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*
    (?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<bare>[^\n#]*))""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}


class KnownSecrets:
    """Looks for secrets, again and again, for environments and files change while a process runs.

    Args:
        names: globs of variables that are secrets, whatever they are named like.
        files: files like ``.env``; those that cannot be read count as empty.
    """

    def __init__(self, names: Sequence[str], files: Sequence[str]) -> None:
        self._names = [re.compile(fnmatch.translate(name), re.IGNORECASE) for name in names]
        self._files = [_EnvironmentFile(Path(file).absolute()) for file in files]
        self._environment: dict[str, str] = {}
        self._read: list[dict[str, tuple[str, ...]]] | None = None

    def variables(self, environ: Mapping[str, str], warn: Callable[..., object]) -> dict[str, tuple[str, ...]]:
        """Name to the secret parts of variables; the environment's rank before those of files.

        Args:
            environ: the environment's variables.
            warn: takes a message and its arguments, at each call again; no secret is in them.
        """
        have_changed = [file.has_changed(warn) for file in self._files]
        current = dict(environ)
        if self._read is None or any(have_changed) or current != self._environment:
            self._environment = current
            self._read = [
                self._secrets_in(variables) for variables in (current, *(one.variables for one in self._files))
            ]
        found: dict[str, tuple[str, ...]] = {}
        room = MAX_SECRETS
        for place, variables in zip(("the environment", *map(str, self._files)), self._read, strict=True):
            for name, parts in variables.items():
                if name in found:
                    continue
                found[name] = parts[:room]
                room -= len(found[name])
                if len(found[name]) < len(parts):
                    told = "%s: of more than %d secrets, those from %s on are not masked by their values: name fewer"
                    warn(told, place, MAX_SECRETS, name)
                    return found
        return found

    def _secrets_in(self, variables: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        named = {name: (value.strip(),) for name, value in variables.items() if self._is_named(name)}
        return credential_variables(variables) | named

    def _is_named(self, name: str) -> bool:
        return any(expression.match(name) for expression in self._names)


class _EnvironmentFile:
    """What was read of a file, and the state that it had then.

    Attributes:
        path: the file.
        variables: those that it sets, as read last: one that is gone or cannot be read for a moment makes no secret
            known before a harmless text.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.variables: dict[str, str] = {}
        self._state: tuple[int, int, int] | None = None

    def __str__(self) -> str:
        return f"{_SETTING}: {str(self.path)!r}"

    def has_changed(self, warn: Callable[..., object]) -> bool:
        """Reads the file if it is another than it was; ``warn`` is told what keeps it from being read."""
        try:
            with open_regular(self.path) as file:
                status = os.fstat(file.fileno())
                state = (status.st_ino, status.st_mtime_ns, status.st_size)
                if status.st_size > MAX_FILE_BYTES:
                    warn("%s is larger than %d bytes: what follows them is not read", str(self), MAX_FILE_BYTES)
                if state == self._state:
                    return False
                content = file.read(MAX_FILE_BYTES)
        except OSError as error:
            warn("%s cannot be read: %s", str(self), error.strerror)
            return False
        self._state, self.variables = state, variables_in(content.decode("utf-8", "surrogateescape"))
        return True


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
