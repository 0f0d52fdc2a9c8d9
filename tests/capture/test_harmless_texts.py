"""What merely looks like a secret by its position stays, to the byte: code, configuration, documentation of others."""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from harmless_corpus import KINDS

from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.spans import MARKER

SUFFIXES = frozenset(
    {".py", ".pyi", ".md", ".rst", ".txt", ".json", ".toml", ".cfg", ".yaml", ".js", ".html", ".css", ".sh"}
)
MAX_BYTES = 200_000
MIN_PIECES = 2_000
MAX_CHANGED = 1_000
"""One of so many files may show a password or a key as an example: that is masked."""

HARMLESS = [
    "def login(user: str, password: str, api_key: str | None = None) -> Token: ...",
    "interface Config { apiKey: string; token?: string; password: string }",
    'client = Client(api_key=os.environ["API_KEY_2"], token=settings.token_v2, password=getpass.getpass())',
    "const token = process.env.TOKEN1; const secret = await getSecret(name2);",
    "password=${DB_PASSWORD1} token=$TOKEN2 api_key=<your-key-1> secret={{ secret1 }} client_secret=%(secret1)s",
    'password: changeme, api_key: "xxxx-xxxx-1234", token: "***", api_key: YOUR_API_KEY_1, "password": "example-12345"',
    '{"required": ["password", "api_key", "client_secret_v1"], "api_key": "string", "x-api-key": "$KEY1"}',
    "token_hash=9f86d081884c7d659a2feaa0c55ad015 password_file=/run/secrets/db1 secret_name=prod/db/2024-01",
    "Set-Cookie: name=value; Cookie: a small file; authorization: required; Authorization: Basic auth is used",
    "id=call_9f86d081884c7d659a2f toolu_9f86d081884c7d65 msg_9f86d081 resp_9f86d081884c 9f86d081-884c-7d65-9a2f-eaa0",
    "postgres://postgres:postgres@db:5432/app https://user:pass@example.com/ mysql://root:${DB_PW1}@db/app ssh://git@h/",
    'docker run -u 1000:1000 image; curl -u "$USER:$PASSWORD1" https://h.example; chown -R me:me .',
    "https://h.example/search?key=value&code=200&token=abc&page=2#section-2 and ?sort_key=created_at_2024",
    "machine learning password 12345678 is weak; Bearer of good news; bearer token authentication",
    "INSTALLED_APPS=['auth', '0002_alter_permission_name_max_length']; PASSWORD_HASHERS=[\"x.PBKDF2PasswordHasher\"]",
    "max_tokens=4096 prompt_tokens: 123456789012 next_page_token=9f86d081884c7d659a2feaa0c55ad015",
    "key: 9f86d081884c7d659a2feaa0c55ad015\nvalue=9f86d081884c7d659a2feaa0c55ad015\nnonce: 9f86d081884c7d659a2feaa0",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_stands_where_a_secret_could_stays(text: str) -> None:
    assert Redactor().text(text, {}) is text


def test_families_of_harmless_texts_stay() -> None:
    rng, redactor = random.Random(20260101), Redactor()
    texts = [make(rng) for make in KINDS.values() for _ in range(100)]
    assert [clean for text in texts if (clean := redactor.text(text, {})) is not text] == []


def files() -> Iterator[Path]:
    """The source, documentation and configuration of Python and of what is installed, less what tests redaction."""
    for name in ("stdlib", "purelib"):
        root = Path(sysconfig.get_paths()[name])
        for file in sorted(root.rglob("*")):
            parts = file.relative_to(root).parts
            is_text = file.suffix in SUFFIXES or file.name == "METADATA"
            if is_text and {"test", "tests", "dist-packages", "site-packages"}.isdisjoint(parts):
                yield file


def test_the_code_and_documentation_that_is_installed_here_stays() -> None:
    redactor, count, changed = Redactor(), 0, []
    for file in files():
        data = file.read_bytes()[:MAX_BYTES]
        count += 1
        clean = redactor.bytes_(data, counts := {})
        if clean is not data:
            assert MARKER.encode() in clean
            changed.append((file.name, counts))
    assert count >= MIN_PIECES
    assert len(changed) <= count // MAX_CHANGED, changed
