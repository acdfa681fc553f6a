"""Answers that teach the wrong thing: cut short, refusals, placeholders, broken characters.

Only warnings, and cautious ones: real data must not drown in them. That an answer ends without a
full stop means something only in a file whose answers otherwise end with one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from maas_client.dataset.parsing.prefilter import Prefilter, compile_pattern, join_lines
from maas_client.dataset.scanners.scanner import Finding, Row, iter_strings, message_texts

_HANGING = re.compile(
    r"an?|the|and|as|at|because|but|by|for|from|if|into?|is|of|on|or|our|so|than|that|their|then|to|"
    r"we|were|when|where|which|while|who|with|your"
)
"""An English sentence that ends in one of these was cut."""
_CUT_MARKS = ",;([{–—/&+="
_ENDS = frozenset('.!?。！？…।۔؟"”’»)]}`*_>|')
MIN_COMPLETE_ANSWERS, MIN_COMPLETE_SHARE = 8, 0.8
"""Answers without an end are told if so many, and of all so large a share, have one."""
_KEPT = 10_000
_PLAIN_ENDS = _ENDS - frozenset("`}")
"""After a code fence or a brace it has to be seen whether all fences are closed."""
_STAND_IN = 13
"""Characters: no stand-in for an answer is as long."""

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
_REFUSAL_WORDS = r"(?i:sorry|afraid|as an |as a l|can['’]t|cannot|unable|not able)"
"""Without one of these there is no refusal (Rust's syntax, see ``sieve``)."""
_REFUSAL_STARTS = frozenset("ISUAMisuam")
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
    r"(?i)todo|tb[da]|undefined|nan|\.\.\.|…|x{2,}|placeholder|asdf|<[a-z _-]+>|\[[a-z _-]+\]"
    r"|[\xad\u200b-\u200f\u2060\ufeff\s]+"
)
"""The last of these are characters that nobody sees."""
_MOJIBAKE_MARKS = ("\N{REPLACEMENT CHARACTER}", "ï", "â", "Ã", "Â", "Ä", "Å", "Ð", "Ñ", "ð")
_MOJIBAKE = re.compile(
    "\N{REPLACEMENT CHARACTER}|ï¿½|ï»¿"
    "|\N{LATIN SMALL LETTER A WITH CIRCUMFLEX}(?:€[\x80-\xbf‚„…†‡ˆ‰‹Œ‘’“”•–—˜™š›œžŸ¢¦]|\x80[\x80-\xbf])"
    "|\N{LATIN CAPITAL LETTER A WITH TILDE}[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
    "|\N{LATIN CAPITAL LETTER A WITH CIRCUMFLEX}[\x80-\xbf]"
    "|[ÐÑ][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ°±²³µ¶·¸¹º»¼½¾¿][ÐÑ]"
    "|[ÄÅ][\x80-\xbf‚ƒ„…†‡ˆ‰‹‘’“”•–˜™›]"
    "|\N{LATIN SMALL LETTER ETH}Ÿ"
)


def has_mojibake(text: str) -> bool:
    """Tell UTF-8 that was read as Latin-1 or Windows-1252, and lost characters."""
    if text.isascii() or not any(mark in text for mark in _MOJIBAKE_MARKS):
        return False
    return _MOJIBAKE.search(text) is not None


def is_refusal(answer: str) -> bool:
    """Tell the phrases with which assistants decline; only the beginning is looked at."""
    if answer[:1] not in _REFUSAL_STARTS:
        return False
    head = answer[:160]
    return compile_pattern(_REFUSAL_WORDS)(head) and _REFUSAL.search(head.lower()) is not None


def has_placeholder(answer: str) -> bool:
    """Tell a gap that was never filled, or an answer that is nothing but a stand-in."""
    if len(answer) < _STAND_IN and _EMPTY.fullmatch(answer.strip()):
        return True
    return any(mark in answer and gap.search(answer) for mark, gap in _GAPS)


def classify_ending(answer: str) -> str:
    """Say how an answer ends: ``ended``, ``cut`` (surely), ``open`` (in a letter) or ``other``.

    ``open`` and ``cut`` are said of prose alone: some words in a row, no list and no code at the end.
    """
    text = answer.rstrip()
    last = text[-1:]
    if last in _ENDS or not text:
        return "other" if last in "`}" and text.count("```") % 2 else "ended"
    if not (last.isalpha() or last in _CUT_MARKS):
        return "other"
    line = text[text.rfind("\n") + 1 :]
    words = line.count(" ") + 1
    if words < 4 or line.lstrip()[:1] in "-*#|>•0123456789`$<{[":
        return "other"
    if text.count("```") % 2 or last in _CUT_MARKS or _HANGING.fullmatch(line.rpartition(" ")[2]):
        return "cut"
    return "open" if text.count(" ") >= 5 else "other"


class QualityScanner:
    """Looks at each row's last answer, and at all texts for broken characters. Flat memory.

    A block's texts are searched together; row by row only those that have to be.
    """

    def __init__(self) -> None:
        self._ended = 0
        self._open: list[tuple[int, str]] = []
        self._opened = 0
        self._counts: Counter[str] = Counter()

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> list[Finding]:
        """Return what one row shows by itself; open endings are told at the end."""
        answers = [
            texts[-1] if texts is not None else _answer(rows[at])
            for at, texts in enumerate(message_texts(rows))
        ]
        found = [
            Finding("QUALITY_REFUSAL", numbers[at], _last(rows[at]))
            for at, answer in enumerate(answers)
            if answer[:1] in _REFUSAL_STARTS and is_refusal(answer)
        ]
        for at in _suspects(lines, answers):
            found += _look(rows[at], numbers[at], answers[at])
        ended = [answer[-1:] in _PLAIN_ENDS for answer in answers]
        self._ended += sum(ended)
        for at, is_ended in enumerate(ended) if False in ended else ():
            if not is_ended and not answers[at][-1:].isdigit():
                self._end(classify_ending(answers[at]), numbers[at], rows, at, found)
        self._counts.update([finding.code for finding in found])
        return found

    def _end(
        self, how: str, number: int, rows: Sequence[Row], at: int, found: list[Finding]
    ) -> None:
        self._ended += how == "ended"
        if how == "cut":
            found.append(Finding("QUALITY_CUT_OFF", number, _last(rows[at])))
        elif how == "open":
            self._opened += 1
            if len(self._open) < _KEPT:
                self._open.append((number, _last(rows[at])))

    def finish(self) -> Iterator[Finding]:
        """Yield the answers that end in a word, in a file whose answers end in a full stop."""
        enough = self._ended >= MIN_COMPLETE_SHARE * (self._ended + self._opened)
        if self._ended >= MIN_COMPLETE_ANSWERS and enough:
            self._counts["QUALITY_CUT_OFF"] += self._opened
            for number, pointer in self._open:
                yield Finding("QUALITY_CUT_OFF", number, pointer)

    def stats(self) -> dict[str, Any]:
        """Return how many rows have each fault."""
        return {"quality": dict(sorted(self._counts.items()))} if self._counts else {}


def _answer(row: Row) -> str:
    content = row["messages"][-1].get("content")
    return content if isinstance(content, str) else ""


def _last(row: Row) -> str:
    return f"/messages/{len(row['messages']) - 1}/content"


@lru_cache(maxsize=1)
def _sieves() -> tuple[Prefilter, Prefilter]:
    """Return what finds lines that may hold a gap or mojibake, and more for lines beyond ASCII.

    In the first mojibake is written as JSON escapes: all in lower case, or all in upper case.
    """
    ascii_alone = Prefilter(
        r"\[\s*(?i:insert|enter|your|todo|placeh|name |date |add|fill|compan|custom|link|url)",
        r"<\s*(?i:insert|your|placeh|todo|enter|fill)",
        r"\{\{",
        by_literal={text: text for text in ("orem ipsum", "TODO", "fffd", "FFFD")},
        after_digit=(r"0(?:[cC][2-5]|[dD][01]|[eE]2|[eE][fF]|[fF]0)",),
    )
    return ascii_alone, Prefilter("[\N{REPLACEMENT CHARACTER}ïâÃÂÄÅÐÑð]")


def _suspects(lines: Sequence[bytes], answers: list[str]) -> list[int]:
    """Return the indices of the rows to look at one by one."""
    ascii_alone, beyond = _sieves()
    some = ascii_alone(lines)
    if not join_lines(lines).isascii():
        some |= beyond(lines)
    if min(map(len, answers), default=_STAND_IN) < _STAND_IN:
        some.update(at for at, answer in enumerate(answers) if len(answer) < _STAND_IN)
    return sorted(some)


def _look(row: Row, number: int, answer: str) -> Iterator[Finding]:
    """Yield gaps and broken characters of a row."""
    if has_placeholder(answer):
        yield Finding("QUALITY_PLACEHOLDER", number, _last(row))
    for pointer, text in iter_strings(row["messages"], "/messages"):
        if has_mojibake(text):
            yield Finding("QUALITY_MOJIBAKE", number, pointer)
