# ruff: noqa: E501  # a form a line: they are a table
"""The keys of providers as they are issued, made anew from random characters.

Each form is described by the provider's documentation, or by a public secret scanner's rule for it: nothing is taken
from the package, so that what its expressions miss comes to light. Values of one provider that differ in nothing that
is searched for are one form.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
import uuid
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

LOWER: Final = string.ascii_lowercase
UPPER: Final = string.ascii_uppercase
DIGITS: Final = string.digits
ALNUM: Final = string.ascii_letters + DIGITS
HEX: Final = "0123456789abcdef"
URLSAFE: Final = ALNUM + "-_"
BASE64: Final = ALNUM + "+/"
BASE32: Final = UPPER + "234567"
BECH32: Final = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"

Random = random.Random
Length = int  # 0: the least that is issued, 1: what is usual, 2: longer than today


def run(rng: Random, length: int, alphabet: str = ALNUM) -> str:
    return "".join(rng.choices(alphabet, k=length))


class Run(NamedTuple):
    """Random characters: so many are issued, and maybe more than today."""

    alphabet: str
    length: int
    longer: int = 0

    def make(self, rng: Random, length: Length) -> str:
        return run(rng, max(self.length, self.longer) if length == 2 else self.length, self.alphabet)


class Form(NamedTuple):
    """A kind of key.

    Attributes:
        rule: What findings are counted under.
        kind: Its name here.
        stem: What it is known by.
        parts: What it consists of; in braces what differs from key to key but is no secret ("{us|eu}").
        least: Characters that its last run needs to be masked: one less is no key. 0: it is not cut.
        in_base64: Whether it is found within base64, too.
        inside: Characters that its last run needs to be masked where a word runs on into it, one less is none; 0: as
            many as elsewhere.
    """

    rule: str
    kind: str
    stem: str
    parts: tuple[str | Run, ...]
    least: int = 0
    in_base64: bool = False
    inside: int = 0

    def make(self, rng: Random, length: Length = 1) -> str:
        return "".join(_choice(rng, part) if isinstance(part, str) else part.make(rng, length) for part in self.parts)

    def cut(self, rng: Random, last: int) -> str:
        """One whose last run has so many characters; what would stand behind that run is missing, too."""
        place = max(index for index, part in enumerate(self.parts) if isinstance(part, Run))
        before = "".join(
            _choice(rng, part) if isinstance(part, str) else part.make(rng, 1) for part in self.parts[:place]
        )
        return before + run(rng, last, self.parts[place].alphabet)  # type: ignore[union-attr]  # it is a Run

    def alternatives(self) -> Iterator[Form]:
        """The form with each of what differs from key to key."""
        for place, part in enumerate(self.parts):
            if isinstance(part, str) and (braces := re.search(r"\{(.*?)\}", part)):
                for choice in braces[1].split("|"):
                    chosen = part[: braces.start()] + choice + part[braces.end() :]
                    parts = (*self.parts[:place], chosen, *self.parts[place + 1 :])
                    yield from self._replace(parts=parts).alternatives()
                return
        yield self


def _choice(rng: Random, part: str) -> str:
    return re.sub(r"\{(.*?)\}", lambda braces: rng.choice(braces[1].split("|")), part)


_HALF: Final = "T3Blbk" + "FJ"  # "OpenAI" in base64
_UUID: Final = (Run(HEX, 8), "-", Run(HEX, 4), "-", Run(HEX, 4), "-", Run(HEX, 4), "-", Run(HEX, 12))

FORMS: Final = (
    # gitleaks: openai-api-key
    Form("openai", "openai legacy", "sk-", ("sk-", Run(ALNUM, 20), _HALF, Run(ALNUM, 20)), 0, True, 20),
    Form("openai", "openai project", "sk-proj-", ("sk-proj-", Run(URLSAFE, 58, 74), _HALF, Run(URLSAFE, 58, 74)), 0, True),
    Form("openai", "openai project, without it", "sk-proj-", ("sk-proj-", Run(URLSAFE, 156)), 15, True, 40),
    Form("openai", "openai service account", "sk-svcacct-", ("sk-svcacct-", Run(URLSAFE, 58), _HALF, Run(URLSAFE, 58)), 0, True),
    Form("openai", "openai admin", "sk-admin-", ("sk-admin-", Run(URLSAFE, 20), _HALF, Run(URLSAFE, 20)), 0, True),
    Form("openai", "openai named service", "sk-service-", ("sk-service-", Run(LOWER, 6), "-", Run(URLSAFE, 20), _HALF, Run(URLSAFE, 20)), 0, True),
    Form("openai", "openai none", "sk-None-", ("sk-None-", Run(URLSAFE, 20), _HALF, Run(URLSAFE, 20)), 0, True),
    Form("openai", "openai realtime", "ek_", ("ek_", Run(HEX, 32, 40)), 24, True),
    # betterleaks: deepseek-api-key, kimi-api-key, minimax-api-key; docs.siliconflow.cn; docs.litellm.ai, virtual keys
    Form("openai", "deepseek", "sk-", ("sk-", Run(HEX, 32, 48)), 20, True),
    Form("openai", "moonshot", "sk-", ("sk-", Run(ALNUM, 48)), 20, True),
    Form("openai", "minimax", "sk-api-", ("sk-api-", Run(URLSAFE, 119)), 0, True),
    Form("openai", "siliconflow", "sk-", ("sk-", Run(LOWER, 48, 51)), 32, True),
    Form("openai", "litellm", "sk-", ("sk-", Run(URLSAFE, 22)), 20, True),
    # gitleaks: anthropic-api-key, anthropic-admin-api-key; tokens of Claude's subscriptions begin likewise
    Form("anthropic", "anthropic", "sk-ant-", ("sk-ant-api03-", Run(URLSAFE, 95, 120)), 14, True, 20),
    Form("anthropic", "anthropic admin", "sk-ant-", ("sk-ant-admin01-", Run(URLSAFE, 93, 120), "AA"), 0, True),
    Form("anthropic", "anthropic oauth", "sk-ant-", ("sk-ant-{oat|ort}01-", Run(URLSAFE, 60, 120), "AA"), 0, True),
    Form("anthropic", "anthropic other", "sk-ant-", ("sk-ant-", Run(URLSAFE, 40)), 20, True),
    Form("anthropic", "anthropic dots", "sk-ant-", ("sk-ant-oat01-", Run(URLSAFE, 40), ".", Run(URLSAFE, 40)), 0, True),
    # betterleaks: openrouter-api-key
    Form("openrouter", "openrouter", "sk-or-", ("sk-or-v1-", Run(HEX, 64)), 32, True),
    # langfuse.com/docs: a UUID
    Form("langfuse", "langfuse", "sk-lf-", ("sk-lf-", *_UUID), 0, True),
    # gitleaks: gcp-api-key; betterleaks: gcp-gemini-api; cloud.google.com/docs/authentication/token-types
    Form("google", "google", "AIza", ("AIzaSy", Run(URLSAFE, 33, 40)), 33, True),
    Form("google", "google, another", "AIza", ("AIza", Run(URLSAFE, 35)), 35, True),
    Form("google", "google new", "AQ.", ("AQ.Ab8RN6", Run(URLSAFE, 44, 80)), 24, True),
    Form("google", "google access token", "ya29.", ("ya29.a0", Run(URLSAFE, 200, 400)), 18, True),
    Form("google", "google access token, dots", "ya29.", ("ya29.c.c0", Run(URLSAFE, 200)), 18, True),
    Form("google", "google refresh token", "1//0", ("1//0", Run(URLSAFE, 98, 120)), 30, True),
    Form("google", "google refresh token, as in JSON", "1//0", (r"1\/\/0", Run(URLSAFE, 98)), 30),
    Form("google", "google refresh token, as in URLs", "1//0", ("1%2F%2F0", Run(URLSAFE, 98)), 30),
    Form("google", "google client", "GOCSPX-", ("GOCSPX-", Run(URLSAFE, 28)), 20, True),
    # gitleaks: huggingface-access-token, huggingface-organization-api-token
    Form("huggingface", "huggingface", "hf_", ("hf_", Run(string.ascii_letters, 34, 40)), 34, True),
    Form("huggingface", "huggingface organisation", "api_org_", ("api_org_", Run(string.ascii_letters, 34)), 34, True),
    # trufflehog: groq
    Form("groq", "groq", "gsk_", ("gsk_", Run(ALNUM, 52, 60)), 40, True),
    # trufflehog: xai
    Form("xai", "xai", "xai-", ("xai-", Run(ALNUM, 80, 84)), 40, True),
    # gitleaks: perplexity-api-key
    Form("perplexity", "perplexity", "pplx-", ("pplx-", Run(ALNUM, 48, 56)), 40, True),
    # betterleaks: replicate-api-token
    Form("replicate", "replicate", "r8_", ("r8_", Run(ALNUM, 37, 40)), 36, True),
    # betterleaks: nvidia-api-key
    Form("nvidia", "nvidia", "nvapi-", ("nvapi-", Run(URLSAFE, 64, 70)), 40, True),
    # betterleaks: togetherai-api-key
    Form("together", "together", "tgp_v1_", ("tgp_v1_", Run(URLSAFE, 43)), 40, True),
    # docs.fireworks.ai
    Form("fireworks", "fireworks", "fw_", ("fw_", Run(ALNUM, 24, 40)), 22, True),
    # betterleaks: cerebras-api-key
    Form("cerebras", "cerebras", "csk-", ("csk-", Run(LOWER + DIGITS, 48, 52)), 40, True),
    # gitleaks: langsmith
    Form("langsmith", "langsmith", "lsv2_", ("lsv2_{pt|sk}_", Run(HEX, 32), "_", Run(HEX, 10)), 10, True),
    # logfire.pydantic.dev/docs
    Form("logfire", "logfire", "pylf_", ("pylf_v1_{us|eu}_", Run(ALNUM, 43)), 17, True),
    # betterleaks: elevenlabs
    Form("elevenlabs", "elevenlabs", "sk_", ("sk_", Run(HEX, 48)), 40, True),
    # novita.ai, docs.cartesia.ai, docs.knock.app, liveblocks.io: begin likewise
    Form("elevenlabs", "others", "sk_", ("sk_", Run(URLSAFE, 43)), 40, True),
    # trufflehog: voyageai
    Form("voyage", "voyage", "pa-", ("pa-", Run(URLSAFE, 43)), 40, True),
    # kingfisher: pinecone.yml, tavily.yml, firecrawl.yml, cursor.yml
    Form("pinecone", "pinecone", "pcsk_", ("pcsk_", Run(ALNUM, 5), "_", Run(ALNUM, 63)), 40, True),
    Form("tavily", "tavily", "tvly-", ("tvly-", Run(ALNUM, 32)), 20, True),
    Form("tavily", "tavily dev", "tvly-", ("tvly-{dev|prod}-", Run(ALNUM, 32)), 0, True),
    Form("firecrawl", "firecrawl", "fc-", ("fc-", Run(HEX, 32)), 32),
    Form("cursor", "cursor", "key_", ("key_", Run(HEX, 64)), 64),
    Form("cursor", "cursor cli", "crsr_", ("crsr_", Run(HEX, 64)), 64),
    # jina.ai: 32 hex digits before the rest
    Form("jina", "jina", "jina_", ("jina_", Run(HEX, 32), Run(URLSAFE, 28)), 20),
    # github.com/wandb/wandb/issues/11614: 86 characters
    Form("wandb", "wandb", "wandb_v1_", ("wandb_v1_", Run(URLSAFE, 77)), 60),
    # e2b.dev/docs, docs.runpod.io
    Form("e2b", "e2b", "e2b_", ("e2b_", Run(HEX, 40)), 40),
    Form("runpod", "runpod", "rpa_", ("rpa_", Run(UPPER + DIGITS, 46)), 40),
    # What GitHub's editors send to Copilot
    Form("copilot", "copilot", "tid=", (
        "tid=", Run(HEX, 32), ";exp=", Run(DIGITS, 10), ";sku=monthly;proxy-ep=p.q.invalid;st=dotcom;8kp=1:", Run(HEX, 64),
    )),
    # gitleaks: aws-access-token; betterleaks: aws-amazon-bedrock-api-key-long-lived, -short-lived; AWS STS
    Form("aws", "aws access key", "{AKIA|ASIA|ABIA|ACCA}", ("{AKIA|ASIA|ABIA|ACCA}", Run(BASE32, 16)), 16, True),
    Form("aws", "aws bedrock long", "ABSK", ("ABSK", Run(BASE64, 128)), 60, True),
    Form("aws", "aws bedrock long, padded", "ABSK", ("ABSK", Run(BASE64, 110), "=="), 0, True),
    Form("aws", "aws bedrock short", "bedrock-api-key-", ("bedrock-api-key-", Run(BASE64, 932, 1468)), 20, True),
    Form("aws", "aws session", "{FwoGZXIvYXdz|IQoJb3JpZ2lu}", ("{FwoGZXIvYXdz|IQoJb3JpZ2lu}", Run(BASE64, 400, 900)), 60),
    # microsoft: SEC101/200, and what services write into it: the year and month, the region, the service
    Form("azure", "azure", "JQQJ99", (
        Run(ALNUM, 52), "JQQJ99", "{A|B|C}", Run("ABCDEFGHIJKL", 1), "AC", Run(ALNUM, 5), "XJ3w3", "AAA", Run(UPPER, 1),
        "{ACOG|AZDO|AWPS|ACDB}", Run(ALNUM, 4),
    ), 4, True),
    Form("azure", "azure devops", "JQQJ99", (
        Run(ALNUM, 52), "JQQJ99", "{A|B|C}", Run("ABCDEFGHIJKL", 1), "ACAAAAA", Run(ALNUM, 6), "AAAS", "AZDO", Run(ALNUM, 4),
    ), 0, True),
    # microsoft: SEC101/156, /166, /160, /158, /106, /105
    Form("azure", "azure entra", "{7Q~|8Q~}", (Run(ALNUM, 3), "{7|8}Q~", Run(ALNUM + "_~-", 34)), 31),
    Form("azure", "azure entra, dots", "{7Q~|8Q~}", ("{7|8}Q~", Run(ALNUM, 20), ".", Run(ALNUM, 13))),
    Form("azure", "azure search", "AzSe", (Run(ALNUM, 42), "AzSe", Run("ABCD", 1), Run(ALNUM, 5)), 5),
    Form("azure", "azure cosmos", "ACDb", (Run(BASE64, 76), "ACDb", Run(BASE64, 5), "{A|Q|g|w}==")),
    Form("azure", "azure functions", "AzFu", (Run(URLSAFE, 44), "AzFu", Run(URLSAFE, 5), "{A|Q|g|w}==")),
    Form("azure", "azure storage", "AccountKey=", ("AccountKey=", Run(BASE64, 76), "+ASt", Run(BASE64, 5), "A==")),
    Form("azure", "azure storage, old", "AccountKey=", ("AccountKey=", Run(BASE64, 86), "=="), 40),
    *(
        Form("azure", f"azure {name}, as in URLs", f"{name}=", (f"{name}%3D", Run(BASE64, 86), "%3D%3D"), 40)
        for name in ("AccountKey", "SharedAccessKey", "AccessKey")
    ),
    Form("azure", "azure messaging", "SharedAccessKey=", ("SharedAccessKey=", Run(BASE64, 43), "="), 40),
    Form("azure", "azure web pubsub", "AccessKey=", ("AccessKey=", Run(BASE64, 43), "="), 40),
    # gitleaks: alibaba-access-key-id, databricks-api-token, digitalocean-pat and others, heroku-api-key-v2
    Form("alibaba", "alibaba", "LTAI", ("LTAI5t", Run(ALNUM, 18)), 18),
    Form("databricks", "databricks", "dapi", ("dapi", Run(HEX, 32)), 32, True),
    Form("databricks", "databricks, rotated", "dapi", ("dapi", Run(HEX, 32), "-2"), 0, True),
    Form("digitalocean", "digitalocean", "{dop_v1_|doo_v1_|dor_v1_}", ("{dop_v1_|doo_v1_|dor_v1_}", Run(HEX, 64)), 40),
    Form("heroku", "heroku", "HRKU-", ("HRKU-AA", Run(URLSAFE, 58)), 56),
    # gitleaks: flyio-access-token
    Form("fly", "fly", "fo1_", ("fo1_", Run(URLSAFE, 43)), 43),
    Form("fly", "fly macaroon", "{fm1r_|fm1a_|fm2_}", ("{fm1r_|fm1a_|fm2_}", Run(BASE64, 400)), 100),
    # kingfisher: vercel.yml, supabase.yml, elastic.yml
    Form("vercel", "vercel", "{vck_|vcp_|vci_|vca_|vcr_}", ("{vck_|vcp_|vci_|vca_|vcr_}", Run(ALNUM, 56)), 40),
    Form("supabase", "supabase", "sbp_", ("sbp_{|oauth_|v0_}", Run(HEX, 40)), 40),
    Form("supabase", "supabase project", "sb_secret_", ("sb_secret_", Run(URLSAFE, 22), "_", Run(URLSAFE, 8)), 8),
    Form("elastic", "elastic", "essu_", ("essu_", Run(BASE64, 91), "="), 80),
    # betterleaks: neon-api-key, mongodb-atlas-service-account-secret; gitleaks: planetscale-api-token and others
    Form("neon", "neon", "napi_", ("napi_", Run(LOWER + DIGITS, 64)), 60),
    Form("mongodb", "mongodb", "mdb_sa_sk_", ("mdb_sa_sk_", Run(URLSAFE, 40)), 40),
    Form("planetscale", "planetscale", "pscale_", ("pscale_{tkn|pw|oauth}_", Run(URLSAFE, 43)), 32),
    # tailscale.com/kb
    Form("tailscale", "tailscale", "tskey-", ("tskey-{auth|api|client}-", Run(ALNUM, 17), "-", Run(ALNUM, 32)), 20),
    # gitleaks: github-pat, github-fine-grained-pat, github-app-token; newer app tokens are longer, and have dots
    Form("github", "github", "{ghp_|gho_|ghu_|ghr_}", ("{ghp_|gho_|ghu_|ghr_}", Run(ALNUM, 36, 255)), 36, True),
    Form("github", "github app", "ghs_", ("ghs_", Run(ALNUM, 36)), 36, True),
    Form("github", "github app, dots", "ghs_", ("ghs_", Run(ALNUM, 60), ".", Run(URLSAFE, 300), ".", Run(URLSAFE, 160)), 0, True),
    Form("github", "github app, stateless", "ghs_", ("ghs_", Run(DIGITS, 7), "_eyJ", Run(URLSAFE, 400)), 27, True),
    Form("github", "github fine-grained", "github_pat_", ("github_pat_", Run(ALNUM, 22), "_", Run(ALNUM, 59)), 13, True),
    # docs.gitlab.com/security/tokens, gitleaks: gitlab-pat-routable
    Form("gitlab", "gitlab", "glpat-", ("glpat-", Run(URLSAFE, 20)), 20, True),
    Form("gitlab", "gitlab routable", "glpat-", ("glpat-", Run(URLSAFE, 27), ".", Run(DIGITS, 2), ".", Run(HEX, 9)), 0, True),
    *(
        Form("gitlab", f"gitlab {stem}", f"{stem}-", (f"{stem}-", Run(alphabet, length)), least)
        for stem, alphabet, length, least in (
            ("gldt", URLSAFE, 20, 20), ("glrt", URLSAFE, 20, 20), ("glrtr", URLSAFE, 20, 20), ("glptt", HEX, 40, 20),
            ("glft", URLSAFE, 20, 20), ("glimt", URLSAFE, 25, 20), ("glagent", URLSAFE, 50, 20), ("glsoat", URLSAFE, 20, 20),
            ("gloas", URLSAFE, 64, 20), ("glffct", URLSAFE, 20, 20),
        )
    ),
    Form("gitlab", "gitlab glcbt", "glcbt-", ("glcbt-", Run(ALNUM, 2), "_", Run(URLSAFE, 20)), 17),
    # kingfisher: bitbucket.yml; gitleaks: atlassian-api-token
    Form("atlassian", "atlassian", "{ATATT3|ATCTT3}", ("{ATATT3|ATCTT3}xFfGN0", Run(URLSAFE, 171), "=", Run(HEX.upper(), 8))),
    Form("atlassian", "atlassian, its text", "{ATATT3|ATCTT3}", ("{ATATT3|ATCTT3}", Run(URLSAFE, 180)), 60),
    Form("atlassian", "bitbucket", "ATBB", ("ATBB", Run(ALNUM, 32)), 32),
    # gitleaks: npm-access-token, pypi-upload-token, rubygems-api-token
    Form("npm", "npm", "npm_", ("npm_", Run(ALNUM, 36)), 36, True),
    Form("pypi", "pypi", "pypi-AgE", ("pypi-AgE", Run(URLSAFE, 161, 191)), 50, True),
    Form("ruby", "rubygems", "rubygems_", ("rubygems_", Run(HEX, 48)), 48),
    # trufflehog: dockerhub; kingfisher: circleci.yml; betterleaks: sonar-api-token
    Form("docker", "docker", "{dckr_pat_|dckr_oat_}", ("{dckr_pat_|dckr_oat_}", Run(URLSAFE, 27, 32)), 27),
    Form("circleci", "circleci", "{CCIPAT_|CCIPRJ_}", ("{CCIPAT_|CCIPRJ_}", Run(ALNUM, 22), "_", Run(HEX, 40)), 40),
    Form("sonarqube", "sonarqube", "{sqp_|squ_|sqa_}", ("{sqp_|squ_|sqa_}", Run(HEX, 40)), 40),
    # gitleaks: hashicorp-tf-api-token, pulumi-api-token, vault-service-token, vault-batch-token
    Form("terraform", "terraform", ".atlasv1.", (Run(ALNUM, 14), ".atlasv1.", Run(ALNUM, 67)), 60),
    Form("pulumi", "pulumi", "pul-", ("pul-", Run(HEX, 40)), 40),
    Form("vault", "vault", "{hvs.|hvb.|hvr.}", ("{hvs.|hvb.|hvr.}", Run(URLSAFE, 95, 150)), 24),
    # docs.doppler.com/reference/auth-token-formats
    Form("doppler", "doppler", "dp.", ("dp.{pt|sa|ct|scim|audit}.", Run(ALNUM, 43)), 40),
    Form("doppler", "doppler service token", "dp.", ("dp.st.{dev|prd_main}.", Run(ALNUM, 43)), 40),
    # gitleaks: 1password-service-account-token, 1password-secret-key
    Form("1password", "1password service", "ops_eyJ", ("ops_eyJ", Run(BASE64, 300)), 100),
    Form("1password", "1password", "A3-", (
        "A3-", Run(BASE32, 6), "-", Run(BASE32, 6), "-", Run(BASE32, 5), "-", Run(BASE32, 5), "-", Run(BASE32, 5), "-", Run(BASE32, 5),
    ), 5),
    # gitleaks: age-secret-key, postman-api-token
    Form("age", "age", "AGE-SECRET-KEY-", ("AGE-SECRET-" + "KEY-{1|PQ-1}", Run(BECH32, 58)), 50),
    Form("postman", "postman", "PMAK-", ("PMAK-", Run(HEX, 24), "-", Run(HEX, 34)), 25),
    # trigger.dev/docs/apikeys; docs.getdbt.com
    Form("trigger.dev", "trigger.dev", "{tr_dev_|tr_prod_|tr_pat_|tr_stg_}", ("{tr_dev_|tr_prod_|tr_pat_|tr_stg_}", Run(ALNUM, 24)), 20),
    Form("dbt", "dbt", "{dbtc_|dbtu_}", ("{dbtc_|dbtu_}", Run(URLSAFE, 44)), 40),
    # gitleaks: slack-bot-token, slack-user-token, slack-app-token, slack-config-access-token, slack-config-refresh-token
    Form("slack", "slack bot", "xoxb-", ("xoxb-", Run(DIGITS, 12), "-", Run(DIGITS, 13), "-", Run(ALNUM, 24)), 0, True),
    Form("slack", "slack user", "xoxp-", ("xoxp-", Run(DIGITS, 12), "-", Run(DIGITS, 12), "-", Run(DIGITS, 13), "-", Run(HEX, 32)), 0, True),
    Form("slack", "slack app", "xapp-", ("xapp-1-A", Run(UPPER + DIGITS, 10), "-", Run(DIGITS, 13), "-", Run(HEX, 64, 80)), 20, True),
    Form("slack", "slack rotating", "xoxe.xox", ("xoxe.xox{b|p}-1-", Run(ALNUM, 163)), 16, True),
    Form("slack", "slack refresh", "xoxe-", ("xoxe-1-", Run(ALNUM, 146)), 16, True),
    # betterleaks: slack-session-cookie
    Form("slack", "slack cookie", "xoxd-", ("xoxd-", Run(BASE64, 140)), 20, True),
    # gitleaks: slack-webhook-url
    Form("slack", "slack webhook", "hooks.slack.com/", (
        "hooks.slack.com/services/T", Run(UPPER + DIGITS, 10), "/B", Run(UPPER + DIGITS, 10), "/", Run(ALNUM, 24),
    ), 8),
    Form("slack", "slack workflow", "hooks.slack.com/", (
        "hooks.slack.com/workflows/T", Run(UPPER + DIGITS, 10), "/A", Run(UPPER + DIGITS, 10), "/", Run(DIGITS, 18), "/", Run(ALNUM, 24),
    ), 8),
    Form("slack", "slack trigger", "hooks.slack.com/", (
        "hooks.slack.com/triggers/T", Run(UPPER + DIGITS, 10), "/", Run(DIGITS, 13), "/", Run(HEX, 32),
    ), 8),
    # core.telegram.org/bots/api; kingfisher: telegram.yml, discord.yml
    Form("telegram", "telegram", ":AA", (Run("123456789", 10), ":AA", Run(URLSAFE, 33)), 33),
    *(
        Form("telegram", f"telegram path, {length} digits", ":AA", ("bot", Run("123456789", length), ":AA", Run(URLSAFE, 33)), 33)
        for length in (8, 9, 10)
    ),
    Form("telegram", "telegram, nine digits", ":AA", (Run("123456789", 9), ":AA", Run(URLSAFE, 33)), 33),
    Form("telegram", "telegram, old", ":AA", (Run("123456789", 8), ":AA", Run(URLSAFE, 33)), 33),
    *(
        Form("telegram", f"telegram, {length} digits, as in URLs", ":AA", (Run("123456789", length), "%3AAA", Run(URLSAFE, 33)), 33)
        for length in (8, 9, 10)
    ),
    Form("discord", "discord webhook, as in URLs", "/webhooks/", ("2Fwebhooks%2F", Run("123456789", 18), "%2F", Run(URLSAFE, 68)), 60),
    Form("discord", "discord webhook", "/webhooks/", ("/webhooks/", Run("123456789", 18), "/", Run(URLSAFE, 68)), 60),
    # gitleaks: stripe-access-token; docs.stripe.com/webhooks/signature
    Form("stripe", "stripe", "{sk_live_|rk_live_|sk_test_|rk_test_|rk_prod_}", ("{sk_live_|rk_live_|sk_test_|rk_test_|rk_prod_}", Run(ALNUM, 24, 99)), 24, True),
    Form("stripe", "stripe organisation", "sk_org_", ("sk_org_live_", Run(ALNUM, 40)), 24, True),
    Form("stripe", "stripe webhook", "whsec_", ("whsec_", Run(ALNUM, 32)), 24),
    # gitleaks: square-access-token, facebook-page-access-token
    Form("square", "square", "{sq0atp-|sq0csp-}", ("{sq0atp-|sq0csp-}", Run(URLSAFE, 22, 43)), 22),
    Form("square", "square access", "{EAAAE|EAAAl}", ("{EAAAE|EAAAl}", Run(URLSAFE, 59)), 55),
    Form("facebook", "facebook", "{EAAC|EAAG|EAAM}", ("{EAAC|EAAG|EAAM}", Run(ALNUM, 180)), 100),
    # gitleaks: shopify-access-token and others, sendgrid-api-token, sendinblue-api-token
    Form("shopify", "shopify", "{shpat_|shpss_|shpca_|shppa_}", ("{shpat_|shpss_|shpca_|shppa_}", Run(HEX, 32)), 32),
    Form("sendgrid", "sendgrid", "SG.", ("SG.", Run(URLSAFE, 22), ".", Run(URLSAFE, 43)), 30),
    Form("brevo", "brevo", "xkeysib-", ("xkeysib-", Run(HEX, 64), "-", Run(ALNUM, 16)), 16),
    # resend.com/docs
    Form("resend", "resend", "re_", ("re_", Run(ALNUM, 8), "_", Run(ALNUM, 24)), 24),
    # gitleaks: mailgun-private-api-token, mailchimp-api-key
    Form("mailgun", "mailgun", "key-", ("key-", Run(HEX, 32)), 32),
    Form("mailchimp", "mailchimp", "-us", (Run(HEX, 32), "-us", "{1|5|21}")),
    # gitleaks: linear-api-key, notion-api-token; linear.app/developers; trufflehog: notion
    Form("linear", "linear", "{lin_api_|lin_oauth_}", ("{lin_api_|lin_oauth_}", Run(ALNUM, 40)), 32),
    Form("notion", "notion", "ntn_", ("ntn_", Run(DIGITS, 11), Run(ALNUM, 35)), 29),
    Form("notion", "notion, old", "secret_", ("secret_", Run(ALNUM, 43)), 43),
    # trufflehog: figmapersonalaccesstoken, hubspot
    Form("figma", "figma", "figd_", ("figd_", Run(URLSAFE, 40)), 40),
    Form("hubspot", "hubspot", "pat-", ("pat-{na1|eu1}-", *_UUID), 12),
    # gitleaks: sentry-org-token, sentry-user-token
    Form("sentry", "sentry", "sntrys_", ("sntrys_", Run(BASE64, 120), "=_", Run(BASE64, 43))),
    Form("sentry", "sentry, its text", "sntrys_", ("sntrys_", Run(BASE64, 160)), 40),
    Form("sentry", "sentry user", "sntryu_", ("sntryu_", Run(HEX, 64)), 64),
    # gitleaks: grafana-service-account-token, grafana-cloud-api-token, grafana-api-key
    Form("grafana", "grafana", "glsa_", ("glsa_", Run(ALNUM, 32), "_", Run(HEX, 8)), 5),
    Form("grafana", "grafana cloud", "glc_", ("glc_", Run(BASE64, 120), "="), 32),
    Form("grafana", "grafana, old", "eyJrIjoi", ("eyJrIjoi", Run(ALNUM, 90), "="), 60),
    # docs.newrelic.com/docs/apis/intro-apis/new-relic-api-keys
    Form("newrelic", "newrelic user", "NRAK-", ("NRAK-", Run(UPPER + DIGITS, 27)), 27),
    Form("newrelic", "newrelic insert", "NRII-", ("NRII-", Run(URLSAFE, 32)), 32),
    Form("newrelic", "newrelic browser", "NRJS-", ("NRJS-", Run(HEX, 19)), 19),
    Form("newrelic", "newrelic license", "NRAL", (Run(HEX, 36), "NRAL")),
    # gitleaks: dynatrace-api-token; betterleaks: posthog-personal-api-key
    Form("dynatrace", "dynatrace", "dt0", ("dt0{c01|s16}.", Run(BASE32, 24), ".", Run(BASE32, 64)), 64),
    Form("posthog", "posthog", "phx_", ("phx_", Run(ALNUM, 47)), 40),
    # docs.mapbox.com/help/dive-deeper/access-tokens
    Form("mapbox", "mapbox", "sk.eyJ", ("sk.eyJ1Ijoi", Run(ALNUM, 60), ".", Run(ALNUM, 22)), 20),
    # https://docs.cloud.llamaindex.ai
    Form("llamaindex", "llamacloud", "llx-", ("llx-", Run(ALNUM, 48)), 40),
    # https://api-dashboard.search.brave.com
    Form("brave", "brave", "BSA", ("BSA", Run(URLSAFE, 28)), 27),
    # https://www.kaggle.com/docs/api
    Form("kaggle", "kaggle", "KGAT_", ("KGAT_", Run(HEX, 32)), 32),
    # trufflehog: apify
    Form("apify", "apify", "apify_api_", ("apify_api_", Run(ALNUM, 36)), 30),
    # https://docs.n8n.io/api/authentication
    Form("n8n", "n8n", "n8n_api_", ("n8n_api_", Run(ALNUM, 40)), 36),
    # https://www.daytona.io/docs
    Form("daytona", "daytona", "dtn_", ("dtn_", Run(HEX, 64)), 40),
    # https://www.volcengine.com/docs/82379
    Form("volcengine", "volcengine ark", "ark-", ("ark-", *_UUID), 12),
    Form("volcengine", "volcengine", "AKLT", ("AKLT", Run(ALNUM, 43)), 40),
    # https://cloud.baidu.com/doc/qianfan-api
    Form("baidu", "baidu", "bce-v3/ALTAK", ("bce-v3/ALTAK{|SP}-", Run(ALNUM, 21), "/", Run(HEX, 40)), 40),
    # kingfisher: tencent.yml
    Form("tencent", "tencent", "AKID", ("AKID", Run(ALNUM, 32)), 32),
    # gitleaks: yandex-api-key
    Form("yandex", "yandex", "AQVN", ("AQVN", Run(URLSAFE, 36)), 35),
    # https://turbopuffer.com/docs/auth
    Form("turbopuffer", "turbopuffer", "tpuf_", ("tpuf_", Run(URLSAFE, 32)), 28),
    # kingfisher: browserbase.yml
    Form("browserbase", "browserbase", "{bb_live_|bb_test_}", ("{bb_live_|bb_test_}", Run(URLSAFE, 27)), 24),
    # https://docs.anyscale.com
    Form("anyscale", "anyscale", "esecret_", ("esecret_", Run(LOWER + DIGITS, 26)), 24),
    # kingfisher: friendli.yml
    Form("friendli", "friendli", "flp_", ("flp_", Run(ALNUM, 46)), 40),
    # https://docs.lumalabs.ai
    Form("luma", "luma", "luma-", ("luma-", *_UUID), 12),
    # https://www.coze.com/docs
    Form("coze", "coze", "pat_", ("pat_", Run(ALNUM, 64)), 60),
    # https://docs.letta.com
    Form("letta", "letta", "sk-let-", ("sk-let-", Run(BASE64, 100)), 60),
    # https://docs.voiceflow.com
    Form("voiceflow", "voiceflow", "VF.DM.", ("VF.DM.", Run(HEX, 24), ".", Run(ALNUM, 16)), 16),
    # https://docs.freepik.com
    Form("freepik", "freepik", "FPSX", ("FPSX", Run(HEX, 32)), 32),
    # https://developers.cloudflare.com/fundamentals/api
    Form("cloudflare", "cloudflare", "{cfut_|cfat_|cfk_}", ("{cfut_|cfat_|cfk_}", Run(ALNUM, 48)), 40),
    # https://www.alibabacloud.com/help/en/ram
    Form("alibaba", "alibaba session", "STS.", ("STS.", Run(ALNUM, 24, 60)), 24),
    # kingfisher: aws.yml
    Form("aws", "aws appsync", "da2-", ("da2-", Run(LOWER + DIGITS, 26)), 26),
    # detect-secrets and trufflehog: amazon
    Form("aws", "amazon mws", "amzn.mws.", ("amzn.mws.", *_UUID), 12),
    Form("aws", "amazon oauth", "amzn1.oa2-cs.v1.", ("amzn1.oa2-cs.v1.", Run(HEX, 64)), 64),
    # https://cloud.google.com/storage/docs/authentication/hmackeys
    Form("google", "google storage", "GOOG1E", ("GOOG1E", Run(UPPER + DIGITS, 56)), 56),
    # kingfisher: netlify.yml
    Form("netlify", "netlify", "{nfp_|nfc_|nfo_|nfu_}", ("{nfp_|nfc_|nfo_|nfu_}", Run(ALNUM, 36, 40)), 36),
    # https://render.com/docs/api
    Form("render", "render", "rnd_", ("rnd_", Run(ALNUM, 28, 32)), 24),
    # https://vercel.com/docs/vercel-blob
    Form("vercel", "vercel blob", "vercel_blob_rw_", ("vercel_blob_rw_", Run(ALNUM, 16), "_", Run(ALNUM, 30)), 30),
    # kingfisher: aiven.yml
    Form("aiven", "aiven", "AVNS_", ("AVNS_", Run(URLSAFE, 19)), 18),
    # kingfisher: xata.yml
    Form("xata", "xata", "xau_", ("xau_", Run(ALNUM, 46)), 40),
    # kingfisher: cockroachlabs.yml
    Form("cockroachdb", "cockroachdb", "CCDB1_", ("CCDB1_", Run(ALNUM, 22), "_", Run(ALNUM, 40)), 40),
    # gitleaks: clickhouse-cloud-api-secret-key
    Form("clickhouse", "clickhouse", "4b1d", ("4b1d", Run(ALNUM, 38)), 38),
    # gitleaks: openshift-user-token
    Form("openshift", "openshift", "sha256~", ("sha256~", Run(URLSAFE, 43)), 43),
    # https://docs.snyk.io/snyk-api
    Form("snyk", "snyk", "{snyk_uat.|snyk_sat.}", ("{snyk_uat.|snyk_sat.}", Run(HEX, 8), ".", Run(URLSAFE, 60), ".", Run(URLSAFE, 80)), 20),
    # gitleaks: sourcegraph-access-token
    Form("sourcegraph", "sourcegraph", "sgp_", ("sgp_", Run(HEX, 16), "_", Run(HEX, 40)), 40),
    # gitleaks: prefect-api-token
    Form("prefect", "prefect", "{pnu_|pnb_}", ("{pnu_|pnb_}", Run(ALNUM, 36)), 36),
    # kingfisher: buildkite.yml
    Form("buildkite", "buildkite", "{bkua_|bkat_}", ("{bkua_|bkat_}", Run(ALNUM, 40)), 36),
    # gitleaks: octopus-deploy-api-key
    Form("octopus", "octopus", "API-", ("API-", Run(UPPER + DIGITS, 26)), 26),
    # kingfisher: wakatime.yml
    Form("wakatime", "wakatime", "waka_", ("waka_", *_UUID), 12),
    # https://docs.socket.dev
    Form("socket", "socket", "sktsec_", ("sktsec_", Run(ALNUM, 60)), 40),
    # kingfisher: deepsource.yml
    Form("deepsource", "deepsource", "dsp_", ("dsp_", Run(HEX, 40)), 40),
    # kingfisher: nuget.yml
    Form("nuget", "nuget", "oy2", ("oy2", Run(LOWER + DIGITS, 43)), 43),
    # kingfisher: packagist.yml
    Form("packagist", "packagist", "packagist_", ("packagist_{uut|ort|out}_", Run(HEX, 60)), 40),
    # gitleaks: clojars-api-token
    Form("clojars", "clojars", "CLOJARS_", ("CLOJARS_", Run(LOWER + DIGITS, 60)), 60),
    # gitleaks: artifactory-api-key, artifactory-reference-token
    Form("artifactory", "artifactory", "AKCp", ("AKCp", Run(ALNUM, 69)), 69),
    Form("artifactory", "artifactory reference", "cmVmd", ("cmVmd", Run(ALNUM, 59)), 59),
    # gitleaks: infracost-api-token
    Form("infracost", "infracost", "ico-", ("ico-", Run(ALNUM, 32)), 32),
    # gitleaks: harness-api-key
    Form("harness", "harness", "{pat.|sat.}", ("{pat.|sat.}", Run(URLSAFE, 22), ".", Run(ALNUM, 24), ".", Run(ALNUM, 20)), 20),
    # gitleaks: gitlab-rrt
    Form("gitlab", "gitlab runner", "{GR1348941|glwt-}", ("{GR1348941|glwt-}", Run(URLSAFE, 20)), 20),
    # gitleaks: readme-api-token
    Form("readme", "readme", "rdme_", ("rdme_", Run(LOWER + DIGITS, 70)), 60),
    # https://www.inngest.com/docs
    Form("inngest", "inngest", "signkey-", ("signkey-{prod|test|branch}-", Run(HEX, 64)), 32),
    # https://www.unkey.com/docs
    Form("unkey", "unkey", "unkey_", ("unkey_", Run(ALNUM, 24)), 22),
    # kingfisher: polar.yml
    Form("polar", "polar", "{polar_oat_|polar_pat_}", ("{polar_oat_|polar_pat_}", Run(ALNUM, 43)), 40),
    # https://docs.datadoghq.com/account_management
    Form("datadog", "datadog", "ddpat_", ("ddpat_", Run(ALNUM, 40)), 32),
    # kingfisher: contentful.yml
    Form("contentful", "contentful", "CFPAT-", ("CFPAT-", Run(URLSAFE, 43)), 43),
    # kingfisher: adafruitio.yml
    Form("adafruit", "adafruit", "aio_", ("aio_", Run(ALNUM, 28)), 28),
    # https://documentation.onesignal.com
    Form("onesignal", "onesignal", "{os_v2_app_|os_v2_org_}", ("{os_v2_app_|os_v2_org_}", Run(LOWER + DIGITS, 103)), 80),
    # kingfisher: mailersend.yml
    Form("mailersend", "mailersend", "mlsn.", ("mlsn.", Run(HEX, 64)), 64),
    # https://www.figma.com/developers/api
    Form("figma", "figma oauth", "figu_", ("figu_", Run(URLSAFE, 40)), 40),
    # kingfisher: clickup.yml
    Form("clickup", "clickup", "pk_", ("pk_", Run(DIGITS, 8), "_", Run(UPPER + DIGITS, 32)), 32),
    # trufflehog: fcm
    Form("firebase", "firebase", ":APA91b", ("AAAA", Run(URLSAFE, 7), ":APA91b", Run(URLSAFE, 134)), 120),
    # trufflehog: braintree
    Form("braintree", "braintree", "access_token$production$", ("access_token$production$", Run(LOWER + DIGITS, 16), "$", Run(HEX, 32)), 32),
    # trufflehog: facebook
    Form("facebook", "facebook another", "EAAB", ("EAAB", Run(ALNUM, 150)), 100),
    # gitleaks: duffel-api-token
    Form("duffel", "duffel", "duffel_", ("duffel_{live|test}_", Run(URLSAFE, 43)), 43),
    # gitleaks: shippo-api-token
    Form("shippo", "shippo", "shippo_", ("shippo_{live|test}_", Run(HEX, 40)), 40),
    # gitleaks: easypost-api-token
    Form("easypost", "easypost", "{EZAK|EZTK}", ("{EZAK|EZTK}", Run(ALNUM, 54)), 54),
    # gitleaks: flutterwave-secret-key
    Form("flutterwave", "flutterwave", "FLWSECK", ("FLWSECK{|_TEST}-", Run(HEX, 32)), 32),
    # gitleaks: frameio-api-token
    Form("frame.io", "frame.io", "fio-u-", ("fio-u-", Run(URLSAFE, 64)), 64),
    # gitleaks: scalingo-api-token
    Form("scalingo", "scalingo", "tk-us-", ("tk-us-", Run(URLSAFE, 48)), 48),
    # gitleaks: maxmind-license-key
    Form("maxmind", "maxmind", "_mmk", (Run(ALNUM, 6), "_", Run(ALNUM, 29), "_mmk")),
    # gitleaks: dropbox-short-lived-api-token
    Form("dropbox", "dropbox", "{sl.u.|sl.B}", ("{sl.u.|sl.B}", Run(URLSAFE, 135)), 100),
    # gitleaks: typeform-api-token
    Form("typeform", "typeform", "tfp_", ("tfp_", Run(URLSAFE, 44, 59)), 43),
    # https://docs.honeycomb.io
    Form("honeycomb", "honeycomb", "{hcaik_|hcamk_|hcxik_}", ("{hcaik_|hcamk_|hcxik_}", Run(LOWER + DIGITS, 58)), 48),
    # https://axiom.co/docs
    Form("axiom", "axiom", "{xaat-|xapt-}", ("{xaat-|xapt-}", *_UUID), 12),
    # betterleaks: posthog
    Form("posthog", "posthog oauth", "{pha_|phr_|phs_}", ("{pha_|phr_|phs_}", Run(ALNUM, 44)), 40),
    # kingfisher: rootly.yml
    Form("rootly", "rootly", "rootly_", ("rootly_", Run(HEX, 64)), 64),
    # gitleaks: microsoft-teams-webhook
    Form("teams", "teams", "/webhookb2/", ("/webhookb2/", *_UUID, "@", *_UUID, "/IncomingWebhook/", Run(HEX, 32), "/", *_UUID), 12),
    # kingfisher: brevo.yml
    Form("brevo", "brevo smtp", "xsmtpsib-", ("xsmtpsib-", Run(HEX, 64), "-", Run(ALNUM, 16)), 16),
    # https://developer.paddle.com
    Form("paddle", "paddle", "pdl_", ("pdl_{live|sdbx}_apikey_", Run(LOWER + DIGITS, 26), "_", Run(ALNUM, 22), "_", Run(ALNUM, 3)), 3),
    # RFC 7519
    Form("jwt", "jwt, its claims", "eyJ", ("eyJhbGciOi", Run(URLSAFE, 30), ".eyJ", Run(URLSAFE, 90)), 10, True),
    # RFC 7516: a key for AES-GCM, and one that is wrapped
    Form("jwt", "jwe", "eyJ", ("eyJhbGciOi", Run(ALNUM, 60), ".", Run(URLSAFE, 43), ".", Run(URLSAFE, 16), ".", Run(URLSAFE, 300), ".", Run(URLSAFE, 22)), 0, True),
    Form("jwt", "jwe, direct", "eyJ", ("eyJhbGciOi", Run(ALNUM, 60), "..", Run(URLSAFE, 22), ".", Run(URLSAFE, 90), ".", Run(URLSAFE, 43)), 0, True),
)  # fmt: skip


def _jwt(rng: Random, length: Length) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")

    header: dict[str, object] = {"alg": rng.choice(("HS256", "RS256", "ES256", "EdDSA"))}
    if length:
        header |= {"typ": "JWT", "kid": run(rng, 20 * length)}
    claims = {"sub": run(rng, 8), "exp": rng.randrange(10**9, 2 * 10**9)} | {run(rng, 5): 1 for _ in range(9 * length)}
    signature = run(rng, (43, 86, 342)[length], URLSAFE)
    return f"{part(header)}.{part(claims)}.{signature}"


def _pem(rng: Random, length: Length) -> str:
    kind = rng.choice(("RSA ", "EC ", "", "OPENSSH ", "ENCRYPTED ", "DSA "))
    lines = [base64.b64encode(rng.randbytes(48)).decode() for _ in range((2, 25, 50)[length])]
    dashes = "-" * 5
    return "\n".join([f"{dashes}BEGIN {kind}PRIVATE KEY{dashes}", *lines, f"{dashes}END {kind}PRIVATE KEY{dashes}"])


def random_uuid(rng: Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


ONLY_AS_A_WORD: Final = frozenset({
    "adafruit", "aiven", "alibaba session", "amazon mws", "amazon oauth", "anyscale", "apify", "artifactory", "artifactory reference", "aws appsync", "axiom", "baidu", "braintree", "brave", "brevo smtp", "browserbase", "buildkite", "clickhouse", "clickup", "clojars", "cloudflare", "cockroachdb", "contentful", "coze", "datadog", "daytona", "deepsource", "dropbox", "duffel", "easypost", "facebook another", "figma oauth", "firebase", "flutterwave", "frame.io", "freepik", "friendli", "gitlab runner", "google storage", "harness", "honeycomb", "infracost", "inngest", "kaggle", "letta", "llamacloud", "luma", "mailersend", "maxmind", "n8n", "netlify", "nuget", "octopus", "onesignal", "openshift", "others", "packagist", "paddle", "polar", "posthog oauth", "prefect", "readme", "render", "rootly", "scalingo", "shippo", "snyk", "socket", "sourcegraph", "teams", "tencent", "turbopuffer", "typeform", "unkey", "vercel blob", "voiceflow", "volcengine", "volcengine ark", "wakatime", "xata", "yandex",
    "1password", "1password service", "alibaba", "anthropic other", "aws access key", "aws bedrock long",
    "aws bedrock long, padded", "bitbucket", "cerebras", "cursor", "cursor cli", "databricks", "databricks, rotated",
    "dbt", "deepseek", "doppler", "doppler service token", "dynatrace", "e2b", "elastic", "elevenlabs", "facebook",
    "figma", "firecrawl", "fireworks", "fly", "fly macaroon", "google access token", "google access token, dots",
    "google new", "google refresh token", "google refresh token, as in JSON", "google refresh token, as in URLs",
    "google, another", "grafana, old", "hubspot", "jwe", "jwe, direct", "jwt, its claims", "litellm", "mailchimp",
    "mailgun", "mapbox", "moonshot", "neon", "newrelic browser", "newrelic insert", "newrelic license", "newrelic user",
    "notion, old", "openai realtime", "posthog", "pulumi", "resend", "runpod", "sendgrid", "siliconflow",
    "slack cookie", "sonarqube", "square", "square access", "telegram", "telegram path, 8 digits", "telegram path, 9 digits", "telegram path, 10 digits",
    "telegram, 8 digits, as in URLs", "telegram, 9 digits, as in URLs", "telegram, 10 digits, as in URLs",
    "telegram, nine digits", "telegram, old", "terraform", "trigger.dev", "vault", "voyage",
})  # fmt: skip
"""Kinds that are no keys where a word runs on into them: words end like their beginnings (risk-, are_, api_key_)."""

KINDS: Final[dict[str, tuple[str, Callable[[Random, Length], str]]]] = {
    **{form.kind: (form.rule, form.make) for form in FORMS},
    "jwt": ("jwt", _jwt),  # RFC 7519
    "pem": ("pem", _pem),  # RFC 7468
}
"""What makes a key of each kind, and its rule."""

NOT_IN_BASE64: Final = frozenset(form.kind for form in FORMS if not form.in_base64)
"""Kinds that the package says it does not look for within base64."""

ONLY_AS_ISSUED: Final = frozenset({
    "azure cosmos", "azure functions", "copilot", *(form.kind for form in FORMS if ", as in " in form.kind),
})  # fmt: skip
"""Kinds that are looked for as they are written, in text: not where URLs spell their characters."""
