"""Harmless texts that look as if they held secrets, made anew from a seed."""

from __future__ import annotations

import base64
import hashlib
import json
import string
import uuid
from collections.abc import Callable, Iterator
from typing import Final

from provider_keys import ALNUM, HEX, LOWER, Random, run
from secrets_corpus import JSON_TYPE, PROSE, SSE, STREAMS, URL, Control, cut, deltas

WORDS: Final = [
    "task",
    "risk",
    "desk",
    "disk",
    "mask",
    "flask",
    "kiosk",
    "token",
    "secret",
    "session",
    "password",
    "key",
    "author",
    "cookie",
    "bearer",
    "basic",
    "auth",
    "access",
    "api",
    "public",
    "private",
    "client",
    "server",
    "model",
    "request",
    "response",
    "stream",
    "management",
    "system",
    "edition",
    "utility",
    "final",
    "version",
]


LOOK_ALIKES: Final = r"""
sk-SK-slovak-locale-variant
sk-learn-estimators-and-pipelines-2024-edition
sk-ant-your-api-key-goes-here
sk-proj-Your-Project-Key-Goes-Here-Please-2025
task-proj-2024-planning-of-the-migration-to-version-4
ASIAPACIFICREGION1234X
ASIAPACIFICREGIONALOFFICES
AKIA-IS-A-PREFIX
jina_embeddings_v3_text_matching_base_en_2024
jina_embeddings_v3_QuantizedInt8_with_MatryoshkaDimensions_1024
xoxo-hugs-and-kisses-from-all-of-us-2024
xapp-name-is-registered-in-the-Console-2024
pcsk_9_inhibitors_lower_LDL_cholesterol_in_most_patients_2023
re_compile_the_pattern_2_times_Please_and_thanks
re_exports12_aModuleOfThatLengthHere
dp.state.machine.Transition2024
glpat-Your-Token-Goes-Here-2024
gldt-deploy-token-for-the-Staging-2-cluster
hvs.The-Token-Of-Vault-Goes-Here-2024-01
hf_transformersmodelconfigurationutilities
tr_dev_environment_of_the_Team
key-value-store-of-the-cluster
key_of_the_translation_table_in_the_database
ops_team_on_call_rotation_for_the_second_quarter_of_2024
secret_of_the_old_house_by_the_lake
pat-on-the-back
pul-request-review-for-the-platform-team
AccountKey=YOUR_ACCOUNT_KEY
Endpoint=sb://x/;SharedAccessKey=<your key>
AccessKey=${KEY}
whsec_your_signing_secret_goes_here
EAAAAAAAAAAAAAAAAAAAA
pa-responsive-grid-Layout-with-12-Columns-and-Gutters
fc-cache -f -v
tid=42;exp=never
A3-paper-size
12:AA:34:BB:56:CC
1234567890:AA is how it begins
/webhooks/github/payload-from-the-organisation
hooks.slack.com/services/your/webhook/url
squ_are_the_circle
phx_the_city_in_Arizona_has_1_million_people_or_more
figd_esign_tokens_of_the_Library_2024_in_colour
NRAL
LTAIlongtermassistance
sb_secret_of_the_Project_goes_here_2024_01
in three 8Q~ words
d1-us2
en-us1
napi_create_reference_and_the_rest_of_Node_API_version_9
dbtc_command_line_tools_for_the_Warehouse_2024_team
EAACH_OTHER_IS_HOW_PEOPLE_HELP
vcr_cassettes_Recorded_with_the_Version_6_of_the_library
dckr_pat_goes_here_in_your_Configuration_2_or_3
e2b_sandbox_template_for_the_Agents
rpa_robotic_process_automation_tools
https://pscale_x/pscale_tkn_goes_here_in_the_dashboard_of_yours
SG.Some-Longer-Namespace.of-the-Component-Library-in-Version-12
mdb_sa_sk_is_the_Prefix_of_a_Secret_of_Atlas_Service_Accounts_2024
eyJrIjoi
sk.eyJ1Ijoi
ops_eyJ
-eyJ.eyJ.eyJ
crsr_position
gsk_pharmaceuticals
ATBBank
HRKU-lele
re_
sk-
xai-explainability-for-Tabular-data-in-2024-and-later-years
""".strip().splitlines()
"""What begins like a key, and is made of words, or is too short."""


def _slug(rng: Random) -> str:
    words = [rng.choice(("task", "risk", "desk", "disk", "mask", "sk", "ask", "flask"))]
    words += rng.choices(WORDS, k=rng.randint(2, 6))
    return "-".join(words)


def _uuid(rng: Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _image(rng: Random) -> str:
    kind = rng.choice(("png", "jpeg", "webp", "gif"))
    return f"data:image/{kind};base64,{base64.b64encode(rng.randbytes(rng.randrange(500, 9000))).decode()}"


def _minified(rng: Random) -> str:
    name = lambda: run(rng, rng.randint(1, 3), string.ascii_letters)  # noqa: E731  # said thrice on one line
    parts = [f'function {name()}({name()},{name()}){{return {name()}.key||{name()}["token"]?{name()}:null}}']
    parts += [f"var {name()}={{password:{name()},token:void 0,apiKey:{name()}.{name()}}};" for _ in range(5)]
    parts += [f'{name()}.setRequestHeader("Authorization","Bearer "+{name()}.accessToken);' for _ in range(3)]
    return "!function(){" + "".join(parts) + "}();//# sourceMappingURL=app." + run(rng, 8, HEX) + ".js.map"


def _usage(rng: Random) -> str:
    return json.dumps({
        "usage": {
            "prompt_tokens": rng.randrange(10**6), "completion_tokens": 12, "total_tokens": 10**9 + 7,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0}, "cache_creation_input_tokens": 2048,
        },
        "max_tokens": 4096, "token_type": "bearer", "stop_token": "<|endoftext|>", "token": " Hello", "logprob": -0.1,
        "tokenizer": "cl100k_base", "key": "value", "finish_reason": "stop", "id": f"chatcmpl-{run(rng, 29)}",
    })  # fmt: skip


def _schema(_rng: Random) -> str:
    return json.dumps({
        "type": "function",
        "function": {
            "name": "create_account",
            "parameters": {
                "type": "object",
                "properties": {
                    "password": {"type": "string", "description": "At least 12 characters.", "minLength": 12},
                    "api_key": {"type": "string", "description": "Your API key."},
                    "token": {"type": ["string", "null"], "default": None},
                    "secret": {"$ref": "#/$defs/Secret"},
                    "authorization": {"enum": ["required", "optional", "none"]},
                    "private_key": {"type": "string", "format": "password", "example": "string"},
                },
                "required": ["password", "api_key", "client_secret", "access_token"],
            },
        },
    })  # fmt: skip


def _placeholders(rng: Random) -> str:
    return "\n".join([
        "Set `OPENAI_API_KEY=sk-...` in your environment, or `sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`.",
        "export ANTHROPIC_API_KEY=YOUR_API_KEY",
        "api_key: <your-api-key>",
        'client = OpenAI(api_key="YOUR_API_KEY")',
        "Authorization: Bearer <token>",
        "Authorization: Bearer $OPENAI_API_KEY",
        "Authorization: Bearer ${TOKEN}",
        "Authorization: Bearer {{ token }}",
        "-H 'Authorization: Bearer YOUR_ACCESS_TOKEN_GOES_HERE'",
        "x-api-key: your-api-key-here",
        '{"api_key": "your-api-key", "password": "********", "client_secret": "REPLACE_ME", "token": "string"}',
        "sk-your-api-key-goes-here-please-and-thank-you",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx is what a token of GitHub looks like",
        "wrap it in -----BEGIN PRIVATE KEY----- and -----END PRIVATE KEY----- lines, the header comes first",
        "it begins with `-----BEGIN RSA PRIVATE KEY-----` as a rule: keep it safe",
        "AIza... and AKIA... and hf_... are prefixes; so are xoxb- and glpat- and -----BEGIN CERTIFICATE-----",
        "postgres://user:password@localhost:5432/db and redis://localhost:6379/0 and https://user:pass@example.com/",
        "mongodb+srv://<username>:<password>@cluster0.mongodb.net/?retryWrites=true",
        "amqp://guest:guest@localhost:5672// and mysql://root:${DB_PASSWORD}@db/app",
        f"https://example.com/docs/{_slug(rng)}/{_uuid(rng)}?page=2",
    ])  # fmt: skip


def _python(_rng: Random) -> str:
    return "\n".join([
        'client = OpenAI(api_key=os.environ["OPENAI_API_KEY"], timeout=30)',
        'headers = {"Authorization": f"Bearer {token}", "x-api-key": settings.api_key, "api-key": key}',
        'password = getpass.getpass("Password: ")',
        'token = request.headers.get("authorization", "").removeprefix("Bearer ")',
        "def verify(password: str, secret_key: bytes = SECRET_KEY) -> bool:",
        '    return hmac.compare_digest(hashlib.sha256(password.encode()).hexdigest(), user["password_hash"])',
        'api_key: str | None = Field(default=None, alias="OPENAI_API_KEY")',
        'config = {"token": None, "secret": os.getenv("SECRET"), "password": "", "key": sort_key}',
        "max_tokens = min(limits.max_tokens, 4096)  # tokens, not secrets",
        'raise ValueError("api_key must be a string of 32 characters or more")',
        "const apiKey = process.env.OPENAI_API_KEY; const token = await getToken({ refresh: true });",
        "curl -H \"Authorization: Bearer $TOKEN\" -u \"$USER:$PASSWORD\" https://api.example.com/v1/models",
        "if (!secretKey) throw new Error('secretKey is required');",
        'SECRET_KEY = config("SECRET_KEY", default="change-me-in-production")',
    ])  # fmt: skip


def _css(_rng: Random) -> str:
    return (
        '<div class="sk-top-container"><input class="sk-toggleable__control sk-hidden--visually" id="sk-estimator-1">'
        '<label class="sk-toggleable__label sk-toggleable__label-arrow" for="sk-estimator-1">Regression</label>'
        '<a class="sk-estimator-doc-link fitted" href="#"></a></div><style>#sk-container-id-12 div.sk-parallel-item'
        "{display:flex} .sk-fading-circle .sk-circle12:before{animation-delay:-0.1s} .fw-semibold{} .hf-input{} "
        ".sk-cube-grid-with-a-long-name{} .pa-0{} .pa-responsive-md-12{}</style>"
    )


def _hashes(rng: Random) -> str:
    digest = hashlib.sha256(rng.randbytes(9)).hexdigest()
    return "\n".join([
        f"commit {run(rng, 40, HEX)}", f"sha256:{digest}", f"index {run(rng, 7, HEX)}..{run(rng, 7, HEX)} 100644",
        f'integrity="sha512-{base64.b64encode(rng.randbytes(64)).decode()}"', f"md5 = {run(rng, 32, HEX)}",
        f"docker pull ghcr.io/a/b@sha256:{digest}", f"uuid {_uuid(rng)}", f"etag W/\"{run(rng, 32, HEX)}\"",
        f"call_{run(rng, 24)} msg_{run(rng, 24)} toolu_{run(rng, 24)} req_{run(rng, 24)} resp_{run(rng, 48, HEX)}",
        f"trace 00-{run(rng, 32, HEX)}-{run(rng, 16, HEX)}-01", f"fp_{run(rng, 10, HEX)} file-{run(rng, 24)}",
        f"cache key v1-{run(rng, 40, HEX)}", f"run-{_uuid(rng)} thread_{run(rng, 24)} asst_{run(rng, 24)}",
        f"{run(rng, 32, HEX)}.{rng.choice(('js', 'css', 'bundle'))}", f"static/{run(rng, 32, HEX)}.woff2",
    ])  # fmt: skip


def _log(rng: Random) -> str:
    return "\n".join(
        json.dumps({
            "level": "info", "msg": "token refreshed", "session_id": _uuid(rng), "user": "author", "tokens": 812,
            "auth": "ok", "auth_type": "bearer", "key_id": "primary", "password_changed": False, "token_count": 12,
            "cache_key": f"user:{rng.randrange(10**6)}:profile", "trace_id": run(rng, 32, HEX), "path": "/v1/keys",
        })
        for _ in range(3)
    )  # fmt: skip


def _files(rng: Random) -> str:
    return "\n".join([
        "src/auth/token_store.py", "docs/api-keys-and-secrets.md", "keys/README.md", f"dist/app.{run(rng, 8, HEX)}.js",
        "sk-learn-estimators-and-pipelines-2024-edition.pdf", f"{_slug(rng)}.tar.gz", "tests/test_password_reset.py",
        "desk-booking-system-2025-v2", f"{_slug(rng)}-2024", "npm_config_registry", "npm_package", "hf_hub_download",
        "xai-explainability-methods-for-tabular-data", "/etc/ssl/private/key.pem", "age-of-empires", "r8_optimizer",
        "SG.UI.Components.Buttons.PrimaryButton.Style", "fc-cache -f -v", "pa-11-accessibility", "key-value-store",
    ])  # fmt: skip


def _numbers(rng: Random) -> str:
    digits = string.digits
    return "\n".join([
        f"1:AAPL 2:AAA 12:AA:34:BB {run(rng, 10, digits)}:{run(rng, 3, digits)}", "aa:bb:cc:dd:ee:ff",
        f"SHA256:{base64.b64encode(rng.randbytes(32)).decode()[:43]}", "10:00 - 11:30", f"v{run(rng, 3, digits)}.4.5",
        f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{run(rng, 43)} me@host",
        f"bitcoin:bc1q{run(rng, 38, LOWER)}", f"isbn {run(rng, 13, digits)}", f"0x{run(rng, 40, HEX)}",
    ])  # fmt: skip


def _base64_text(rng: Random) -> str:
    text = "\n".join(rng.choices(PROSE, k=3))
    return (
        "Attached: " + base64.b64encode(text.encode()).decode() + " and " + base64.b64encode(rng.randbytes(90)).decode()
    )


def _certificate(rng: Random) -> str:
    lines = "\n".join(base64.b64encode(rng.randbytes(48)).decode() for _ in range(12))
    dashes = "-" * 5
    return f"{dashes}BEGIN CERTIFICATE{dashes}\n{lines}\n{dashes}END CERTIFICATE{dashes}\n"


def _positions(rng: Random) -> str:
    """What stands where a secret could: types, references, placeholders, names of things."""
    names = "password", "api_key", "token", "client_secret", "authToken", "OPENAI_API_KEY", "apiKey", "secret"
    code = (
        "str", "string;", "Optional[str] = None", 'os.environ["X"]', "process.env.TOKEN", "getpass.getpass()", "key1()",
        "settings.api_key_v2", "secrets.token_hex(16)", "config['key1']", "self._token2", "None", "true",
    )  # fmt: skip
    texts = (
        "${TOKEN}", "$TOKEN", "<your-key>", "{{ token }}", "%(token)s", "changeme", "xxxx", "***", "YOUR_API_KEY",
        "your-api-key-2", "/run/secrets/db_1", "...", "vault:secret/data/app1", "file:///etc/key1.pem", "REDACTED",
        "https://example.com/v1/2024", "sk-...", "~/.ssh/id_ed25519", "lm-studio", "os.environ/KEY_1", "none",
    )  # fmt: skip
    bare = "{}: {}", "{}={}", "{} = {}", "self.{} = {}", "run({}={})"
    other = (
        '{} = "{}"', "'{}': '{}'", '{{"{}": "{}"}}', "export {}={}", "--{}={}", "<{}>{}</a>", '["{}", "{}"]',
        "?{}={}&page=2",
    )  # fmt: skip
    lines = [rng.choice(bare).format(rng.choice(names), rng.choice(code)) for _ in range(6)]
    return "\n".join(
        [*lines, *(rng.choice(bare + other).format(rng.choice(names), rng.choice(texts)) for _ in range(6))]
    )


KINDS: Final[dict[str, Callable[[Random], str]]] = {
    "prose": lambda rng: "\n".join(rng.choices(PROSE, k=4)),
    "slugs": lambda rng: " ".join(_slug(rng) for _ in range(20)),
    "image": lambda rng: f"![chart]({_image(rng)})",
    "minified": _minified,
    "usage": _usage,
    "schema": _schema,
    "placeholders": _placeholders,
    "code": _python,
    "positions": _positions,
    "css": _css,
    "hashes": _hashes,
    "logs": _log,
    "files": _files,
    "look-alikes": lambda rng: " ".join(rng.choices(LOOK_ALIKES, k=20)),
    "numbers": _numbers,
    "base64 of text": _base64_text,
    "certificate": _certificate,
    "identifiers": lambda rng: " ".join(
        f"{rng.choice(('get', 'set', 'make'))}_{'_'.join(rng.choices(WORDS, k=3))}({run(rng, 5, LOWER)})"
        for _ in range(20)
    ),
    "random words": lambda rng: " ".join(run(rng, rng.randint(2, 12), LOWER) for _ in range(200)),
    "base64 blob": lambda rng: base64.b64encode(rng.randbytes(6000)).decode(),
    "alphanumeric ids": lambda rng: " ".join(run(rng, rng.choice((8, 12, 22, 24, 26)), ALNUM) for _ in range(30)),
}


def controls(rng: Random, per_kind: int) -> Iterator[Control]:
    """Each kind of text in a request's JSON, JSON within JSON, as text, and in a stream."""
    for kind, make in KINDS.items():
        for _ in range(per_kind):
            text = make(rng)
            document = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=rng.random() < 0.5)
            yield Control(kind, URL, [JSON_TYPE], document.encode(), [JSON_TYPE], [document.encode()])
            nested = json.dumps({"arguments": json.dumps({"text": text})})
            plain = [(b"content-type", b"text/plain")]
            yield Control(kind, URL, [JSON_TYPE], nested.encode(), plain, [text.encode()])
            content_type, event = STREAMS[rng.choice(list(STREAMS))]
            events = [event(rng, 0, part) for part in deltas(rng, text[:3000])]
            chunking = rng.choice(("whole", "per event", "random") if content_type == SSE else ("whole", "per event"))
            pieces = cut(rng, b"".join(events), events, chunking)
            yield Control(kind, URL, [JSON_TYPE], b"{}", [(b"content-type", content_type)], pieces)
