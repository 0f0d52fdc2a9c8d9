"""The settings of a capture: from arguments, the environment and YAML.

Every setting has one name, the same everywhere: a keyword argument of ``otel_wirecap.instrument()``, an entry of
the ``logging:`` section of a YAML file, a command-line option (dashes for underscores) and an environment variable
(``WIRE_CAPTURE_`` and the name without its ``capture_``). Arguments win over the environment, the environment over
the file, the file over the defaults.

Invariants:

- Every error leaves through ``load_config``, which masks the secrets in it: any value may be a key that was pasted into
  the wrong place.
- A secret key that is given for a public one is not quoted at all.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from otel_wirecap.environment import environment_variable
from otel_wirecap.errors import ConfigurationError
from otel_wirecap.messages import without_secrets

CONFIG_FILE_VARIABLE = "WIRE_CAPTURE_CONFIG"
PROXY_TOKEN_VARIABLE = "WIRE_CAPTURE_PROXY_TOKEN"  # noqa: S105  # a name
"""The client token of the ready-made proxy: no setting of a capture, and masked as what is named so."""

EXCLUDED_URLS_VARIABLES = ("OTEL_PYTHON_WIRECAP_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS")
"""OpenTelemetry's variables for URLs that are not captured, regular expressions; the first that is set counts."""

KNOWN_METHODS_VARIABLE = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS"

FORMATS = ("jsonl", "text", "structured", "cbor")
WRITERS = ("process", "thread")
COMPRESSIONS = ("none", "gzip", "zstd")
REDACTIONS = ("on", "headers-only", "off")
PLACES = ("headers", "urls", "bodies")
FSYNCS = ("never", "rotate", "interval")
LEGS = ("client", "backend")
SPAN_PAYLOADS = ("off", "events", "logs", "both")
PROPAGATIONS = ("auto", "always", "never")
CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CONTENT_MODES = {"NO_CONTENT": "off", "SPAN_ONLY": "events", "EVENT_ONLY": "logs", "SPAN_AND_EVENT": "both"}
"""OpenTelemetry's way to ask for content, and what it is as ``capture_span_payloads``; our own name wins."""

DEFAULT_SESSION_HEADERS = (
    "x-session-id",
    "session-id",
    "session_id",
    "x-conversation-id",
    "conversation-id",
    "conversation_id",
    "x-litellm-session-id",
    "x-claude-code-session-id",
    "x-openwebui-chat-id",
    "helicone-session-id",
    "langfuse_session_id",
    "x-thread-id",
    "thread-id",
)
"""The request headers that name a session, in the order they are asked; lower case."""

REMOVED_SETTINGS = {
    "capture_overflow": "events that find no room are always left out, and counted; "
    "capture_max_queue_bytes says how much room there is",
    "capture_excluded_urls": "give globs in capture_exclude, or regular expressions in the environment variable "
    f"{EXCLUDED_URLS_VARIABLES[0]}",
    "capture_pause_signal": "have the application's own signal handler call otel_wirecap.pause() and resume()",
}
"""Settings of earlier versions, and what to use instead. One that is given is an error, however it is given."""

MIN_SECRET_LENGTH = 8
"""Shorter ones would mangle harmless text."""

_QUOTED_WORD = re.compile(r"'[^'\s]{2,}'|\"[^\"]{2,}\"")
_BETWEEN_EXPRESSIONS = re.compile(r",(?![0-9]*\})")  # not the comma in "a{1,3}"
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?\s*", re.IGNORECASE)
_AGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhdw]?)\s*", re.IGNORECASE)
_AGE_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SWITCHES = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)
_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class SecretPattern(NamedTuple):
    """A secret that the user describes: a name, what it looks like, and the places where it is looked for."""

    name: str
    expression: re.Pattern[bytes]
    where: tuple[str, ...]


class _SecretKeyError(ValueError):
    """A secret key is given where its public one is expected."""


class Kind(NamedTuple):
    """How one kind of setting is read: ``parse`` raises ValueError, TypeError or KeyError on what it cannot use."""

    parse: Callable[[Any], Any]
    expected: str
    is_secret: bool = False


def _or_none(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same, for a setting that can be given as nothing."""
    return lambda value: None if value is None or value == "" else parse(value)


def _parse_path(value: Any) -> Path:
    return Path(os.fspath(value)).expanduser()


def parse_size(value: Any) -> int:
    """A size in bytes, given as a number or as text such as ``100MB``.

    Raises:
        ValueError: it is none; or TypeError.
    """
    match = _SIZE.fullmatch(str(value) if isinstance(value, int) else value)
    size = 0 if match is None else int(float(match[1]) * _SIZE_UNITS[match[2].lower()])
    if size < 1:
        raise ValueError
    return size


def _parse_count(value: Any, least: int = 0) -> int:
    if isinstance(value, bool) or int(value) != float(value) or int(value) < least:
        raise ValueError
    return int(value)


def _parse_seconds(value: Any) -> float:
    seconds = float(value)
    if isinstance(value, bool) or not 0.001 <= seconds <= 3600:
        raise ValueError
    return seconds


def _parse_switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    return _SWITCHES[value.strip().lower()]


def _one_of(*words: str) -> Kind:
    def parse(value: Any) -> str:
        if isinstance(value, bool):  # how YAML reads on and off
            value = "on" if value else "off"
        if value not in words:
            raise ValueError
        return str(value)

    return Kind(parse, "one of: " + ", ".join(words))


def _parse_age(value: Any) -> float:
    match = _AGE.fullmatch(str(value))
    seconds = 0.0 if match is None else float(match[1]) * _AGE_UNITS[match[2].lower()]
    if seconds < 1:
        raise ValueError
    return seconds


def _parse_recipient(value: Any) -> str:
    recipient = str(value).strip()
    if "AGE-SECRET-KEY-" in recipient.upper() or "PRIVATE KEY" in recipient:
        raise _SecretKeyError
    if not recipient.startswith(("age1", "ssh-")) or "\n" in recipient:
        raise ValueError
    return recipient


def _parse_names(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else list(value)
    if not all(isinstance(name, str) for name in names):
        raise TypeError
    return tuple(name.strip() for name in names if name.strip())


def _parse_secrets(value: Any) -> tuple[str, ...]:
    # An unquoted number in YAML is a secret like any other.
    items = [str(item) if isinstance(item, int) else item for item in value] if isinstance(value, list) else value
    secrets = _parse_names(items)
    if any(len(secret) < MIN_SECRET_LENGTH for secret in secrets):
        raise ValueError
    return secrets


def _parse_mapping(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        pairs = [item.partition("=") for item in value.split(",") if item.strip()]
        if not all(separator and key.strip() and name.strip() for key, separator, name in pairs):
            raise ValueError
        return {key.strip().lower(): name.strip() for key, _, name in pairs}
    if not all(isinstance(key, str) and isinstance(name, str) for key, name in value.items()):
        raise TypeError
    return {key.lower(): name for key, name in value.items()}


def _parse_legs(value: Any) -> tuple[str, ...]:
    legs = _parse_names(value)
    if not legs or not set(legs) <= set(LEGS):
        raise ValueError
    return legs


def _parse_expressions(value: str) -> tuple[re.Pattern[str], ...]:
    try:
        return tuple(re.compile(expression) for expression in _parse_names(_BETWEEN_EXPRESSIONS.split(value)))
    except re.error:
        raise ValueError from None


def _parse_patterns(value: Any) -> tuple[SecretPattern, ...]:
    """Reads ``name=expression`` between commas, or a list of maps."""
    if isinstance(value, str):
        pairs = [item.partition("=") for item in _BETWEEN_EXPRESSIONS.split(value) if item.strip()]
        value = [{"name": name, "pattern": pattern} for name, _, pattern in pairs]
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(item if isinstance(item, SecretPattern) else _parse_pattern(dict(item)) for item in value)


def _parse_pattern(item: dict[str, Any]) -> SecretPattern:
    name = str(item.pop("name", "")).strip()
    pattern, literal = item.pop("pattern", None), item.pop("literal", None)
    where = _parse_names(item.pop("where", PLACES))
    expression = re.escape(str(literal)) if pattern is None else str(pattern)
    if item or not name or not expression or (pattern is None) == (literal is None) or not set(where) <= set(PLACES):
        raise ValueError
    try:
        compiled = re.compile(expression.encode())
    except re.error:
        raise ValueError from None
    if compiled.match(b""):  # it would find a secret between any two characters
        raise ValueError
    return SecretPattern(name, compiled, tuple(place for place in PLACES if place in where))


PATH = Kind(_or_none(_parse_path), "a file path")
SIZE = Kind(parse_size, "a size of at least 1 byte, such as 104857600, 64KB or 100MB")
COUNT = Kind(_parse_count, "a whole number, 0 or more")
POSITIVE_COUNT = Kind(lambda value: _parse_count(value, least=1), "a whole number, 1 or more")
SECONDS = Kind(_parse_seconds, "a number of seconds from 0.001 to 3600")
SWITCH = Kind(_parse_switch, "true or false")
AGE = Kind(_or_none(_parse_age), "a time of at least 1 second, such as 3600, 90m, 12h, 7d or 2w")
RECIPIENT = Kind(
    _or_none(_parse_recipient),
    "an age public key (age1…) or an SSH public key (ssh-ed25519 …), itself and no file's name",
    is_secret=True,
)
NAMES = Kind(_parse_names, "a list of names (in an environment variable: separated by commas)")
# What stands there by mistake is the secret itself, as a rule.
NAMES_OF_SECRETS = NAMES._replace(is_secret=True)
LEG_NAMES = Kind(_parse_legs, "a list of: " + ", ".join(LEGS))
EXPRESSIONS = Kind(_parse_expressions, "regular expressions between commas")
SECRETS = Kind(
    _parse_secrets,
    f"a list of secrets of {MIN_SECRET_LENGTH} characters or more (in an environment variable: separated by commas)",
    is_secret=True,
)
PATTERNS = Kind(
    _parse_patterns,
    "a list of patterns, each with a name, a pattern (a regular expression that does not match nothing) or a literal, "
    f"perhaps also where, a list of: {', '.join(PLACES)} (in an environment variable: name=expression between commas)",
    is_secret=True,
)
MAPPING = Kind(_parse_mapping, "a map of host to name (in an environment variable: host=name,host:port=name)")


def _setting(default: Any, kind: Kind, description: str) -> Any:
    metadata = {"kind": kind, "description": description}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CaptureConfig:
    """All settings of one capture, parsed and checked. Sizes are bytes, times seconds."""

    capture_file: Path | None = _setting(None, PATH, "capture file; without it, capture is off")
    capture_format: str = _setting("jsonl", _one_of(*FORMATS), "format of the records")
    cbor_capture_file: Path | None = _setting(
        None, PATH, "second capture file with the same records in CBOR; the same limits apply to it separately"
    )
    capture_buffer_size: int = _setting(65536, SIZE, "flush after this many bytes")
    capture_flush_interval: float = _setting(1.0, SECONDS, "longest time a record may wait to be written, in seconds")
    capture_max_entries_per_flush: int = _setting(100, POSITIVE_COUNT, "flush after this many events of one exchange")
    capture_max_bytes: int = _setting(100 << 20, SIZE, "rotate the file at this size")
    capture_max_files: int = _setting(5, COUNT, "number of rotated files to keep")
    capture_total_max_bytes: int = _setting(500 << 20, SIZE, "total size of the live and rotated files")
    capture_max_age: float | None = _setting(
        None,
        AGE,
        "delete rotated files this long after their last record; rotate a live file this long after its first",
    )
    capture_compression: str = _setting("none", _one_of(*COMPRESSIONS), "compression of rotated files")
    capture_encrypt_to: str | None = _setting(None, RECIPIENT, "age public key that rotated files are encrypted to")
    capture_fsync: str = _setting(
        "never", _one_of(*FSYNCS), "when to fsync: never, when a file is rotated, or at each flush interval, too"
    )
    capture_writer: str = _setting(
        "process", _one_of(*WRITERS), "where records are made and written: in a separate process or in a thread"
    )
    capture_max_payload_bytes: int = _setting(10 << 20, SIZE, "truncate bodies longer than this")
    capture_max_queue_bytes: int = _setting(64 << 20, SIZE, "memory limit of the queue to the writer")
    capture_assemble_streams: bool = _setting(
        True,  # noqa: FBT003  # a default is what it is
        SWITCH,
        "add the assembled message after each stream",
    )
    capture_legs: tuple[str, ...] = _setting(LEGS, LEG_NAMES, "which legs are captured")
    capture_include: tuple[str, ...] = _setting(
        (), NAMES, "capture only what matches one of these globs of host, path, or host and path"
    )
    capture_exclude: tuple[str, ...] = _setting(
        (), NAMES, "do not capture what matches one of these globs of host, path, or host and path"
    )
    capture_span_payloads: str = _setting(
        "off",
        _one_of(*SPAN_PAYLOADS),
        "send the redacted records to OpenTelemetry collectors, too: as span events, log records or both",
    )
    capture_propagate: str = _setting(
        "auto",
        _one_of(*PROPAGATIONS),
        "send trace context to backends: where it helps, always, or never",
    )
    capture_session_headers: tuple[str, ...] = _setting(
        DEFAULT_SESSION_HEADERS, NAMES, "request headers that name the session; the first one found wins"
    )
    capture_backends: dict[str, str] = _setting({}, MAPPING, "backend names by host or host:port")
    capture_redaction: str = _setting(
        "on",
        _one_of(*REDACTIONS),
        "what to mask: all secrets, only headers and URL parameters with a secret's name, or nothing",
    )
    capture_allow_secrets: bool = _setting(
        False,  # noqa: FBT003  # a default is what it is
        SWITCH,
        "confirms capture_redaction: off",
    )
    capture_redact_values: tuple[str, ...] = _setting(
        (), SECRETS, "further secret values to mask, 8 characters or longer"
    )
    capture_redact_env: tuple[str, ...] = _setting(
        (), NAMES_OF_SECRETS, "globs of environment variables whose values are secrets, whatever their names look like"
    )
    capture_redact_env_files: tuple[str, ...] = _setting(
        (),
        NAMES_OF_SECRETS,
        ".env files: values named like a credential, or matching capture_redact_env, are secrets",
    )
    capture_redact_headers: tuple[str, ...] = _setting((), NAMES_OF_SECRETS, "further headers to mask")
    capture_redact_fields: tuple[str, ...] = _setting(
        (), NAMES_OF_SECRETS, "further JSON fields, form fields and URL parameters to mask"
    )
    capture_redact_patterns: tuple[SecretPattern, ...] = _setting(
        (), PATTERNS, "further secret patterns: a name, a regular expression or literal, and where to look"
    )
    capture_redact_prompts: bool = _setting(
        False,  # noqa: FBT003  # a default is what it is
        SWITCH,
        "mask the text of prompts and answers, too; keep the structure",
    )
    capture_redact_allow: tuple[str, ...] = _setting((), NAMES_OF_SECRETS, "values that look like secrets but are not")

    def public(self) -> dict[str, object]:
        """The settings as a JSON object for ``system_start``; literal secrets are only counted, patterns only named."""
        shown: dict[str, object] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in {"capture_redact_values", "capture_redact_allow"}:
                value = len(value)
            elif field.name == "capture_redact_patterns":
                value = [pattern.name for pattern in value]
            shown[field.name] = str(value) if isinstance(value, Path) else value
        return shown


SETTINGS: Mapping[str, dataclasses.Field[Any]] = {field.name: field for field in dataclasses.fields(CaptureConfig)}
"""The settings by name, in documented order; ``metadata`` holds ``kind`` and ``description``."""


def load_config(arguments: Mapping[str, object], environ: Mapping[str, str] = os.environ) -> CaptureConfig:
    """Reads the settings from arguments, environment, YAML file and defaults, in this order of rank.

    Args:
        arguments: settings by name; None means "not given". ``config`` names a YAML file.
        environ: environment variables; default: this process's.

    Raises:
        ConfigurationError: a setting is unknown or has a value that cannot be used, or the file cannot be read.
    """
    known = _secrets_given(arguments)
    try:
        return _load(arguments, environ, known)
    except ConfigurationError as error:
        message = without_secrets(error, environ, known)
    # Outside of the handler, so that nothing comes along with it that quotes the value as it is.
    raise ConfigurationError(message)


def _load(arguments: Mapping[str, object], environ: Mapping[str, str], known: list[str]) -> CaptureConfig:
    """As ``load_config``; secrets that the file names are added to ``known``, usable or not."""
    kinds = {name: field.metadata["kind"] for name, field in SETTINGS.items()}
    given = {name: value for name, value in arguments.items() if value is not None}
    file = given.pop("config", None) or environ.get(CONFIG_FILE_VARIABLE) or None
    _refuse_unknown(given, kinds, "given as an argument")

    values: dict[str, Any] = {}
    if file is not None:
        section = _read_file(file)
        known += _secrets_given(section)
        values = {name: _parse(kinds[name], name, value, f"in {file}") for name, value in section.items()}
    values |= _from_environment(environ, kinds)
    excluded_urls(environ)  # a wrong one is told with the settings
    if "capture_span_payloads" not in values:
        asked = environ.get(CONTENT_VARIABLE, "").strip().upper()  # other words are other instrumentation's
        values["capture_span_payloads"] = CONTENT_MODES.get(asked, "off")
    values |= {name: _parse(kinds[name], name, value, "given as an argument") for name, value in given.items()}
    config = CaptureConfig(**values)
    if config.capture_redaction == "off" and not config.capture_allow_secrets:
        raise ConfigurationError(
            "capture_redaction: 'off' writes every secret into the capture; expected capture_allow_secrets: true, too"
        )
    if config.capture_span_payloads != "off" and config.capture_redaction != "on":
        raise ConfigurationError(
            f"capture_redaction: {config.capture_redaction!r} would give collectors what capture_span_payloads "
            f"({config.capture_span_payloads!r}) hands them, secrets included; expected capture_span_payloads: off"
        )
    return config


def _from_environment(environ: Mapping[str, str], kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """The settings that environment variables give."""
    values: dict[str, Any] = {}
    for name in [*kinds, *REMOVED_SETTINGS]:
        variable = environment_variable(name)
        if environ.get(variable):
            _refuse_unknown([name], kinds, f"from {variable}")
            values[name] = _parse(kinds[name], name, environ[variable], f"from {variable}")
    return values


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """What is to be said of ``WIRE_CAPTURE_*`` variables that are no setting's: probably a slip of the pen."""
    known = [CONFIG_FILE_VARIABLE, PROXY_TOKEN_VARIABLE, *(environment_variable(name) for name in SETTINGS)]
    removed = {environment_variable(name): instead for name, instead in REMOVED_SETTINGS.items()}
    told = []
    for name in sorted(environ):
        if name in removed:
            if not environ[name]:  # with a value it is an error, which ``load_config`` tells
                told.append(f"{name}: no longer a setting; {removed[name]}")
        elif name.startswith("WIRE_CAPTURE_") and name not in known:
            close = difflib.get_close_matches(name, known, 1)
            told.append(f"{name}: no such setting" + (f"; did you mean {close[0]}?" if close else ""))
    return told


def service_name(environ: Mapping[str, str] = os.environ) -> str | None:
    """The OpenTelemetry service name that the environment gives this process, if any."""
    if environ.get("OTEL_SERVICE_NAME"):
        return environ["OTEL_SERVICE_NAME"]
    for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "service.name" and value.strip():
            return value.strip()
    return None


def known_methods(environ: Mapping[str, str] = os.environ) -> frozenset[str]:
    """The HTTP methods that OpenTelemetry's variable names as known; empty where it names none."""
    return frozenset(_parse_names(environ.get(KNOWN_METHODS_VARIABLE, "")))


def excluded_urls(environ: Mapping[str, str] = os.environ) -> tuple[re.Pattern[str], ...]:
    """What URLs are not captured by OpenTelemetry's variables: those in which one of these finds a match.

    Raises:
        ConfigurationError: one of them is no regular expression.
    """
    for variable in EXCLUDED_URLS_VARIABLES:
        if environ.get(variable):
            return cast(
                "tuple[re.Pattern[str], ...]", _parse(EXPRESSIONS, variable, environ[variable], "in the environment")
            )
    return ()


def _parse(kind: Kind, name: str, value: object, origin: str) -> Any:
    try:
        return kind.parse(value)
    except _SecretKeyError:
        raise ConfigurationError(
            f"{name}: a secret key ({origin}) cannot be used, and should not have been given: with it all can be read "
            "that is encrypted to its public key; expected the public key: age1…, which age-keygen -y prints, or "
            "ssh-ed25519 …, which is in the file that ends in .pub"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RuntimeError):
        shown = "a value" if kind.is_secret else repr(value)
        raise ConfigurationError(f"{name}: {shown} ({origin}) cannot be used; expected {kind.expected}") from None


def _secrets_given(settings: Mapping[str, object]) -> list[str]:
    """What settings whose values are secrets were given: it may be in another one, too, and has no shape."""
    return [text for name in ("capture_redact_values", "capture_encrypt_to") for text in _texts_of(settings.get(name))]


def _texts_of(value: object) -> list[str]:
    """The texts in what a setting was given, however it is made up; those between commas each by itself, too."""
    if isinstance(value, str):
        return [value, *map(str.strip, value.split(","))]
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return [text for one in value for text in _texts_of(one)]
    return [] if value is None else [str(value)]


def _refuse_unknown(given: Iterable[str], known: Collection[str], what: str) -> None:
    for name in given:
        if name in REMOVED_SETTINGS:
            raise ConfigurationError(f"{name}: no longer a setting ({what}); {REMOVED_SETTINGS[name]}")
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else "known settings: " + ", ".join(known)
            raise ConfigurationError(f"{name}: no such setting ({what}); {hint}")


def _read_file(file: object) -> dict[str, object]:
    """The capture settings of a YAML file: the ``capture_*`` entries of its ``logging:`` section."""
    path = Path(os.fspath(file))  # type: ignore[call-overload]  # anything else is told by fspath itself
    try:
        import yaml  # where there is a file only: no command that reads captures needs it

        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(_reason(error).split())
        raise ConfigurationError(f"config: {str(path)!r} cannot be read: {reason}; expected a YAML file") from None
    section = document.get("logging") if isinstance(document, dict) else None
    if not isinstance(section, dict):
        raise ConfigurationError(f"config: {str(path)!r} has no usable 'logging:' section; expected a map of settings")
    for name in (str(name) for name in document):
        if name.replace("-", "_") in SETTINGS:
            raise ConfigurationError(f"{name}: at the top level of {str(path)!r}; expected it under 'logging:'")
    # The section may be shared with the application's own logging settings: only capture_* is ours.
    prefixes = ("capture_", "capture-", "cbor_capture_")
    ours = {str(name): value for name, value in section.items() if str(name).startswith(prefixes)}
    _refuse_unknown(ours, SETTINGS, f"in {path}")
    return {name: value for name, value in ours.items() if value is not None}


def _reason(error: Exception) -> str:
    """Why a YAML file cannot be read, without what errors quote of it: any word of it may be a secret."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        problem = _QUOTED_WORD.sub("…", str(getattr(error, "problem", "")))
        return f"{problem} in line {mark.line + 1}, column {mark.column + 1}"
    return type(error).__name__ if type(error) in {ValueError, RecursionError} else str(error)
