"""Hooks that can be put in and taken out, whoever else patches the same function.

Invariants:

- A function is wrapped once, whatever names it goes by (an aliased module's classes are the same objects).
- Taking out restores the original only where our wrapper is the outermost one; under somebody else's wrapper it stays
  and is dormant, because the hooks themselves pass everything through when no capture runs.
- Modules are never imported for the sake of a hook: it goes in when the application imports them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

import wrapt

Wrapper = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]


class HookWrapper(wrapt.FunctionWrapper[Any, Any]):
    """A wrapper of ours, which is known by its class."""


def patch(owner: Any, name: str, wrapper: Wrapper) -> None:
    """Wraps ``owner.name``, unless it is wrapped by us already."""
    found = owner.__dict__.get(name) if isinstance(owner, type) else getattr(owner, name, None)
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


class Hook(NamedTuple):
    """A function that is wrapped: ``owner`` is a class of the module, or "" for the module itself."""

    module: str
    owner: str
    function: str
    wrapper: Wrapper


class LazyHooks:
    """Hooks on modules that may be imported later, or never.

    Args:
        hooks: what to wrap. A module of another version that lacks an owner or a function is left as it is.

    Attributes:
        installed: whether they are in.
    """

    def __init__(self, hooks: Iterable[Hook]) -> None:
        self._hooks: dict[str, list[Hook]] = {}
        for hook in hooks:
            self._hooks.setdefault(hook.module, []).append(hook)
        self._registered = False
        self._imported: dict[str, ModuleType] = {}
        self.installed = False

    def install(self) -> None:
        """Hooks the modules that are imported, and from now on those that are imported later."""
        self.installed = True
        for name, module in list(self._imported.items()):
            self._hook(name, module)
        if not self._registered:
            self._registered = True
            for name in self._hooks:
                wrapt.register_post_import_hook(functools.partial(self._on_import, name), name)

    def remove(self) -> None:
        """Takes the hooks out again."""
        self.installed = False
        for name, module in list(self._imported.items()):
            for hook in self._hooks[name]:
                owner = _owner(module, hook)
                if owner is not None:
                    unpatch(owner, hook.function)

    def _on_import(self, name: str, module: ModuleType) -> None:
        self._imported[name] = module
        if self.installed:
            self._hook(name, module)

    def _hook(self, name: str, module: ModuleType) -> None:
        for hook in self._hooks[name]:
            owner = _owner(module, hook)
            if owner is not None:
                patch(owner, hook.function, hook.wrapper)


def _owner(module: ModuleType, hook: Hook) -> Any:
    return getattr(module, hook.owner, None) if hook.owner else module
