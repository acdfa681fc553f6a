"""The fast way: whole blocks of ordinary rows, accepted by a few calls into C.

Sound, not complete: what is accepted here has no fault at all under the full rules (``rules.py``);
what is refused here is judged there and may well be good. Nothing about turns is written down
twice: a sequence of roles is accepted if the full rules find nothing in a row made of it.

An ordinary row is ``{"messages": [...]}`` of system, user and assistant messages with a role and
a text. msgspec decodes it into typed objects, refusing unknown keys; that it met no key twice is
shown by counting quotes (see ``strict.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import compress, repeat
from operator import contains, ne, sub
from types import GenericAlias
from typing import Annotated, Any, Literal, overload

import msgspec

from maas_client.dataset.parsing.prefilter import compile_pattern
from maas_client.dataset.parsing.strict_json import PARSE_ERRORS
from maas_client.dataset.rules.chat import row_issues
from maas_client.dataset.rules.context import RuleContext

Row = dict[str, Any]
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_ODD = -(1 << 60)
"""No row has so few quotes: a sequence of roles that the full rules have to look at."""


class _Message(msgspec.Struct, tag_field="role", forbid_unknown_fields=True, gc=False):
    content: _Text


class _System(_Message, tag="system"):
    """What the model is told beforehand."""


class _User(_Message, tag="user"):
    """What is asked."""


class _Assistant(_Message, tag="assistant"):
    """What is learned."""


class _Row(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[
        _System | _User | _Assistant
    ]  # a list is decoded in four fifths of a tuple's time


_QUOTE = ord('"')
_START = b'{"messages"'
_LONG = 64
"""Messages in a talk; the roles of a longer one are not remembered."""
_REMEMBERED = 4096
"""Sequences of roles; a file with more different ones is judged anew now and then."""
MessageTypes = tuple[type[_Message], ...]
Conversation = Sequence[_Message]
_ROLES: dict[type[_Message], str] = {_System: "system", _User: "user", _Assistant: "assistant"}
_ALONE: dict[type[_Message], Any] = {
    kind: msgspec.defstruct(
        kind.__name__,
        [("role", Literal[role]), ("content", _Text)],
        forbid_unknown_fields=True,
        gc=False,
    )
    for kind, role in _ROLES.items()
}
"""The same messages for a place where only one role may stand: there msgspec would let a message
pass that has no tag, so the role is a field of its own."""
_ROLE_OF: dict[Any, str] = _ROLES | {_ALONE[kind]: role for kind, role in _ROLES.items()}
_DECODER = msgspec.json.Decoder(_Row)


class LazyRows(Sequence[Row]):
    """Accepted rows as plain JSON values, made only if somebody looks."""

    def __init__(self, talks: Sequence[Conversation]) -> None:
        self.conversations = talks
        self._texts: list[list[str]] | None = None

    def texts(self) -> list[list[str]]:
        """Return what ``finding.texts_of`` does, without making rows; made once, for all scanners."""
        if self._texts is None:
            self._texts = [
                [m.content for m in talk]
                if _ROLE_OF[type(talk[0])] == "system"  # an accepted talk is never empty
                else ["", *[m.content for m in talk]]
                for talk in self.conversations
            ]
        return self._texts

    def __len__(self) -> int:
        return len(self.conversations)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | Sequence[Row]:
        if isinstance(at, slice):
            return LazyRows(self.conversations[at])
        return _plain(self.conversations[at])

    def __iter__(self) -> Iterator[Row]:
        return map(_plain, self.conversations)


def _plain(talk: Conversation) -> Row:
    return {"messages": [{"role": _ROLE_OF[type(m)], "content": m.content} for m in talk]}


class SplitResult:
    """What became of a block's lines."""

    __slots__ = ("accepted", "merged_system", "rows", "undecided")

    def __init__(self, accepted: Sequence[int], rows: LazyRows, refused: list[int]) -> None:
        self.accepted = accepted
        """Indices into the block's lines, ascending, one for each of ``rows``."""
        self.rows = rows
        self.undecided = refused
        """Indices of lines that have to be judged in full, ascending."""
        self.merged_system: list[int] = []
        """Indices of accepted rows whose system message the template moves."""


class FastPath:
    """Accepts blocks by one rulebook."""

    def __init__(self, context: RuleContext) -> None:
        self.context = context
        self._quotes: dict[MessageTypes, int] = {}
        self._merging: set[MessageTypes] = set()
        self._uniform: MessageTypes | None = None
        """The sequence of roles that every row of the last block had."""

    def split(self, lines: list[bytes]) -> SplitResult:
        """Sort a block's lines into those that are certainly good and those to look at."""
        if len(self._quotes) > _REMEMBERED:
            self._quotes.clear()
            self._merging.clear()
        indices: Sequence[int] = range(len(lines))
        refused: list[int] = []
        kinds: list[MessageTypes] | None = None
        talks = self._alike(lines)
        if talks is None:
            talks = _together(_DECODER, lines)
            if talks is None:
                talks, indices, refused = _one_by_one(lines)
                lines = [lines[at] for at in indices]
            kinds = [tuple(map(type, talk)) for talk in talks]
            alike = kinds and len(kinds[0]) <= _LONG and kinds.count(kinds[0]) == len(kinds)
            self._uniform = kinds[0] if alike else None
        wrong = self._miscounted(lines, talks, kinds) | self._odd(talks)
        if wrong:
            refused = sorted(refused + [indices[at] for at in wrong])
            keep = [at for at in range(len(lines)) if at not in wrong]
            indices = [indices[at] for at in keep]
            talks = [talks[at] for at in keep]
            kinds = [kinds[at] for at in keep] if kinds else None
        taken = SplitResult(indices, LazyRows(talks), refused)
        if self._merging:
            moved = [kind in self._merging for kind in kinds or repeat(self._uniform, len(talks))]
            taken.merged_system = list(compress(indices, moved))
        return taken

    def _alike(self, lines: list[bytes]) -> Sequence[Conversation] | None:
        """Decode a block whose rows all have the roles of the last block's, or return None.

        That is the rule: most files have one sequence of roles, and decoding it is cheaper.
        """
        if self._uniform is None:
            return None
        return _together(_decoder(self._uniform), lines)

    def _miscounted(
        self, lines: list[bytes], talks: Sequence[Conversation], kinds: list[MessageTypes] | None
    ) -> set[int]:
        """Return the rows whose turns are odd, or whose quotes do not add up."""
        counted = list(map(bytes.count, lines, repeat(_QUOTE)))
        if kinds is None and self._uniform is not None:
            expected = self._expected(self._uniform)
            if counted.count(expected) == len(counted):
                return set()
            wanted = [expected] * len(counted)
        else:
            known = self._quotes
            wanted = [known.get(kind) or self._expected(kind) for kind in kinds or ()]
            if counted == wanted:
                return set()
        more = list(compress(range(len(lines)), map(ne, counted, wanted)))
        return _unexplained(more, list(map(sub, counted, wanted)), lines, talks)

    def _expected(self, kinds: MessageTypes) -> int:
        """Return how many quotes a row of these roles has, or ``_ODD``."""
        quotes = self._quotes.get(kinds)
        if quotes is None:
            quotes = self._judge(kinds)
            if len(kinds) <= _LONG:
                self._quotes[kinds] = quotes
        return quotes

    def _judge(self, kinds: MessageTypes) -> int:
        """Ask the full rules about a row made of these roles."""
        row = {"messages": [{"role": _ROLES[kind], "content": "x"} for kind in kinds]}
        codes = {fault.code for fault in row_issues(row, self.context)}
        if codes == {"CHAT_SYSTEM_MERGED"} and len(kinds) <= _LONG:
            self._merging.add(kinds)
        elif codes:
            return _ODD
        return 2 + 8 * len(kinds)

    def _odd(self, talks: Sequence[Conversation]) -> set[int]:
        """Return the rows with blank texts or control tokens."""
        texts = [message.content for talk in talks for message in talk]
        blank = any(map(str.isspace, texts))
        if not blank and not any(map(contains, texts, repeat(self.context.common_substring))):
            return set()
        return {at for at, talk in enumerate(talks) if any(map(self._suspicious, talk))}

    def _suspicious(self, message: _Message) -> bool:
        text = message.content
        if self.context.common_substring not in text:
            return text.isspace()
        foreign = self.context.other_template_tokens
        return bool(
            self.context.template_tokens.search(text)
            or (foreign and foreign.search(text))
            or text.isspace()
        )


def _unexplained(
    more: list[int], excess: list[int], lines: list[bytes], talks: Sequence[Conversation]
) -> set[int]:
    r"""Return the rows, of those with ``more`` quotes, whose texts do not account for them.

    A key that came twice adds quotes, and nothing takes any away but a quote that a text writes as
    ``\\u0022``. So if there are none of those, and as many quotes in all texts as there are too
    many in all lines, then there are as many in each.
    """
    inside = sum([m.content.count('"') for at in more for m in talks[at]])
    said = b"".join([lines[at] for at in more]).decode()
    if not compile_pattern(r"\\u0022")(said) and inside == sum([excess[at] for at in more]):
        return set()
    if len(more) == 1:
        return set(more)
    half = len(more) // 2
    return _unexplained(more[:half], excess, lines, talks) | _unexplained(
        more[half:], excess, lines, talks
    )


def _together(decoder: Any, lines: list[bytes]) -> list[Conversation] | None:
    """Decode a block at once, or return None if it has lines which are no rows.

    One call for all lines takes a value that goes on over a line feed, and two values on a line. But
    where each line begins as a row does, which nothing within a row can, each line is one row.
    """
    try:
        if all(map(bytes.startswith, lines, repeat(_START))):
            rows = decoder.decode_lines(b"".join(lines))
            if len(rows) == len(lines):
                return [row.messages for row in rows]
        return [row.messages for row in map(decoder.decode, lines)]
    except PARSE_ERRORS:
        return None


def _one_by_one(lines: list[bytes]) -> tuple[list[Conversation], list[int], list[int]]:
    """Decode a block that has lines which are no ordinary rows."""
    talks: list[Conversation] = []
    indices: list[int] = []
    refused = []
    decode = _DECODER.decode
    for at, line in enumerate(lines):
        try:
            talks.append(decode(line).messages)
        except PARSE_ERRORS:
            refused.append(at)
        else:
            indices.append(at)
    return talks, indices, refused


@lru_cache(maxsize=64)
def _decoder(kinds: MessageTypes) -> msgspec.json.Decoder[Any]:
    """Return a decoder for rows of exactly these roles."""
    messages = GenericAlias(tuple, tuple(_ALONE[kind] for kind in kinds))
    row = msgspec.defstruct("Row", [("messages", messages)], forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(row)
