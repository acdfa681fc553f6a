"""Decide whether an answer was cut off: by what a cut looks like, and by how the file's answers end.

Some endings show a cut by themselves: a comma, ``the``, a code block that is never closed. All others
(``The answer is C``, ``98.9°C``, SQL, ``Have a nice day``) are judged at the end of the file: by the share
of answers that end with a full stop, and by whether the last word is part of a longer word of the file or
never ends a sentence there.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple

from maas_client.dataset.issues import KeyPath

Ending = Literal["ended", "cut", "open", "other"]

SENTENCE_ENDS = frozenset('.!?。！？…।۔؟"”’»)]}`*_>|')
CERTAIN_ENDS = SENTENCE_ENDS - frozenset("`}")
"""After a code fence or a brace, ``classify_ending`` checks whether all fences are closed."""
MIN_COMPLETE_ANSWERS, MIN_COMPLETE_SHARE = 8, 0.8
"""Answers that end in a word are reported if at least this many answers, and this share, are complete."""
MAX_UNEXPLAINED_SHARE = 0.1
"""Answers that end in a word, without another sign of a cut, are a habit of the file above this share."""
_MIN_UNEXPLAINED_WORDS = 6
"""Words of such an answer's last sentence: shorter ones are results, signatures and headings."""
_SAMPLE_BYTES = 1 << 18
_MAX_CANDIDATES = 10_000
_COMMON, _RARELY = 20, 100
"""A word that occurs this often, and ends a sentence at most once in so many times, ends none."""
_SELDOM = 20
"""A word that ends a sentence at most once in so many times makes a cut likely."""

_NEVER_LAST = frozenset(
    ("the", "an", "and", "or", "your", "our", "their", "its", "than", "because", "although",
     "whereas", "every")
)  # fmt: skip
"""An English sentence that ends with one of these words is cut off."""
_BEGINNINGS = _NEVER_LAST | {
    "this",
    "that",
    "these",
    "those",
    "there",
    "if",
    "when",
    "while",
    "in",
    "for",
}
"""Words that are no sentence."""
_FRAGMENTS = frozenset(
    ("th", "tha", "thei", "ther", "thes", "thos", "thr", "throug", "wh", "whe", "wher", "wheth", "whi", "whic",
     "abou", "becau", "becaus", "betwee", "coul", "shoul", "woul")
)  # fmt: skip
"""Beginnings of frequent English words that are no words."""
_SELDOM_LAST = frozenset(
    ("of", "to", "in", "for", "with", "on", "at", "by", "from", "as", "into", "if", "that", "which",
     "when", "where", "while", "who", "we", "but", "then", "my", "his", "no", "not", "can", "will",
     "has", "have", "had", "this", "these", "be", "been", "i", "is", "are", "was", "were")
)  # fmt: skip
"""Words that end few sentences: ``what it is made of`` is complete, ``it is made of`` is not."""
_STRANDED = re.compile(
    r"(?i)\b(?:what|where|who|whom|which|whose|how|that|why|when|as|than|it|there|yes|no|so|the \w+ "
    r"(?:i|you|he|she|we|they))\b"
)
"""After one of these words a sentence can end with a verb or a preposition."""
_OPEN_CLAUSE = re.compile(
    r"(?i)\b(?:as soon as|because|when|whenever|while|although|whether|unless|if|how) "
    r"(?:the|your|our|their|its|every) [\w'’-]+\Z"
)
"""A clause that has no verb yet: ``as soon as the window``."""
_LETTER_A = re.compile(
    r"(?i)\b(?:is|option|answer|choice|grade|letter|class|type|plan|vitamin|part|group|or|and)\W+a"
)
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_LAST_SENTENCE = re.compile(r"(?s).*[.!?…:;。！？][\"')\]”’]*\s+")
_CODE = re.compile(
    r"[=<>{}\\_@$%^~|]|://|->|\w\(|\b[A-Z]{2,}\b(?:.*\b[A-Z]{2,}\b)"
    r"|^\W*(?:git|pip|npm|sudo|docker|curl|kubectl|cd|ls|apt|apt-get|python3?|conda|brew|az)\s"
)
_SQL = re.compile(
    r"(?is)\b(?:select\b.{1,300}\bfrom|insert\s+into|delete\s+from|create\s+table|update\s+\w+\s+set)\b"
)
_FAREWELL = re.compile(
    r"(?i)\b(?:regards|wishes|sincerely|cheers|thanks|thank you|yours|love|hugs|goodbye|bye|farewell|"
    r"good luck|take care|see you|welcome|have an? |enjoy|hope|happy|let me know|stay |looking forward|"
    r"best|gr(?:ü|ue)(?:ß|ss)en?|bis bald|danke|viel |viele |tschüs\w*|cordialement|salutations|"
    r"merci|bonne|saludos|gracias|atentamente|saluti|grazie|obrigad[oa]|abraços)"
)
_DANGLING = frozenset(",([{–—")
_OPERATORS = frozenset("/&+=")
_NOT_PROSE = frozenset("-*#|>•0123456789`$<{[")


def classify_ending(answer: str) -> Ending:
    """Return how an answer ends.

    ``ended``: with a full stop or another closing character. ``cut``: certainly cut off. ``open``: prose
    that ends with a word, to be compared with the file's other answers. ``other``: everything else, such
    as a number, a list, code or a farewell.
    """
    text = answer.rstrip()
    last = text[-1:]
    is_code_open = text.count("```") % 2 == 1
    if last in SENTENCE_ENDS or not text:
        return "other" if last in "`}" and is_code_open else "ended"
    line = text[text.rfind("\n") + 1 :]
    if is_code_open:
        return "cut"
    if line.count(" ") < 3 or line.lstrip()[:1] in _NOT_PROSE or line[:2] == "  ":
        return "other"
    sentence = last_sentence(line)
    if last in _DANGLING:
        return "other" if _FAREWELL.search(sentence) else "cut"
    if last in _OPERATORS:
        return "cut" if text[-2:-1] == " " else "other"
    word = line[line.rfind(" ") + 1 :].lstrip("\"'(“‘«")
    if not _WORD.fullmatch(word) or _is_code(text, line):
        return "other"
    is_result = len(word) == 1 or line[: -len(word)].rstrip()[-1:].isdigit()
    begins_sentence = word == sentence != line and word.casefold() in _BEGINNINGS
    if word in _NEVER_LAST or begins_sentence or (word.casefold() in _FRAGMENTS and not is_result):
        return "cut"
    if word == "a":
        return "other" if _LETTER_A.search(sentence[-20:]) else "cut"
    if word in ("is", "are", "was", "were") and not _STRANDED.search(sentence):
        return "cut"
    if is_result or word[0].isupper() or _FAREWELL.search(sentence):
        return "other"
    if _OPEN_CLAUSE.search(sentence[-80:]):
        return "cut"
    return "open" if text.count(" ") >= 5 else "other"


def last_sentence(line: str) -> str:
    """Return what follows the last full stop of a line."""
    match = _LAST_SENTENCE.match(line)  # a search would try every character of a long line
    return line[match.end() :] if match else line


def _is_code(text: str, line: str) -> bool:
    return _CODE.search(line) is not None or _SQL.search(text[-600:]) is not None


class _OpenAnswer(NamedTuple):
    """An answer that ends with a word."""

    number: int
    path: KeyPath
    word: str
    words: int
    """In its last sentence."""
    size: int
    is_stranded: bool
    """Its last word may end a sentence there, although it seldom does."""


class TruncatedAnswers:
    """The answers of a file that end with a word, and how the file's other answers end.

    Memory: a sample of the answers, and the first few thousand that end with a word.
    """

    def __init__(self) -> None:
        self._complete = self._open = 0
        self._answers: list[_OpenAnswer] = []
        self._sample: list[str] = []
        self._sample_size = 0

    def add_sample(self, answers: Sequence[str], complete: int) -> None:
        """Count complete answers of a block, and keep answers while the sample has room."""
        self._complete += complete
        if self._sample_size < _SAMPLE_BYTES:
            self._sample += answers
            self._sample_size += sum(map(len, answers))

    def add_complete(self) -> None:
        """Count one more complete answer."""
        self._complete += 1

    def add(self, number: int, path: KeyPath, answer: str) -> None:
        """Add an answer that ``classify_ending`` calls open."""
        self._open += 1
        if len(self._answers) >= _MAX_CANDIDATES:
            return
        text = answer.rstrip()
        sentence = last_sentence(text[text.rfind("\n") + 1 :])
        self._answers.append(
            _OpenAnswer(
                number,
                path,
                sentence[sentence.rfind(" ") + 1 :].lstrip("\"'(“‘«").casefold(),
                sentence.count(" ") + 1,
                len(text),
                _STRANDED.search(sentence[: sentence.rfind(" ") + 1]) is not None,
            )
        )

    def find_truncated(self) -> Iterator[tuple[int, KeyPath]]:
        """Yield the line and the path of each answer that is cut off, by the habits of the file."""
        if not self._answers or self._complete < MIN_COMPLETE_ANSWERS:
            return
        if self._complete < MIN_COMPLETE_SHARE * (self._complete + self._open):
            return
        words = _Words(self._sample)
        unexplained = []
        for answer in self._answers:
            if words.show_cut(answer):
                yield answer.number, answer.path
            elif not words.ends_sentence(answer.word) and answer.word not in _SELDOM_LAST:
                unexplained.append(answer)
        if len(unexplained) > MAX_UNEXPLAINED_SHARE * (self._complete + self._open):
            return
        usual_size = sorted(map(len, self._sample))[len(self._sample) // 2]
        for answer in unexplained:
            if answer.words >= _MIN_UNEXPLAINED_WORDS and answer.size >= usual_size:
                yield answer.number, answer.path


class _Words:
    """How often the words of some answers end a sentence."""

    def __init__(self, answers: Sequence[str]) -> None:
        self._inside: Counter[str] = Counter()
        self._last: Counter[str] = Counter()
        for answer in answers:
            text = answer.casefold()
            for match in _WORD.finditer(text):
                following = text[match.end() : match.end() + 1]
                if not following:
                    continue  # the word in question
                counts = self._last if following in ".!?…" else self._inside
                counts[match[0]] += 1
        self._sorted = sorted(self._inside.keys() | self._last.keys())

    def ends_sentence(self, word: str) -> bool:
        """Return whether sentences end with this word now and then."""
        return self._last[word] * _SELDOM > self._inside[word]

    def show_cut(self, answer: _OpenAnswer) -> bool:
        """Return whether the last word of an answer shows that it was cut off."""
        word = answer.word
        last, inside = self._last[word], self._inside[word]
        if word in _SELDOM_LAST:
            return not answer.is_stranded and not last
        if not last and not inside:
            return self._is_beginning(word)
        return inside >= _COMMON and last * _RARELY <= inside

    def _is_beginning(self, word: str) -> bool:
        """Return whether a word that the file does not have begins another word, and is no form of one."""
        at = bisect_left(self._sorted, word)
        longer = [
            candidate[len(word) :]
            for candidate in islice(self._sorted, at, at + 50)
            if candidate.startswith(word)
        ]
        return bool(longer) and not any(rest in _SUFFIXES for rest in longer)


_SUFFIXES = frozenset(("s", "es", "ed", "d", "ing", "er", "ers", "ly", "n", "en", "e", "'s", "’s"))
"""Endings of a word's forms: ``book`` is no beginning of ``books`` that was cut off."""
