"""Keys, tokens and passwords in rows: found by their form, never shown.

Each kind has a rough form that a sieve finds in whole blocks at next to no cost, and an exact one
for the few lines that have it, with a check of what can be checked (length, variety, base64, a
token's header) and a look at what stands around it.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode, urlsafe_b64decode
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from maas_client.dataset.parsing.prefilter import Prefilter
from maas_client.dataset.scanners.scanner import Finding, Row, iter_keys, iter_strings


def _varied(text: str) -> bool:
    """Tell a key from a placeholder such as ``xxxxxxxx`` or ``your-key-goes-here``."""
    return len(set(text)) >= 10 and (_two_cases(text) or any(c.isdigit() for c in text))


def _two_cases(text: str) -> bool:
    return text.lower() != text != text.upper()


def _mixed(text: str) -> bool:
    return _two_cases(text) and any(c.isdigit() for c in text)


def _not_filler(text: str) -> bool:
    return len(set(text)) > 6


def _bytes_of(size: int) -> Callable[[str], bool]:
    """Accept base64 text that holds exactly ``size`` bytes; URL-encoded text is decoded first."""

    def check(text: str) -> bool:
        try:
            return len(b64decode(unquote_to_bytes(text), validate=True)) == size and _varied(text)
        except binascii.Error:
            return False

    return check


def _jwt(text: str) -> bool:
    head, _, rest = text.partition(".")
    try:
        header = json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header and not rest.endswith(".")


_STAND_INS = re.compile(
    r"(?i)[*.x#•]+|<.*|\[.*|\$?\{.*|\$\(.*|%.*%|\$[A-Z_]+|(?:your|my|the|some)[\W_].*|"
    r"(?:your|my)?[-_ ]?(?:password|passwd|pass|pwd|secret)s?|user(?:name)?|example|changeme|"
    r"placeholder|redacted|hidden|none|null|true|false|env|string|str|self|os|getenv.*|input.*"
)


def _spoken(text: str) -> bool:
    """Tell a password from the words people write in its place."""
    return not _STAND_INS.fullmatch(text.strip("'\""))


@dataclass(frozen=True, slots=True)
class SecretPattern:
    """One form of secret. Group 1 of ``pattern``, or all of it, must pass ``check``, and is the secret."""

    code: str
    keywords: tuple[str, ...]
    """A text without any of them is not searched."""
    pattern: re.Pattern[str]
    check: Callable[[str], bool]
    includes_prefix: bool = False
    """True: what stands before group 1 is a mark that belongs to the secret, not a setting's name."""


def _kind(
    code: str,
    words: str,
    pattern: str,
    check: Callable[[str], bool] = _varied,
    *,
    marked: bool = False,
) -> SecretPattern:
    return SecretPattern(f"SECRET_{code}", tuple(words.split()), re.compile(pattern), check, marked)


_B = r"(?<![A-Za-z0-9])"
_E = r"(?![A-Za-z0-9])"
_SAID = r"[\"'`*]{0,3}\s{0,3}(?::=|=>|:|=|is\b|\bto\b)\s{0,3}[\"'`*]{0,3}"
"""Between a setting's name and its value."""

PATTERNS = (
    # AWS IAM user guide, "Understanding unique ID prefixes": AKIA long-term, ASIA temporary.
    _kind("AWS_KEY", "AKIA ASIA", rf"{_B}(?:AKIA|ASIA)[A-Z0-9]{{16}}{_E}", _not_filler),
    _kind(
        "AWS_KEY",
        "ecret ECRET AKIA ASIA",
        rf"(?:(?i:secret[\w -]{{0,24}}){_SAID}|(?:AKIA|ASIA)[A-Z0-9]{{16}}\W{{1,4}})"
        r"([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        _mixed,
    ),
    # 64 bytes in base64; accounts' keys carry "+ASt" (storage) and the like near the end.
    _kind(
        "AZURE_STORAGE_KEY",
        "==",
        r"(?<![A-Za-z0-9+/=-])([A-Za-z0-9+/]{86}==)(?![A-Za-z0-9+/=])",
        _bytes_of(64),
    ),
    _kind("AZURE_STORAGE_KEY", "AccountKey", r"AccountKey=([A-Za-z0-9+/]{40,200}={0,2})", _varied),
    _kind(
        "AZURE_SAS", "sig=", r"(?:[?&;]|\b)sig=([A-Za-z0-9%+/]{43,75}(?:=|%3[dD])?)", _bytes_of(32)
    ),
    _kind(
        "AZURE_CONNECTION_STRING",
        "SharedAccessKey",
        r"SharedAccessKey=([A-Za-z0-9+/]{43}=)",
        _bytes_of(32),
    ),
    # Foundry and Azure AI services: 84 letters and digits with a fixed mark, or 32 hex digits.
    _kind("AZURE_KEY", "JQQJ", rf"{_B}[A-Za-z0-9]{{52}}JQQJ9[A-Za-z0-9]{{27}}{_E}"),
    _kind("AZURE_KEY", "AZDO", rf"{_B}[A-Za-z0-9]{{76}}AZDO[A-Za-z0-9]{{4}}{_E}"),
    _kind("AZURE_KEY", "Q~", r"(?<![\w.~-])[\w.~-]{3}\dQ~[\w.~-]{31,34}(?![\w.~-])"),
    _kind(
        "AZURE_KEY",
        "key Key KEY",
        r"(?i:\bkey[12]?|(?:api|subscription|access|account|openai|azure|search|service)[-_ ]?key[12]?)"
        rf"{_SAID}([0-9a-f]{{32}}){_E}",
    ),
    # GitHub blog, "Behind GitHub's new authentication token formats".
    _kind(
        "GITHUB_TOKEN",
        "ghp_ gho_ ghu_ ghs_ ghr_",
        rf"{_B}gh[pousr]_([A-Za-z0-9]{{36,251}}){_E}",
        marked=True,
    ),
    _kind("GITHUB_TOKEN", "github_pat_", r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    _kind("ANTHROPIC_KEY", "sk-ant-", rf"{_B}sk-ant-[A-Za-z0-9_-]{{24,200}}"),
    _kind(
        "OPENAI_KEY",
        "sk-",
        rf"{_B}sk-(?!ant-)(?:proj-|svcacct-|admin-|None-|or-v1-)?(?=[\w-]{{0,180}}[A-Za-z0-9]{{20}})[\w-]{{32,200}}",
    ),
    _kind("SLACK_TOKEN", "xox", rf"{_B}xox[abeoprs]-[A-Za-z0-9.-]{{20,200}}"),
    _kind("SLACK_TOKEN", "xapp-", rf"{_B}xapp-\d-[A-Z0-9]{{1,40}}-\d{{1,40}}-[a-f0-9]{{32,200}}"),
    _kind(
        "SLACK_TOKEN",
        "hooks.slack.com",
        r"hooks\.slack\.com/services/T\w{1,30}/B\w{1,30}/(\w{20,60})",
    ),
    _kind("GOOGLE_KEY", "AIza", rf"{_B}AIza[A-Za-z0-9_-]{{35}}(?![A-Za-z0-9_-])"),
    _kind("HUGGINGFACE_TOKEN", "hf_", rf"{_B}hf_([A-Za-z0-9]{{34,40}}){_E}", marked=True),
    _kind("GITLAB_TOKEN", "glpat-", rf"{_B}glpat-[A-Za-z0-9_-]{{20,200}}"),
    _kind("PACKAGE_TOKEN", "npm_", rf"{_B}npm_[A-Za-z0-9]{{36}}{_E}"),
    _kind("PACKAGE_TOKEN", "pypi-AgEIcHlwaS5vcmc", r"pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,250}"),
    _kind("STRIPE_KEY", "k_live_", rf"{_B}[rs]k_live_[A-Za-z0-9]{{20,200}}"),
    _kind("SENDGRID_KEY", "SG.", rf"{_B}SG\.[A-Za-z0-9_-]{{22}}\.[A-Za-z0-9_-]{{43}}"),
    _kind("DATABRICKS_TOKEN", "dapi", rf"{_B}dapi[0-9a-f]{{32}}{_E}"),
    _kind(
        "JWT",
        "eyJ",
        rf"{_B}eyJ[A-Za-z0-9_-]{{10,4000}}\.[A-Za-z0-9_-]{{4,8000}}\.[A-Za-z0-9_-]{{16,4000}}",
        _jwt,
    ),
    _kind(
        "PRIVATE_KEY",
        "PRIVATE",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:\s|\\[nr])*(?:[A-Z][A-Za-z-]+: ?[^\n\\]*(?:\s|\\[nr])*){0,4}([A-Za-z0-9+/=]{16,4000})",
        _not_filler,
        marked=True,
    ),
    _kind(
        "CONNECTION_STRING",
        "://",
        r"\b(?:postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|amqps?|mssql|sqlserver|oracle|s?ftp|"
        r"smtps?|ldaps?|https?)(?:\+\w+)?://[^\s:/@\"'<>]{0,64}:([^\s/@\"'<>]{5,128})@[\w\[]",
        _spoken,
    ),
    _kind(
        "CONNECTION_STRING",
        "assword= PASSWORD= Pwd= pwd= PWD= assword PASSWORD",
        r"(?i)\b(?:server|data source|host|addr|address|database|initial catalog|user id|uid)\s?="
        r"[^;\n]{1,200};(?:[^;\n]{0,200};){0,12}?\s*(?:password|pwd)\s?=\s?([^;\s\"']{5,128})",
        _spoken,
    ),
)


def find_secrets(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield ``(code, start, end)`` of every secret in a text; overlapping ones once."""
    starts: list[int] = []
    ends: list[int] = []  # of what was found, ascending: nothing overlaps
    for kind in PATTERNS:
        if not any(word in text for word in kind.keywords):
            continue
        for match in kind.pattern.finditer(text):
            group = 1 if kind.pattern.groups else 0
            start, end = match.start(0 if kind.includes_prefix else group), match.end(group)
            at = bisect_right(starts, start)
            if (at and ends[at - 1] > start) or (at < len(starts) and starts[at] < end):
                continue
            if kind.check(match[group]):
                starts.insert(at, start)
                ends.insert(at, end)
                yield kind.code, start, end


class SecretScanner:
    """Finds secrets in all texts and keys of a row, tool definitions and calls included. Flat memory."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> list[Finding]:
        """Return one finding for each kind of secret in each text, at the first one's place."""
        found: list[Finding] = []
        for index in _suspects(lines):
            row = rows[index]
            for pointer, text in iter_strings(row):
                found += self._told(text, numbers[index], pointer)
            for pointer, text in iter_keys(row):
                found += self._told(text, numbers[index], pointer, key=True)
        return found

    def _told(
        self, text: str, number: int, pointer: str, *, key: bool = False
    ) -> Iterator[Finding]:
        places: dict[str, list[int]] = {}
        for code, start, _ in find_secrets(text):
            places.setdefault(code, []).append(start)
        for code, starts in places.items():
            said = ["in a key"] if key else []
            said += [f"the first of {len(starts):,} in this text"] if len(starts) > 1 else []
            self._kinds[code] += 1
            yield Finding(
                code, number, pointer, char_offset=min(starts), in_key=key, detail=", ".join(said)
            )

    def finish(self) -> tuple[Finding, ...]:
        """Return nothing: every secret was told where it stood."""
        return ()

    def stats(self) -> dict[str, Any]:
        """Return how many texts hold each kind."""
        return {"secrets": dict(sorted(self._kinds.items()))} if self._kinds else {}


_RARE = {
    "AKIA": r"AKIA[A-Z0-9]{16}",
    "ASIA": r"ASIA[A-Z0-9]{16}",
    "AccountKey=": r"AccountKey=[A-Za-z0-9+/]{40}",
    "SharedAccessKey=": r"SharedAccessKey=[A-Za-z0-9+/]{43}",
    "JQQJ9": r"JQQJ9[A-Za-z0-9]{27}",
    "AZDO": r"AZDO[A-Za-z0-9]{4}",
    "github_pat_": r"github_pat_[A-Za-z0-9]{22}",
    "xapp-": r"xapp-[0-9]-[A-Z0-9]",
    "hooks.slack": r"hooks\.slack\.com/services/T",
    "AIza": r"AIza[A-Za-z0-9_-]{35}",
    "glpat-": r"glpat-[A-Za-z0-9_-]{20}",
    "npm_": r"npm_[A-Za-z0-9]{36}",
    "pypi-AgEI": r"pypi-AgEIcHlwaS5vcmc",
    "k_live_": r"k_live_[A-Za-z0-9]{20}",
    "PRIVATE KEY": r"PRIVATE KEY",
    "xox": r"xox[abeoprs]-[A-Za-z0-9.-]{20}",
    "hf_": r"hf_[A-Za-z0-9]{34}",
    "dapi": r"dapi[0-9a-f]{32}",
    "eyJ": r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{4}",
}
"""By the rare text that each begins with. In Rust's syntax, over raw lines: backslashes of JSON stand
between the lines of a text."""
_ROUGH = (
    r"[A-Za-z0-9+/]{86}==",
    r"sig=[A-Za-z0-9%+/]{40}",
    r"Q~[A-Za-z0-9_.~-]{31}",
    r"(?:key|Key|KEY)[^\n]{1,24}[0-9a-f]{32}",
    r"gh[pousr]_[A-Za-z0-9]{36}",
    r"sk-[A-Za-z0-9_-]{24}",
    r"SG\.[A-Za-z0-9_-]{22}\.",
    r"://[^\s/]{0,80}:[^\s/]{3,130}@",
)
"""Those that begin with nothing rare."""
_SAID_BEFORE = {
    "ecret": r"ecret[^\n]{1,40}[A-Za-z0-9/+]{40}",
    "ECRET": r"ECRET[^\n]{1,40}[A-Za-z0-9/+]{40}",
    "assword": r"assword ?=",
    "PASSWORD": r"PASSWORD ?=",
    "pwd": r"pwd ?=",
    "swd": r"swd ?=",
    "Pwd": r"Pwd ?=",
    "PWD": r"PWD ?=",
}
"""By the word that says what stands behind it."""


@lru_cache(maxsize=1)
def _sieve() -> Prefilter:
    """Return what finds lines that may hold a secret."""
    return Prefilter(*_ROUGH, by_literal=_SAID_BEFORE | _RARE)


def _suspects(lines: Sequence[bytes]) -> list[int]:
    """Return the indices of the lines that may hold a secret."""
    return sorted(_sieve()(lines))
