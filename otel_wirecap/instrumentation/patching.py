"""Hooks that can be put in and taken out, whoever else patches the same function.

Invariants:

- A function is wrapped once, whatever names it goes by (an aliased module's classes are the same objects).
- Taking out restores the original only where our wrapper is the outermost one; under somebody else's wrapper it stays
  and is dormant, because the hooks themselves pass everything through when no capture runs.
- Modules are never imported for the sake of a hook: it goes in when the application imports them.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import wrapt

Wrapper = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]


class HookWrapper(wrapt.FunctionWrapper[Any, Any]):
    """A wrapper of ours: told from others' by its class."""


def patch(owner: Any, name: str, wrapper: Wrapper) -> None:
    """Wraps ``owner.name``, unless it is wrapped by us already."""
    found = owner.__dict__.get(name) if isinstance(owner, type) else getattr(owner, name)
    if found is None or _is_hooked(found):
        return
    setattr(owner, name, HookWrapper(found, wrapper))


def unpatch(owner: Any, name: str) -> None:
    """Restores ``owner.name`` where our wrapper is the outermost."""
    found = owner.__dict__.get(name)
    if isinstance(found, HookWrapper):
        setattr(owner, name, found.__wrapped__)


def _is_hooked(function: Any) -> bool:
    for _ in range(100):  # a chain of wrappers; bounded, should somebody's be a ring
        if isinstance(function, HookWrapper):
            return True
        inner = getattr(function, "__wrapped__", None)
        if inner is None:
            return False
        function = inner
    return False


class LazyHooks:
    """Hooks on modules that may be imported later, or never."""

    def __init__(self) -> None:
        self._hooks: dict[str, tuple[Callable[[ModuleType], None], Callable[[ModuleType], None]]] = {}
        self._registered: set[str] = set()
        self._imported: dict[str, ModuleType] = {}
        self._on = False

    def add(self, module: str, install: Callable[[ModuleType], None], remove: Callable[[ModuleType], None]) -> None:
        """Registers what to do with ``module`` once it is imported, and how to undo it."""
        self._hooks[module] = (install, remove)

    def install(self) -> None:
        """Hooks the modules that are imported, and from now on those that are imported later."""
        self._on = True
        for name, module in list(self._imported.items()):
            self._hooks[name][0](module)
        for name in self._hooks.keys() - self._registered:
            self._registered.add(name)
            wrapt.register_post_import_hook(self._on_import(name), name)

    def remove(self) -> None:
        """Takes the hooks out again."""
        self._on = False
        for name, module in list(self._imported.items()):
            self._hooks[name][1](module)

    def _on_import(self, name: str) -> Callable[[ModuleType], None]:
        def imported(module: ModuleType) -> None:
            self._imported[name] = module
            if self._on:
                self._hooks[name][0](module)

        return imported
