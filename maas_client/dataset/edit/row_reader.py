"""Read the rows of a file of any type: JSON Lines, a JSON array, pretty-printed JSON or a table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from typing import Any

from maas_client._messages import Argument, Text
from maas_client.dataset.edit import repair
from maas_client.dataset.edit.encoding import (
    Encoding,
    detect_encoding,
    read_head,
    read_utf8_lines,
)
from maas_client.dataset.edit.json_stream import JsonStreamError, read_json_elements
from maas_client.dataset.edit.wrapped_rows import find_rows, read_column_lists
from maas_client.dataset.formats import ConversionError, detect_any_format
from maas_client.dataset.formats.fields import describe_key, normalize_key
from maas_client.dataset.formats.messages import parse_json_text
from maas_client.dataset.parsing.file_type import (
    JSON_TEXT,
    SEPARATOR_LINE,
    SEPARATOR_NAMES,
    detect_wrong_format,
    find_separator,
)
from maas_client.dataset.rules.wrapping import is_viewer_row
from maas_client.errors import DatasetError

csv.field_size_limit(1 << 26)


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """Stands for a row that cannot be read."""

    reason: str


class RowReader:
    """Reads the rows of one file, once.

    Args:
        path: The file.
        name: The file's name in messages.
        columns: Columns of a table that get other names, as pairs ``(theirs, ours)``.
    """

    def __init__(
        self, path: str | PathLike[str], name: str, columns: Sequence[tuple[str, str]]
    ) -> None:
        self._path = path
        self._name = name
        self._columns = {normalize_key(theirs): (theirs, ours) for theirs, ours in columns}
        self.file_format = ""
        """The type of the file, once its first row was read."""
        self.values_with_other_keys = 0
        """Number of values that have keys beside their rows."""

    def read(self) -> Iterator[tuple[int, Any]]:
        """Yield rows with their numbers: objects, ``UnreadableRow``, or other values that are no rows.

        A single row of equally long lists is a table column by column; a list of messages is a row.
        """
        rows = self._read_values()
        first = next(rows, None)
        second = next(rows, None)
        if first is not None and second is None and isinstance(first[1], dict):
            table = read_column_lists(first[1])
            if table is not None:
                yield from enumerate(table, 1)
                return
        for number, row in chain((row for row in (first, second) if row is not None), rows):
            yield number, {"messages": row} if _is_bare_list(row) else row

    def _read_values(self) -> Iterator[tuple[int, Any]]:
        encoding = detect_encoding(self._path)
        text, is_complete = read_head(self._path, encoding)
        problem = detect_wrong_format(text, is_complete=is_complete)
        code = problem.code if problem else ""
        if code in ("FILE_JSON_ARRAY", "FILE_PRETTY_PRINTED"):
            self.file_format = (
                "a JSON array" if code == "FILE_JSON_ARRAY" else "pretty-printed JSON"
            )
            yield from self._read_json_values(encoding)
        elif (
            text.lstrip()[:1] in (b"{", b"[")
            or (code != "FILE_CSV" and _JSON_LINE.search(text))
            or JSON_TEXT.match(text.lstrip())
        ):
            self.file_format = "JSON Lines"
            yield from self._read_json_lines(encoding)
        elif text.strip():
            yield from self._read_table(encoding, text.decode(), is_complete=is_complete)
        else:
            raise DatasetError(f"{self._name} is empty", hint="Give a file with data.")

    def _read_json_lines(self, encoding: Encoding) -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(read_utf8_lines(self._path, encoding), 1):
            if line.strip(b" \t\r\n\0"):
                yield from ((number, row) for row in self._parse_rows(line))

    def _parse_rows(self, data: bytes) -> Iterator[Any]:
        """Yield the rows in a text: its values, or those of ``{"data": [...]}``."""
        try:
            values, _ = repair.parse_leniently(data)
        except repair.UnrepairableError as error:
            values = [UnreadableRow(f"not JSON: {error}".removesuffix(": not JSON"))]
        for value in map(_parse_text, values):
            if _is_list_of_rows(value):
                yield from value
                continue
            found = find_rows(value) if isinstance(value, dict) else None
            rows, has_other_keys = found or ([value], False)
            if has_other_keys:
                self.values_with_other_keys += 1
            yield from map(_unwrap_viewer_row, rows)

    def _read_json_values(self, encoding: Encoding) -> Iterator[tuple[int, Any]]:
        def count_other_keys() -> None:
            self.values_with_other_keys += 1

        number = 0
        try:
            for element in read_json_elements(self._path, encoding, count_other_keys):
                for row in self._parse_rows(element):
                    number += 1
                    yield number, row
        except JsonStreamError as error:
            raise DatasetError(
                f"{self._name} cannot be read as JSON: {error}",
                hint="Fix its syntax first. A JSON linter shows where it is wrong.",
            ) from None

    def _read_table(
        self, encoding: Encoding, head: str, *, is_complete: bool
    ) -> Iterator[tuple[int, Any]]:
        given = SEPARATOR_LINE.match(head)
        separator = given[1] if given else find_separator(head, is_complete=is_complete)
        if separator is None:
            first = head.lstrip().partition("\n")[0]
            separator = max(SEPARATOR_NAMES, key=first.count)
            if not first.count(separator):
                raise DatasetError(
                    f"{self._name} is neither JSON nor a table with a header",
                    hint="Give JSON Lines, a JSON array, or CSV whose first line has the column names.",
                )
        self.file_format = f"a table separated by {SEPARATOR_NAMES[separator]}"
        with open(self._path, "rb") as file:
            file.seek(len(encoding.bom))
            text = io.TextIOWrapper(file, encoding=encoding.codec, newline="")
            try:
                number = 0
                if given is not None:
                    text.readline()
                rows = csv.DictReader(text, delimiter=separator, strict=True)
                while rows.fieldnames is not None and not rows.fieldnames:  # a blank line
                    rows.fieldnames = None
                names = [str(name) for name in rows.fieldnames or ()]
                present = set(map(normalize_key, names))
                unknown = [pair[0] for name, pair in self._columns.items() if name not in present]
                if unknown:
                    raise unknown_column_error(self._name, unknown)
                renamed = (self._columns.get(normalize_key(name), (name, name)) for name in names)
                known = dict.fromkeys((ours for _, ours in renamed), "x")
                if detect_any_format(known) is None:
                    raise DatasetError(
                        f"{self._name}: the table has no header that is known ({len(names)} columns)",
                        hint=Text.format(
                            "Write the column names in the first line, such as prompt,completion, or "
                            "rename the columns ({}).",
                            Argument("columns"),
                        ),
                    )
                is_markdown = False
                for number, row in enumerate(rows, 1):
                    if _is_rule(row):
                        is_markdown = True
                    elif any(map(_is_filled, row.values())):
                        yield number, _parse_table_row(row, strip=is_markdown)
            except UnicodeDecodeError:
                raise DatasetError(
                    f"{self._name} changes its encoding (at row {number + 1} or shortly after)",
                    hint="Save it as UTF-8.",
                ) from None
            except csv.Error as error:
                raise DatasetError(
                    f"{self._name} is not a valid table after row {number}: {error}",
                    hint="Look for a quote that is never closed.",
                ) from None


def unknown_column_error(name: str, columns: Iterable[str]) -> DatasetError:
    """Return the error for columns that are to be renamed and are not in the file."""
    return DatasetError(
        f"{name} has no column {' or '.join(map(repr, columns))}",
        hint=Text.format(
            "Write its name in the file first, then the name to read it under ({}).",
            Argument("columns"),
        ),
    )


_JSON_LINE = re.compile(rb"^[ \t]*[{\[]", re.MULTILINE)
"""A line of JSON, perhaps after a comment or another line that is none."""


def _parse_text(value: Any) -> Any:
    """Return the row that a string holds as JSON text, else the value itself."""
    try:
        parsed = parse_json_text(value, "")
    except ConversionError:
        return value
    return parsed if isinstance(parsed, dict | list) else value


def _unwrap_viewer_row(value: Any) -> Any:
    """Return a row without what the Hugging Face dataset viewer puts around it."""
    if not is_viewer_row(value):
        return value
    truncated = value.get("truncated_cells")
    if not truncated:
        return value["row"]
    names = truncated if isinstance(truncated, list) else [truncated]
    described = dict.fromkeys(describe_key(str(name)) for name in names)
    return UnreadableRow(f"the dataset viewer cut off the cells {', '.join(described)}")


def _is_filled(cell: Any) -> bool:
    """Return whether a cell, or one of the cells that have no column, has text."""
    return any(map(_is_filled, cell)) if isinstance(cell, list) else bool((cell or "").strip())


def _is_rule(row: dict[Any, Any]) -> bool:
    """Return whether a row is the line below the header of a Markdown table."""
    cells = [str(cell).strip() for cell in row.values() if cell]
    return bool(cells) and all(re.fullmatch(r":?-{3,}:?", cell) for cell in cells)


def _parse_table_row(row: dict[Any, Any], *, strip: bool) -> Any:
    """Return a table row with lists of objects parsed."""
    if None in row:
        return UnreadableRow("more cells than columns")
    cells = {str(key): value or "" for key, value in row.items()}
    return {key: _parse_cell(cell.strip() if strip else cell) for key, cell in cells.items()}


def _parse_cell(cell: str) -> Any:
    """Return a list of objects that a cell holds as JSON or in Python's notation, else its text."""
    if cell.strip()[:1] not in ("[", "{"):
        return cell
    try:
        value = parse_json_text(cell, "a cell")
    except ConversionError:
        return cell
    has_objects = isinstance(value, list) and any(isinstance(item, dict) for item in value)
    return value if has_objects else cell


def _is_turn(value: Any) -> bool:
    """Return whether an object in a list is a message: rows may have other keys of ``messages.is_turn``."""
    return isinstance(value, dict) and ("role" in value or "from" in value)


def _is_bare_list(row: Any) -> bool:
    """Return whether a row is the list of messages itself."""
    return isinstance(row, list) and bool(row) and all(map(_is_turn, row))


def _is_list_of_rows(value: Any) -> bool:
    """Return whether a line is an array of rows, and not one row's list of messages."""
    is_list = isinstance(value, list) and bool(value)
    return is_list and all(isinstance(item, dict) and not _is_turn(item) for item in value)
