"""Secrets in all they travel in, and what merely looks like them: made anew from a seed.

The forms are those of the vendors' documentation, described here on their own: nothing is taken from the package, so
that what its expressions miss comes to light. A case is one request with its response, and the one secret in it.

- A secret is a *known* value (the process has it in its environment) or one with a *shape* (sk-ant-…).
- A carrier is what it stands in: a header, a JSON document, the deltas of a stream.
- An encoding is how it is spelled there: as is, with JSON's escapes, in base64.
- A chunking is how a stream was cut: into pieces of the wire, and the text into deltas.
"""

from __future__ import annotations

import base64
import json
import string
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from provider_keys import (
    ALNUM,
    BASE64,
    DIGITS,
    HEX,
    KINDS,
    LOWER,
    NOT_IN_BASE64,
    ONLY_AS_ISSUED,
    URLSAFE,
    Random,
    random_uuid,
    run,
)

HOLE: Final = "@HOLE@"
"""Where the secret goes in a document that is put together first and spelled later."""

Header = tuple[bytes, bytes]


class Secret(NamedTuple):
    """``detector``: ``known`` or ``shape``; ``kind``: which of them."""

    detector: str
    kind: str
    value: str


class Case(NamedTuple):
    """One request with its response.

    ``spelled`` is how the secret stands in it; ``kept``: words beside the secret that must be there afterwards.
    """

    secret: Secret
    carrier: str
    encoding: str
    chunking: str
    url: str
    request_headers: list[Header]
    request: bytes
    response_headers: list[Header]
    response: list[bytes]
    kept: tuple[str, ...] = ()

    @property
    def cell(self) -> tuple[str, str, str, str]:
        return (self.secret.detector, self.carrier, self.encoding, self.chunking)


class Control(NamedTuple):
    """A harmless request with its response."""

    kind: str
    url: str
    request_headers: list[Header]
    request: bytes
    response_headers: list[Header]
    response: list[bytes]


# -- secrets ----------------------------------------------------------------------------------------------------------


def _known(rng: Random, alphabet: str, length: int) -> str:
    while True:
        value = run(rng, length, alphabet)
        if value.strip() == value:
            return value


KNOWN: Final[dict[str, Callable[[Random], str]]] = {
    "hex": lambda rng: run(rng, 32, HEX),
    "capital hex": lambda rng: run(rng, 64, HEX.upper()),
    "letters and digits": lambda rng: run(rng, 40),
    "short": lambda rng: run(rng, 12),
    "eight": lambda rng: run(rng, 8, LOWER + DIGITS),
    "digits": lambda rng: "7" + run(rng, 15, DIGITS),
    "base64": lambda rng: base64.b64encode(rng.randbytes(31)).decode(),
    "base64 with both": lambda rng: run(rng, 9, BASE64) + "/+" + run(rng, 20, BASE64) + "+/" + run(rng, 6) + "==",
    "quotes": lambda rng: run(rng, 9) + '"' + run(rng, 8) + "'" + run(rng, 9) + "`" + run(rng, 3),
    "backslashes": lambda rng: run(rng, 9) + "\\" + run(rng, 8) + "\\\\n" + run(rng, 9),
    "ampersands": lambda rng: run(rng, 9) + "&" + run(rng, 8) + "=<" + run(rng, 9) + ">?#%",
    "punctuation": lambda rng: run(rng, 8) + _known(rng, string.punctuation, 12) + run(rng, 8),
    "non-ascii": lambda rng: run(rng, 6) + "ä€" + run(rng, 6) + "密钥ß" + run(rng, 6),
    "emoji": lambda rng: run(rng, 10) + "🔑" + run(rng, 10),
    "uuid": random_uuid,
    "spaces": lambda rng: " ".join(run(rng, 5) for _ in range(5)),
    "slashes": lambda rng: "/".join(run(rng, 7) for _ in range(4)),
    "shaped": lambda rng: "sk-" + run(rng, 48),
    "hex, a dot, letters": lambda rng: f"{run(rng, 32, HEX)}.{run(rng, 16)}",  # Z.ai
    "dots": lambda rng: ".".join(run(rng, 12) for _ in range(3)),
    "url": lambda rng: f"dsn+{run(rng, 4)}://{run(rng, 5)}:{run(rng, 16)}@{run(rng, 9)}/{run(rng, 6)}",
    "long": lambda rng: run(rng, 600, URLSAFE),
}


def shaped(rng: Random, kind: str | None = None, *, one_line: bool = False) -> Secret:
    while True:
        name = kind or rng.choice(list(KINDS))
        if not one_line or name != "pem":
            return Secret("shape", name, KINDS[name][1](rng, rng.randrange(3)))


def known_values(rng: Random, each: int) -> list[Secret]:
    return [Secret("known", kind, make(rng)) for kind, make in KNOWN.items() for _ in range(each)]


# -- spellings --------------------------------------------------------------------------------------------------------


def _json_units(text: str, rng: Random, *, every: bool) -> str:
    units = text.encode("utf-16-be")
    form = rng.choice(("\\u%04x", "\\u%04X"))
    escapes = [form % ((units[at] << 8) + units[at + 1]) for at in range(0, len(units), 2)]
    if every:
        return "".join(escapes)
    return "".join(
        form % ord(letter) if ord(letter) < 0x10000 and rng.random() < 0.3 else json.dumps(letter)[1:-1]
        for letter in text
    )


def strange_json(text: str, rng: Random) -> str:
    """The inside of a JSON string whose characters are escaped or not, one by one, as far as JSON lets them."""

    def spelled(letter: str) -> str:
        if rng.random() < 0.3:
            return _json_units(letter, rng, every=True)
        if letter == "/" and rng.random() < 0.5:
            return "\\/"
        return json.dumps(letter, ensure_ascii=rng.random() < 0.5)[1:-1]

    return "".join(map(spelled, text))


JSON_SPELLINGS: Final[dict[str, Callable[[str, Random], str]]] = {
    "plain": lambda text, _rng: json.dumps(text, ensure_ascii=False)[1:-1],
    "json ascii": lambda text, _rng: json.dumps(text)[1:-1],
    "json \\u": lambda text, rng: _json_units(text, rng, every=True),
    "json some \\u": lambda text, rng: _json_units(text, rng, every=False),
    "json \\/": lambda text, _rng: json.dumps(text)[1:-1].replace("/", "\\/"),
}


def _base64(text: str, rng: Random, before: int, *, urlsafe: bool = False) -> str:
    data = bytes(rng.choices(ALNUM.encode(), k=before + 3 * rng.randrange(4))) + text.encode()
    data += b"" if rng.random() < 0.3 else b"\n" + bytes(rng.choices(ALNUM.encode(), k=rng.randrange(20)))
    encoded = base64.urlsafe_b64encode(data) if urlsafe else base64.b64encode(data)
    return encoded.decode().rstrip("=") if rng.random() < 0.5 else encoded.decode()


# A secret with a shape must not have a word run on into it.
def _base64_of_text(text: str, rng: Random, before: int) -> str:
    head = ("", "k ", "the key: ", '{"a": "', "user:")[rng.randrange(5)]
    head = " " * ((before - len(head)) % 3) + head
    return base64.b64encode((head + text + rng.choice(("", "\n", '"}', " and more"))).encode()).decode()


TEXT_SPELLINGS: Final[dict[str, Callable[[str, Random], str]]] = {
    "plain": lambda text, _rng: text,
    "percent": lambda text, _rng: quote(text, safe=""),
    "base64 +0": lambda text, rng: _base64(text, rng, 0),
    "base64 +1": lambda text, rng: _base64(text, rng, 1),
    "base64 +2": lambda text, rng: _base64(text, rng, 2),
    "base64url": lambda text, rng: _base64(text, rng, rng.randrange(3), urlsafe=True),
    "hex": lambda text, rng: text.encode().hex() if rng.random() < 0.5 else text.encode().hex().upper(),
}
SHAPE_SPELLINGS: Final = ("plain", "percent")
DECODED_VIEWS: Final[dict[str, Callable[[str, Random], str]]] = {
    f"base64 text +{before}": lambda text, rng, before=before: _base64_of_text(text, rng, before)  # type: ignore[misc]
    for before in range(3)
}
"""Secrets with a shape in a run of base64 that decodes to text."""

# -- what stands around -----------------------------------------------------------------------------------------------

AROUND: Final = (
    "{}",
    "the key is {} and nothing else",
    "{}\nis at the beginning",
    "at the end stands {}",
    "ends with a stop {}.",
    "({})",
    "[{}]",
    "<{}>",
    '"{}"',
    "'{}'",
    "`{}`",
    "``` \n{}\n```",
    "“{}”",
    "«{}»",
    "key={};",
    "KEY={}\n",
    "KEY={}\r\nOTHER=1\r\n",
    "export OPENAI_API_KEY={}",
    "export OPENAI_API_KEY='{}' && run",
    'api_key = "{}"',
    "api_key: {}",
    "api_key: '{}'  # yaml",
    'const client = new OpenAI({{ apiKey: "{}" }});',
    "client = OpenAI(api_key='{}')",
    'os.environ["OPENAI_API_KEY"] = "{}"',
    "[default]\naws_access_key_id={}\nregion=eu-west-1",
    '[auth]\ntoken = "{}"\n',
    "curl https://api.example.com -H 'Authorization: Bearer {}'",
    'curl -H "x-api-key: {}" https://api.example.com/v1',
    "curl -u {}: https://api.example.com/v1",
    "https://api.example.com/v1/models?key={}",
    "https://api.example.com/v1/models?a=1&key={}&b=2",
    "https://api.example.com/t/{}/files",
    "https://api.example.com/#access_token={}",
    "[the link](https://example.com/?token={})",
    "![image](https://example.com/{}.png)",
    "<a href='/x?token={}'>x</a>",
    "<td>{}</td>",
    "<!-- {} -->",
    "| name | {} |",
    "- {}\n- other",
    "> {}",
    "**{}**",
    "密钥是{}。",
    "キー「{}」です",
    "🔑{}🔑",
    "key→{}←",
    "2026-01-01T00:00:00Z INFO auth key={} status=200",
    '{{"level":"info","msg":"using {}"}}',
    "Traceback (most recent call last):\n  File \"/srv/a.py\", line 3\nValueError: bad key '{}'",
    "/home/app/.keys/{}/config",
    "C:\\keys\\{}\\x",
    "path\\n{}\\nend",
    "a\\t{}\\tb",
    "id:{}",
    "a,{},b",
    "a|{}|b",
    "a;{};b",
    "@{}",
    "#{}",
    "${}",
    "%{}%",
    "~{}~",
    "={}=",
    "!{}!",
    "...{}...",
    "-{}",
    "\x00{}\x00",
    "\t{}\t",
    "--key={} --verbose",
    "--key {}",
    "// {}",
    "/* {} */",
    "; {}",
    "{} {}",
    "{},{}",
    "{}\n{}",
    'first {} then again "{}"',
    "\u200b{}\u200b",
    "\ufeff{}",
    "\u00a0{}\u00a0",
    "Incorrect API key provided: {}. You can find your API key at https://example.com.",
    "<key>{}</key>",
    "&quot;{}&quot;",
    "env:\n  - name: API_KEY\n    value: {}\n",
    "SET KEY {}",
    "INSERT INTO t VALUES (1, '{}');",
    "redis-cli -a {} ping",
    "Set-Cookie: session={}; Path=/",
    "data: {}",
)
KEPT: Final = ("Sentence before. ", "\nSentence after.")


def around(rng: Random, hole: str = HOLE) -> str:
    text = rng.choice(AROUND).format(hole, hole)
    if rng.random() < 0.3:
        text = PROSE[rng.randrange(len(PROSE))] + "\n" + text
    if rng.random() < 0.3:
        text += "\n" + PROSE[rng.randrange(len(PROSE))]
    return text


PROSE: Final = (
    "The session timed out because the token had expired; ask the author for a new key, or reset the password.",
    "A cookie recipe: sugar, butter, a secret ingredient. No credentials needed.",
    "Please summarise the document below in three sentences, and keep the tone friendly.",
    "Ich brauche einen Schlüssel für die Tür. Das Passwort ist geheim, die Sitzung beendet.",
    "请总结下面的文件,不要泄露密码或令牌。会话已经结束了。",
    "Emoji are fine 🙂🔑🔒, and so is 日本語のテキスト。",
    "Tokens used: 1,024 of 128,000 (prompt_tokens=12, completion_tokens=88).",
)

# -- carriers of whole bodies -----------------------------------------------------------------------------------------

URL: Final = "https://api.openai.com/v1/chat/completions"
JSON_TYPE: Final = (b"content-type", b"application/json")


def _sent(secret: Secret, carrier: str, encoding: str, **parts: Any) -> Case:
    given: dict[str, Any] = {
        "url": URL,
        "request_headers": [],
        "request": b"",
        "response_headers": [JSON_TYPE],
        "response": [b'{"ok":true}'],
    }
    return Case(secret, carrier, encoding, "", **{**given, **parts})


def _document(rng: Random, carrier: str, text: str) -> Any:
    if carrier == "json":
        return {"model": "gpt-5", "messages": [{"role": "user", "content": text}]}
    if carrier == "json deep":
        value: Any = text
        for _ in range(rng.randrange(5, 40)):
            value = [value, 1] if rng.random() < 0.5 else {"a": None, rng.choice(("x", "text", "note")): value}
        return value
    if carrier == "json key":
        return {"model": "gpt-5", "metadata": {text: "on"}}
    if carrier == "json array":
        return {"input": ["first", text, "last"], "tools": []}
    if carrier == "json field":
        return {"config": {rng.choice(("api_key", "value", "note", "env", "url")): HOLE}}
    assert carrier in ("json in json", "json twice in json")
    inner = json.dumps({"command": "run", "text": text}, ensure_ascii=rng.random() < 0.5)
    if carrier == "json twice in json":
        inner = json.dumps({"arguments": inner, "n": 1}, ensure_ascii=rng.random() < 0.5)
    call = {"id": "call_1", "type": "function", "function": {"name": "run", "arguments": inner}}
    return {"model": "gpt-5", "messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}


_DEPTHS: Final = {"json in json": 1, "json twice in json": 2}
JSON_CARRIERS: Final = ("json", "json deep", "json key", "json array", "json field", *_DEPTHS)


def json_case(rng: Random, secret: Secret, carrier: str, encoding: str) -> Case:
    value = _document(rng, carrier, around(rng))
    document = json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, None, 1, 2)))
    if encoding in JSON_SPELLINGS:
        spelled = JSON_SPELLINGS[encoding](secret.value, rng)
    else:
        spelled = json.dumps((TEXT_SPELLINGS | DECODED_VIEWS)[encoding](secret.value, rng))[1:-1]
    for _ in range(_DEPTHS.get(carrier, 0)):
        spelled = json.dumps(spelled, ensure_ascii=False)[1:-1]
    body = document.replace(HOLE, spelled).encode()
    json.loads(body)
    if rng.random() < 0.5:
        return _sent(secret, carrier, encoding, request_headers=[JSON_TYPE], request=body)
    return _sent(secret, carrier, encoding, response=[body])


def text_case(rng: Random, secret: Secret, carrier: str, encoding: str) -> Case:
    spelled = (TEXT_SPELLINGS | DECODED_VIEWS)[encoding](secret.value, rng)
    body = around(rng).replace(HOLE, spelled).encode()
    kind = rng.choice((b"text/plain", b"text/html; charset=utf-8", b"text/markdown", b"application/xml", b""))
    if carrier == "text, cut":
        body = b"x " * 5000 + body
    if carrier == "binary":
        kind = rng.choice((b"application/octet-stream", b"application/x-protobuf", b"image/png"))
        body = b"\x89PNG\xff\xfe\x00" + rng.randbytes(40) + b"\x00" + body + b"\x00\xff" + rng.randbytes(40)
    headers = [(b"content-type", kind)] if kind else []
    if rng.random() < 0.5:
        return _sent(secret, carrier, encoding, request_headers=headers, request=body)
    return _sent(secret, carrier, encoding, response_headers=headers, response=[body])


def form_case(rng: Random, secret: Secret, carrier: str, encoding: str) -> Case:
    name = rng.choice(("text", "note", "key", "client_secret", "refresh_token", "body"))
    spelled = quote((TEXT_SPELLINGS | DECODED_VIEWS)[encoding](secret.value, rng), safe="")
    if encoding == "plain" and rng.random() < 0.3:
        spelled = "".join(f"%{byte:02x}" for byte in secret.value.encode())
    body = f"grant_type=client_credentials&{name}={spelled}&scope=all+of+it"
    kind = (b"content-type", b"application/x-www-form-urlencoded")
    return _sent(secret, carrier, encoding, request_headers=[kind], request=body.encode())


def multipart_case(rng: Random, secret: Secret, carrier: str, encoding: str) -> Case:
    spelled = (TEXT_SPELLINGS | DECODED_VIEWS)[encoding](secret.value, rng)
    line = rng.choice(("\r\n", "\r\n", "\n"))
    text = around(rng).replace(HOLE, spelled)
    file = rng.choice(("", '; filename="a.txt"'))
    body = (
        f'--b0undary{line}Content-Disposition: form-data; name="model"{line}{line}whisper{line}--b0undary{line}'
        f'Content-Disposition: form-data; name="prompt"{file}{line}{line}{text}{line}--b0undary--{line}'
    ).encode()
    if rng.random() < 0.5:
        body = b"--b0undary\r\ncontent-type: audio/wav\r\n\r\nRIFF\xff\xfe\x00\r\n" + body
    kind = (b"content-type", b"multipart/form-data; boundary=b0undary")
    return _sent(secret, carrier, encoding, request_headers=[kind], request=body)


def header_case(rng: Random, secret: Secret, carrier: str, encoding: str) -> Case:
    spelled = (TEXT_SPELLINGS | DECODED_VIEWS)[encoding](secret.value, rng).replace("\n", " ")
    name, form = rng.choice((
        ("authorization", "Bearer {}"), ("x-api-key", "{}"), ("api-key", "{}"), ("x-goog-api-key", "{}"),
        ("x-debug", "{}"), ("x-note", "used {} for it"), ("user-agent", "client/1.0 ({})"), ("x-trace", "a={};b=1"),
        ("cookie", "a=1; session={}"), ("referer", "https://example.com/?key={}"), ("x-forwarded-auth", "Bearer {}"),
        ("link", "<https://example.com/?token={}>; rel=next"), ("x-amz-security-token", "{}"),
    ))  # fmt: skip
    pair = (name.encode(), form.format(spelled).encode())
    if rng.random() < 0.7:
        return _sent(secret, carrier, encoding, request_headers=[JSON_TYPE, pair], request=b"{}")
    return _sent(secret, carrier, encoding, response_headers=[JSON_TYPE, pair])


def url_case(rng: Random, secret: Secret, carrier: str, encoding: str) -> Case:
    spelled = quote((TEXT_SPELLINGS | DECODED_VIEWS)[encoding](secret.value, rng), safe=rng.choice(("", "-._~")))
    if encoding == "plain" and rng.random() < 0.3:
        spelled = "".join(f"%{byte:02X}" for byte in secret.value.encode())
    form = {
        "url query": rng.choice((
            "https://api.example.com/v1?key={}", "https://api.example.com/v1?a=b&token={}&c=d",
            "https://api.example.com/v1?q=use%20{}", "https://api.example.com/v1?q=use+{}+now",
            "https://api.example.com/v1?u=https%3A%2F%2Fx.com%2F%3Fkey%3D{}", "https://api.example.com/v1?{}",
            "https://api.example.com/v1?{}=1",
        )),
        "url path": rng.choice((
            "https://api.example.com/v1/{}/models", "https://api.example.com/x/{}.json",
            "https://api.example.com/v1/keys;key={}", "https://api.example.com/{}",
        )),
        "url userinfo": rng.choice(("https://{}@api.example.com/v1", "https://user:{}@api.example.com/v1")),
        "url fragment": "https://api.example.com/v1#access_token={}",
    }[carrier]  # fmt: skip
    return _sent(secret, carrier, encoding, url=form.format(spelled))


# -- streams ----------------------------------------------------------------------------------------------------------

SSE: Final = b"text/event-stream"
AWS: Final = b"application/vnd.amazon.eventstream"


def _dump(rng: Random, value: object) -> str:
    separators = (",", ":") if rng.random() < 0.5 else (", ", ": ")
    return json.dumps(value, separators=separators, ensure_ascii=rng.random() < 0.5)


def _event(data: str, name: str = "", line: str = "\n") -> bytes:
    return f"{f'event: {name}{line}' if name else ''}data: {data}{line}{line}".encode()


def _openai_chat(rng: Random, index: int, text: str) -> bytes:
    choice = {"index": index, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "choices": [choice]}
    return _event(_dump(rng, value))


def _openai_reasoning(rng: Random, index: int, text: str) -> bytes:
    return _event(_dump(rng, {"choices": [{"index": index, "delta": {"reasoning_content": text}}]}))


def _openai_tools(rng: Random, index: int, text: str) -> bytes:
    call = {"index": index, "function": {"arguments": text}}
    return _event(_dump(rng, {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}))


def _openai_responses(rng: Random, index: int, text: str) -> bytes:
    value = {
        "type": "response.output_text.delta", "sequence_number": rng.randrange(999), "item_id": f"msg_{index}",
        "output_index": index, "content_index": 0, "delta": text, "logprobs": [],
    }  # fmt: skip
    return _event(_dump(rng, value), "response.output_text.delta")


def _responses_tools(rng: Random, index: int, text: str) -> bytes:
    value = {
        "type": "response.function_call_arguments.delta", "item_id": f"fc_{index}", "output_index": index,
        "delta": text, "obfuscation": run(rng, 9),
    }  # fmt: skip
    return _event(_dump(rng, value), "response.function_call_arguments.delta")


def _anthropic(rng: Random, index: int, text: str) -> bytes:
    value = {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}
    return _event(_dump(rng, value), "content_block_delta", rng.choice(("\n", "\r\n")))


def _anthropic_thinking(rng: Random, index: int, text: str) -> bytes:
    delta = {"type": "thinking_delta", "thinking": text}
    return _event(_dump(rng, {"type": "content_block_delta", "index": index, "delta": delta}), "content_block_delta")


def _anthropic_tools(rng: Random, index: int, text: str) -> bytes:
    delta = {"type": "input_json_delta", "partial_json": text}
    return _event(_dump(rng, {"type": "content_block_delta", "index": index, "delta": delta}), "content_block_delta")


def _gemini_value(index: int, text: str) -> dict[str, object]:
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": index}
    return {"candidates": [candidate], "usageMetadata": {"totalTokenCount": 12}, "modelVersion": "gemini-2.5-flash"}


def _gemini(rng: Random, index: int, text: str) -> bytes:
    return _event(_dump(rng, _gemini_value(index, text)), "", "\r\n")


def _gemini_array(rng: Random, index: int, text: str) -> bytes:
    return json.dumps(_gemini_value(index, text), indent=2, ensure_ascii=rng.random() < 0.5).encode() + b"\n,\r\n"


def _cohere(rng: Random, index: int, text: str) -> bytes:
    value = {"type": "content-delta", "index": index, "delta": {"message": {"content": {"text": text}}}}
    return _event(_dump(rng, value), "content-delta")


def _cohere_old(rng: Random, _index: int, text: str) -> bytes:
    return _dump(rng, {"is_finished": False, "event_type": "text-generation", "text": text}).encode() + b"\n"


def _completion(rng: Random, index: int, text: str) -> bytes:
    return _event(
        _dump(rng, {"id": "cmpl-1", "object": "text_completion", "choices": [{"index": index, "text": text}]})
    )


def _unknown(rng: Random, index: int, text: str) -> bytes:
    return _event(_dump(rng, {"seq": rng.randrange(99), "index": index, "payload": {"piece": text}}), "piece")


def _several_lines(rng: Random, index: int, text: str) -> bytes:
    lines = json.dumps({"index": index, "said": {"text": text}}, indent=1).splitlines()
    return "".join(f"data: {line}\n" for line in lines).encode() + b"\n"


def _ollama(rng: Random, _index: int, text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return _dump(rng, {"model": "llama", "created_at": "2026-01-01", "message": message}).encode() + b"\n"


def frame(payload: bytes) -> bytes:
    """A message of an AWS event stream."""
    name, value = b":event-type", b"chunk"
    headers = bytes([len(name)]) + name + b"\7" + struct.pack("!H", len(value)) + value
    head = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    head += struct.pack("!I", zlib.crc32(head))
    message = head + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


def frames(data: bytes) -> Iterator[bytes]:
    """The documents of an AWS event stream, those in base64 decoded."""
    while data:
        total, headers = struct.unpack_from("!II", data)
        payload = data[12 + headers : total - 4]
        data = data[total:]
        inner = json.loads(payload)
        yield base64.b64decode(inner["bytes"]) if "bytes" in inner else payload


def _converse(rng: Random, index: int, text: str) -> bytes:
    return frame(_dump(rng, {"contentBlockIndex": index, "delta": {"text": text}, "p": "abcdefg"}).encode())


def _bedrock(rng: Random, index: int, text: str) -> bytes:
    inner = {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}
    document = base64.b64encode(_dump(rng, inner).encode()).decode()
    return frame(json.dumps({"bytes": document, "p": run(rng, 5)}).encode())


STREAMS: Final[dict[str, tuple[bytes, Callable[[Random, int, str], bytes]]]] = {
    "sse openai chat": (SSE, _openai_chat),
    "sse openai reasoning": (SSE, _openai_reasoning),
    "sse openai tools": (SSE, _openai_tools),
    "sse openai responses": (SSE, _openai_responses),
    "sse responses tools": (SSE, _responses_tools),
    "sse completions": (SSE, _completion),
    "sse anthropic": (SSE, _anthropic),
    "sse anthropic thinking": (SSE, _anthropic_thinking),
    "sse anthropic tools": (SSE, _anthropic_tools),
    "sse gemini": (SSE, _gemini),
    "sse cohere": (SSE, _cohere),
    "sse unknown": (SSE, _unknown),
    "sse several lines": (SSE, _several_lines),
    "ndjson ollama": (b"application/x-ndjson", _ollama),
    "ndjson cohere": (b"application/x-ndjson", _cohere_old),
    "aws converse": (AWS, _converse),
    "aws bedrock": (AWS, _bedrock),
}
ONE_TEXT: Final = frozenset({"ndjson ollama", "ndjson cohere"})
CHUNKINGS: Final = ("whole", "per event", "one byte", "random")


def cut(rng: Random, data: bytes, events: list[bytes], chunking: str) -> list[bytes]:
    if chunking == "whole":
        return [data]
    if chunking == "per event":
        return events
    if chunking == "one byte":
        return [data[at : at + 1] for at in range(len(data))]
    pieces = []
    while data:
        size = rng.choice((1, 3, 17, 90, 400))
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def deltas(rng: Random, text: str, sizes: tuple[int, ...] = (1, 2, 4, 7, 20, 100_000)) -> list[str]:
    longest = rng.choice(sizes)
    parts = []
    while text:
        size = rng.randint(1, longest)
        parts.append(text[:size])
        text = text[size:]
    return parts


def stream_case(rng: Random, secret: Secret, carrier: str, encoding: str, chunking: str) -> Case:
    """The secret in the text of one choice, while another goes on with harmless text."""
    content_type, make = STREAMS[carrier]
    spelled = (TEXT_SPELLINGS | DECODED_VIEWS)[encoding](secret.value, rng)
    # By the byte, texts are short: every byte is a record.
    sizes = (7, 20, 100_000) if chunking == "one byte" else (1, 2, 4, 7, 20, 100_000)
    text = around(rng).replace(HOLE, spelled)
    if "tools" in carrier:
        text = json.dumps({"command": text}, ensure_ascii=rng.random() < 0.5)
    texts = {0: deltas(rng, text, sizes)}
    if carrier not in ONE_TEXT and rng.random() < 0.5:
        texts[1] = deltas(rng, rng.choice(PROSE), sizes)
    order = [index for index, parts in texts.items() for _ in parts]
    rng.shuffle(order)
    waiting = {index: iter(parts) for index, parts in texts.items()}
    events = [make(rng, index, next(waiting[index])) for index in order]
    if content_type == SSE and rng.random() < 0.5:
        events.append(b"data: [DONE]\n\n")
    pieces = cut(rng, b"".join(events), events, chunking)
    headers = [
        (b"content-type", content_type + rng.choice((b"", b"; charset=utf-8") if content_type == SSE else (b"",)))
    ]
    return _sent(secret, carrier, encoding, response_headers=headers, response=pieces)._replace(chunking=chunking)


# -- all the cells ----------------------------------------------------------------------------------------------------

_BODIES: Final[dict[str, Callable[[Random, Secret, str, str], Case]]] = {
    "text": text_case,
    "binary": text_case,
    "form": form_case,
    "multipart": multipart_case,
    "header": header_case,
    "url query": url_case,
    "url path": url_case,
    "url userinfo": url_case,
    "url fragment": url_case,
}


def _encodings(detector: str, *, json_body: bool, decoded_views: bool) -> list[str]:
    found = list(TEXT_SPELLINGS if detector == "known" else SHAPE_SPELLINGS)
    if json_body:
        found += [name for name in JSON_SPELLINGS if name != "plain"]
    if detector == "shape" and decoded_views:
        found += DECODED_VIEWS
    return found


def cases(rng: Random, known: list[Secret], per_cell: int, *, decoded_views: bool) -> Iterator[Case]:
    """Every cell, so many cases of each; kinds of secrets in turns."""
    kinds = _endless(rng, list(KINDS))
    values = _endless(rng, known)
    for detector, carrier, encoding, chunking in _cells(rng, per_cell, decoded_views=decoded_views):

        def fits(secret: Secret, encoding: str = encoding, carrier: str = carrier, chunking: str = chunking) -> bool:
            if encoding in DECODED_VIEWS and secret.kind in NOT_IN_BASE64:
                return False
            if secret.kind in ONLY_AS_ISSUED and (encoding == "percent" or carrier.startswith(("url", "form"))):
                return False
            # Of a URL in a header the password goes, and what tells where it leads stays.
            if carrier == "header" and secret.kind in ("pem", "url"):
                return False
            return chunking != "one byte" or len(secret.value) <= 400

        while True:
            secret = next(values) if detector == "known" else shaped(rng, next(kinds))
            if fits(secret):
                break
        if carrier in STREAMS:
            yield stream_case(rng, secret, carrier, encoding, chunking)
        elif carrier in JSON_CARRIERS:
            yield json_case(rng, secret, carrier, encoding)
        else:
            yield _BODIES[carrier](rng, secret, carrier, encoding)


def _cells(rng: Random, per_cell: int, *, decoded_views: bool) -> Iterator[tuple[str, str, str, str]]:
    for detector in ("known", "shape"):
        own = partial(_encodings, detector, decoded_views=decoded_views)
        for carrier in (*JSON_CARRIERS, *_BODIES):
            for encoding in own(json_body=carrier in JSON_CARRIERS):
                for _ in range(per_cell):
                    yield detector, carrier, encoding, ""
        for carrier in STREAMS:
            for chunking in CHUNKINGS:
                for _ in range(per_cell):
                    encoding = rng.choice(own(json_body=False)) if rng.random() < 0.4 else "plain"
                    yield detector, carrier, encoding, chunking


def _endless(rng: Random, items: list[Any]) -> Iterator[Any]:
    while True:
        rng.shuffle(items)
        yield from list(items)
