"""Accept ordinary rows a whole block at a time, with a few calls into compiled code.

The fast path is sound but not complete: a row that it accepts has no issue under the full rules
(``chat.py``); a row that it does not accept is validated by them and may well be valid. The order of turns
is not implemented twice: a sequence of roles is accepted if the full rules find no issue in a row made of
it.

An ordinary row is ``{"messages": [...]}`` of system, user and assistant messages with a role and a text
(``parsing/conversations.py``). Counting quotes proves that no key occurs twice (see ``strict_json.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, repeat
from operator import contains

from maas_client.dataset.parsing.conversations import (
    ROLES,
    Conversation,
    LazyRows,
    Message,
    MessageTypes,
    contents_of,
    decode_block,
    decode_each,
)
from maas_client.dataset.parsing.prefilter import compile_pattern, decode_lines, join_lines
from maas_client.dataset.rules.chat import row_issues
from maas_client.dataset.rules.context import TEMPLATE_TOKENS, TOKENS_BEGIN_WITH, RuleContext
from maas_client.dataset.rules.row_features import RowFeatures

_MAX_CACHED_MESSAGES = 64
"""The roles of a longer conversation are not cached."""
_MAX_CACHED_SEQUENCES = 4096
"""Sequences of roles; with more of them the cache is emptied."""
_ROW_QUOTES, _MESSAGE_QUOTES = 2, 8
"""Quotes around the keys and the texts: of a row, and of each of its messages."""
_NEEDS_FULL_RULES = -(1 << 60)
"""In place of a quote count, which no row has: the full rules have to validate these roles."""


class PartitionResult:
    """A block's lines, split into accepted rows and lines for the full rules."""

    __slots__ = ("accepted", "merged_system", "rows", "undecided")

    def __init__(self, accepted: Sequence[int], rows: LazyRows, undecided: list[int]) -> None:
        self.accepted = accepted
        """Indices into the block's lines, ascending, one for each of ``rows``."""
        self.rows = rows
        self.undecided = undecided
        """Indices of the lines that the full rules have to validate, ascending."""
        self.merged_system: list[int] = []
        """Indices of accepted rows whose system message the template merges into the user's."""


class FastPath:
    """Accepts ordinary rows of blocks, for one target and model."""

    def __init__(self, context: RuleContext, features: RowFeatures | None = None) -> None:
        """``features``: where to note what the rows use."""
        self.context = context
        self.features = features or RowFeatures()
        self._quote_counts: dict[MessageTypes, int] = {}
        self._merging: set[MessageTypes] = set()
        self._uniform: MessageTypes | None = None
        """The sequence of roles that every row of the last block had."""

    def partition(self, lines: list[bytes]) -> PartitionResult:
        """Split a block's lines into rows that are certainly valid and lines for the full rules."""
        if len(self._quote_counts) > _MAX_CACHED_SEQUENCES:
            self._quote_counts.clear()
            self._merging.clear()
        indices: Sequence[int] = range(len(lines))
        undecided: list[int] = []
        types: list[MessageTypes] | None = None
        conversations = self._decode_uniform(lines)
        if conversations is None:
            conversations = decode_block(lines)
            if conversations is None:
                conversations, indices, undecided = decode_each(lines)
                lines = [lines[index] for index in indices]
            types = [tuple(map(type, conversation)) for conversation in conversations]
            is_uniform = (
                types
                and len(types[0]) <= _MAX_CACHED_MESSAGES
                and types.count(types[0]) == len(types)
            )
            self._uniform = types[0] if is_uniform else None
        contents = contents_of(conversations)
        suspects = self._rows_with_wrong_quotes(lines, conversations, types, contents)
        suspects |= _suspect_rows(conversations, contents)
        rows = LazyRows(conversations, contents)
        if suspects:
            undecided = sorted(undecided + [indices[index] for index in suspects])
            keep = [index for index in range(len(lines)) if index not in suspects]
            indices = [indices[index] for index in keep]
            rows = LazyRows([conversations[index] for index in keep])
            types = [types[index] for index in keep] if types else None
        result = PartitionResult(indices, rows, undecided)
        if self._merging:
            row_types = types or repeat(self._uniform, len(rows))
            merged = [row_type in self._merging for row_type in row_types]
            result.merged_system = list(compress(indices, merged))
        return result

    def _decode_uniform(self, lines: list[bytes]) -> Sequence[Conversation] | None:
        """Decode a block whose rows all have the roles of the last block's, or return None.

        Most files have one sequence of roles, and decoding it is faster.
        """
        if self._uniform is None:
            return None
        return decode_block(lines, self._uniform)

    def _rows_with_wrong_quotes(
        self,
        lines: list[bytes],
        conversations: Sequence[Conversation],
        types: list[MessageTypes] | None,
        contents: list[str],
    ) -> set[int]:
        """Return the rows whose roles need the full rules, or whose quotes do not add up."""
        if types is None:  # decoded as a uniform block
            types = [self._uniform or ()] * len(lines)
        counts = {kind: self._expected_quotes(kind) for kind in set(types)}
        if _NEEDS_FULL_RULES not in counts.values():
            total = _ROW_QUOTES * len(lines) + _MESSAGE_QUOTES * len(contents)
            if _quotes_add_up(lines, total, contents):
                return set()
        expected = [counts[kind] for kind in types]
        return _rows_with_unexplained_quotes(lines, expected, conversations, 0)

    def _expected_quotes(self, types: MessageTypes) -> int:
        """Return how many quotes a row of these roles has, or ``_NEEDS_FULL_RULES``."""
        count = self._quote_counts.get(types)
        if count is None:
            count = self._validate_roles(types)
            if len(types) <= _MAX_CACHED_MESSAGES:
                self._quote_counts[types] = count
        return count

    def _validate_roles(self, types: MessageTypes) -> int:
        """Apply the full rules to a row made of these roles."""
        row = {"messages": [{"role": ROLES[kind], "content": "x"} for kind in types]}
        codes = {issue.code for issue in row_issues(row, self.context)}
        if codes == {"CHAT_SYSTEM_MERGED"} and len(types) <= _MAX_CACHED_MESSAGES:
            self._merging.add(types)
        elif codes:
            return _NEEDS_FULL_RULES
        self.features.add_roles(map(ROLES.__getitem__, types))
        return _ROW_QUOTES + _MESSAGE_QUOTES * len(types)


def _suspect_rows(conversations: Sequence[Conversation], contents: list[str]) -> set[int]:
    """Return the rows with blank texts or control tokens of any template."""
    has_blank = any(map(str.isspace, contents))
    if not has_blank and not any(map(contains, contents, repeat(TOKENS_BEGIN_WITH))):
        return set()
    return {
        index
        for index, conversation in enumerate(conversations)
        if any(map(_is_suspect, conversation))
    }


def _is_suspect(message: Message) -> bool:
    text = message.content
    if TOKENS_BEGIN_WITH not in text:
        return text.isspace()
    return TEMPLATE_TOKENS.search(text) is not None


def _quotes_add_up(lines: list[bytes], expected: int, contents: list[str]) -> bool:
    r"""Return whether rows have the ``expected`` quotes besides those of their texts.

    A repeated key adds quotes, and only a quote that a text writes as ``\\u0022`` removes one. So if there
    are none of those, and all texts together have as many quotes as all lines have in excess, then it is
    true of each row.
    """
    excess = join_lines(lines).count(b'"') - expected
    if excess == 0:
        return True
    inside = sum([text.count('"') for text in contents if '"' in text])
    return excess == inside and not compile_pattern(r"\\u0022")(decode_lines(lines))


def _rows_with_unexplained_quotes(
    lines: list[bytes], expected: list[int], conversations: Sequence[Conversation], first: int
) -> set[int]:
    """Return the rows, numbered from ``first``, whose quotes do not add up: at least one."""
    if len(lines) == 1:
        return {first}
    half = len(lines) // 2
    rows: set[int] = set()
    for start, end in ((0, half), (half, len(lines))):
        part = lines[start:end], expected[start:end], conversations[start:end]
        if not _quotes_add_up(part[0], sum(part[1]), contents_of(part[2])):
            rows |= _rows_with_unexplained_quotes(*part, first + start)
    return rows
