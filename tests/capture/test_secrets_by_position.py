"""Secrets without a look of their own, known by where they stand: masked there, and nothing else is.

Each row is a construct that people paste or tools write; ``docs/security.md`` names them all.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest
from growth import assert_linear

from otel_wirecap.capture.redaction.fields import NAME_PARTS
from otel_wirecap.capture.redaction.gate import Gate
from otel_wirecap.capture.redaction.messages import MessageRedactor
from otel_wirecap.capture.redaction.online import OnlineSearch
from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.spans import MARKER
from otel_wirecap.capture.redaction.stream import StreamRedactor


def value() -> str:
    """What has no shape: letters and digits, as passwords and keys of small services are."""
    return "Zx81" + secrets.token_hex(8)


TEXTS = {
    ".env": "PORT=80\nMY_API_KEY={}\nDEBUG=1",
    "fish": "set -gx OPENAI_API_KEY {}\n",
    "csh": "setenv API_KEY {}\n",
    "Dockerfile": "FROM x\nENV API_KEY {}\nARG DB_PASSWORD=1",
    "define": '#define API_KEY "{}"',
    "option, blank": "serve --api-key {} --port 80",
    "option, quoted": "serve --password '{}' --port 80",
    "option, list": '["serve", "--api-key", "{}"]',
    "SQL": "CREATE USER me WITH PASSWORD '{}';",
    "nginx": "proxy_set_header X-Api-Key {};",
    "AWS's command": "aws configure set aws_secret_access_key {}",
    "YAML, token": "users:\n- user:\n    token: {}\n",
    "YAML, secret": "secret: {}\n",
    "YAML, block": "password: |\n  {}\nport: 1",
    "YAML, folded": "api_key: >-\n    {}\nport: 1",
    "YAML, anchor": "password: &pw {}\n",
    "YAML, tag": "password: !!str {}\n",
    "YAML, list": "api_keys:\n  - {}\n  - b\n",
    "YAML, quoted list": 'api_keys:\n- "{}"\n',
    "YAML, name and value": "env:\n- name: API_KEY\n  value: {}\n",
    "YAML, name and quoted value": 'env:\n  - name: DB_PASSWORD\n    value: "{}"\n',
    "TOML, list": 'api_keys = ["{}", "b"]',
    "TOML, token": '[registry]\ntoken = "{}"',
    "yarn": 'npmAuthToken: "{}"',
    "makefile": "API_KEY ?= {}\n",
    "R": 'api_key <- "{}"',
    "Rust": 'let api_key: &str = "{}";',
    "TypeScript": 'const apiKey: string = "{}";',
    "Python, typed": 'api_key: str = "{}"',
    "Python, bytes": "api_key = b'{}'",
    "Python, call": "api_key=SecretStr('{}')",
    "C": 'char api_key[] = "{}";',
    "XML, namespace": "<wsse:Password>{}</wsse:Password>",
    "XML, token": "<token>{}</token>",
    "XML, attributes": '<Password Type="PasswordText">{}</Password>',
    "XML, attribute": '<db password="{}" port="1"/>',
    "XML, key and value": '<add key="ApiKey" value="{}" />',
    "XML, property": '<property name="hibernate.connection.password">{}</property>',
    "HTML, input": '<input type="password" name="password" value="{}">',
    "HTML, meta": '<meta name="csrf-token" content="{}">',
    "JSON, deep object": '{{"secrets": {{"a": {{"b": "{}"}}}}}}',
    "JSON, members of an object": '{{"credentials": {{"user": "u", "n": 1, "password": "{}", "x": "y z"}}}}',
    "JSON, objects in a list": '{{"api_keys": [{{"id": 1, "key": "{}"}}]}}',
    "JSON, tokens": '{{"access_tokens": ["a", "{}"]}}',
    "JSON, cookies": '{{"cookies": {{"session": "{}"}}}}',
    "JSON, connection string": '{{"connectionString": "Server=s;Password={};"}}',
    "JSON, parameter": '{{"ParameterKey": "DbPassword", "ParameterValue": "{}"}}',
    "Markdown": "**API key:** {}\n",
    "Markdown, code": "API key: `{}`",
    "WireGuard": "PrivateKey = {}",
    "ODBC": "DRIVER=x;SERVER=s;UID=u;PWD={}",
    "JDBC": "jdbc:sqlserver://h;user=me;password={};encrypt=true",
    "session": "https://me.example/?sid={}",
    "verifier": "https://me.example/?a=1&code_verifier={}",
    "URL within a URL": "https://h.example/?u=https%3A%2F%2Fi%2F%3Ftoken%3D{}%26a%3D1",
    "shell": "export OPENAI_API_KEY={}\n",
    "shell, quoted": 'export DB_PASSWORD="{}"; run',
    "cmd": "set API_KEY={}\r\n",
    "PowerShell": '$env:API_KEY="{}"',
    "docker": "docker run -e API_KEY={} image",
    "option": "serve --api-key={} --port 80",
    "YAML": "database:\n  password: {}\n  port: 1",
    "YAML, quoted": 'api_key: "{}"',
    "YAML, single quotes": "client_secret: '{}'",
    "TOML": 'access_token = "{}"',
    "INI": "[db]\npassword={}\n",
    "INI, with blanks": "aws_secret_access_key = {}\n",
    "properties": "spring.datasource.password={}",
    "netrc": "machine api.example login me password {}\n",
    "npmrc": "//registry.example/:_authToken={}\n",
    "XML": "<server><password>{}</password></server>",
    "Python": 'client = Client(api_key="{}", timeout=3)',
    "repr": "[Server(name='a', authentication_token='{}', url='https://x')]",
    "Python, dict": "{{'api_key': '{}', 'a': 1}}",
    "JavaScript": "const apiKey = '{}';",
    "TypeScript, object": '{{ clientSecret: "{}" }}',
    "PHP": "define('DB_PASSWORD', '{}');",
    "Ruby": ":password => '{}',",
    "JSON in prose": 'use {{"api_key": "{}"}} here',
    "JSON with a numbered name": '{{"api_key_2": "{}", "password3": "x"}}',
    "JSON with a plural": '{{"api_keys": ["{}"]}}',
    "JSON, object": '{{"token": {{"value": "{}"}}}}',
    "environment list": '[{{"name": "MY_API_KEY", "value": "{}"}}]',
    "pair": '["x-api-key", "{}"]',
    "header line": "> X-Api-Key: {}\n> Accept: */*",
    "curl, header": "curl -H 'x-api-key: {}' https://api.example/",
    "Bearer in prose": "I sent Bearer {} and it failed",
    "challenge": 'Bearer realm="x", access_token="{}"',
    "parameter": "GET https://api.example/v1?api_key={}&a=1 -> 200",
    "last parameter": "see https://api.example/v1?a=1&access_token={}",
    "key parameter": "https://maps.example/json?key={}&q=x",
    "signature": "https://blob.example/c?sv=2024&sig={}&se=1",
    "code": "https://me.example/back?state=1&code={}",
    "fragment": "https://me.example/back#access_token={}&type=bearer",
    "matrix parameter": "https://me.example/a;token={};b=1/c",
    "connection string": "Server=db;User Id=app;Password={};Encrypt=true",
    "DSN": "SENTRY_DSN={}",
    "spoken name": "my api key: {}",
}
MORE = {
    "Authorization, Bearer": (
        "> Authorization: Bearer {}\n> Accept: */*",
        "> Authorization: [REDACTED]\n> Accept: */*",
    ),
    "Authorization, Basic": ("authorization: Basic {}==\n", "authorization: [REDACTED]\n"),
    "curl, bearer": ('curl -H "Authorization: Bearer {}" https://h/', 'curl -H "Authorization: [REDACTED]" https://h/'),
    "account key": ("AccountName=a;AccountKey={}==;Suffix=x", "AccountName=a;AccountKey=[REDACTED];Suffix=x"),
    "curl, user": ("curl -u admin:{} https://h.example/", "curl -u admin:[REDACTED] https://h.example/"),
    "Authorization, Key": ("Authorization: Key {}\n", "Authorization: [REDACTED]\n"),
    "curl, proxy": ("curl --proxy-user me:{} https://h/", "curl --proxy-user me:[REDACTED] https://h/"),
    "curl, equals": ("curl --user=me:{} https://h/", "curl --user=me:[REDACTED] https://h/"),
    "curl, cookie": ("curl -b 'sid={}' https://h/", "curl -b '[REDACTED]' https://h/"),
    "curl, long cookie": ('curl --cookie "sid={}; a=b" https://h/', 'curl --cookie "[REDACTED]" https://h/'),
    "at the end": ("http_proxy=http://me:{}@proxy:3128", "http_proxy=http://[REDACTED]@proxy:3128"),
    "curl, long": ("curl --user 'admin:{}' https://h/", "curl --user 'admin:[REDACTED]' https://h/"),
    "database": ("postgresql://app:{}@db:5432/p", "postgresql://[REDACTED]@db:5432/p"),
    "cache": ("REDIS_URL=redis://:{}@cache:6379/0", "REDIS_URL=redis://[REDACTED]@cache:6379/0"),
    "git": ("git clone https://oauth2:{}@git.example/a.git", "git clone https://[REDACTED]@git.example/a.git"),
    "token alone": ("https://{}@git.example/a.git", "https://[REDACTED]@git.example/a.git"),
    "cookie": ("> Cookie: theme=dark; sid={}\n> A: b", "> Cookie: [REDACTED]\n> A: b"),
}
ALL = {name: (text, text.format(MARKER)) for name, text in TEXTS.items()} | MORE


def in_pieces(text: str, *cuts: int) -> str:
    """The text as a search finds it that gets it in pieces."""
    search = OnlineSearch(Redactor().search)
    data, spans = text.encode(), []
    for begin, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
        spans += search.feed(data[begin:end], ())
    spans += search.feed(b"", (), is_end=True)
    kept, done = [], 0
    for span in spans:
        kept += [data[done : span.start], MARKER.encode() if span.rule else b""]
        done = span.end
    return b"".join([*kept, data[done:]]).decode()


@pytest.mark.parametrize("name", ALL)
def test_a_secret_is_masked_where_it_stands_and_what_is_around_it_stays(name: str) -> None:
    text, masked = ALL[name]
    secret, counts = value(), dict[str, int]()
    assert Redactor().text(text.format(secret), counts) == masked
    assert sum(counts.values()) == 1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.sampled(24, rest="thorough")
def test_a_document_that_quotes_it_stays_a_document(name: str, depth: int) -> None:
    text, secret = ALL[name][0].format(value()), ""
    masked = Redactor().text(text, {})
    for _ in range(depth):
        text, masked = json.dumps({"content": text}), json.dumps({"content": masked})
    assert json.loads(Redactor().json(text.encode(), {})) == json.loads(masked), secret


@pytest.mark.parametrize("name", ALL)
@pytest.mark.sampled(12, rest="thorough")
def test_where_a_text_is_cut_changes_nothing(name: str) -> None:
    text = "So: " + ALL[name][0].format(value()) + " and more.\n"
    whole = Redactor().text(text, {})
    for place in range(1, len(text)):
        assert in_pieces(text, place) == whole, text[:place]
    assert in_pieces(text, *range(1, len(text))) == whole


@pytest.mark.parametrize("name", ALL)
@pytest.mark.sampled(12, rest="thorough")
def test_a_stream_that_says_it_in_parts_shows_nothing_of_it(name: str) -> None:
    secret = value()
    text = ALL[name][0].format(secret) + " and more.\n"
    parts = [text[at : at + 3] for at in range(0, len(text), 3)]
    events = [
        b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": part}}]}).encode() for part in parts
    ]
    stream = StreamRedactor(Redactor(), "text/event-stream")
    pieces = [*stream.feed([event + b"\n\n" for event in events]).pieces, *stream.close().pieces]
    lines = [line for line in b"".join(pieces).splitlines() if line]
    said = "".join(json.loads(line[6:])["choices"][0]["delta"]["content"] for line in lines)
    assert len(pieces) == len(events)
    assert said == Redactor().text(text, {})
    messages = MessageRedactor(Redactor(), 1 << 20)
    told = [*messages.feed([event[6:] for event in events]).pieces, *messages.close().pieces]
    assert "".join(json.loads(message)["choices"][0]["delta"]["content"] for message in told) == said


def test_cookies_and_lists_and_objects_are_masked_as_a_whole() -> None:
    one, other = value(), value()
    document = {
        "headers": {"Cookie": f"theme=dark; sid={one}", "Set-Cookie": f"sid={other}; Path=/", "Accept": "*/*"},
        "api_keys": [one, other, "x"],
        "credentials": {"user": "me", "token": other},
    }
    clean = Redactor().json(json.dumps(document).encode(), counts := {})
    assert json.loads(clean) == {
        "headers": {"Cookie": MARKER, "Set-Cookie": MARKER, "Accept": "*/*"},
        "api_keys": [MARKER, MARKER, "x"],
        "credentials": {"user": "me", "token": MARKER},
    }
    assert counts == {"cookie": 2, "field": 3}


@pytest.mark.parametrize(
    "name",
    [
        "password", "passwords", "passwd", "passphrase", "pass", "db_pass", "user_pwd", "PGPASSWORD", "dbpassword",
        "secret", "secrets", "client_secret", "clientSecret", "token", "access_token", "sas_token",
        "auth", "x_auth", "authorization", "bearer", "jwt", "dsn", "pat", "personal_access_token", "api_key", "api-key",
        "api key", "apikey", "apikey_prod", "api_key_2", "API_KEYS", "x-api-key", "AccountKey", "SharedAccessKey",
        "encryption_key", "session_key", "private_key", "credential", "credentials", "connection_string",
        "connectionString", "mnemonic", "password2", "my_password_1", "aws_secret_access_key", "webhookSecret",
    ],
)  # fmt: skip
def test_members_that_are_secret_by_their_name(name: str) -> None:
    assert Redactor().json(json.dumps({name: value()}).encode(), {}) == json.dumps({name: MARKER}).encode()


@pytest.mark.parametrize("name", [
    "key", "value", "nonce", "seed", "salt", "pin", "signature", "tokens", "session", "session_id", "key_id",
    "token_type",
    "password_hash", "cache_key", "max_tokens", "next_page_token", "author", "otp_length", "credential_id",
])  # fmt: skip
def test_members_that_are_no_secrets_by_their_name(name: str) -> None:
    data = json.dumps({name: value()}).encode()
    assert Redactor().json(data, {}) is data


@pytest.mark.parametrize("name", [
    "password", "client_assertion", "code_verifier", "assertion", "device_code", "SAMLResponse", "otp", "sid", "ticket",
    "refresh_token", "code", "tokens_secret", "api_keys", "subscription-key", "secret_id", "sig", "pw",
])  # fmt: skip
def test_fields_of_forms_and_parameters_are_masked_whatever_they_hold(name: str) -> None:
    assert Redactor().form(f"grant_type=x&{name}=abc&scope=all", {}) == f"grant_type=x&{name}={MARKER}&scope=all"
    assert Redactor().url(f"/p?{name}=abc&z=1", {}) == f"/p?{name}={MARKER}&z=1"
    assert Redactor().url(f"/p;{name}=abc;v=1/q", {}) == f"/p;{name}={MARKER};v=1/q"
    part = f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n%s\r\n--x--'
    assert Redactor().multipart((part % "abc").encode(), {}) == (part % MARKER).encode()


@pytest.mark.parametrize("name", ["dpop", "x-otp", "x-api-keys", "x-auth-tokens", "x-tokens", "x-secrets", "signature"])
def test_headers_that_are_secret_by_their_name(name: str) -> None:
    assert Redactor().headers([(name, "ab")], {}) == [[name, MARKER]]


@pytest.mark.parametrize(
    "name",
    [
        "x-password-policy",
        "x-boarding-pass",
        "x-key-id",
        "x-amz-meta-key",
        "signature-input",
        "x-ratelimit-limit-tokens",
    ],
)
def test_headers_that_are_about_secrets_are_kept(name: str) -> None:
    assert Redactor().headers([(name, "value-1")], {}) == [[name, "value-1"]]


def test_a_url_within_a_url_hides_nothing() -> None:
    secret = value()
    url = f"/login?next=https%3A%2F%2Fh.example%2F%3Ftoken%3D{secret}&a=1"
    assert Redactor().url(url, {}) == f"/login?next=https%3A%2F%2Fh.example%2F%3Ftoken%3D{MARKER}&a=1"
    assert secret not in Redactor().url(url.replace("%", "%25"), {})
    assert secret not in Redactor().text(f"see https://h.example/?next=https://i.example/?access_token={secret}", {})


def test_what_was_masked_before_is_not_counted_again() -> None:
    for text, _ in ALL.values():
        once = Redactor().text(text.format(value()), {})
        assert Redactor().text(once, counts := {}) == once
        assert not counts


def passed(text: str) -> object:
    return Gate().body(text, "text/plain", is_json=False)


@pytest.mark.parametrize("part", [part.decode() for part in NAME_PARTS])
@pytest.mark.parametrize("after", ["", '"', "=", ":", " ", '":"', '":["', "\\"])
@pytest.mark.sampled(24, rest="thorough")
def test_time_grows_with_the_length_of_nothing_but_a_part_of_a_name(part: str, after: str) -> None:
    piece = part + after
    assert_linear(lambda size: passed((piece * (size // len(piece) + 1))[:size]), 20_000)


PIECES = ["a", '","', "a=b;", "@", ":", "\\", '\\"', "[", "{", " ", "=", "%41", "_", "a1_", "-", "aB", "1a", ".a"]


@pytest.mark.parametrize(
    "begin", ['"api_key":["', '"api_key": {', "api_key=", "https://", "Cookie: ", " -u a:", "<password>"]
)
@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.sampled(24, rest="thorough")
def test_time_grows_with_the_length_of_a_value(begin: str, piece: str) -> None:
    assert_linear(lambda size: passed(begin + (piece * (size // len(piece) + 1))[:size]), 20_000)
    assert_linear(lambda size: passed(begin + (piece * (size // len(piece) + 1))[:size] + "1!"), 20_000)
    assert_linear(lambda size: passed((begin + piece) * (size // 10)), 20_000)


DOCUMENTED = {
    "header `x-api-key: …`": ["test_headers_that_are_secret_by_their_name"],
    "header `Cookie`, `Set-Cookie`": ["test_cookies_of_headers_are_masked_whole"],
    "parameter `?api_key=…`, `#access_token=…`, `;token=…` of a URL that is known to be one": [
        "test_fields_of_forms_and_parameters_are_masked_whatever_they_hold", "test_a_url_within_a_url_hides_nothing",
    ],
    "user information `https://user:password@host` of such a URL": ["test_user_information_of_a_known_url_is_masked"],
    "field of a form, URL-encoded or multipart": ["test_fields_of_forms_and_parameters_are_masked_whatever_they_hold"],
    'member of JSON `"api_key": "…"`, also in JSON within strings': [
        "test_members_that_are_secret_by_their_name", "JSON in prose",
    ],
    'array `"api_keys": ["…"]`, object `"token": {"value": "…"}`': [
        "JSON with a plural", "JSON, object", "JSON, deep object", "JSON, objects in a list",
    ],
    '`{"name": "API_KEY", "value": "…"}`': ["environment list"],
    "`[\"x-api-key\", \"…\"]`, `define('KEY', '…')`": ["pair", "PHP"],
    "member or line `Cookie: a=…`": ["cookie", "test_cookies_and_lists_and_objects_are_masked_as_a_whole"],
    "`API_KEY=…`, `export`, `set`, `--api-key=…`, `.env`, INI, properties, `.npmrc`": [
        ".env", "shell", "cmd", "option", "INI", "properties", "npmrc",
    ],
    "`password: …`, YAML and lines of headers, `Authorization: Bearer …`": [
        "YAML", "header line", "Authorization, Bearer", "Authorization, Basic",
    ],
    "`api_key = \"…\"`, `'api_key': '…'`, code and TOML": ["Python", "Python, dict", "TOML"],
    "`API_KEY …` on a line: `set -gx`, `setenv`, `ENV`, `#define`, `--api-key …`, `PASSWORD '…'`": [
        "fish", "csh", "Dockerfile", "define", "option, blank", "option, quoted", "SQL", "nginx",
    ],
    "YAML `api_keys:` with a list, `password: \\|` with a block, `- name: API_KEY` with `value: …` below": [
        "YAML, list", "YAML, block", "YAML, folded", "YAML, name and value",
    ],
    "`<password>…</password>`": ["XML", "XML, namespace", "XML, attributes"],
    '`<add key="ApiKey" value="…"/>`, `<db password="…"/>`, `<property name="password">…</property>`': [
        "XML, key and value", "XML, attribute", "XML, property",
    ],
    "`machine … login … password …`": ["netrc"],
    "`Bearer …` in a text": ["Bearer in prose"],
    "`curl -u user:…`, `--user`": ["curl, user", "curl, long", "curl, cookie"],
    "`postgres://user:…@host`, any URL in a text": ["database", "cache", "git", "token alone"],
    "`https://host/?token=…`, any URL in a text": [
        "parameter", "last parameter", "key parameter", "signature", "code", "fragment", "matrix parameter",
    ],
    "`Password=…;`, `AccountKey=…;`": ["connection string", "account key"],
}  # fmt: skip


def test_cookies_of_headers_are_masked_whole() -> None:
    headers = [("Cookie", "a=b"), ("Set-Cookie", "a=b; Path=/")]
    assert Redactor().headers(headers, {}) == [["Cookie", MARKER], ["Set-Cookie", MARKER]]


def test_user_information_of_a_known_url_is_masked() -> None:
    assert Redactor().url("https://me:word@h.example/?a=1", {}) == f"https://{MARKER}@h.example/?a=1"


def test_every_row_of_the_documentation_is_held() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    table = page[page.index("### By position") :].split("\n\n")[2]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]
    assert rows == list(DOCUMENTED)
    for names in DOCUMENTED.values():
        for name in names:
            assert name in ALL or name in globals(), name


PLAINLY_NOT_MASKED = [
    "my password is {}", "the token is {}", "docker login -p {}", "mysql -uroot -p{}", "sshpass -p {} ssh h",
    '{{"pin": "{}"}}', '{{"key": "{}"}}', '{{"value": "{}", "name": "API_KEY"}}',
    "Passwort: {}", "password: correcthorse {}",
]  # fmt: skip


@pytest.mark.parametrize("text", PLAINLY_NOT_MASKED)
def test_what_the_documentation_says_is_not_masked_is_not(text: str) -> None:
    whole = text.format(value())
    assert Redactor().text(whole, {}) == whole
