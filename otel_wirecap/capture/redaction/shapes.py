"""The keys of providers that are known by how they begin: what is searched for, and what must follow it.

Each form is taken from the provider's documentation, or from the rules of public secret scanners, which is noted beside
it: ``gitleaks:`` and ``betterleaks:`` with the rule, ``kingfisher:`` and ``trufflehog:`` with the file, ``microsoft:``
for the rules of security-utilities. Keys without a fixed part (Mistral, Cohere, Deepgram, Z.ai, Datadog, Okta, Twilio,
Airtable, crates.io, Discord's bot tokens, AWS secret keys, 32 hex digits of Azure) are found by value or by name only.

Invariants, each held by a test:

- What can be written as words joined with ``-`` or ``_`` is no key.
- A form whose beginning may end a word counts only where no word runs on (``bounded``).
- Every expression is linear: what can fail after a run is bounded, what is unbounded cannot fail.
- Upper bounds are open: providers lengthen their tokens, and a fixed length would leave the tail in clear.
"""

from dataclasses import dataclass
from typing import Final

_W: Final = "[A-Za-z0-9_-]"
# Words have neither digits nor capitals; tokens do. CSS classes (sk-toggleable__label-arrow) begin like keys.
_MIXED: Final = "(?=[a-z_+/-]{0,63}[A-Z0-9])"
# Nor are words with dashes and a year: a file sk-learn-pipelines-2024-edition, or sk-SK-locale-variant, say.
_PART: Final = "(?:[A-Z]?[a-z]{1,14}+|[A-Z]{1,14}+|v?[0-9]{1,4}+[a-z]{0,2}+)(?![A-Za-z0-9])"
_NO_SLUG: Final = rf"(?!{_PART}(?:[_-]{{1,2}}{_PART}){{2,11}}+(?!{_W}))"
_DOTS: Final = rf"(?:\.{_W}+)*"
_BASE64_LETTER: Final = r"(?:[A-Za-z0-9+/]|\\/|%2[BbFf])"  # JSON may write the slash with an escape, URLs do
_PADDING: Final = "(?:=|%(?:25)?3[Dd]){0,2}"
_PADDED: Final = "(?:=|%(?:25)?3[Dd]){2}"
_SLASH: Final = r"(?:/|\\/|%2[Ff])"
_UUID: Final = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_PEM_BODY: Final = r"[A-Za-z0-9+/=\s\\:,%]"  # base64, RFC 1421 headers, and newlines written \n, \\n or %0A
# Prose speaks of "-----BEGIN PRIVATE KEY-----", too.
_PEM_BEGINS: Final = (
    r"(?=(?:\\+(?:[nr]|u000[AaDd])|%0[AaDd]|\s)*+"
    r"(?:(?:[A-Za-z0-9+/=]|\\+/|%2[BbFf]){12}|Proc-Type|DEK-Info|Version|Comment|Charset|Hash))"
)


def _key(least: int) -> str:
    """Random letters, digits, dashes and underscores: no words that are joined with them."""
    return rf"{_NO_SLUG}{_MIXED}{_W}{{{least},}}"


def _letters(least: int) -> str:
    """Random letters and digits."""
    return rf"{_MIXED}[A-Za-z0-9]{{{least},}}"


def _hex(least: int) -> str:
    return rf"[a-f0-9]{{{least},}}"


def _base64(least: int) -> str:
    return rf"{_BASE64_LETTER}{{{least},}}{_PADDING}"


@dataclass(frozen=True, slots=True)
class Shape:
    """One form of secret.

    Attributes:
        rule: The id that findings are counted under.
        prefixes: What is searched for, one of them.
        body: Expression for what follows the prefix.
        lead: Expression for what of the secret stands before the prefix.
        lead_length: Characters of the lead. One that may be shorter has to be bounded: it would take an escape's last
            characters for its first ones.
        bounded: Whether it counts only where no word runs on into it.
        in_base64: Whether it is looked for within base64, too. That takes three more searches for each.
    """

    rule: str
    prefixes: tuple[str, ...]
    body: str
    lead: str = ""
    lead_length: int = 0
    bounded: bool = True
    in_base64: bool = False


def _plain(rule: str, prefixes: tuple[str, ...], body: str) -> Shape:
    """A form that is unmistakable wherever it stands."""
    return Shape(rule, prefixes, body, bounded=False)


def _model(rule: str, prefixes: tuple[str, ...], body: str, *, bounded: bool = True) -> Shape:
    """A form of a model provider, a cloud or GitHub: looked for within base64, too."""
    return Shape(rule, prefixes, body, bounded=bounded, in_base64=True)


_MODELS: Final = (
    # gitleaks: anthropic-api-key, anthropic-admin-api-key
    _model("anthropic", ("sk-",), rf"ant-[a-z]{{2,8}}[0-9]{{2}}-{_W}{{20,}}{_DOTS}", bounded=False),
    _model("anthropic", ("sk-",), rf"ant-{_key(20)}{_DOTS}"),
    # betterleaks: openrouter-api-key
    _model("openrouter", ("sk-",), rf"or-v[0-9]-{_hex(32)}", bounded=False),
    # https://langfuse.com/docs: "sk-lf-" and a UUID
    _model("langfuse", ("sk-",), rf"lf-{_UUID}", bounded=False),
    # gitleaks: openai-api-key; betterleaks: minimax-api-key
    _model("openai", ("sk-",), rf"(?:proj|svcacct|admin|service|None|api)-{_key(40)}", bounded=False),
    _model("openai", ("sk-",), r"[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20,}", bounded=False),
    # The same, and betterleaks: deepseek-api-key, kimi-api-key, stability-ai-api-key; LiteLLM's virtual keys
    _model("openai", ("sk-",), rf"{_NO_SLUG}(?:{_MIXED}{_W}{{20,}}|[a-z]{{32,}})"),
    # https://platform.openai.com/docs/api-reference/realtime-sessions: a client's key for one session
    _model("openai", ("ek_",), r"[A-Za-z0-9]{24,}"),
    # gitleaks: gcp-api-key; betterleaks: gcp-gemini-api
    _model("google", ("AIza",), rf"Sy{_W}{{33,}}", bounded=False),
    _model("google", ("AIza",), rf"{_W}{{35,}}"),
    _model("google", ("AQ.",), _key(30)),
    # https://cloud.google.com/docs/authentication/token-types: access and refresh tokens, client secrets
    _model("google", ("ya29.",), r"(?:[A-Za-z0-9_-]{1,8}\.){0,2}[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]+)*"),
    _model("google", ("1//0", r"1\/\/0", "1%2F%2F0"), _key(30)),
    _model("google", ("GOCSPX-",), _key(20), bounded=False),
    # gitleaks: huggingface-access-token, huggingface-organization-api-token
    _model("huggingface", ("hf_", "api_org_"), _letters(34), bounded=False),
    # https://console.groq.com/keys, trufflehog: groq
    _model("groq", ("gsk_",), _letters(40), bounded=False),
    # trufflehog: xai
    _model("xai", ("xai-",), rf"{_NO_SLUG}{_MIXED}[A-Za-z0-9_]{{40,}}", bounded=False),
    # gitleaks: perplexity-api-key
    _model("perplexity", ("pplx-",), _letters(40), bounded=False),
    # betterleaks: replicate-api-token
    _model("replicate", ("r8_",), _letters(36), bounded=False),
    # betterleaks: nvidia-api-key
    _model("nvidia", ("nvapi-",), _key(40), bounded=False),
    # betterleaks: togetherai-api-key
    _model("together", ("tgp_v1_",), _key(40), bounded=False),
    # https://docs.fireworks.ai/api-reference/introduction
    _model("fireworks", ("fw_",), _letters(22)),
    # betterleaks: cerebras-api-key
    _model("cerebras", ("csk-",), r"(?=[a-z]{0,63}[0-9])[a-z0-9]{40,}"),
    # gitleaks: langsmith
    _model("langsmith", ("lsv2_",), r"(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10,}", bounded=False),
    # https://logfire.pydantic.dev/docs/how-to-guides/create-write-tokens
    _model("logfire", ("pylf_",), r"v[0-9]+_[A-Za-z0-9_]{20,}", bounded=False),
    # betterleaks: elevenlabs; others (Novita, Cartesia, Knock, Liveblocks, WorkOS) begin likewise
    _model("elevenlabs", ("sk_",), rf"(?!(?:org_)?(?:live|test|prod)_){_key(40)}"),
    # trufflehog: voyageai
    _model("voyage", ("pa-",), _key(40)),
    # kingfisher: pinecone.yml
    _model("pinecone", ("pcsk_",), rf"[A-Za-z0-9]{{4,8}}_{_letters(40)}", bounded=False),
    # kingfisher: tavily.yml
    _model("tavily", ("tvly-",), rf"(?:dev-|prod-)?{_NO_SLUG}{_MIXED}[A-Za-z0-9-]{{20,}}", bounded=False),
    # https://jina.ai/embeddings: 32 hex digits, then random letters
    _plain("jina", ("jina_",), rf"[a-f0-9]{{32}}{_W}{{20,}}"),
    # https://github.com/wandb/wandb/issues/11614: 86 characters in all
    _plain("wandb", ("wandb_v1_",), _key(60)),
    # https://e2b.dev/docs: 40 hex digits
    Shape("e2b", ("e2b_",), _hex(40)),
    # https://docs.runpod.io/get-started/api-keys
    Shape("runpod", ("rpa_",), _letters(40)),
    # kingfisher: firecrawl.yml
    Shape("firecrawl", ("fc-",), r"[a-fA-F0-9]{32,}"),
    # kingfisher: cursor.yml; https://cursor.com/docs/cli/reference/authentication
    Shape("cursor", ("key_", "crsr_"), _hex(64)),
    # https://github.com/features/copilot: a list of claims, the last one its signature
    _plain("copilot", ("tid=",), r"[0-9a-f-]{16,64};exp=[0-9]{8,12}(?:[.;:=/+@-]{1,4}[A-Za-z0-9_]+)*"),
    # https://docs.cloud.llamaindex.ai
    Shape("llamaindex", ("llx-",), _letters(40)),
    # https://api-dashboard.search.brave.com
    Shape("brave", ("BSA",), _key(27)),
    # https://www.kaggle.com/docs/api
    Shape("kaggle", ("KGAT_",), _hex(32)),
    # trufflehog: apify
    Shape("apify", ("apify_api_",), _letters(30)),
    # https://docs.n8n.io/api/authentication
    Shape("n8n", ("n8n_api_",), _letters(36)),
    # https://www.daytona.io/docs
    Shape("daytona", ("dtn_",), _hex(40)),
    # https://www.volcengine.com/docs/82379
    Shape("volcengine", ("ark-",), _UUID),
    Shape("volcengine", ("AKLT",), _letters(40)),
    # https://cloud.baidu.com/doc/qianfan-api
    Shape("baidu", ("bce-v3/ALTAK",), r"[A-Z]{0,2}-[A-Za-z0-9]{16,}/[a-f0-9]{40,}"),
    # kingfisher: tencent.yml
    Shape("tencent", ("AKID",), _letters(32)),
    # gitleaks: yandex-api-key
    Shape("yandex", ("AQVN",), _key(35)),
    # https://turbopuffer.com/docs/auth
    Shape("turbopuffer", ("tpuf_",), _key(28)),
    # kingfisher: browserbase.yml
    Shape("browserbase", ("bb_live_", "bb_test_"), _key(24)),
    # https://docs.anyscale.com
    Shape("anyscale", ("esecret_",), _letters(24)),
    # kingfisher: friendli.yml
    Shape("friendli", ("flp_",), _letters(40)),
    # https://docs.lumalabs.ai
    Shape("luma", ("luma-",), _UUID),
    # https://www.coze.com/docs
    Shape("coze", ("pat_",), _letters(60)),
    # https://docs.letta.com
    Shape("letta", ("sk-let-",), _base64(60)),
    # https://docs.voiceflow.com
    Shape("voiceflow", ("VF.DM.",), r"[a-f0-9]{24}\.[A-Za-z0-9]{16,}"),
    # https://docs.freepik.com
    Shape("freepik", ("FPSX",), _hex(32)),
)

_CLOUDS: Final = (
    # gitleaks: aws-access-token; 16 characters of base32 follow
    _model(
        "aws",
        ("AKIA", "ASIA", "ABIA", "ACCA"),
        r"(?:[A-Z2-7]{16}(?![A-Za-z0-9])|(?=[A-Z]{0,63}[2-7])[A-Z2-7]{16,})",
    ),
    # betterleaks: aws-amazon-bedrock-api-key-long-lived, -short-lived
    _model("aws", ("ABSK",), _base64(60)),
    _model("aws", ("bedrock-api-key-",), r"(?:[A-Za-z0-9+/=_-]|\\/|%2[BbFf]|%3[Dd]){20,}", bounded=False),
    # https://docs.aws.amazon.com/STS/latest/APIReference/API_Credentials.html: SessionToken
    _plain("aws", ("FwoGZXIvYXdz", "IQoJb3JpZ2lu"), _base64(60)),
    # microsoft: SEC101/200, the common annotated key: 52 characters, the signature, 26 more: year and month, data of
    # the platform and the provider, the provider's name, a checksum
    Shape(
        "azure",
        ("QQJ9",),
        r"[9DH][A-Za-z0-9][A-L][A-Za-z0-9]{16}[A-Za-z][A-Za-z0-9]{7,}(?:==)?",
        "[A-Za-z0-9]{52}J",
        53,
        bounded=False,
        in_base64=True,
    ),
    # microsoft: SEC101/156, an application's password in Entra
    Shape("azure", ("7Q~", "8Q~"), r"(?:\.{0,3}[A-Za-z0-9_~-]){31,}", "[A-Za-z0-9_~-]{3}", 3),
    _plain("azure", ("7Q~", "8Q~"), r"(?:\.{0,3}[A-Za-z0-9_~-]){31,}"),
    # microsoft: SEC101/166 and 167, AI Search; SEC101/160, Cosmos DB; SEC101/158, Functions
    Shape("azure", ("AzSe",), "[A-D][A-Za-z0-9]{5,}", "[A-Za-z0-9]{42}", 42, bounded=False),
    Shape("azure", ("ACDb",), f"[A-Za-z0-9+/]{{5}}[AQgw]{_PADDED}", "[A-Za-z0-9+/]{76}", 76, bounded=False),
    Shape("azure", ("AzFu",), f"[A-Za-z0-9_-]{{5}}[AQgw]{_PADDED}", "[A-Za-z0-9_-]{44}", 44, bounded=False),
    # microsoft: SEC101/105 and 106, connection strings of storage, messaging, SignalR and others
    _plain(
        "azure",
        tuple(name + sign for name in ("SharedAccessKey", "AccountKey", "AccessKey") for sign in ("=", "%3D")),
        rf"{_MIXED}{_base64(40)}",
    ),
    # gitleaks: alibaba-access-key-id
    Shape("alibaba", ("LTAI",), _letters(20)),
    # gitleaks: databricks-api-token
    _model("databricks", ("dapi",), r"[a-f0-9]{32,}(?:-[0-9]+)?"),
    # gitleaks: digitalocean-pat, digitalocean-access-token, digitalocean-refresh-token
    _plain("digitalocean", ("dop_v1_", "doo_v1_", "dor_v1_"), _hex(40)),
    # gitleaks: heroku-api-key-v2
    _plain("heroku", ("HRKU-",), _key(58)),
    # gitleaks: flyio-access-token
    Shape("fly", ("fo1_",), _key(43)),
    Shape("fly", ("fm1", "fm2"), rf"[ar]?_{_MIXED}{_base64(100)}"),
    # kingfisher: vercel.yml
    _plain("vercel", ("vck_", "vcp_", "vci_", "vca_", "vcr_"), _key(40)),
    # kingfisher: supabase.yml
    _plain("supabase", ("sbp_",), r"(?:oauth_|v0_)?[a-f0-9_]{40,}"),
    _plain("supabase", ("sb_secret_",), _key(31)),
    # https://neon.com/docs/changelog/2025-01-31; betterleaks: neon-api-key
    Shape("neon", ("napi_",), _letters(60)),
    # gitleaks: planetscale-api-token, planetscale-password, planetscale-oauth-token
    _plain("planetscale", ("pscale_",), rf"(?:tkn|pw|oauth)_{_key(32)}"),
    # betterleaks: mongodb-atlas-service-account-secret
    _plain("mongodb", ("mdb_sa_sk_",), _key(40)),
    # kingfisher: elastic.yml
    Shape("elastic", ("essu_",), _base64(80)),
    # https://tailscale.com/kb/1215/oauth-clients
    _plain("tailscale", ("tskey-",), r"(?:[a-z]{1,16}-)?[A-Za-z0-9]{8,32}-[A-Za-z0-9]{20,}"),
    # https://developers.cloudflare.com/fundamentals/api
    Shape("cloudflare", ("cfut_", "cfat_", "cfk_"), _letters(40)),
    # https://www.alibabacloud.com/help/en/ram
    Shape("alibaba", ("STS.",), _letters(24)),
    # kingfisher: aws.yml
    Shape("aws", ("da2-",), r"(?=[a-z]{0,63}[0-9])[a-z0-9]{26,}"),
    # detect-secrets and trufflehog: amazon
    Shape("aws", ("amzn.mws.",), _UUID),
    Shape("aws", ("amzn1.oa2-cs.v1.",), _hex(64)),
    # https://cloud.google.com/storage/docs/authentication/hmackeys
    Shape("google", ("GOOG1E",), r"[A-Z0-9]{56,}"),
    # kingfisher: netlify.yml
    Shape("netlify", ("nfp_", "nfc_", "nfo_", "nfu_"), _letters(36)),
    # https://render.com/docs/api
    Shape("render", ("rnd_",), _letters(24)),
    # https://vercel.com/docs/vercel-blob
    Shape("vercel", ("vercel_blob_rw_",), r"[A-Za-z0-9]{16}_[A-Za-z0-9]{30,}"),
    # kingfisher: aiven.yml
    Shape("aiven", ("AVNS_",), _key(18)),
    # kingfisher: xata.yml
    Shape("xata", ("xau_",), _letters(40)),
    # kingfisher: cockroachlabs.yml
    Shape("cockroachdb", ("CCDB1_",), r"[A-Za-z0-9]{22}_[A-Za-z0-9]{40,}"),
    # gitleaks: clickhouse-cloud-api-secret-key
    Shape("clickhouse", ("4b1d",), _letters(38)),
    # gitleaks: openshift-user-token
    Shape("openshift", ("sha256~",), _key(43)),
)

_DEVELOPERS: Final = (
    # gitleaks: github-pat, github-oauth, github-app-token, github-refresh-token, github-fine-grained-pat
    _model("github", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), rf"{_letters(36)}{_W}*{_DOTS}", bounded=False),
    _model("github", ("ghs_",), rf"[0-9]{{1,12}}_{_W}{{30,}}{_DOTS}", bounded=False),
    _model("github", ("github_pat_",), rf"{_key(36)}{_DOTS}", bounded=False),
    # https://docs.gitlab.com/security/tokens/#token-prefixes; gitleaks: gitlab-pat, gitlab-deploy-token and others
    _model("gitlab", ("glpat-",), rf"{_key(20)}{_DOTS}", bounded=False),
    _plain(
        "gitlab",
        ("gldt-", "glrt-", "glrtr-", "glptt-", "glft-", "glimt-", "glagent-", "glcbt-", "glsoat-", "gloas-", "glffct-"),
        rf"{_key(20)}{_DOTS}",
    ),
    # kingfisher: bitbucket.yml; gitleaks: atlassian-api-token
    _plain("atlassian", ("ATATT3", "ATCTT3"), rf"{_W}{{60,}}(?:(?:=|%(?:25)?3[Dd])[A-Z0-9]*)?"),
    Shape("atlassian", ("ATBB",), _letters(32)),
    # gitleaks: npm-access-token, pypi-upload-token, rubygems-api-token
    _model("npm", ("npm_",), _letters(36), bounded=False),
    _model("pypi", ("pypi-AgE",), rf"{_W}{{50,}}", bounded=False),
    _plain("ruby", ("rubygems_",), _hex(48)),
    # trufflehog: dockerhub
    _plain("docker", ("dckr_pat_", "dckr_oat_"), _key(27)),
    # kingfisher: circleci.yml
    _plain("circleci", ("CCIP",), r"(?:AT|RJ)_[A-Za-z0-9]{22}_[a-f0-9]{40,}"),
    # betterleaks: sonar-api-token
    Shape("sonarqube", ("sqp_", "squ_", "sqa_"), _hex(40)),
    # gitleaks: hashicorp-tf-api-token
    Shape("terraform", (".atlasv1.",), _key(60), "[A-Za-z0-9]{14}", 14),
    # gitleaks: pulumi-api-token
    Shape("pulumi", ("pul-",), _hex(40)),
    # gitleaks: vault-service-token, vault-batch-token
    Shape("vault", ("hvs.", "hvb.", "hvr."), _key(24)),
    # https://docs.doppler.com/reference/auth-token-formats; gitleaks: doppler-api-token
    Shape("doppler", ("dp.",), rf"(?:pt|st|sa|ct|scim|audit)\.(?:[a-z0-9_-]{{2,35}}\.)?{_letters(40)}"),
    # gitleaks: 1password-secret-key, 1password-service-account-token
    Shape("1password", ("ops_eyJ",), r"(?:[A-Za-z0-9+/_-]|\\/|%2[BbFf]){100,}={0,2}"),
    Shape(
        "1password", ("A3-",), r"[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){2}-[A-Z0-9]{5,}"
    ),
    # gitleaks: age-secret-key
    _plain("age", ("AGE-SECRET-KEY-",), r"(?:PQ-)?1[A-Z0-9]{50,}"),
    # gitleaks: postman-api-token
    _plain("postman", ("PMAK-",), r"[a-f0-9-]{50,}"),
    # https://trigger.dev/docs/apikeys
    Shape("trigger.dev", ("tr_d", "tr_p", "tr_s"), rf"(?:ev|rod|at|review|tg)_{_letters(20)}"),
    # https://docs.getdbt.com/docs/dbt-cloud-apis/service-tokens
    Shape("dbt", ("dbtc_", "dbtu_"), _key(40)),
    # https://docs.snyk.io/snyk-api
    Shape("snyk", ("snyk_uat.", "snyk_sat."), rf"[a-z0-9]{{8}}\.{_W}{{20,}}\.{_W}{{20,}}"),
    # gitleaks: sourcegraph-access-token
    Shape("sourcegraph", ("sgp_",), r"(?:(?:[a-f0-9]{16}|local)_)?[a-f0-9]{40,}"),
    # gitleaks: prefect-api-token
    Shape("prefect", ("pnu_", "pnb_"), _letters(36)),
    # kingfisher: buildkite.yml
    Shape("buildkite", ("bkua_", "bkat_"), _letters(36)),
    # gitleaks: octopus-deploy-api-key
    Shape("octopus", ("API-",), r"(?=[A-Z]{0,63}[0-9])[A-Z0-9]{26,}"),
    # kingfisher: wakatime.yml
    Shape("wakatime", ("waka_",), _UUID),
    # https://docs.socket.dev
    Shape("socket", ("sktsec_",), rf"{_letters(40)}(?:_api)?"),
    # kingfisher: deepsource.yml
    Shape("deepsource", ("dsp_",), _hex(40)),
    # kingfisher: nuget.yml
    Shape("nuget", ("oy2",), r"(?=[a-z]{0,63}[0-9])[a-z0-9]{43,}"),
    # kingfisher: packagist.yml
    Shape("packagist", ("packagist_",), r"(?:uut|ort|out)_[a-f0-9]{40,}"),
    # gitleaks: clojars-api-token
    Shape("clojars", ("CLOJARS_",), r"[a-z0-9]{60,}"),
    # gitleaks: artifactory-api-key, artifactory-reference-token
    Shape("artifactory", ("AKCp",), _letters(69)),
    Shape("artifactory", ("cmVmd",), _letters(59)),
    # gitleaks: infracost-api-token
    Shape("infracost", ("ico-",), _letters(32)),
    # gitleaks: harness-api-key
    Shape("harness", ("pat.", "sat."), rf"{_W}{{22}}\.[A-Za-z0-9]{{24}}\.[A-Za-z0-9]{{20,}}"),
    # gitleaks: gitlab-rrt
    Shape("gitlab", ("GR1348941", "glwt-"), _key(20)),
    # gitleaks: readme-api-token
    Shape("readme", ("rdme_",), r"[a-z0-9]{60,}"),
    # https://www.inngest.com/docs
    Shape("inngest", ("signkey-",), r"(?:prod|test|branch)-[a-f0-9]{32,}"),
    # https://www.unkey.com/docs
    Shape("unkey", ("unkey_",), _letters(22)),
)

_SERVICES: Final = (
    # gitleaks: slack-bot-token, slack-user-token, slack-config-access-token, slack-legacy-token and others;
    # betterleaks: slack-session-cookie
    _model("slack", ("xox",), r"(?:e\.xox)?[a-z]-[0-9]{1,15}-[A-Za-z0-9-]{16,}", bounded=False),
    _model("slack", ("xox",), rf"[a-z]-{_NO_SLUG}{_MIXED}(?:[A-Za-z0-9_/+-]|%2[BbFf]){{20,}}{_PADDING}"),
    # gitleaks: slack-app-token
    _model("slack", ("xapp-",), r"[0-9]-[A-Z0-9]{6,20}-[0-9]{6,20}-[A-Za-z0-9]{20,}", bounded=False),
    # gitleaks: slack-webhook-url
    _plain(
        "slack",
        ("hooks.slack.com",),
        rf"{_SLASH}(?:(?:services|triggers)(?:{_SLASH}[A-Za-z0-9]{{8,64}}){{3}}"
        rf"|workflows(?:{_SLASH}[A-Za-z0-9]{{8,64}}){{4}})[A-Za-z0-9]*",
    ),
    # https://core.telegram.org/bots/api#authorizing-your-bot, kingfisher: telegram.yml
    *(
        Shape("telegram", prefixes, _key(33), f"{path}[0-9]{{{digits}}}", len(path) + digits)
        for path, prefixes in (("bot", (":AA",)), ("", (":AA", "%3AAA")))
        for digits in (10, 9, 8)
    ),
    # kingfisher: discord.yml
    _plain("discord", ("/webhooks", "2Fwebhooks"), rf"{_SLASH}[0-9]{{17,20}}{_SLASH}{_W}{{60,}}"),
    # gitleaks: stripe-access-token; https://docs.stripe.com/keys, https://docs.stripe.com/webhooks/signature
    _model("stripe", ("sk_",), rf"(?:org_)?(?:live|test|prod)_{_letters(24)}", bounded=False),
    _model("stripe", ("rk_live_", "rk_test_", "rk_prod_"), _letters(24), bounded=False),
    _plain("stripe", ("whsec_",), rf"{_MIXED}{_base64(24)}"),
    # gitleaks: square-access-token
    Shape("square", ("sq0",), rf"(?:atp|csp)-{_key(22)}"),
    Shape("square", ("EAAAE", "EAAAl"), _key(55)),
    # gitleaks: facebook-page-access-token
    Shape("facebook", ("EAAC", "EAAG", "EAAM"), _letters(100)),
    # gitleaks: shopify-access-token, shopify-shared-secret, shopify-custom-access-token and others
    _plain("shopify", ("shpat_", "shpss_", "shpca_", "shppa_"), r"[a-fA-F0-9]{32,}"),
    # gitleaks: sendgrid-api-token, sendinblue-api-token
    Shape("sendgrid", ("SG.",), rf"{_MIXED}{_W}{{16,64}}\.{_key(30)}"),
    _plain("brevo", ("xkeysib-",), r"[a-f0-9]{64}-[A-Za-z0-9]{16,}"),
    # https://docs.rs/crate/redact-secret: resend.rs, read off Resend's own examples
    Shape("resend", ("re_",), rf"[A-Za-z0-9]{{8}}_{_letters(24)}"),
    # gitleaks: mailgun-private-api-token, mailchimp-api-key
    Shape("mailgun", ("key-",), _hex(32)),
    Shape("mailchimp", ("-us",), "[0-9]{1,2}(?![0-9A-Za-z])", "[a-f0-9]{32}", 32),
    # kingfisher: linear.yml; https://linear.app/developers/oauth-2-0-authentication
    _plain("linear", ("lin_",), rf"(?:api|oauth)_{_letters(32)}"),
    # gitleaks: notion-api-token; trufflehog: notion
    _plain("notion", ("ntn_",), _letters(40)),
    Shape("notion", ("secret_",), _letters(43)),
    # trufflehog: figmapersonalaccesstoken
    Shape("figma", ("figd_",), _key(40)),
    # https://developers.hubspot.com/docs/guides/apps/private-apps, trufflehog: hubspot
    Shape("hubspot", ("pat-",), rf"[a-z]{{2}}[0-9]-{_UUID}"),
    # gitleaks: sentry-org-token, sentry-user-token
    _plain("sentry", ("sntrys_",), r"(?:[A-Za-z0-9+/=_-]|\\/|%2[BbFf]|%3[Dd]){40,}"),
    _plain("sentry", ("sntryu_",), _hex(64)),
    # gitleaks: grafana-service-account-token, grafana-cloud-api-token, grafana-api-key
    _plain("grafana", ("glsa_",), r"[A-Za-z0-9_]{38,}"),
    _plain("grafana", ("glc_",), rf"{_MIXED}{_base64(32)}"),
    Shape("grafana", ("eyJ",), r"rIjoi[A-Za-z0-9+/]{60,}={0,2}"),
    # https://docs.newrelic.com/docs/apis/intro-apis/new-relic-api-keys, gitleaks: new-relic-user-api-key and others
    Shape("newrelic", ("NRA",), rf"K-{_key(27)}"),
    Shape("newrelic", ("NRA",), "L(?![A-Za-z0-9])", "[a-f0-9]{36}", 36),
    Shape("newrelic", ("NRII-",), _key(32)),
    Shape("newrelic", ("NRJS-",), _hex(19)),
    # gitleaks: dynatrace-api-token
    Shape("dynatrace", ("dt0",), r"[a-z][0-9]{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64,}"),
    # betterleaks: posthog-personal-api-key; phc_ is public
    Shape("posthog", ("phx_",), _key(40)),
    # https://docs.mapbox.com/help/dive-deeper/access-tokens: secret tokens
    Shape("mapbox", ("sk.eyJ",), rf"1Ijoi{_W}{{30,256}}\.{_W}{{20,}}"),
    # kingfisher: polar.yml
    Shape("polar", ("polar_oat_", "polar_pat_"), _letters(40)),
    # https://docs.datadoghq.com/account_management
    Shape("datadog", ("ddpat_",), _letters(32)),
    # kingfisher: contentful.yml
    Shape("contentful", ("CFPAT-",), _key(43)),
    # kingfisher: adafruitio.yml
    Shape("adafruit", ("aio_",), _letters(28)),
    # https://documentation.onesignal.com
    Shape("onesignal", ("os_v2_app_", "os_v2_org_"), r"[a-z0-9]{80,}"),
    # kingfisher: mailersend.yml
    Shape("mailersend", ("mlsn.",), _hex(64)),
    # https://www.figma.com/developers/api
    Shape("figma", ("figu_",), _key(40)),
    # kingfisher: clickup.yml
    Shape("clickup", ("pk_",), r"[0-9]{6,10}_[A-Z0-9]{32,}"),
    # trufflehog: fcm
    Shape("firebase", (":APA91b",), rf"{_W}{{120,}}", "AAAA[A-Za-z0-9_-]{7}", 11),
    # trufflehog: braintree
    Shape("braintree", ("access_token$production$",), r"[a-z0-9]{16}\$[a-f0-9]{32,}"),
    # trufflehog: facebook
    Shape("facebook", ("EAAB",), _letters(100)),
    # gitleaks: duffel-api-token
    Shape("duffel", ("duffel_",), rf"(?:live|test)_{_key(43)}"),
    # gitleaks: shippo-api-token
    Shape("shippo", ("shippo_",), r"(?:live|test)_[a-f0-9]{40,}"),
    # gitleaks: easypost-api-token
    Shape("easypost", ("EZAK", "EZTK"), _letters(54)),
    # gitleaks: flutterwave-secret-key
    Shape("flutterwave", ("FLWSECK",), r"(?:_TEST)?-[a-h0-9]{32,}(?:-X)?"),
    # gitleaks: frameio-api-token
    Shape("frame.io", ("fio-u-",), _key(64)),
    # gitleaks: scalingo-api-token
    Shape("scalingo", ("tk-us-",), _key(48)),
    # gitleaks: maxmind-license-key
    Shape("maxmind", ("_mmk",), "(?![A-Za-z0-9])", "[A-Za-z0-9]{6}_[A-Za-z0-9]{29}", 36),
    # gitleaks: dropbox-short-lived-api-token
    Shape("dropbox", ("sl.u.", "sl.B"), _key(100)),
    # gitleaks: typeform-api-token
    Shape("typeform", ("tfp_",), _key(43)),
    # https://docs.honeycomb.io
    Shape("honeycomb", ("hcaik_", "hcamk_", "hcxik_"), r"[a-z0-9]{48,}"),
    # https://axiom.co/docs
    Shape("axiom", ("xaat-", "xapt-"), _UUID),
    # betterleaks: posthog
    Shape("posthog", ("pha_", "phr_", "phs_"), _key(40)),
    # kingfisher: rootly.yml
    Shape("rootly", ("rootly_",), _hex(64)),
    # gitleaks: microsoft-teams-webhook
    Shape("teams", ("/webhookb2/",), rf"{_UUID}@{_UUID}/IncomingWebhook/[a-z0-9]{{32}}/{_UUID}"),
    # kingfisher: brevo.yml
    Shape("brevo", ("xsmtpsib-",), r"[a-f0-9]{64}-[A-Za-z0-9]{16,}"),
    # https://developer.paddle.com
    Shape("paddle", ("pdl_",), r"(?:live|sdbx)_apikey_[a-z0-9]{26}_[A-Za-z0-9]{22}_[A-Za-z0-9]{3,}"),
)

_STANDARDS: Final = (
    # RFC 7519. The header's bound, possessive, keeps a text of nothing but beginnings linear.
    _model("jwt", ("eyJ",), rf"{_W}{{10,2048}}+\.eyJ{_W}{{10,}}(?:\.{_W}*){{0,3}}"),
    # RFC 7516, 3.1: header, encrypted key, initialization vector of 96 or 128 bits, text, tag
    _model("jwt", ("eyJ",), rf"{_W}{{10,2048}}+\.{_W}{{0,1024}}+\.(?:{_W}{{16}}|{_W}{{22}})\.{_W}+(?:\.{_W}*)?"),
    # RFC 7468
    Shape(
        "pem",
        ("-BEGIN ", "-BEGIN%20"),
        rf"(?:[A-Z0-9 ]|%20){{0,40}}PRIVATE(?: |%20)KEY(?:(?: |%20)BLOCK)?-----{_PEM_BEGINS}"
        rf"{_PEM_BODY}*+(?:-(?!----END[ %]){_PEM_BODY}*+)*+(?:-----END(?: |%20)(?:[A-Z0-9 ]|%20){{0,40}}(?:-----)?)?",
        "----",
        4,
        bounded=False,
        in_base64=True,
    ),
)

SHAPES: Final = (*_MODELS, *_CLOUDS, *_DEVELOPERS, *_SERVICES, *_STANDARDS)
"""All forms. Of those that begin at one place, the longest prefix is tried first, and of one prefix in this order."""
