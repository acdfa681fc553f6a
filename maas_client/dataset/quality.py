"""Answers that teach the wrong thing: cut short, refusals, placeholders, broken characters.

Only warnings, and cautious ones: real data must not drown in them. That an answer ends without a
full stop means something only in a file whose answers otherwise end with one.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from maas_client.dataset.finding import Finding, Row

_HANGING = re.compile(
    r"an?|the|and|as|at|because|but|by|for|from|if|into?|is|of|on|or|our|so|than|that|their|then|to|"
    r"we|were|when|where|which|while|who|with|your"
)
"""An English sentence that ends in one of these was cut."""
_CUT_MARKS = ",;([{–—/&+="
_ENDS = frozenset('.!?。！？…।۔؟"”’»)]}`*_>|')
ENOUGH_ROWS, ENOUGH_SHARE = 8, 0.8
"""Answers without an end are told if so many, and of all so large a share, have one."""
_KEPT = 10_000

_REFUSAL = re.compile(
    r"(?i)(?:i['’]?m|i am)\s+(?:very |really |truly )?(?:sorry|afraid)\W{1,3}(?:but )?(?:as an ai\b|"
    r"i (?:can(?:['’]t|not)|am unable|['’]m unable|am not able|['’]m not able|do not feel|won['’]t))"
    r"|(?:sorry|unfortunately)\W{1,3}(?:but )?i (?:can(?:['’]t|not)|am unable to|['’]m unable to|am not "
    r"able to|['’]m not able to) (?:assist|help|provide|fulfil|fulfill|comply|answer|do that|create|"
    r"generate|write|support|continue|discuss|engage)"
    r"|i(?: can(?:['’]t|not)|['’]m unable to|am unable to| am unable to| won['’]t|['’]m not able to) "
    r"(?:assist|help you with that|help with that|help with this|provide (?:that|this|assistance)|"
    r"fulfil|comply|engage|support (?:that|this))"
    r"|as an? (?:ai\b|artificial intelligence|language model|large language model|llm\b)"
)
_REFUSAL_WORDS = (
    "sorry",
    "afraid",
    "as an ",
    "as a l",
    "can't",
    "can’t",
    "cannot",
    "unable",
    "not able",
)
_GAPS = (
    (
        "[",
        re.compile(
            r"(?i)\[\s*(?:insert|enter|your|todo|placeholder|name here|date here|add|fill|company "
            r"name|customer name|link|url)\b[^\]\n]{0,60}\]"
        ),
    ),
    ("<", re.compile(r"(?i)<\s*(?:insert|your|placeholder|todo|enter|fill)\b[^>\n]{0,60}>")),
    ("{{", re.compile(r"\{\{\s*[A-Za-z][\w .-]{0,40}\}\}")),
    ("orem ipsum", re.compile(r"orem ipsum")),
    ("TODO", re.compile(r"\bTODO\b")),
)
"""Each with a text that is found faster than its pattern."""
_EMPTY = re.compile(
    r"(?i)todo|tb[da]|n/?a|none|null|nil|nan|undefined|\.\.\.|…|-+|\?+|x{2,}|placeholder|answer|asdf|"
    r"test|response|output|text|string|completion"
)
_MOJIBAKE = re.compile(
    "\N{REPLACEMENT CHARACTER}|ï¿½|ï»¿"
    "|\N{LATIN SMALL LETTER A WITH CIRCUMFLEX}(?:€[\x80-\xbf‚„…†‡ˆ‰‹Œ‘’“”•–—˜™š›œžŸ¢¦]|\x80[\x80-\xbf])"
    "|\N{LATIN CAPITAL LETTER A WITH TILDE}[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
    "|\N{LATIN CAPITAL LETTER A WITH CIRCUMFLEX}[\x80-\xbf]"
    "|[ÐÑ][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ°±²³µ¶·¸¹º»¼½¾¿][ÐÑ]"
    "|\N{LATIN SMALL LETTER ETH}Ÿ"
)


def mojibake(text: str) -> bool:
    """Tell UTF-8 that was read as Latin-1 or Windows-1252, and lost characters."""
    return not text.isascii() and _MOJIBAKE.search(text) is not None


def refusal(answer: str) -> bool:
    """Tell the phrases with which assistants decline; only the beginning is looked at."""
    if answer[:1] not in "ISUAMisuam":
        return False
    head = answer[:160].lower()
    return any(map(head.__contains__, _REFUSAL_WORDS)) and _REFUSAL.search(head) is not None


def placeholder(answer: str) -> bool:
    """Tell a gap that was never filled, or an answer that is nothing but a stand-in."""
    if len(answer) < 12 and _EMPTY.fullmatch(answer.strip()):
        return True
    for mark, gap in _GAPS:  # noqa: SIM110 - a generator costs as much as the searches
        if mark in answer and gap.search(answer):
            return True
    return False


def ending(answer: str) -> str:
    """Say how an answer ends: ``ended``, ``cut`` (surely), ``open`` (in a letter) or ``other``.

    ``open`` and ``cut`` are said of prose alone: six words or more, no list and no code at the end.
    """
    text = answer.rstrip()
    last = text[-1:]
    if last in _ENDS or not text:
        return "other" if last in "`}" and text.count("```") % 2 else "ended"
    if not (last.isalpha() or last in _CUT_MARKS):
        return "other"
    line = text[text.rfind("\n") + 1 :]
    if text.count(" ") < 5 or line.lstrip()[:1] in "-*#|>•0123456789`$<{[" or line.count(" ") < 2:
        return "other"
    if text.count("```") % 2:
        return "cut"
    word = line[line.rfind(" ") + 1 :]
    return "cut" if last in _CUT_MARKS or _HANGING.fullmatch(word) else "open"


_CHECKS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("QUALITY_REFUSAL", refusal),
    ("QUALITY_PLACEHOLDER", placeholder),
)


class Quality:
    """Looks at each row's last answer, and at all texts for broken characters. Flat memory."""

    def __init__(self) -> None:
        self._endings = {"ended": 0, "cut": 0, "open": 0, "other": 0}
        self._open = array("I")
        self._counts: dict[str, int] = {}

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> list[Finding]:
        """Return what one row shows by itself; open endings are told at the end."""
        found: list[Finding] = []
        for number, row in zip(numbers, rows, strict=True):
            messages = row["messages"]
            for at, message in enumerate(messages):
                text = message.get("content")
                if type(text) is str and not text.isascii() and mojibake(text):
                    found.append(Finding("QUALITY_MOJIBAKE", number, f"/messages/{at}/content"))
            if type(text) is str:
                self._answer(text, number, f"/messages/{len(messages) - 1}/content", found)
        for finding in found:
            self._counts[finding.code] = self._counts.get(finding.code, 0) + 1
        return found

    def _answer(self, text: str, number: int, pointer: str, found: list[Finding]) -> None:
        for code, holds in _CHECKS:
            if holds(text):
                found.append(Finding(code, number, pointer))
        how = ending(text)
        self._endings[how] += 1
        if how == "cut":
            found.append(Finding("QUALITY_CUT_OFF", number, pointer))
        elif how == "open" and len(self._open) < _KEPT:
            self._open.append(number)

    def finish(self) -> Iterator[Finding]:
        """Yield the answers that end in a word, in a file whose answers end in a full stop."""
        ended, opened = self._endings["ended"], self._endings["open"]
        if ended >= ENOUGH_ROWS and ended >= ENOUGH_SHARE * (ended + opened):
            self._counts["QUALITY_CUT_OFF"] = self._counts.get("QUALITY_CUT_OFF", 0) + opened
            for number in self._open:
                yield Finding("QUALITY_CUT_OFF", number, "/messages")

    def stats(self) -> dict[str, Any]:
        """Return how many rows have each fault."""
        return {"quality": dict(sorted(self._counts.items()))} if self._counts else {}
