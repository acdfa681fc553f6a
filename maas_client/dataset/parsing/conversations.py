"""Decode ordinary rows, chats with nothing but texts, a whole block at a time.

msgspec decodes them into typed objects and refuses unknown keys and roles. It does not see a key that occurs
twice, blank texts or the order of turns: ``rules/fast_path.py`` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from types import GenericAlias
from typing import Annotated, Any, Literal, overload

import msgspec

from maas_client.dataset.parsing.prefilter import join_lines
from maas_client.dataset.parsing.strict_json import PARSE_ERRORS

Row = dict[str, Any]
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class Message(msgspec.Struct, tag_field="role", forbid_unknown_fields=True, gc=False):
    """A message with a text."""

    content: _Text


class _System(Message, tag="system"):
    """A system message."""


class _User(Message, tag="user"):
    """A user message."""


class _Assistant(Message, tag="assistant"):
    """An assistant message."""


class _Row(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[
        _System | _User | _Assistant
    ]  # a list is decoded in four fifths of a tuple's time


MessageTypes = tuple[type[Message], ...]
"""The roles of a row's messages."""
Conversation = Sequence[Message]
_ROW_START = b'{"messages"'
ROLES: dict[type[Message], str] = {_System: "system", _User: "user", _Assistant: "assistant"}
_SINGLE_ROLE_TYPES: dict[type[Message], Any] = {
    kind: msgspec.defstruct(
        kind.__name__,
        [("role", Literal[role]), ("content", _Text)],
        forbid_unknown_fields=True,
        gc=False,
    )
    for kind, role in ROLES.items()
}
"""The messages for a position where only one role is allowed: there msgspec would accept a message
without a tag, so the role is a normal field."""
_ROLE_OF: dict[Any, str] = ROLES | {_SINGLE_ROLE_TYPES[kind]: role for kind, role in ROLES.items()}
_SYSTEM_TYPES = frozenset(kind for kind, role in _ROLE_OF.items() if role == "system")
_DECODER = msgspec.json.Decoder(_Row)


class LazyRows(Sequence[Row]):
    """Accepted rows as plain JSON values, built only when they are read."""

    def __init__(
        self, conversations: Sequence[Conversation], contents: list[str] | None = None
    ) -> None:
        """``contents``: the texts of all messages of all conversations, if they are known."""
        self.conversations = conversations
        self._contents = contents
        self._texts: list[list[str]] | None = None

    def texts(self) -> list[list[str]]:
        """Return the result of ``message_texts`` without building rows; cached for all scanners."""
        if self._texts is None:
            contents = self._contents or contents_of(self.conversations)
            texts, start = [], 0
            for conversation in self.conversations:
                end = start + len(conversation)
                if type(conversation[0]) in _SYSTEM_TYPES:  # an accepted row has messages
                    texts.append(contents[start:end])
                else:
                    texts.append(["", *contents[start:end]])
                start = end
            self._texts = texts
        return self._texts

    def __len__(self) -> int:
        return len(self.conversations)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return LazyRows(self.conversations[index])
        return _to_row(self.conversations[index])

    def __iter__(self) -> Iterator[Row]:
        return map(_to_row, self.conversations)


def contents_of(conversations: Sequence[Conversation]) -> list[str]:
    """Return the texts of all messages of all conversations."""
    return [message.content for conversation in conversations for message in conversation]


def _to_row(conversation: Conversation) -> Row:
    return {"messages": [{"role": _ROLE_OF[type(m)], "content": m.content} for m in conversation]}


def decode_block(
    lines: Sequence[bytes], roles: MessageTypes | None = None
) -> list[Conversation] | None:
    """Decode a block at once, or return None if some lines are not ordinary rows.

    ``roles``: accept only rows with exactly these roles, which takes less time.

    One call for all lines also accepts a value that continues after a line feed, and two values on a line.
    But if each line begins as a row does, which nothing inside a row can, then each line is one row.
    """
    decoder: Any = _DECODER if roles is None else _uniform_decoder(roles)
    try:
        if all(map(bytes.startswith, lines, repeat(_ROW_START))):
            rows = decoder.decode_lines(join_lines(lines))
            if len(rows) == len(lines):
                return [row.messages for row in rows]
        return [row.messages for row in map(decoder.decode, lines)]
    except PARSE_ERRORS:
        return None


def decode_each(lines: Sequence[bytes]) -> tuple[list[Conversation], list[int], list[int]]:
    """Decode line by line; return the conversations, their indices, and those of all other lines."""
    conversations: list[Conversation] = []
    indices: list[int] = []
    undecided = []
    decode = _DECODER.decode
    for index, line in enumerate(lines):
        try:
            conversations.append(decode(line).messages)
        except PARSE_ERRORS:
            undecided.append(index)
        else:
            indices.append(index)
    return conversations, indices, undecided


@lru_cache(maxsize=64)
def _uniform_decoder(types: MessageTypes) -> msgspec.json.Decoder[Any]:
    """Return a decoder for rows of exactly these roles."""
    messages = GenericAlias(tuple, tuple(_SINGLE_ROLE_TYPES[kind] for kind in types))
    row = msgspec.defstruct("Row", [("messages", messages)], forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(row)
