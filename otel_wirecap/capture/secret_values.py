"""What a value says of itself: whether it can be a credential, and which part of an environment variable is one.

Invariants: pure functions of values; nothing of a value is kept.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote, unquote_plus

from otel_wirecap.capture.secret_names import Certainty, header_rule, member_certainty, parameter_is_secret

MIN_CREDENTIAL_LENGTH: Final = 8
"""Shorter values are no credentials: a one-letter "secret" would mangle every text it occurs in."""

DUMMIES: Final = frozenset({
    "anything", "changeme", "change-me", "default", "development", "disabled", "dummy", "dummy-key", "empty", "example",
    "fake", "fake-key", "local", "localhost", "lm-studio", "lmstudio", "llama.cpp", "needed", "no-key", "no-key-needed",
    "no-key-required", "none", "not-needed", "not-required", "not_needed", "null", "ollama", "openai", "password",
    "placeholder", "postgres", "production", "required", "sk-dummy", "test", "testing", "token", "undefined", "unused",
    "vllm", "xxxxxxxx", "your-api-key", "your_api_key",
})  # fmt: skip
"""What stands for a credential where a server takes any."""

_HAS_STRUCTURE: Final = re.compile(r"[\s\"\\{}\[\]]")
_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9._~+/=:@!#$%^&*?|-]{8,}")
_VARIED: Final = re.compile(r"(?=.*[0-9]).+|(?=.*[a-z]).*[A-Z].*|.{20,}")
_BASE64: Final = re.compile(r"(?=.*[0-9])(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9+/]{20,}={0,2}")
_NAME_PART: Final = r"(?:[A-Za-z]{1,14}[0-9]{0,2}|[0-9]{1,8}[a-z]{0,2})"
_NAME: Final = re.compile(rf"{_NAME_PART}(?:[._:@/-]{_NAME_PART}){{0,12}}")
"""Names of models, files and the like, with versions and dates: ``claude-opus-4-5-20251101``."""
_PATH: Final = re.compile(r"(?:~|\.{1,2}|[A-Za-z]:)?[/\\].*", re.DOTALL)
_SWITCH: Final = re.compile(r"[0-9.+-]{1,15}|true|false|yes|no|on|off", re.IGNORECASE)
_USER_INFORMATION: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://([^\s/?#]*)@")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://\S+")
_PARAMETER: Final = re.compile(r"[?&;]([A-Za-z0-9_.-]{1,64})=([^&;#\s]+)")
_SETTING: Final = re.compile(r"(?:^|;)\s*([A-Za-z][A-Za-z0-9_ .-]{0,64}?)\s*=\s*([^;]+)")


def can_be_masked(value: str) -> bool:
    """Whether the marker may stand in place of this value wherever it occurs in its own flow.

    No value may take away structure (``"}}]}``), and none that any server takes is worth a word (``ollama``).
    """
    return _HAS_STRUCTURE.search(value) is None and any(map(str.isalnum, value)) and value.lower() not in DUMMIES


def reads_like_a_credential(value: str) -> bool:
    """Whether a value has the alphabet and the look of a credential, so that it may be masked in other flows, too.

    It is no word, no path and no name of a model: whoever sends one as a key cannot take it from what others say.
    """
    if not _CREDENTIAL.fullmatch(value) or _VARIED.fullmatch(value) is None or _NAME.fullmatch(value):
        return False
    return ("/" not in value or _BASE64.fullmatch(value) is not None) and value.lower() not in DUMMIES


def named_secrets(headers: Iterable[tuple[str, str]], query: str) -> list[str]:
    """The values that a request's header names and parameter names say are secret, where they look like it.

    They are to be masked wherever they occur again. What reads like a word ("required", "disabled") is left out:
    it would mangle harmless text.
    """
    found: list[str] = []
    for name, value in headers:
        rule = header_rule(name)
        if rule == "cookie":
            found += [pair.partition("=")[2].strip() for pair in value.split(";")]
        elif rule is not None:
            found += [value, *value.split()]
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if value and parameter_is_secret(unquote_plus(name)):
            found += [value, unquote(value)]
    return [value for value in dict.fromkeys(found) if reads_like_a_credential(value)]


def parts_of_variable(value: str, *, is_secret: bool) -> list[str]:
    """The secret parts of an environment variable's value.

    Args:
        value: the variable's, stripped.
        is_secret: the variable's name says that it holds a secret.

    Returns:
        Of a URL the password, or a user that looks random, and secret parameters; of a connection string
        (``Server=…;Password=…``) the values that their names say are secret; else all of it where the name says so,
        and each part of a list, but for paths, switches, numbers and what stands for a credential where any does.
    """
    found: list[str] = []
    if information := _USER_INFORMATION.match(value):
        user, colon, password = information[1].partition(":")
        found += [password] if colon else [user] if reads_like_a_credential(user) else []
    if _URL.fullmatch(value):
        found += [held for name, held in _PARAMETER.findall(value) if parameter_is_secret(name)]
        # A URL without any of these is one whose path is the secret (a webhook), where the name says so.
        found += [value] if is_secret and not found else []
    else:
        settings = [held.strip() for name, held in _SETTING.findall(value) if _is_setting(name)] if ";" in value else []
        found += settings or ([value, *map(str.strip, value.split(","))] if is_secret else [])
    found += [unquote(part) for part in found]
    return [part for part in dict.fromkeys(found) if _is_worth_masking(part)]


def _is_setting(name: str) -> bool:
    return name.lower() == "pwd" or member_certainty(name) is Certainty.CERTAIN


def _is_worth_masking(value: str) -> bool:
    if len(value) < MIN_CREDENTIAL_LENGTH or value.lower() in DUMMIES:
        return False
    return not _SWITCH.fullmatch(value) and not (_PATH.match(value) and _BASE64.fullmatch(value) is None)
