"""Find text that teaches the wrong thing: cut-off answers, refusals, placeholders, mojibake, NUL characters.

All are warnings, tuned to be rare on real data. An answer without a full stop is reported only in a file
whose answers otherwise end with one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from maas_client.dataset.issues import Issue, KeyPath
from maas_client.dataset.parsing.prefilter import Prefilter, compile_pattern, join_lines
from maas_client.dataset.scanners.scanner import Row, iter_strings, message_texts

_UNFINISHED_WORD = re.compile(
    r"an?|the|and|as|at|because|but|by|for|from|if|into?|is|of|on|or|our|so|than|that|their|then|to|"
    r"we|were|when|where|which|while|who|with|your"
)
"""An English sentence that ends with one of these words is cut off."""
_CUT_OFF_CHARACTERS = ",;([{–—/&+="
_ENDS = frozenset('.!?。！？…।۔؟"”’»)]}`*_>|')
MIN_COMPLETE_ANSWERS, MIN_COMPLETE_SHARE = 8, 0.8
"""Answers that end in a word are reported if at least this many answers, and this share, are complete."""
_MAX_LISTED = 10_000
_CERTAIN_ENDS = _ENDS - frozenset("`}")
"""After a code fence or a brace, ``classify_ending`` checks whether all fences are closed."""
_MAX_EMPTY_CHARS = 13
"""An answer that is nothing but a placeholder has fewer characters."""

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
"""Every refusal contains one of these (syntax of Rust's regex, see ``prefilter``)."""
_REFUSAL_STARTS = frozenset("ISUAMisuam")
_PLACEHOLDERS = (
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
"""Patterns, each with a literal that it contains and that is faster to find."""
_PLACEHOLDER_ANSWER = re.compile(
    r"(?i)todo|tb[da]|undefined|nan|\.\.\.|…|x{2,}|placeholder|asdf|<[a-z _-]+>|\[[a-z _-]+\]"
    r"|[\xad\u200b-\u200f\u2060\ufeff\s]+"
)
"""The last alternative is invisible characters."""
_MOJIBAKE_CHARACTERS = ("\N{REPLACEMENT CHARACTER}", "ï", "â", "Ã", "Â", "Ä", "Å", "Ð", "Ñ", "ð")
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
    """Return whether a text contains replacement characters, or UTF-8 read as Latin-1 or Windows-1252."""
    if text.isascii() or not any(char in text for char in _MOJIBAKE_CHARACTERS):
        return False
    return _MOJIBAKE.search(text) is not None


def is_refusal(answer: str) -> bool:
    """Return whether an answer starts with a phrase with which assistants refuse."""
    if answer[:1] not in _REFUSAL_STARTS:
        return False
    head = answer[:160]
    return compile_pattern(_REFUSAL_WORDS)(head) and _REFUSAL.search(head.lower()) is not None


def has_placeholder(answer: str) -> bool:
    """Return whether an answer contains a placeholder or is nothing but one."""
    if len(answer) < _MAX_EMPTY_CHARS and _PLACEHOLDER_ANSWER.fullmatch(answer.strip()):
        return True
    return any(literal in answer and pattern.search(answer) for literal, pattern in _PLACEHOLDERS)


def classify_ending(answer: str) -> str:
    """Return how an answer ends: ``ended``, ``cut`` (certainly), ``open`` (with a letter) or ``other``.

    ``open`` and ``cut`` are for prose only: several words in the last line, no list and no code at the end.
    """
    text = answer.rstrip()
    last = text[-1:]
    if last in _ENDS or not text:
        return "other" if last in "`}" and text.count("```") % 2 else "ended"
    if not (last.isalpha() or last in _CUT_OFF_CHARACTERS):
        return "other"
    line = text[text.rfind("\n") + 1 :]
    words = line.count(" ") + 1
    if words < 4 or line.lstrip()[:1] in "-*#|>•0123456789`$<{[":
        return "other"
    if (
        text.count("```") % 2
        or last in _CUT_OFF_CHARACTERS
        or _UNFINISHED_WORD.fullmatch(line.rpartition(" ")[2])
    ):
        return "cut"
    return "open" if text.count(" ") >= 5 else "other"


class QualityScanner:
    """Checks the last answer of each row, and all texts for mojibake. Constant memory.

    The lines of a block are filtered together, and only the candidates are checked row by row.
    """

    def __init__(self) -> None:
        self._complete = 0
        self._open: list[tuple[int, KeyPath]] = []
        """The first answers that end with a letter: line number and path."""
        self._open_count = 0
        self._counts: Counter[str] = Counter()

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> list[Issue]:
        """Return the issues of single rows; open endings are reported by ``finish``."""
        answers = [
            texts[-1] if texts is not None else _answer(rows[at])
            for at, texts in enumerate(message_texts(rows))
        ]
        issues = [
            Issue("QUALITY_REFUSAL", _answer_path(rows[at]), line=numbers[at])
            for at, answer in enumerate(answers)
            if answer[:1] in _REFUSAL_STARTS and is_refusal(answer)
        ]
        for at in _candidate_rows(lines, answers):
            issues += _check_row(rows[at], numbers[at], answers[at])
        ended = [answer[-1:] in _CERTAIN_ENDS for answer in answers]
        self._complete += sum(ended)
        for at, is_ended in enumerate(ended) if False in ended else ():
            if not is_ended and not answers[at][-1:].isdigit():
                self._record_ending(classify_ending(answers[at]), numbers[at], rows, at, issues)
        self._counts.update([issue.code for issue in issues])
        return issues

    def _record_ending(
        self, ending: str, number: int, rows: Sequence[Row], at: int, issues: list[Issue]
    ) -> None:
        self._complete += ending == "ended"
        if ending == "cut":
            issues.append(Issue("QUALITY_CUT_OFF", _answer_path(rows[at]), line=number))
        elif ending == "open":
            self._open_count += 1
            if len(self._open) < _MAX_LISTED:
                self._open.append((number, _answer_path(rows[at])))

    def finish(self) -> Iterator[Issue]:
        """Yield the answers that end with a word, if most answers of the file end with a full stop."""
        is_rule = self._complete >= MIN_COMPLETE_SHARE * (self._complete + self._open_count)
        if self._complete >= MIN_COMPLETE_ANSWERS and is_rule:
            self._counts["QUALITY_CUT_OFF"] += self._open_count
            for number, path in self._open:
                yield Issue("QUALITY_CUT_OFF", path, line=number)

    def stats(self) -> dict[str, Any]:
        """Return how many rows have each problem."""
        return {"quality": dict(sorted(self._counts.items()))} if self._counts else {}


def _answer(row: Row) -> str:
    content = row["messages"][-1].get("content")
    return content if isinstance(content, str) else ""


def _answer_path(row: Row) -> KeyPath:
    return "messages", len(row["messages"]) - 1, "content"


@lru_cache(maxsize=1)
def _prefilters() -> tuple[Prefilter, Prefilter]:
    """Return the filter for placeholders and escaped mojibake, and one for mojibake in non-ASCII lines.

    The first finds mojibake written as JSON escapes, all in lower or all in upper case.
    """
    ascii_filter = Prefilter(
        r"\[\s*(?i:insert|enter|your|todo|placeh|name |date |add|fill|compan|custom|link|url)",
        r"<\s*(?i:insert|your|placeh|todo|enter|fill)",
        r"\{\{",
        by_literal={text: text for text in ("orem ipsum", "TODO", "fffd", "FFFD")},
        after_digit=(r"0(?:[cC][2-5]|[dD][01]|[eE]2|[eE][fF]|[fF]0)",),
    )
    return ascii_filter, Prefilter("[\N{REPLACEMENT CHARACTER}ïâÃÂÄÅÐÑð]")


def _candidate_rows(lines: Sequence[bytes], answers: list[str]) -> list[int]:
    """Return the indices of the rows to check one by one."""
    ascii_filter, non_ascii_filter = _prefilters()
    candidates = ascii_filter(lines)
    if not join_lines(lines).isascii():
        candidates |= non_ascii_filter(lines)
    if min(map(len, answers), default=_MAX_EMPTY_CHARS) < _MAX_EMPTY_CHARS:
        candidates.update(at for at, answer in enumerate(answers) if len(answer) < _MAX_EMPTY_CHARS)
    return sorted(candidates)


def _check_row(row: Row, number: int, answer: str) -> Iterator[Issue]:
    """Yield the placeholders and mojibake of a row."""
    if has_placeholder(answer):
        yield Issue("QUALITY_PLACEHOLDER", _answer_path(row), line=number)
    for path, text in iter_strings(row["messages"], ("messages",)):
        if has_mojibake(text):
            yield Issue("QUALITY_MOJIBAKE", path, line=number)


class NulScanner:
    """Finds strings with U+0000: valid JSON, but many programs end the text there. Constant memory."""

    def __init__(self) -> None:
        self._prefilter = Prefilter(by_literal={"u0000": r"\\u0000"})

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> Iterator[Issue]:
        """Yield an issue for each string with a NUL character."""
        for at in sorted(self._prefilter(lines)):
            for path, text in iter_strings(rows[at]):
                if "\0" in text:
                    yield Issue("QUALITY_NUL", path, line=numbers[at])

    def finish(self) -> tuple[Issue, ...]:
        """Return nothing: ``feed`` has reported all NUL characters."""
        return ()

    def stats(self) -> dict[str, Any]:
        """Return nothing: the counts of the report are enough."""
        return {}
