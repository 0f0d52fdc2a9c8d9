"""``otel-wirecap completion SHELL``: shell completion, generated from the parsers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from otel_wirecap.errors import ConfigurationError

SHELLS = ("bash", "zsh", "fish")

EXAMPLES = """examples:
  otel-wirecap completion bash > ~/.local/share/bash-completion/completions/otel-wirecap
  otel-wirecap completion zsh > ~/.zfunc/_otel-wirecap      # a folder of $fpath
  otel-wirecap completion fish > ~/.config/fish/completions/otel-wirecap.fish
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "completion",
        help="print a shell completion script",
        description="Prints a completion script for commands, options, choices and files.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code.

    Raises:
        ConfigurationError: the package that it needs is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise ConfigurationError("completion needs the package shtab; install otel-wirecap[cli]") from None
    from otel_wirecap.cli import build_parser

    parser = build_parser()
    for action in _actions(parser):
        if action.metavar in {"FILE", "FILES"}:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
    sys.stdout.write(shtab.complete(parser, arguments.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The actions of a parser and of its commands' parsers."""
    for action in parser._actions:  # noqa: SLF001  # argparse offers no other way to them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # the same
            for command in action.choices.values():
                yield from _actions(command)
