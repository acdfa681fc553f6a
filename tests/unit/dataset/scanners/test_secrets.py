"""The secret scanner finds generated secrets and ignores similar text."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable

import pytest

from maas_client.dataset.codes import all_codes
from maas_client.dataset.report import to_pointer
from maas_client.dataset.scanners.secrets import PATTERNS, SecretScanner, find_secrets

RNG = random.Random(20)
ALNUM = string.ascii_letters + string.digits
PROSE = [
    "The ferry leaves at nine and the museum opens at ten, so there is time for a coffee",
    "Call get_current_weather_for_location_by_name before you answer",
    "Reset it under Settings > Keys",
    "Der Donaudampfschifffahrtsgesellschaftskapitän grüßt",
    "今日は天気がいいです。",
]


def text(letters: str, size: int) -> str:
    return "".join(RNG.choice(letters) for _ in range(size))


def b64(size: int) -> str:
    return base64.b64encode(RNG.randbytes(size)).decode()


def jwt() -> str:
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": text(string.digits, 8), "name": "A"}]
    coded = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    ]
    return ".".join([*coded, base64.urlsafe_b64encode(RNG.randbytes(32)).decode().rstrip("=")])


def pem(kind: str = "RSA ") -> str:
    body = "\n".join(b64(48) for _ in range(4))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----"


def sas() -> str:
    signature = b64(32).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    return (
        f"https://a.blob.core.windows.net/c/f?sv=2022-11-02&se=2026-01-01&sr=b&sp=r&sig={signature}"
    )


SECRETS: dict[str, list[Callable[[], str]]] = {
    "SECRET_AWS_KEY": [
        lambda: "AKIA" + text(string.ascii_uppercase + "234567", 16),
        lambda: "ASIA" + text(string.ascii_uppercase + "234567", 16),
        lambda: "aws_secret_access_key = " + b64(30),
    ],
    "SECRET_AZURE_STORAGE_KEY": [
        lambda: b64(64),
        lambda: (
            f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={b64(64)};EndpointSuffix=x"
        ),
    ],
    "SECRET_AZURE_SAS": [sas],
    "SECRET_AZURE_CONNECTION_STRING": [
        lambda: (
            f"Endpoint=sb://a.servicebus.windows.net/;SharedAccessKeyName=r;SharedAccessKey={b64(32)}"
        )
    ],
    "SECRET_AZURE_KEY": [
        lambda: text(ALNUM, 52) + "JQQJ99" + text(ALNUM, 26),
        lambda: "api-key: " + text("0123456789abcdef", 32),
        lambda: "AZURE_OPENAI_API_KEY='" + text("0123456789abcdef", 32) + "'",
        lambda: text(ALNUM, 3) + "8Q~" + text(ALNUM, 34),
    ],
    "SECRET_GITHUB_TOKEN": [
        lambda: RNG.choice(["ghp_", "gho_", "ghs_"]) + text(ALNUM, 36),
        lambda: "github_pat_" + text(ALNUM, 22) + "_" + text(ALNUM, 59),
    ],
    "SECRET_OPENAI_KEY": [
        lambda: "sk-" + text(ALNUM, 20) + "T3BlbkFJ" + text(ALNUM, 20),
        lambda: (
            "sk-proj-" + text(ALNUM + "-_", 40) + text(ALNUM, 40) + "T3BlbkFJ" + text(ALNUM, 40)
        ),
        lambda: "sk-" + text(ALNUM, 48),
    ],
    "SECRET_ANTHROPIC_KEY": [lambda: "sk-ant-api03-" + text(ALNUM + "-_", 93) + "AA"],
    "SECRET_SLACK_TOKEN": [
        lambda: f"xoxb-{text(string.digits, 12)}-{text(string.digits, 12)}-{text(ALNUM, 24)}",
        lambda: (
            f"https://hooks.slack.com/services/T{text('ABC123', 8)}/B{text('ABC123', 8)}/"
            + text(ALNUM, 24)
        ),
    ],
    "SECRET_GOOGLE_KEY": [lambda: "AIza" + text(ALNUM + "-_", 34) + "x"],
    "SECRET_HUGGINGFACE_TOKEN": [lambda: "hf_" + text(string.ascii_letters, 34)],
    "SECRET_GITLAB_TOKEN": [lambda: "glpat-" + text(ALNUM, 20)],
    "SECRET_PACKAGE_TOKEN": [lambda: "npm_" + text(ALNUM, 36)],
    "SECRET_STRIPE_KEY": [lambda: "sk_live_" + text(ALNUM, 24)],
    "SECRET_SENDGRID_KEY": [lambda: f"SG.{text(ALNUM, 22)}.{text(ALNUM, 43)}"],
    "SECRET_DATABRICKS_TOKEN": [lambda: "dapi" + text("0123456789abcdef", 32)],
    "SECRET_JWT": [jwt],
    "SECRET_PRIVATE_KEY": [pem, lambda: pem(""), lambda: pem("EC ").replace("\n", "\\n")],
    "SECRET_CONNECTION_STRING": [
        lambda: f"postgresql://app:{text(ALNUM, 9)}@db.example.com:5432/shop",
        lambda: f"redis://:{text(ALNUM, 9)}@cache:6379/0",
        lambda: (
            f"Server=tcp:a.database.windows.net,1433;Database=x;User ID=b;Password={text(ALNUM, 9)}!;"
        ),
    ],
}
HARMLESS: list[Callable[[], str]] = [
    lambda: f"The commit is {text('0123456789abcdef', 40)}.",
    lambda: f"md5 {text('0123456789abcdef', 32)}, sha256 {text('0123456789abcdef', 64)}",
    lambda: f'"integrity": "sha512-{b64(64)}"',
    lambda: "id 123e4567-e89b-12d3-a456-426614174000 was created",
    lambda: "Set OPENAI_API_KEY=sk-your-key-goes-here-and-nothing-else-at-all",
    lambda: "export GITHUB_TOKEN=ghp_" + "x" * 36,
    lambda: "Server=myServer;Database=myDb;User Id=me;Password=<password>;",
    lambda: "postgresql://user:password@localhost/db and redis://:${REDIS_PASSWORD}@cache",
    lambda: (
        "A PEM file starts with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----."
    ),
    lambda: (
        "https://example.com/a/very-long-path/of-words/that-are-joined/with-dashes?page=2&sort=up"
    ),
    lambda: "data:image/png;base64," + b64(120),
    lambda: (
        "class SkCircleFadeDotAnimationControllerFactoryBean: sk-circle-fade-dot-animation-delayed-start"
    ),
    lambda: "eyJ is how a JWT starts: header.payload.signature, each in base64url",
    lambda: "call_" + text(ALNUM, 24),
    lambda: f"The account key is {text(string.ascii_lowercase, 12)} and the colour is blue.",
    lambda: (
        "AKIA is the prefix of AWS access keys; ASIA that of temporary ones, in ASIA and EUROPE."
    ),
]


def scan(texts: list[str], *, ascii_only: bool = True) -> tuple[set[int], list[str]]:
    rows = [
        {"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": "ok"}]}
        for t in texts
    ]
    lines = [json.dumps(row, ensure_ascii=ascii_only).encode() for row in rows]
    scanner = SecretScanner()
    issues = [*scanner.feed(range(1, len(rows) + 1), lines, rows), *scanner.finish()]
    return {finding.line for finding in issues}, [finding.code for finding in issues]


def around(secret: str) -> str:
    before, after = RNG.choice(PROSE), RNG.choice(PROSE)
    return RNG.choice(
        [f"{before}\n{secret}\n{after}", f"{before} '{secret}' {after}", f'{before}: "{secret}"']
    )


@pytest.mark.parametrize("code", SECRETS)
def test_recall_of_every_kind(code: str) -> None:
    texts = [around(make()) for make in SECRETS[code] for _ in range(40)]
    lines, codes = scan(texts)
    assert len(lines) / len(texts) >= 0.99
    assert codes.count(code) / len(codes) >= 0.97


def test_precision_on_text_that_only_looks_like_secrets() -> None:
    texts = [around(make()) for make in HARMLESS for _ in range(60)]
    lines, codes = scan(texts)
    assert not lines, (codes, [texts[line - 1] for line in sorted(lines)][:3])


def test_secret_in_tool_arguments_is_located_by_its_pointer() -> None:
    key = "ghp_" + text(ALNUM, 36)
    call = {"id": "c", "function": {"name": "f", "arguments": json.dumps({"token": key})}}
    row = {
        "messages": [
            {"role": "user", "content": "été"},
            {"role": "assistant", "tool_calls": [call]},
        ]
    }
    [finding] = SecretScanner().feed([7], [json.dumps(row).encode()], [row])
    assert (finding.line, finding.code) == (7, "SECRET_GITHUB_TOKEN")
    assert to_pointer(finding.path) == "/messages/1/tool_calls/0/function/arguments"


def test_findings_contain_no_part_of_the_secret() -> None:
    for makers in SECRETS.values():
        secret = makers[0]()
        row = {"messages": [{"role": "user", "content": secret}]}
        for finding in SecretScanner().feed([1], [json.dumps(row).encode()], [row]):
            assert not any(secret[i : i + 8] in repr(finding) for i in range(len(secret) - 8))


def test_overlapping_matches_are_reported_once() -> None:
    line = f"AccountKey={b64(64)}"
    assert [code for code, _, _ in find_secrets(line)] == ["SECRET_AZURE_STORAGE_KEY"]


def test_hostile_texts_are_searched_quickly() -> None:
    import time

    for hostile in (
        "a" * 300_000,
        "sk-" * 100_000,
        "eyJ" * 100_000,
        "Server=a;" * 30_000,
        "://" * 90_000,
    ):
        started = time.process_time()
        scan([hostile])
        assert time.process_time() - started < 2


def test_every_kind_has_a_code() -> None:
    assert {kind.code for kind in PATTERNS} <= set(all_codes())
