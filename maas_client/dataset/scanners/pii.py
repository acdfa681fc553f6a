"""Find personal data in rows. It is counted by kind and never printed.

Check digits are verified (Luhn for cards, mod 97 for IBANs) to avoid false alarms. Deliberately not
reported: plain ten-digit numbers, which are often order numbers, and loopback addresses (127.0.0.1, ::1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Any

from maas_client.dataset.issues import Issue
from maas_client.dataset.parsing.prefilter import Matcher, Prefilter, compile_pattern
from maas_client.dataset.parsing.strict_json import collect_strings
from maas_client.dataset.scanners import Row, iter_strings, message_texts

_EMAIL = re.compile(r"@(?:[^\W_](?:[^\W_]|-){0,62}\.){1,8}[^\W\d_]{2,24}(?![^\W_])")
_INTERNATIONAL = re.compile(
    r"\+(?<![\w+].)[0-9]{1,3}[ .\-/]?(?:\([0-9]{1,5}\)[ .\-/]?)?[0-9]{1,5}"
    r"(?:[ .\-/]?[0-9]{2,5}){1,5}(?!\w)"
)
_PHONE = re.compile(
    r"(?<![\w.+-])(?:"
    r"(?:1[ .-])?(?:\([0-9]{3}\) ?|[0-9]{3}[-.])[0-9]{3}[-.][0-9]{4}"
    r"|(?:1 )?(?:\([2-9][0-9]{2}\)|[2-9][0-9]{2}) [2-9][0-9]{2} (?:[0-9]{4}|[0-9]{2} [0-9]{2})"
    r"|(?<!,)0[0-9]{2,4}[ /-][0-9]{3,4}[ -]?[0-9]{3,4}"
    r")(?![\w-])"
)
_CARD = re.compile(
    r"(?<![0-9.,-])[0-9]{4}([ -]?)(?:[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}|[0-9]{6}\1[0-9]{4,5})(?![0-9-])"
)
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![\w-])")
_IPV4 = re.compile(r"(?<![\w.-])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w-]|\.\w)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){1,7}(?::|[0-9A-Fa-f]{1,4})[0-9A-Fa-f:]{0,34}")
_IBAN = re.compile(r"[A-Z][A-Z][0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?")

# A necessary condition for each pattern, in the syntax of Rust's regex, which has no look-around. It is so
# much faster that the exact pattern is tried only where this one matches.
_BEFORE, _AFTER = "(?:^|[^A-Za-z0-9_.+-])", "(?:$|[^A-Za-z0-9_-])"
_ROUGH_INTERNATIONAL = (
    r"(?:^|[^A-Za-z0-9_+])\+[0-9]{1,3}[ ./-]?(?:\([0-9]{1,5}\)[ ./-]?)?[0-9]{1,5}"
    r"(?:[ ./-]?[0-9]{2,5}){1,5}(?:$|[^A-Za-z0-9_])"
)
_ROUGH_PHONE = (
    rf"{_BEFORE}(?:"
    r"(?:1[ .-])?(?:\([0-9]{3}\) ?|[0-9]{3}[.-])[0-9]{3}[.-][0-9]{4}"
    r"|(?:1 )?(?:\([2-9][0-9]{2}\)|[2-9][0-9]{2}) [2-9][0-9]{2} (?:[0-9]{4}|[0-9]{2} [0-9]{2})"
    r"|0[0-9]{2,4}[ /-][0-9]{3,4}[ -]?[0-9]{3,4}"
    rf"){_AFTER}"
)
_ROUGH_CARD = (
    r"(?:^|[^0-9.,-])[2-6][0-9]{3}(?:[0-9]{9,15}"
    r"| (?:[0-9]{4} [0-9]{4} [0-9]{1,7}|[0-9]{6} [0-9]{4,5})"
    r"|-(?:[0-9]{4}-[0-9]{4}-[0-9]{1,7}|[0-9]{6}-[0-9]{4,5}))(?:$|[^0-9-])"
)
_ROUGH_SSN = r"(?:^|[^A-Za-z0-9_-])[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}(?:$|[^A-Za-z0-9_-])"
_ROUGH_IPV4 = r"(?:^|[^A-Za-z0-9_.-])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?:$|[^A-Za-z0-9_-])"
_ROUGH_IBAN = r"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}"
_ROUGH_IPV6 = (
    r"(?:^|[^A-Za-z0-9_:.])(?:[0-9A-Fa-f]{1,4}:){1,7}:|(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]"
)

# ISO 13616 registry: the countries by the length of their IBANs.
_COUNTRIES_BY_LENGTH = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_LENGTHS = {
    country: size
    for size, countries in _COUNTRIES_BY_LENGTH.items()
    for country in countries.split()
}
# ISO/IEC 7812 ranges in use: Visa, Mastercard, Amex, Diners, Discover, JCB, UnionPay, Maestro.
_CARD_START = re.compile(
    r"4|5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[47]|3(?:0[0-5]|[689])|6(?:011|4[4-9]|5)|35|62"
    r"|5018|5020|5038|6304|6759|676[1-3]"
)


def is_luhn_valid(digits: str) -> bool:
    """Check a card number's last digit (ISO/IEC 7812-1, annex B)."""
    doubled = [int(d) * 2 for d in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(d - 9 if d > 9 else d for d in doubled)) % 10 == 0


def is_iban_valid(iban: str) -> bool:
    """Check an IBAN's length and its two check digits (ISO 13616, ISO/IEC 7064)."""
    if _IBAN_LENGTHS.get(iban[:2]) != len(iban):
        return False
    return int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 == 1


# Each function returns the index of the first character of its kind of data in a text, or None.


def _find_email(text: str) -> int | None:
    for match in _EMAIL.finditer(text):
        at = match.start()
        has_name = at and (text[at - 1].isalnum() or text[at - 1] in "_%+-")
        if has_name and not text.endswith("git", 0, at):
            return _name_start(text, at)
    return None


def _name_start(text: str, at: int) -> int:
    """Return the index at which the name that ends at ``at`` starts."""
    while at and (text[at - 1].isalnum() or text[at - 1] in "_.%+-"):
        at -= 1
    return at


def _find_international(text: str) -> int | None:
    for match in _INTERNATIONAL.finditer(text):
        if 8 <= sum(c.isdigit() for c in match[0]) <= 15:
            return match.start()
    return None


def _find_pattern(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return match.start() if match else None


def _find_card(text: str) -> int | None:
    for match in _CARD.finditer(text):
        digits = match[0].replace(match[1], "") if match[1] else match[0]
        if _CARD_START.match(digits) and is_luhn_valid(digits) and len(set(digits)) > 2:
            return match.start()
    return None


def _find_iban(text: str) -> int | None:
    for match in _IBAN.finditer(text):
        compact = match[0].replace(" ", "")
        starts_word = not text[max(0, match.start() - 1) : match.start()].isalnum()
        if starts_word and is_iban_valid(compact[: _IBAN_LENGTHS.get(compact[:2], 0)]):
            return match.start()
    return None


def _find_address(pattern: re.Pattern[str], text: str) -> int | None:
    for match in pattern.finditer(text):
        try:
            address = ip_address(match[0] if "::" in match[0] else match[0].rstrip(":"))
        except ValueError:
            continue
        if not (address.is_loopback or address.is_unspecified or address.is_multicast):
            return match.start()
    return None


_DETECTORS: tuple[tuple[str, str, Callable[[str], int | None]], ...] = (
    ("PII_EMAIL", "@", _find_email),
    ("PII_PHONE", _ROUGH_INTERNATIONAL, _find_international),
    ("PII_PHONE", _ROUGH_PHONE, partial(_find_pattern, _PHONE)),
    ("PII_CARD", _ROUGH_CARD, _find_card),
    ("PII_SSN", _ROUGH_SSN, partial(_find_pattern, _SSN)),
    ("PII_IP", _ROUGH_IPV4, partial(_find_address, _IPV4)),
    ("PII_IP", _ROUGH_IPV6, partial(_find_address, _IPV6)),
    ("PII_IBAN", _ROUGH_IBAN, _find_iban),
)
CODES = tuple(dict.fromkeys(code for code, _, _ in _DETECTORS))


def find_pii(text: str, skipped_codes: Collection[str] = ()) -> dict[str, int]:
    """Return the code of every kind of personal data in a text, except those in ``skipped_codes``.

    The value is the index of the first character of the first occurrence.
    """
    first_index: dict[str, int] = {}
    for code, may_hold, find in _compile_detectors():
        if code not in skipped_codes and may_hold(text) and (at := find(text)) is not None:
            first_index[code] = min(at, first_index.get(code, at))
    return first_index


@lru_cache(maxsize=1)
def _compile_detectors() -> list[tuple[str, Matcher, Callable[[str], int | None]]]:
    return [(code, compile_pattern(rough), exact) for code, rough, exact in _DETECTORS]


class PiiScanner:
    """Counts the rows with each kind of personal data, and stores where the first is. Constant memory."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._first: dict[str, Issue] = {}

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> tuple[Issue, ...]:
        """Count; issues are reported by ``finish``."""
        candidates = _candidate_lines(lines)
        texts = message_texts(rows) if candidates else ()
        for index in candidates:
            row_texts = texts[index]
            codes: set[str] = set()
            for text in row_texts if row_texts is not None else collect_strings(rows[index]):
                codes.update(find_pii(text, codes))
            for code in codes:
                if code not in self._rows:
                    self._first[code] = _locate(code, numbers[index], rows[index])
                self._rows[code] = self._rows.get(code, 0) + 1
        return ()

    def finish(self) -> Iterator[Issue]:
        """Yield one issue per kind and file, at the first occurrence."""
        for code, count in sorted(self._rows.items()):
            first = self._first[code]
            yield first._replace(detail=f"in {count:,} rows, first here" if count > 1 else "")

    def stats(self) -> dict[str, Any]:
        """Return how many rows contain each kind."""
        return {"pii_rows": dict(sorted(self._rows.items()))} if self._rows else {}


def _locate(code: str, number: int, row: Row) -> Issue:
    """Return the position of the first personal data of a kind in a row."""
    for path, text in iter_strings(row):
        if (at := find_pii(text).get(code)) is not None:
            return Issue(code, path, char_offset=at, line=number)
    return Issue(code, line=number)


_AFTER_DIGIT = (
    r"[0-9]{2}[ .-][0-9]{4}",
    r"[0-9]-[0-9]{4}",
    r"[0-9]{9}",
    r"[0-9]{3}[ -](?:[0-9]{4}[ -][0-9]{2}|[0-9]{6})",
    r"[0-9]{3}:[0-9A-Za-z\x80-\x{10ffff}:]",
    r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
    r"02[bB][0-9]{2}",
)
"""Digit groups of phone, card and account numbers and of addresses, after their first digit. The last is the
end of an escaped plus sign."""


@lru_cache(maxsize=1)
def _prefilter() -> Prefilter:
    """Return the filter for lines that may contain personal data."""
    return Prefilter(
        r"[A-Za-z0-9_%+\x80-\x{10ffff}-]@[^\s]",
        r"\+[0-9]{1,3}[ .\-/(]{1,2}[0-9(]|\+[0-9]{8}",
        after_digit=_AFTER_DIGIT,
    )


def _candidate_lines(lines: Sequence[bytes]) -> list[int]:
    """Return the indices of the lines that may contain personal data."""
    return sorted(_prefilter()(lines))
