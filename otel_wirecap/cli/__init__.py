"""The command line: one module per command. Data goes to stdout, everything else to stderr.

Exit codes: 0, 1 (problems found), 2 (usage), 130 (interrupted); ``run`` returns its command's code.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import itertools
import keyword
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from otel_wirecap.cli.text import columns_of
from otel_wirecap.errors import WireCaptureError
from otel_wirecap.messages import SafeMessage, without_secrets
from otel_wirecap.version import __version__

COMMANDS = (
    "run",
    "proxy",
    "demo",
    "ls",
    "show",
    "diff",
    "cache",
    "stats",
    "timeline",
    "tail",
    "verify",
    "export",
    "import",
    "sql",
    "scan",
    "doctor",
    "completion",
)
"""The commands, each a module with ``add_parser`` and ``run``; ``import_`` for the name that Python keeps."""


_SECRET_SETTINGS = re.compile(r"--capture-(?:redact-v|encrypt)")
"""The options whose values are secrets, shortened or not."""

_LIKE_SECRETS = re.compile(
    r"--.*(?:redact(?!ion|-prompt)|(?<!allow-)secret|token|key(?!s)|passw|encrypt)", re.IGNORECASE
)
"""The same of a command that has them not, or misspelled."""


class CommandParser(argparse.ArgumentParser):
    """The parser of one command: options may appear anywhere among its arguments; errors quote no secret.

    Python's own takes arguments in one run only, and gives an optional one that comes later to nobody. A command that
    hands what follows on to another one (``run -- COMMAND …``) keeps the order.
    """

    _is_within = False
    _arguments: Sequence[str] = ()

    def _get_formatter(self) -> argparse.HelpFormatter:
        # Python's own asks shutil how wide the terminal is, which is more to import than a short command's own modules.
        return self.formatter_class(prog=self.prog, width=(columns_of(sys.stdout) or 80) - 2)  # type: ignore[call-arg]  # all formatters take it

    def parse_known_args(  # type: ignore[override]  # one signature in place of the overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As the base class, with arguments and options in any order."""
        self._arguments = sys.argv[1:] if args is None else args
        hands_on = any(action.nargs in {argparse.PARSER, argparse.REMAINDER} for action in self._actions)
        if hands_on or self._is_within:
            return super().parse_known_args(args, namespace)
        self._is_within = True  # the intermixed parse calls this method itself
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_within = False

    def error(self, message: str) -> NoReturn:
        """Reports an error as the base class does, but without secrets: it quotes arguments."""
        super().error(_safe_message(message, self._arguments, _LIKE_SECRETS))


def build_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Builds the parser with these commands; each sets ``func``.

    A command is imported only when needed: those that read captures do not load the recorder.
    """
    parser = CommandParser(
        prog="otel-wirecap",
        description="The flight recorder for LLM gateways.",
    )
    parser.add_argument("--version", action="version", version=f"otel-wirecap {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=CommandParser)
    for name in commands:
        module = importlib.import_module(f"otel_wirecap.cli.{name}{'_' * keyword.iskeyword(name)}")
        module.add_parser(subparsers)
        subparsers.choices[name].set_defaults(func=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    first = given[0] if given else ""
    wanted = [first] if first in COMMANDS else [] if first == "--version" else COMMANDS
    gc.disable()  # what is imported is no garbage, and to look for some takes a twentieth of a short command's time
    try:
        parsed = build_parser(wanted).parse_args(given)
    finally:
        gc.enable()
    try:
        return _run(parsed)
    except WireCaptureError as error:
        print(f"otel-wirecap: {_safe_message(error, given, _SECRET_SETTINGS)}", file=sys.stderr)  # noqa: T201  # this is the command line
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever reads has seen enough; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _safe_message(message: object, arguments: Sequence[str], secret: re.Pattern[str]) -> SafeMessage:
    """Masks secrets in a message, including values of options with a secret's name, which need no shape."""
    text, known = str(message), []
    for word, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        value = value if equals else following
        if secret.match(name) and value and not value.startswith("-"):
            text = text.replace(f"{name}{equals or ' '}{value}", f"{name}{equals or ' '}…")
            known += [value, *value.split(",")]
    return without_secrets(text if known else message, known=known)


def _run(parsed: argparse.Namespace) -> int:
    code = int(parsed.func(parsed))
    sys.stdout.flush()  # here, where a closed pipe is expected
    return code
