"""Scan the content of valid rows: duplicates, secrets, personal data, quality, tokens.

A scanner gets every valid row of a file once, in order, and never reads the file itself: all of them run
during the one pass of ``validate``. Rows come in blocks because filtering a hundred kilobytes at once takes a
third of the time of filtering by line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from maas_client.dataset.issues import Issue, KeyPath

Row = dict[str, Any]


class Scanner(Protocol):
    """Gets the rows block by block. Uses constant memory unless its own docstring says otherwise."""

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> Iterable[Issue]:
        """Look at some rows: their line numbers (ascending), their bytes and their values."""
        ...

    def finish(self) -> Iterable[Issue]:
        """Return the issues that only the whole file shows. Called once, after the last ``feed``."""
        ...

    def stats(self) -> dict[str, Any]:
        """Return figures for ``FileReport.stats``; JSON values only."""
        ...


def iter_strings(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield ``(path, string)`` for every string value within a JSON value, in order."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from iter_strings(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from iter_strings(inner, (*path, index))


def iter_keys(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield ``(path, key)`` for every member within a JSON value, in order."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key), key
            yield from iter_keys(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from iter_keys(inner, (*path, index))


def message_texts(rows: Sequence[Row]) -> Sequence[list[str] | None]:
    """Return the texts of each row's messages, or None for a row with tools, calls or parts.

    The first text is the system message's, empty if the row has none.
    """
    cached: Callable[[], list[list[str]]] | None = getattr(rows, "texts", None)
    return cached() if cached else [_message_texts(row) for row in rows]


def _message_texts(row: Row) -> list[str] | None:
    if "messages" not in row:
        return None  # a preference
    messages = row["messages"]
    texts = [message.get("content") for message in messages]
    text_only = "tools" not in row and all(type(text) is str for text in texts)
    if not text_only or any("tool_calls" in message for message in messages):
        return None
    return texts if messages[0].get("role") == "system" else ["", *texts]
