"""The PII scanner finds generated personal data and ignores similar text."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable

import pytest

from maas_client.dataset.codes import all_codes
from maas_client.dataset.report import to_pointer
from maas_client.dataset.scanners.pii import (
    CODES,
    PiiScanner,
    find_pii,
    is_iban_valid,
    is_luhn_valid,
)

RNG = random.Random(7)


def digits(size: int) -> str:
    return "".join(RNG.choice(string.digits) for _ in range(size))


def card(start: str, size: int, group: str = "") -> str:
    body = start + digits(size - len(start) - 1)
    number = next(body + d for d in string.digits if is_luhn_valid(body + d))
    if not group:
        return number
    sizes = (4, 6, 5) if size == 15 else (4, 4, 4, 4)
    parts, at = [], 0
    for step in sizes:
        parts.append(number[at : at + step])
        at += step
    return group.join(parts)


def iban(country: str, form: str, *, spaced: bool) -> str:
    body = "".join(
        RNG.choice(string.digits) if c == "n" else RNG.choice(string.ascii_uppercase) for c in form
    )
    number = next(
        f"{country}{n:02}{body}" for n in range(2, 99) if is_iban_valid(f"{country}{n:02}{body}")
    )
    return " ".join(number[i : i + 4] for i in range(0, len(number), 4)) if spaced else number


PERSONAL: dict[str, list[Callable[[], str]]] = {
    "PII_EMAIL": [
        lambda: (
            f"{RNG.choice(['jo', 'a.b+c', 'x_y', 'jörg'])}@{RNG.choice(['example.com', 'mail.co.uk'])}"
        )
    ],
    "PII_PHONE": [
        lambda: f"({RNG.randint(200, 999)}) {RNG.randint(200, 999)}-{digits(4)}",
        lambda: f"{RNG.randint(200, 999)}-{RNG.randint(200, 999)}-{digits(4)}",
        lambda: f"{RNG.randint(200, 999)}.{RNG.randint(200, 999)}.{digits(4)}",
        lambda: f"+1 {RNG.randint(200, 999)} {RNG.randint(200, 999)} {digits(4)}",
        lambda: f"+44 20 {digits(4)} {digits(4)}",
        lambda: f"+49 30 {digits(6)}",
        lambda: f"+33 1 {digits(2)} {digits(2)} {digits(2)} {digits(2)}",
        lambda: f"+4917{digits(9)}",
        lambda: f"020 7{digits(3)} {digits(4)}",
    ],
    "PII_CARD": [
        lambda: card("4", 16),
        lambda: card("4", 16, " "),
        lambda: card("53", 16, "-"),
        lambda: card("37", 15),
        lambda: card("37", 15, " "),
        lambda: card("6011", 16, " "),
    ],
    "PII_IBAN": [
        lambda: iban("DE", "n" * 18, spaced=True),
        lambda: iban("DE", "n" * 18, spaced=False),
        lambda: iban("GB", "aaaa" + "n" * 14, spaced=True),
        lambda: iban("NL", "aaaa" + "n" * 10, spaced=False),
        lambda: iban("FR", "n" * 23, spaced=True),
        lambda: iban("NO", "n" * 11, spaced=True),
    ],
    "PII_SSN": [lambda: f"{RNG.randint(100, 600)}-{RNG.randint(10, 99)}-{RNG.randint(1000, 9999)}"],
    "PII_IP": [
        lambda: ".".join(str(RNG.randint(1, 223)) for _ in range(4)),
        lambda: "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        lambda: f"2001:db8::{RNG.randint(1, 9)}:1",
    ],
}
HARMLESS: list[Callable[[], str]] = [
    lambda: f"{RNG.randint(100, 999)} - {RNG.randint(10, 99)} = {RNG.randint(10, 999)}",
    lambda: f"<<{RNG.randint(1000, 9999)}-{RNG.randint(100, 999)}={RNG.randint(100, 9000)}>>",
    lambda: f"pi is 3.{digits(16)} and e is 2.{digits(9)}",
    lambda: (
        f"order {RNG.randint(10**9, 10**10 - 1)} of 2023-{RNG.randint(10, 12)}-{RNG.randint(10, 28)}"
    ),
    lambda: f"version {RNG.randint(1, 9)}.{RNG.randint(0, 30)}.{RNG.randint(0, 9)}",
    lambda: "1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584",
    lambda: "10 20 30 40 50 60 70 80 90 100 110 120",
    lambda: "@decorator and @types/node and meet @ noon, git@github.com:a/b.git",
    lambda: "from 1999-2004 and 2010-2015, 12:30:45, 127.0.0.1, std::vector<int>",
    lambda: "1234 5678 9012 3456",
    lambda: "GB00 WEST 1234 5698 7654 32",
    lambda: "ISBN 978-3-16-148410-0",
]


def row(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "ok"}]}


@pytest.mark.parametrize("code", PERSONAL)
def test_recall(code: str) -> None:
    texts = [f"Write to {make()}, please." for make in PERSONAL[code] for _ in range(30)]
    scanner = PiiScanner()
    rows = [row(text) for text in texts]
    scanner.feed(range(1, len(rows) + 1), [json.dumps(r).encode() for r in rows], rows)
    assert scanner.stats()["pii_rows"][code] / len(texts) >= 0.95


def test_precision() -> None:
    texts = [f"It says {make()} here." for make in HARMLESS for _ in range(50)]
    false_alarms = [(text, find_pii(text)) for text in texts if find_pii(text)]
    assert len(false_alarms) <= 0.01 * len(texts), false_alarms[:5]


def test_one_finding_per_kind_has_the_count_and_no_text() -> None:
    rows = [
        row("a"),
        row("mail jane.roe@corp.example"),
        row("b"),
        row("mail john.roe@corp.example twice, x@y.zz"),
    ]
    scanner = PiiScanner()
    assert not list(scanner.feed(range(1, 5), [json.dumps(r).encode() for r in rows], rows))
    [finding] = scanner.finish()
    assert (finding.code, finding.line, finding.detail) == ("PII_EMAIL", 2, "in 2 rows, first here")
    assert (to_pointer(finding.path), finding.char_offset) == ("/messages/0/content", 5)
    assert "roe" not in repr(finding)


def test_numbers_after_escaped_characters_are_found() -> None:
    rows = [row("Zoë’s card is " + card("4", 16)), row("Отправьте на адрес: +49 30 123456")]
    scanner = PiiScanner()
    scanner.feed([1, 2], [json.dumps(r).encode() for r in rows], rows)
    assert scanner.stats()["pii_rows"] == {"PII_CARD": 1, "PII_PHONE": 1}


def test_check_digits_are_verified() -> None:
    assert is_luhn_valid("4111111111111111")
    assert not is_luhn_valid("4111111111111112")
    assert is_iban_valid("GB82WEST12345698765432")
    assert not is_iban_valid("GB83WEST12345698765432")


def test_every_kind_has_a_code() -> None:
    assert set(CODES) <= set(all_codes())
