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
from itertools import compress, repeat
from operator import ne
from typing import Annotated, Any, overload

import msgspec

from maas_client.dataset.rulebook import Rulebook
from maas_client.dataset.rules import row_faults
from maas_client.dataset.strict import REFUSED

Row = dict[str, Any]
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_ODD = -(1 << 40)
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
    messages: tuple[_System | _User | _Assistant, ...]


_REMEMBERED = 4096
"""Sequences of roles; a file with more different ones is judged anew now and then."""
Kinds = tuple[type[_Message], ...]
Talk = tuple[_Message, ...]
_ROLES: dict[type[_Message], str] = {_System: "system", _User: "user", _Assistant: "assistant"}
_decode = msgspec.json.Decoder(_Row).decode


class Rows(Sequence[Row]):
    """Accepted rows as plain JSON values, made only if somebody looks."""

    def __init__(self, talks: Sequence[Talk]) -> None:
        self.talks = talks
        self._texts: list[list[str]] | None = None

    def texts(self) -> list[list[str]]:
        """Return what ``finding.texts_of`` does, without making rows; made once, for all scanners."""
        if self._texts is None:
            self._texts = [
                [m.content for m in talk]
                if type(talk[0]) is _System
                else ["", *[m.content for m in talk]]
                for talk in self.talks
            ]
        return self._texts

    def __len__(self) -> int:
        return len(self.talks)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | Sequence[Row]:
        if isinstance(at, slice):
            return Rows(self.talks[at])
        return _plain(self.talks[at])

    def __iter__(self) -> Iterator[Row]:
        return map(_plain, self.talks)


def _plain(talk: Talk) -> Row:
    return {"messages": [{"role": _ROLES[type(m)], "content": m.content} for m in talk]}


class Taken:
    """What became of a block's lines."""

    __slots__ = ("accepted", "merged", "refused", "rows")

    def __init__(self, accepted: Sequence[int], rows: Rows, refused: list[int]) -> None:
        self.accepted = accepted
        """Indices into the block's lines, ascending, one for each of ``rows``."""
        self.rows = rows
        self.refused = refused
        """Indices of lines that have to be judged in full, ascending."""
        self.merged: list[int] = []
        """Indices of accepted rows whose system message the template moves."""


class Acceptor:
    """Accepts blocks by one rulebook."""

    def __init__(self, book: Rulebook) -> None:
        self.book = book
        self._quotes: dict[Kinds, int] = {}
        self._merging: set[Kinds] = set()
        tokens = book.own_tokens.pattern + (
            book.foreign_tokens.pattern if book.foreign_tokens else ""
        )
        self._begin = "|" if r"\|" in tokens and "/s>" not in tokens else "<"

    def take(self, lines: list[bytes]) -> Taken:
        """Sort a block's lines into those that are certainly good and those to look at."""
        indices: Sequence[int] = range(len(lines))
        refused: list[int] = []
        try:
            rows = list(map(_decode, lines))
        except REFUSED:
            rows, indices, refused = _one_by_one(lines)
            lines = [lines[at] for at in indices]
        talks = [row.messages for row in rows]
        kinds: list[Kinds] = [tuple(map(type, talk)) for talk in talks]
        wrong = self._miscounted(lines, talks, kinds) | self._odd(talks)
        if wrong:
            refused = sorted(refused + [indices[at] for at in wrong])
            keep = [at for at in range(len(lines)) if at not in wrong]
            indices = [indices[at] for at in keep]
            talks = [talks[at] for at in keep]
            kinds = [kinds[at] for at in keep]
        taken = Taken(indices, Rows(talks), refused)
        if self._merging:
            moved = [kind in self._merging for kind in kinds]
            taken.merged = list(compress(indices, moved))
        return taken

    def _miscounted(
        self, lines: list[bytes], talks: Sequence[Talk], kinds: list[Kinds]
    ) -> set[int]:
        """Return the rows whose turns are odd, or whose quotes do not add up."""
        wanted = list(map(self._quotes.get, kinds))
        if None in wanted:
            if len(self._quotes) > _REMEMBERED:
                self._quotes.clear()
            for kind in set(kinds).difference(self._quotes):
                self._quotes[kind] = self._judge(kind)
            wanted = list(map(self._quotes.get, kinds))
        counted = list(map(bytes.count, lines, repeat(b'"')))
        if counted == wanted:
            return set()
        wrong = set()
        for at in compress(range(len(lines)), map(ne, counted, wanted)):
            inside = sum([message.content.count('"') for message in talks[at]])
            expected = wanted[at]
            adds_up = expected is not None and counted[at] == expected + inside
            if not adds_up or rb"\u0022" in lines[at]:
                wrong.add(at)
        return wrong

    def _judge(self, kinds: Kinds) -> int:
        """Return how many quotes a row of these roles has, or ``_ODD``, by the full rules."""
        row = {"messages": [{"role": _ROLES[kind], "content": "x"} for kind in kinds]}
        codes = {fault.code for fault in row_faults(row, self.book)}
        if codes == {"CHAT_SYSTEM_MERGED"}:
            self._merging.add(kinds)
        elif codes:
            return _ODD
        return 2 + 8 * len(kinds)

    def _odd(self, talks: Sequence[Talk]) -> set[int]:
        """Return the rows with blank texts, NUL characters or control tokens."""
        texts = [message.content for talk in talks for message in talk]
        joined = "\n".join(texts)
        if not any(map(str.isspace, texts)) and not self._suspicious(joined):
            return set()
        wrong = set()
        for at, talk in enumerate(talks):
            if any(m.content.isspace() or self._suspicious(m.content) for m in talk):
                wrong.add(at)
        return wrong

    def _suspicious(self, text: str) -> bool:
        if "\0" in text:
            return True
        if self._begin not in text:
            return False
        if self.book.own_tokens.search(text):
            return True
        foreign = self.book.foreign_tokens
        return foreign is not None and foreign.search(text) is not None


def _one_by_one(lines: list[bytes]) -> tuple[list[_Row], list[int], list[int]]:
    """Decode a block that has lines which are no ordinary rows."""
    rows, indices, refused = [], [], []
    for at, line in enumerate(lines):
        try:
            rows.append(_decode(line))
        except REFUSED:
            refused.append(at)
        else:
            indices.append(at)
    return rows, indices, refused
