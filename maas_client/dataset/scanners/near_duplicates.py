"""Find rows that are nearly the same, with a bottom-k sketch of content-defined chunks.

The end of a conversation is split into pieces at a few rare letters, so that an edit changes only one
piece. The pieces of a long answer are enough; to a short one the question is added. The longest pieces are
the sketch: like MinHash, the choice depends only on the content, but it does not hash every word. Two rows
that share most of their sketches are a candidate. Pieces that many rows share (a template around every
prompt) do not count. Comparing a row with all earlier rows takes four look-ups.

At the end the candidates are read again and compared word by word (``similarity``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, compress, islice, repeat
from operator import ne
from typing import Any

from maas_client.dataset.issues import Issue
from maas_client.dataset.parsing.json_scan import JsonError
from maas_client.dataset.parsing.lines import LineIndex
from maas_client.dataset.parsing.strict_json import parse_json
from maas_client.dataset.scanners import Row, message_texts
from maas_client.dataset.scanners.duplicates import (
    DuplicateScanner,
    HashArray,
    find_repeated,
    find_shared,
)
from maas_client.dataset.scanners.similarity import (
    ComparedRow,
    TemplateVariables,
    find_changes,
    join_question,
    question_and_answer,
)

ReadRows = Callable[[Iterable[int]], Iterable[tuple[int, Row]]]
"""Reads rows of a file again, by their line numbers."""

SKETCH_SIZE = 4
"""Pieces in a sketch."""
MIN_SHARED_BYTES = 24
"""Bytes that the shared pieces of two near duplicates have at least, besides being half of the sketch."""
TEMPLATE_REPEATS = 32
"""A piece that was repeated this often belongs to a template and is ignored from then on."""
MAX_ROWS = 1 << 16
"""Rows that are compared: all rows of a file of about 50 MB, with about 30 MB of memory."""
TAIL_CHARS = 320
"""Characters at the end of the last question that are compared. Prompts made from one template start alike,
so the ends tell them apart."""
MAX_CANDIDATES = 10_000
"""Candidates that are compared word by word."""
_QUESTION_END = slice(-33, -1)
"""Characters at the ends of the first and the last question that are the same in two rows with a long answer
if at most punctuation before them differs."""
_CANDIDATES_AT_ONCE = 50
_LINE_MASK = (1 << 40) - 1
"""Lower bits of a value: the line number. The upper bits count how often its piece was repeated."""


_LOWER = bytes(range(256)).lower()
_NOT_LETTERS = bytes(char for char in range(0x80) if not chr(char).isalnum())
_SEPARATOR = "\x1f"
"""Between a question and its answer."""


def _make_split_table(letters: bytes, interval: int) -> bytes:
    """Return a translation table to lower case that blanks punctuation.

    It has a line feed for ``_SEPARATOR``, for ``letters`` and for every ``interval``-th high byte.
    """
    table = bytearray(_LOWER)
    for c in _NOT_LETTERS:
        table[c] = 32
    for c in letters:
        table[c] = table[c - 32] = 10
    table[ord(_SEPARATOR)] = 10
    for c in range(0x80 + interval // 2, 0xC0, interval):
        table[c] = 10
    return bytes(table)


_SPLIT_TABLE = _make_split_table(b"bfgkpvwy", 8)
_LONG_SPLIT_TABLE = _make_split_table(b"b", 32)
LONG_TEXT_BYTES = 400
"""Texts of at least this many bytes use the second table, so that most texts have ten pieces."""
_NEAR_LIMIT = range(384, 416)
"""Texts of about ``LONG_TEXT_BYTES`` are looked up with both tables."""
LONG_ANSWER_CHARS = 256
"""The sketch of a row with an answer of at least this many characters is made from the end of the answer: it
has enough pieces, and the question is looked at only if another row has one of them."""
_ANSWER_SPLIT_TABLE = _make_split_table(b"bkv", 16)
_NEAR_LONG_ANSWER = range(LONG_ANSWER_CHARS - 16, LONG_ANSWER_CHARS + 16)
"""Rows with an answer of about ``LONG_ANSWER_CHARS`` are looked up both ways."""


_KEY_MASK = (1 << 60) - 1
_shorten_hash = _KEY_MASK.__and__
"""Returns the last 60 bits of a hash, which take 32 bytes of memory in place of 48."""


def _keys(pieces: Iterable[bytes]) -> list[int]:
    """Return the hashes of pieces, as ``_shorten_hash`` makes them."""
    return list(map(_shorten_hash, map(hash, pieces)))


def _split(text: bytes, table: bytes) -> list[bytes]:
    """Return a text's pieces, the longest last."""
    pieces = text.translate(table).split(b"\n")
    pieces.sort(key=len)
    return pieces


class _SketchedRows:
    """Rows of a block with their sketches."""

    __slots__ = ("_rows", "_texts", "keys", "letters", "near_limit", "numbers", "sizes")

    def __init__(self, numbers: Sequence[int], rows: Sequence[Row]) -> None:
        self.numbers = numbers
        self._rows = rows
        self._texts = message_texts(rows)
        self.letters: list[int] = []
        """The hash of the letters and digits of each row."""
        self.sizes: list[int] = []
        """Of the sketch of each row."""
        self.near_limit: set[int] = set()
        """Lines of the rows that are looked up with other pieces as well."""
        sketches: list[bytes] = []
        tail, answer_tail = slice(-TAIL_CHARS, None), slice(-LONG_ANSWER_CHARS, None)
        low, high = _NEAR_LIMIT[0], _NEAR_LIMIT[-1]
        answer_low, answer_high = _NEAR_LONG_ANSWER[0], _NEAR_LONG_ANSWER[-1]
        # One loop without calls of functions, which would take longer than the work.
        for at, texts in enumerate(self._texts):
            question, answer = texts[-2:] if texts else question_and_answer(rows[at])
            answer_size = len(answer)
            if answer_size >= LONG_ANSWER_CHARS:
                translated = answer[answer_tail].encode().translate(_ANSWER_SPLIT_TABLE)
                first = texts[1][_QUESTION_END] if texts and len(texts) > 3 else ""
                self.letters.append(hash((translated, question[_QUESTION_END], first)))
            else:
                if texts and len(texts) > 3:
                    question = join_question(texts[1:-1])
                text = f"{question[tail]}{_SEPARATOR}{answer}".encode()
                size = len(text)
                translated = text.translate(
                    _LONG_SPLIT_TABLE if size >= LONG_TEXT_BYTES else _SPLIT_TABLE
                )
                if low <= size <= high:
                    self.near_limit.add(numbers[at])
                if len(question) > TAIL_CHARS:
                    # without their places, a comma less would move the beginning of a tail
                    self.letters.append(hash(translated))
                else:
                    self.letters.append(hash(text.translate(_LOWER, _NOT_LETTERS)))
            if answer_low <= answer_size <= answer_high:
                self.near_limit.add(numbers[at])
            pieces = translated.split(b"\n")
            pieces.sort(key=len)
            sketch = pieces[-SKETCH_SIZE:]
            sketches += sketch
            self.sizes.append(len(sketch))
        self.keys = _keys(sketches)
        """The keys of all sketches."""

    def pieces(self, at: int, *, near_limit: bool = False) -> list[bytes]:
        """Return all pieces of a row; the last ones are its sketch.

        ``near_limit``: as if the row were on the other side of the limit that its size is near to.
        """
        texts = self._texts[at]
        if texts is None:
            question, answer = question_and_answer(self._rows[at])
        else:
            question = texts[-2] if len(texts) <= 3 else join_question(texts[1:-1])
            answer = texts[-1]
        question = question[-TAIL_CHARS:]
        has_long_answer = len(answer) >= LONG_ANSWER_CHARS
        if near_limit and len(answer) in _NEAR_LONG_ANSWER:
            has_long_answer, near_limit = not has_long_answer, False
        if has_long_answer:
            answer = answer[-LONG_ANSWER_CHARS:]
            return [
                *_split(question.encode(), _ANSWER_SPLIT_TABLE),
                *_split(answer.encode(), _ANSWER_SPLIT_TABLE),
            ]
        text = f"{question}{_SEPARATOR}{answer}".encode()
        is_long = (len(text) >= LONG_TEXT_BYTES) != near_limit
        return _split(text, _LONG_SPLIT_TABLE if is_long else _SPLIT_TABLE)


class NearDuplicateScanner:
    """Finds rows that nearly repeat an earlier row, among the first ``max_rows`` of a file.

    The limit bounds memory and time: a row costs as much as all other checks together.
    """

    def __init__(
        self,
        exact: DuplicateScanner,
        max_rows: int = MAX_ROWS,
        *,
        training: Sequence[NearDuplicateScanner] = (),
        keep_pieces: bool = True,
    ) -> None:
        """Compare rows that ``exact``, which reports exact duplicates, was fed just before.

        ``training``: for a validation file, the finished scanners of the training files.
        ``keep_pieces``: a validation file will be compared with this file; False saves memory.
        """
        self._exact = exact
        self._limit = max_rows
        self._training = training
        self._keep_pieces = keep_pieces
        self.read_rows: ReadRows | None = None
        """Set before ``finish``, by whoever can read the file again."""
        self._near_duplicates = self._compared = self._skipped = 0
        self._letters = HashArray()
        """The hash of the letters and digits of each compared row."""
        self._candidates: list[tuple[int, int]] = []
        """Pairs of lines that may be near duplicates, the later line first."""
        self._leak_candidates: list[list[tuple[int, int]]] = [[] for _ in training]
        """For each training file: a line of this file, and a line of the training file."""
        self._lines: dict[int, int] = {}
        """By a piece's hash: the last line with the piece, and how often it was repeated."""

    @property
    def is_full(self) -> bool:
        """Return whether no more rows are compared: from now on, ``finish`` can be called."""
        return self._compared >= self._limit

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> tuple[Issue, ...]:
        """Store the rows, and the pairs that ``finish`` compares word by word."""
        if self.is_full:
            self._skipped += len(rows)
            self._release_pieces()
            return ()
        self._compared += len(rows)
        block = _SketchedRows(numbers, rows)
        self._letters.extend(block.letters)
        self._add(self._candidates, self._find_candidates(block))
        for training, candidates in zip(self._training, self._leak_candidates, strict=True):
            self._add(candidates, training.find_leaks(block, self._exact))
        return ()

    def _add(self, candidates: list[tuple[int, int]], pairs: Iterable[tuple[int, int]]) -> None:
        for pair in pairs:
            if len(candidates) < MAX_CANDIDATES:
                candidates.append(pair)
            else:
                self._skipped += 1

    def _find_candidates(self, block: _SketchedRows) -> list[tuple[int, int]]:
        """Return each row that may repeat an earlier row, with that row's line, and store the rows."""
        lines = [*_repeat_each(block.numbers, block.sizes)]
        known_lines = [*map(self._lines.setdefault, block.keys, lines)]
        if known_lines == lines and not block.near_limit:
            return []  # as for most blocks
        candidates = set(compress(lines, map(ne, known_lines, lines)))
        matches = []
        for number in sorted(candidates | block.near_limit):
            at, match = bisect_left(block.numbers, number), 0
            if number in candidates:
                match = self._match_and_store(block.pieces(at), number)
            if not match and number in block.near_limit:
                match = self._match_other_pieces(block.pieces(at, near_limit=True), number)
            if match and not self._exact.rows_are_equal(match, number):
                matches.append((number, match))
        return matches

    def find_leaks(
        self, block: _SketchedRows, exact: DuplicateScanner
    ) -> Iterator[tuple[int, int]]:
        """Yield each row of a validation file that may repeat a row of this file, with that row's line."""
        remaining_keys = iter(block.keys)
        for at, (number, size) in enumerate(zip(block.numbers, block.sizes, strict=True)):
            if self._lines.keys().isdisjoint([*islice(remaining_keys, size)]):
                continue
            line = self._find_match(self._sketch(block.pieces(at)))
            if line and self._exact.prompt_hash(line) != exact.prompt_hash(number):
                yield number, line

    def _release_pieces(self) -> None:
        """Release most of the memory once all rows have been compared."""
        if not self._keep_pieces:
            self._lines = {}

    def finish(self) -> Iterator[Issue]:
        """Yield the near duplicates and the leaks, after comparing the candidates word by word."""
        self._release_pieces()
        same_letters = islice(self._same_letters(), MAX_CANDIDATES)
        candidates = sorted((dict(self._candidates) | dict(same_letters)).items())
        for number, match in find_copies(candidates, self.read_rows, self.read_rows):
            self._near_duplicates += 1
            detail = f"nearly the same as line {match}"
            yield Issue("QUALITY_NEAR_DUPLICATE", ("messages",), detail, line=number)
        for number, match in self.find_leaked_rows():
            detail = f"nearly the same as line {match} of the training file"
            yield Issue("QUALITY_LEAKAGE", ("messages",), detail, line=number)

    def find_leaked_rows(self) -> Iterator[tuple[int, int]]:
        """Yield the rows that nearly repeat a row of a training file, and that row's line."""
        for training, leaks in zip(self._training, self._leak_candidates, strict=True):
            same_letters = islice(self._same_letters_in(training), MAX_CANDIDATES)
            candidates = sorted((dict(leaks) | dict(same_letters)).items())
            yield from find_copies(candidates, self.read_rows, training.read_rows)

    def _same_letters(self) -> Iterator[tuple[int, int]]:
        """Yield each row with the letters and digits of an earlier row, and the line of that row.

        Among the siblings of a template this finds the copy, where sketches find any of them.
        """
        for first, *repeats in find_repeated(self._letters).values():
            match = self._exact.line_number(first)
            for line in map(self._exact.line_number, repeats):
                if not self._exact.rows_are_equal(match, line):
                    yield line, match

    def _same_letters_in(self, training: NearDuplicateScanner) -> Iterator[tuple[int, int]]:
        """Yield each row with the letters and digits of a row of a training file, and that row's line."""
        shared = find_shared(self._letters, training._letters)
        for index, letters in enumerate(self._letters if shared else ()):
            if letters in shared:
                line = self._exact.line_number(index)
                match = training._exact.line_number(shared[letters])
                if training._exact.prompt_hash(match) != self._exact.prompt_hash(line):
                    yield line, match

    def stats(self) -> dict[str, Any]:
        """Return how many rows are near duplicates, and how many rows were not compared."""
        counts = {
            "near_duplicates": self._near_duplicates,
            "near_duplicates_not_compared": self._skipped,
        }
        return {name: count for name, count in counts.items() if count}

    def _match_and_store(self, pieces: list[bytes], number: int) -> int:
        """Store a row with a known piece; return the line of its near duplicate, or 0.

        If there is a near duplicate, all pieces are stored, so that those of a template soon count as common.
        """
        sketch = self._sketch(pieces)
        match = self._find_match(sketch, before=number)
        for key in _keys(pieces[-8 * SKETCH_SIZE :] if match else sketch):
            entry = self._lines.setdefault(key, number)
            if entry != number:
                self._lines[key] = (entry >> 40) + 1 << 40 | number
        return match

    def _match_other_pieces(self, pieces: list[bytes], number: int) -> int:
        """Return the line of the near duplicate for the other pieces of a row near a limit, or 0."""
        if self._lines.keys().isdisjoint(_keys(pieces[-SKETCH_SIZE:])):
            return 0  # these pieces are the sketch: those of a template would be known
        return self._find_match(self._sketch(pieces), before=number)

    def _sketch(self, pieces: list[bytes]) -> list[bytes]:
        """Return the longest pieces that do not belong to a template; ``pieces`` ascend in length."""
        longest: list[bytes] = []
        for piece in reversed(pieces[-8 * SKETCH_SIZE :]):
            if self._lines.get(hash(piece) & _KEY_MASK, 0) >> 40 < TEMPLATE_REPEATS:
                longest.append(piece)
                if len(longest) == SKETCH_SIZE:
                    break
        return longest

    def _find_match(self, sketch: list[bytes], before: int = _LINE_MASK) -> int:
        """Return the line of the row ``before`` a line that shares enough of a sketch, or 0."""
        shared: dict[int, list[int]] = {}
        for piece in sketch:
            line = self._lines.get(hash(piece) & _KEY_MASK, 0) & _LINE_MASK
            if 0 < line < before:
                shared.setdefault(line, []).append(len(piece))
        match = max(shared, key=lambda line: sum(shared[line]), default=0)
        is_similar = (
            match
            and 2 * len(shared[match]) >= len(sketch)
            and sum(shared[match]) >= MIN_SHARED_BYTES
        )
        return match if is_similar else 0


def _repeat_each(values: Iterable[int], counts: Iterable[int]) -> Iterator[int]:
    """Yield each value as many times as its count."""
    return chain.from_iterable(map(repeat, values, counts))


def find_copies(
    candidates: Sequence[tuple[int, int]],
    read_rows: ReadRows | None,
    read_earlier_rows: ReadRows | None,
) -> Iterator[tuple[int, int]]:
    """Yield the pairs of lines whose rows are copies of each other, a few hundred rows in memory at a time."""
    if not candidates:
        return
    if read_rows is None or read_earlier_rows is None:
        raise RuntimeError("NearDuplicateScanner.read_rows is not set")
    for start in range(0, len(candidates), _CANDIDATES_AT_ONCE):
        pairs = candidates[start : start + _CANDIDATES_AT_ONCE]
        later = {line: ComparedRow(row) for line, row in read_rows(pair[0] for pair in pairs)}
        earlier = {
            line: ComparedRow(row) for line, row in read_earlier_rows(pair[1] for pair in pairs)
        }
        one_file = read_rows is read_earlier_rows
        rows = (later | earlier).values() if one_file else [*later.values(), *earlier.values()]
        changes = {
            (number, match): find_changes(later[number], earlier[match])
            for number, match in pairs
            if number in later and match in earlier
        }
        slots = TemplateVariables(
            rows, chain.from_iterable(places or () for places in changes.values())
        )
        for pair, places in changes.items():
            if places is not None and not any(map(slots.contain, places)):
                yield pair


def make_row_reader(index: LineIndex, path: str) -> ReadRows:
    """Return a function that reads rows of the file again. A scanner keeps it: it has no reference to it."""

    def read_rows(numbers: Iterable[int]) -> Iterator[tuple[int, Row]]:
        with suppress(OSError):  # a file that was removed meanwhile has nothing to compare
            for line in index.read_lines(path, numbers):
                row = _parse_row(line.data)
                if row is not None:
                    yield line.number, row

    return read_rows


def _parse_row(data: bytes) -> Row | None:
    """Return the row of a line that was valid, or None: the file was changed meanwhile."""
    try:
        row = parse_json(data)
    except JsonError:
        return None
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not messages:
        return None
    return row if all(isinstance(message, dict) for message in messages) else None
