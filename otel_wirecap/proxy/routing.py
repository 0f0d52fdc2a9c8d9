"""Which backend a request goes to, and what it is asked for there.

Invariants:

- ``/to/NAME/…`` goes to the backend NAME, without that prefix; every other path goes whole to the default backend.
- A target is bytes that are cut at most: nothing in it is decoded, resolved, parsed as a URL or put together anew.
- Where a request is sent is decided by the backend alone; no byte of the target has a part in it.

Source: RFC 9112, section 3.2 (the forms of a request's target).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_wirecap.proxy.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_wirecap.proxy.backends import Backend

PREFIX: Final = b"to"
"""The first segment of a path that names its backend in the second."""


class Route(NamedTuple):
    """Where a request goes.

    Attributes:
        backend: it is sent to.
        path: what the backend is asked for: its own path with that of the request behind it.
        query: without the question mark; None where there is none.
        namesake: another backend, whose name is the path's first segment; before there was ``/to/``, it was asked.
    """

    backend: Backend
    path: bytes
    query: bytes | None = None
    namesake: Backend | None = None

    @property
    def target(self) -> bytes:
        """The path and the query, as they are sent."""
        return self.path if self.query is None else self.path + b"?" + self.query


class RoutingError(Exception):
    """A request that goes nowhere; the text is for the client.

    Attributes:
        status: the status code of the answer.
        kind: the ``type`` of the error in the answer.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class Router:
    """Finds the backend that a request is for.

    Args:
        backends: by name.
        default: the name of the backend for paths outside ``/to/``; None: there is none.
    """

    def __init__(self, backends: Mapping[str, Backend], default: str | None) -> None:
        self._backends = {name.encode("ascii"): backend for name, backend in backends.items()}
        self._default = None if default is None else backends[default]
        self._expected = f"expected /to/NAME/..., NAME one of: {', '.join(sorted(backends))}"

    def route(self, method: str, target: bytes) -> Route:
        """The route of one request.

        Args:
            method: as received.
            target: as received, query included.

        Raises:
            RoutingError: the target is neither a path nor the ``*`` of an ``OPTIONS``, or no backend is for it.
        """
        if method == "OPTIONS" and target == b"*":
            return Route(self._default_for(target), target)
        if method == "CONNECT" or not target.startswith(b"/"):
            raise RoutingError(
                400, "invalid_target", "the request's target cannot be sent on; expected a path that begins with '/'"
            )
        path, mark, query = target.partition(b"?")
        first, _, rest = path[1:].partition(b"/")
        namesake = None
        if first == PREFIX:
            name, _, rest = rest.partition(b"/")
            backend = self._named(name)
            path = b"/" + rest
        else:
            backend = self._default_for(path)
            if first in self._backends and self._backends[first] is not backend:
                namesake = self._backends[first]
        return Route(backend, backend.base_path + path, query if mark else None, namesake)

    def _named(self, name: bytes) -> Backend:
        backend = self._backends.get(name)
        if backend is None:
            told = f"no backend is called {quoted(name)}" if name else "the path names no backend"
            raise RoutingError(404, "unknown_backend", f"{told}; {self._expected}")
        return backend

    def _default_for(self, path: bytes) -> Backend:
        if self._default is not None:
            return self._default
        first = path[1:].partition(b"/")[0]
        told = "the proxy has no default backend"
        if first in self._backends:
            told += f", and /NAME/... no longer leads to a backend: write /to/{first.decode('ascii')}/..."
        raise RoutingError(
            404, "no_default_backend", f"{told}; {self._expected}; or start the proxy with --default-backend NAME"
        )
