"""Who may use the operator's keys, as a function: a request's head in, a decision out."""

from __future__ import annotations

import base64
import secrets

import pytest
from hypothesis import given, strategies as st

from otel_wirecap.errors import ConfigurationError
from otel_wirecap.proxy.access import Access, Arrival, Passage, Refusal
from otel_wirecap.proxy.authority import is_loopback, parsed_authority, parsed_origin
from otel_wirecap.proxy.client_token import checked_token
from otel_wirecap.proxy.headers import sent_credentials

LOOPBACK = ("127.0.0.1", 4000)
TOKEN = secrets.token_urlsafe(32).encode()
OWN = [(b"Host", b"localhost:4000")]
PAGE = (b"Origin", b"https://app.example")
KEY, NO_KEY = True, False


def unnamed(value):
    """The name of a parameter that holds the token, which is another one in each process."""
    return type(value).__name__ if isinstance(value, bytes) else None


def access(*, hosts=(), origins=(), token=None) -> Access:
    return Access(token, frozenset(map(parsed_authority, hosts)), frozenset(map(parsed_origin, origins)))


def decide(rules, headers, *, server=LOOPBACK, method="POST", path=b"/v1/x", query=b"", has_key=True, header=""):
    arrival = Arrival(server, method, path, query, headers)
    return rules.decide(arrival, header or "authorization", has_key=has_key)


def short(decision):
    """A decision as the tables have it: whether a key is added, or the refusal's status and code."""
    return decision.adds_key if isinstance(decision, Passage) else (decision.status, decision.code)


HOST, ORIGIN = (403, "host_not_allowed"), (403, "origin_not_allowed")


@pytest.mark.parametrize(
    ("server", "hosts", "allowed", "expected"),
    [
        (LOOPBACK, ["127.0.0.1:4000"], [], KEY),
        (LOOPBACK, ["localhost:4000"], [], KEY),
        (LOOPBACK, ["LocalHost:4000"], [], KEY),
        (LOOPBACK, ["localhost.:4000"], [], KEY),
        (LOOPBACK, ["[::1]:4000"], [], KEY),
        (LOOPBACK, ["[0:0:0:0:0:0:0:1]:4000"], [], KEY),
        (LOOPBACK, ["[::0001]:4000"], [], KEY),
        (("::1", 4000), ["localhost:4000"], [], KEY),
        (("::ffff:127.0.0.1", 4000), ["127.0.0.1:4000"], [], KEY),
        (("127.0.0.2", 4000), ["127.0.0.2:4000"], [], KEY),
        (LOOPBACK, ["127.0.0.2:4000"], [], HOST),
        (LOOPBACK, ["localhost:4001"], [], HOST),
        (LOOPBACK, ["localhost"], [], HOST),
        (("127.0.0.1", 80), ["localhost"], [], KEY),
        (("127.0.0.1", 80), ["[::1]"], [], KEY),
        (LOOPBACK, ["attacker.example:4000"], [], HOST),
        (LOOPBACK, ["localhost.attacker.example:4000"], [], HOST),
        (LOOPBACK, ["127.1:4000"], [], HOST),
        (LOOPBACK, ["2130706433:4000"], [], HOST),
        (LOOPBACK, ["::1:4000"], [], HOST),
        (LOOPBACK, ["[::1:4000"], [], HOST),
        (LOOPBACK, ["[::1%25lo]:4000"], [], HOST),
        (LOOPBACK, ["user@localhost:4000"], [], HOST),
        (LOOPBACK, ["localhost:4000/"], [], HOST),
        (LOOPBACK, ["localhost:"], [], HOST),
        (LOOPBACK, ["localhost:04000"], [], KEY),
        (LOOPBACK, ["localhost:99999"], [], HOST),
        (LOOPBACK, ["localhost:4000, attacker.example"], [], HOST),
        (LOOPBACK, [""], [], HOST),
        (LOOPBACK, ["."], [], HOST),
        (LOOPBACK, ["löcalhost:4000"], [], HOST),
        (LOOPBACK, [], [], HOST),
        (LOOPBACK, ["localhost:4000", "localhost:4000"], [], HOST),
        (LOOPBACK, ["localhost:4000", "attacker.example"], [], HOST),
        (LOOPBACK, ["llm.example"], ["llm.example"], KEY),
        (LOOPBACK, ["LLM.example.:4000"], ["llm.example"], KEY),
        (LOOPBACK, ["llm.example:8443"], ["llm.example"], KEY),
        (LOOPBACK, ["llm.example:8443"], ["llm.example:8443"], KEY),
        (LOOPBACK, ["llm.example"], ["llm.example:80"], KEY),
        (LOOPBACK, ["llm.example"], ["llm.example:8443"], HOST),
        (LOOPBACK, ["other.example"], ["llm.example"], HOST),
        (LOOPBACK, ["x.llm.example"], ["llm.example"], HOST),
        (LOOPBACK, ["[fd00::1]:4000"], ["[FD00:0::1]"], KEY),
        (("192.168.1.5", 4000), ["192.168.1.5:4000"], [], KEY),
        (("192.168.1.5", 4000), ["localhost:4000"], [], HOST),
        (None, ["localhost:4000"], [], HOST),
        (None, ["localhost:4000"], ["localhost"], KEY),
        (("/run/proxy.sock", None), ["localhost"], [], HOST),
    ],
)
def test_a_key_is_added_where_the_host_is_the_proxys(server, hosts, allowed, expected):
    headers = [(b"Host", host.encode("latin-1")) for host in hosts]
    assert short(decide(access(hosts=allowed), headers, server=server)) == expected


@pytest.mark.parametrize(
    ("origins", "sites", "allowed", "expected"),
    [
        ([], [], [], KEY),
        ([], ["same-origin"], [], KEY),
        ([], ["none"], [], KEY),
        ([], ["Same-Origin"], [], KEY),
        ([], ["same-site"], [], ORIGIN),
        ([], ["cross-site"], [], ORIGIN),
        ([], [""], [], ORIGIN),
        ([], ["none", "cross-site"], [], ORIGIN),
        (["http://localhost:4000"], [], [], KEY),
        (["HTTP://LOCALHOST:4000"], ["same-origin"], [], KEY),
        (["https://localhost:4000"], [], [], KEY),
        (["http://127.0.0.1:4000"], [], [], ORIGIN),
        (["http://localhost:3000"], ["same-site"], [], ORIGIN),
        (["http://localhost"], [], [], ORIGIN),
        (["http://localhost:4000"], ["cross-site"], [], ORIGIN),
        (["https://app.example"], [], [], ORIGIN),
        (["null"], [], [], ORIGIN),
        ([""], [], [], ORIGIN),
        (["app.example"], [], ["https://app.example"], ORIGIN),
        (["ftp://localhost:4000"], [], [], ORIGIN),
        (["https://app.example"], ["cross-site"], ["https://app.example"], KEY),
        (["https://app.example"], ["same-site"], ["https://APP.example:443"], KEY),
        (["https://app.example"], ["unheard-of"], ["https://app.example"], KEY),
        (["http://app.example"], [], ["https://app.example"], ORIGIN),
        (["https://app.example:8443"], [], ["https://app.example"], ORIGIN),
        (["https://app.example.evil.example"], [], ["https://app.example"], ORIGIN),
        (["https://x.app.example"], [], ["https://app.example"], ORIGIN),
        ([], ["cross-site"], ["https://app.example"], ORIGIN),
        (["https://app.example", "https://evil.example"], [], ["https://app.example"], ORIGIN),
        (["https://app.example, https://evil.example"], [], ["https://app.example"], ORIGIN),
        (["https://app.example", "http://localhost:4000"], [], ["https://app.example"], KEY),
        (["https://app.example", "http://localhost:4000"], ["cross-site"], ["https://app.example"], ORIGIN),
        (["vscode-webview://abc"], ["cross-site"], ["vscode-webview://abc"], KEY),
    ],
)
def test_a_key_is_added_for_no_other_sites_page(origins, sites, allowed, expected):
    headers = [*OWN, *((b"origin", value.encode()) for value in origins)]
    headers += [(b"Sec-Fetch-Site", value.encode()) for value in sites]
    assert short(decide(access(origins=allowed), headers)) == expected


def test_an_allowed_page_still_needs_the_proxys_host():
    rules = access(origins=["https://app.example"])
    assert short(decide(rules, [(b"Host", b"attacker.example:4000"), PAGE])) == HOST


def test_a_page_on_an_allowed_host_is_the_proxys_own_over_https_too():
    rules = access(hosts=["llm.example"])
    headers = [(b"Host", b"llm.example"), (b"Origin", b"https://llm.example"), (b"Sec-Fetch-Site", b"same-origin")]
    assert short(decide(rules, headers)) == KEY
    assert short(decide(rules, [*headers[:1], (b"Origin", b"https://llm.example:8443")])) == ORIGIN


EVIL = [(b"Host", b"attacker.example"), (b"Origin", b"https://evil.example"), (b"Sec-Fetch-Site", b"cross-site")]


@pytest.mark.parametrize(
    ("headers", "query", "has_key"),
    [
        ([*EVIL, (b"Authorization", b"Bearer mine")], b"", True),
        ([*EVIL, (b"x-API-key", b"mine")], b"", True),
        (EVIL, b"alt=sse&key=mine", True),
        ([], b"", False),
        (EVIL, b"", False),
    ],
)
def test_where_no_key_would_be_added_nothing_is_checked_or_changed(headers, query, has_key):
    assert decide(access(), headers, query=query, has_key=has_key) == Passage(headers, query, adds_key=False)


PREFLIGHT = (b"Access-Control-Request-Method", b"POST")


@pytest.mark.parametrize("rules", [access(), access(origins=["https://app.example"]), access(token=TOKEN)])
def test_a_preflight_passes_without_a_key_whatever_is_allowed(rules):
    headers = [*OWN, PAGE, PREFLIGHT]
    assert decide(rules, headers, method="OPTIONS") == Passage(headers, b"", adds_key=False)
    assert decide(access(), [*EVIL, PREFLIGHT], method="OPTIONS") == Passage([*EVIL, PREFLIGHT], b"", adds_key=False)


def test_options_without_a_preflights_header_and_the_header_without_options_are_ordinary_requests():
    rules = access(origins=["https://app.example"])
    assert short(decide(rules, [*OWN, PAGE], method="OPTIONS")) == KEY
    assert short(decide(rules, [*OWN, PAGE, PREFLIGHT])) == KEY
    assert short(decide(access(), EVIL, method="OPTIONS")) == HOST


BEARER = (b"Authorization", b"Bearer " + TOKEN)
BASIC = (b"Authorization", b"Basic " + base64.b64encode(b"user:" + TOKEN))
MISSING = (401, "client_token_missing")
OTHER = (b"X-Other", b"1")


@pytest.mark.parametrize(
    ("headers", "query", "expected", "left", "left_query"),
    [
        # the token in place of a key
        ([BEARER, OTHER], b"", KEY, [OTHER], b""),
        ([(b"authorization", b"bearer   " + TOKEN)], b"", KEY, [], b""),
        ([(b"Authorization", TOKEN)], b"", KEY, [], b""),
        ([(b"X-Api-Key", TOKEN)], b"", KEY, [], b""),
        ([(b"api-key", TOKEN)], b"", KEY, [], b""),
        ([(b"x-goog-api-key", TOKEN)], b"", KEY, [], b""),
        ([(b"xi-api-key", TOKEN)], b"", KEY, [], b""),  # the backend's own header
        ([], b"alt=sse&key=" + TOKEN, KEY, [], b"alt=sse"),
        ([], b"key=" + TOKEN + b"&alt=sse&&x", KEY, [], b"alt=sse&&x"),
        ([], b"k%65y=" + b"".join(b"%%%02X" % byte for byte in TOKEN), KEY, [], b""),
        # in several places, or twice
        ([BEARER, BEARER], b"", KEY, [], b""),
        ([BEARER, (b"x-api-key", TOKEN)], b"key=" + TOKEN + b"&key=" + TOKEN, KEY, [], b""),
        ([BEARER, (b"X-Other", b"a; b=" + TOKEN)], b"x=a" + TOKEN, KEY, [], b""),
        # another credential
        ([(b"Authorization", b"Bearer mine")], b"", NO_KEY, [(b"Authorization", b"Bearer mine")], b""),
        ([BEARER, (b"x-api-key", b"mine")], b"", NO_KEY, [(b"x-api-key", b"mine")], b""),
        ([BEARER], b"key=mine&x=1", NO_KEY, [], b"key=mine&x=1"),
        ([(b"x-api-key", b"mine")], b"x=" + TOKEN, NO_KEY, [(b"x-api-key", b"mine")], b""),
        ([(b"x-api-key", b"")], b"", NO_KEY, [(b"x-api-key", b"")], b""),
        # none, or the token where it is none
        ([], b"", MISSING, None, None),
        ([(b"X-Other", TOKEN)], b"token=" + TOKEN, MISSING, None, None),
        ([(b"Cookie", b"key=" + TOKEN)], b"", MISSING, None, None),
        ([BASIC], b"", MISSING, None, None),
        ([(b"Authorization", b"Token " + TOKEN)], b"", MISSING, None, None),
        ([(b"Authorization", b"Bearer " + TOKEN + b"x")], b"", MISSING, None, None),
        (
            [(b"Authorization", b"Bearer " + TOKEN[:-1])],
            b"",
            NO_KEY,
            [(b"Authorization", b"Bearer " + TOKEN[:-1])],
            b"",
        ),
        ([(b"Proxy-Authorization", b"Bearer " + TOKEN)], b"", MISSING, None, None),
    ],
    ids=unnamed,
)
def test_the_client_token_is_asked_for_and_taken_out(headers, query, expected, left, left_query):
    decision = decide(access(token=TOKEN), [*OWN, *headers], query=query, header="xi-api-key")
    assert short(decision) == expected
    if left is not None:
        assert decision == Passage([*OWN, *left], left_query or (None if query else b""), adds_key=expected)


@pytest.mark.parametrize(
    ("around", "hosts", "origins", "expected"),
    [
        (EVIL, [], [], HOST),
        ([(b"Host", b"proxy:4000")], [], [], HOST),
        ([(b"Host", b"proxy:4000")], ["proxy"], [], KEY),
        ([*OWN, PAGE], [], [], ORIGIN),
        ([*OWN, PAGE], [], ["https://app.example"], KEY),
        ([*OWN, (b"Sec-Fetch-Site", b"cross-site")], [], [], ORIGIN),
    ],
)
def test_with_the_token_host_and_page_count_as_well(around, hosts, origins, expected):
    rules = access(token=TOKEN, hosts=hosts, origins=origins)
    assert short(decide(rules, [*around, BEARER])) == expected
    assert short(decide(rules, [*around, (b"x-api-key", b"mine")])) == NO_KEY
    assert short(decide(rules, around)) == MISSING


def test_on_all_addresses_any_host_is_the_proxys_and_other_sites_pages_are_not():
    rules = Access(TOKEN, any_host=True)
    assert short(decide(rules, [(b"Host", b"proxy.example"), BEARER])) == KEY
    assert short(decide(rules, [(b"Host", b"proxy.example"), PAGE, BEARER])) == ORIGIN
    assert short(decide(rules, [BEARER])) == HOST


def test_basic_credentials_that_are_the_token_stay_behind_a_credential_of_the_clients_own():
    decision = decide(access(token=TOKEN), [*OWN, BASIC, (b"x-api-key", b"mine")])
    assert decision == Passage([*OWN, (b"x-api-key", b"mine")], b"", adds_key=False)


@pytest.mark.parametrize(
    "path",
    [b"/v1/" + TOKEN, b"/v1/x" + TOKEN.replace(TOKEN[:1], b"%%%02x" % TOKEN[0]) + b"/y"],
    ids=["as it is", "encoded"],
)
def test_the_token_in_a_path_is_refused(path):
    decision = decide(access(token=TOKEN), [*OWN, BEARER], path=path)
    assert short(decision) == (400, "client_token_in_path")


def test_the_token_as_a_method_is_refused():
    decision = decide(access(token=TOKEN), [*OWN, (b"x-api-key", b"mine")], method=TOKEN.decode())
    assert short(decision) == (400, "client_token_in_path")


@pytest.mark.parametrize("value", [b"Basic YTpi, " + BASIC[1], b"Basic x, basic=" + BASIC[1][6:]], ids=unnamed)
def test_the_token_in_a_second_basic_credential_is_taken_out(value):
    headers = [*OWN, (b"Authorization", value), (b"x-api-key", b"mine")]
    assert decide(access(token=TOKEN), headers).headers == [*OWN, (b"x-api-key", b"mine")]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"Referer", b"https://evil.example/page")], ORIGIN),
        ([(b"Referer", b"about:blank")], ORIGIN),
        ([(b"Referer", b"http://localhost:4000/to/x?a")], KEY),
        ([(b"Referer", b"https://app.example/page#x")], KEY),
        ([(b"Referer", b"https://evil.example/"), (b"Sec-Fetch-Site", b"none")], KEY),
        ([(b"Referer", b"https://evil.example/"), PAGE], KEY),
    ],
)
def test_without_origin_and_fetch_metadata_the_referer_says_whose_page_asks(headers, expected):
    assert short(decide(access(origins=["https://app.example"]), [*OWN, *headers])) == expected


def test_with_the_token_a_backend_without_a_key_gets_none():
    assert short(decide(access(token=TOKEN), [BEARER], has_key=False)) == NO_KEY
    assert short(decide(access(token=TOKEN), [], has_key=False)) == MISSING


def test_a_refusal_says_which_option_would_allow_the_request():
    def message(headers):
        decision = decide(access(), headers)
        assert isinstance(decision, Refusal)
        return decision.message

    assert "expected Host to be 127.0.0.1:4000 or [::1]:4000 or localhost:4000" in message([(b"Host", b"gpu:4000")])
    assert "--allow-host gpu:4000 would allow it" in message([(b"Host", b"gpu:4000")])
    assert "with 0 Host headers" in message([])
    assert "--allow-origin https://app.example would allow it" in message([*OWN, PAGE])
    assert "'null'" in message([*OWN, (b"Origin", b"null")])
    assert "--allow-origin" not in message([*OWN, (b"Origin", b"null")])
    assert "--allow-origin ORIGIN" in message([*OWN, (b"Sec-Fetch-Site", b"cross-site")])
    assert "Origin is 100000 characters" in message([*OWN, (b"Origin", b"x" * 100_000)])
    assert len(message([(b"Host", b"x" * 100_000)])) < 1000


def test_the_token_is_in_no_representation_of_the_rules():
    assert TOKEN.decode() not in repr(access(token=TOKEN))


# -- whatever is sent ------------------------------------------------------------------------------

PLACES = st.sampled_from([b"Authorization", b"x-api-key", b"API-KEY", b"x-goog-api-key", b"X-Other", b"Cookie", TOKEN])
PIECES = st.sampled_from([
    TOKEN, b"Bearer ", b"Basic ", b"mine", b" ", b",", b"=", b"%", b"x", b"\xff", TOKEN[:20], TOKEN[20:], b"",
    b"Basic " + base64.b64encode(TOKEN + b":x"), b"".join(b"%%%02x" % byte for byte in TOKEN),
])  # fmt: skip
VALUES = st.lists(PIECES, max_size=4).map(b"".join)
PAIRS = st.lists(
    st.sampled_from([b"key=", b"x=", b"k%65y=", b"&", b"", *[TOKEN] * 2, b"mine", b"+", b"%ff"]), max_size=7
)


@given(
    st.lists(st.tuples(PLACES, VALUES), max_size=5),
    PAIRS.map(b"".join),
    st.sampled_from(["POST", "OPTIONS"]),
    st.booleans(),
)
def test_no_header_and_no_query_that_passes_holds_the_token(headers, query, method, has_key):
    decision = decide(access(token=TOKEN), [*OWN, PREFLIGHT, *headers], query=query, method=method, has_key=has_key)
    if isinstance(decision, Refusal):
        assert decision.status == 401
        return
    passed = b"\n".join(part for header in decision.headers for part in header) + b"\n" + (decision.query or b"")
    assert TOKEN not in passed
    assert b"".join(b"%%%02x" % byte for byte in TOKEN) not in passed
    shown = sent_credentials(headers, query, "authorization")
    if decision.adds_key:
        assert any(TOKEN in value for value in shown)
        assert not sent_credentials(decision.headers, decision.query or b"", "authorization")
    assert [header for header in [*OWN, PREFLIGHT, *headers] if header in decision.headers] == decision.headers


# -- what rules are made of ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [TOKEN, TOKEN + b"\n", b"  " + TOKEN + b"\r\n", b"0123456789abcdef", b"ab+/cd" * 3 + b"=="], ids=unnamed
)
def test_a_token_is_one_line_of_a_tokens_characters(content):
    assert checked_token(content, "--client-token: 'file'") == content.strip()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (TOKEN + b"\n" + TOKEN, "several lines"),
        (TOKEN + b"\r" + TOKEN, "several lines"),
        (TOKEN[:15], "has 15 characters"),
        (TOKEN * 10, "has 430 characters"),
        (TOKEN + b" x", "characters that a token cannot have"),
        (TOKEN + "ü".encode(), "characters that a token cannot have"),
        (b"=" + TOKEN, "characters that a token cannot have"),
        (TOKEN + b"\0", "characters that a token cannot have"),
    ],
    ids=unnamed,
)
def test_what_is_no_token_is_told_and_not_quoted(content, told):
    with pytest.raises(ConfigurationError, match=r"file.*; expected one line") as refused:
        checked_token(content, "--client-token: 'file'")
    assert told in str(refused.value)
    assert TOKEN[:15].decode() not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:0.0.0.0", False),
        ("192.168.1.5", False),
        ("fe80::1%eth0", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(address, expected):
    assert is_loopback(address) is expected
