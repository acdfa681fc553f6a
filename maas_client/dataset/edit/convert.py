"""``datasets convert``: convert CSV, JSON arrays and the row formats of other tasks to chat rows.

The type of the file is detected from its content. Every row is either converted or listed with the reason
why it cannot be.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

from maas_client._messages import Argument, Text
from maas_client.dataset.codes import get_code
from maas_client.dataset.edit import repair
from maas_client.dataset.edit.atomic_write import (
    atomic_write,
    require_distinct_paths,
    require_regular_file,
)
from maas_client.dataset.edit.conversion_result import ConversionResult, raise_if_rejected
from maas_client.dataset.edit.row_reader import RowReader, UnreadableRow, unknown_column_error
from maas_client.dataset.formats import (
    FORMAT_BY_NAME,
    ConversionError,
    Row,
    RowFormat,
    UnwantedAnswerError,
    convert_pair,
    convert_row,
    detect_any_format,
)
from maas_client.dataset.formats.fields import Note, is_empty, normalize_key, rename_keys
from maas_client.dataset.formats.preferences import ANSWER_KEYS, preference_row
from maas_client.dataset.parsing.lines import MAX_LINE_BYTES, Line
from maas_client.dataset.report import format_message
from maas_client.dataset.rules.chat import LineValidator
from maas_client.dataset.rules.context import build_context
from maas_client.dataset.sources import DataSource, open_valid_source
from maas_client.errors import ConfigError


def convert(
    source: DataSource,
    out: str | PathLike[str],
    *,
    row_format: str | None = None,
    columns: Sequence[tuple[str, str]] = (),
    system: str | None = None,
    to: Literal["chat", "preference"] = "chat",
    skip_invalid: bool = False,
    ignore_keys: Sequence[str] = (),
) -> ConversionResult:
    """Write a file's rows as chat rows.

    Args:
        source: The path of JSON Lines, a JSON array, pretty-printed objects or CSV with a header, all also
            compressed with gzip, or of Parquet; or rows, see ``sources.DataSource``.
        out: The JSON Lines file to write.
        row_format: The format of the rows, a name of ``formats.FORMAT_BY_NAME``. By default it is detected
            from the keys of each row.
        columns: Keys to rename before the conversion, as pairs ``(theirs, ours)``: ``[("Frage", "prompt")]``;
            default: none.
        system: A system message for every row that has none; default: none.
        to: ``chat``, or ``preference`` to keep both answers of preferences (format ``dpo``), as training with
            method DPO takes them; default: ``chat``.
        skip_invalid: Leave out rows that cannot be converted instead of raising ``DatasetError``; default:
            False.
        ignore_keys: Keys to leave out that would otherwise make a row impossible to convert without loss;
            default: none.

    Returns:
        The number of rows by format, and what was omitted or rejected.

    Raises:
        ConfigError: ``row_format`` is unknown, or a path cannot be used.
        DatasetError: The file has no rows or cannot be read as JSON or a table, a row cannot be converted
            (without ``skip_invalid``), none can, or no row has a key of ``columns``.
        OSError: A file cannot be read or written.

    Nothing is written if an error is raised.
    """
    if row_format is not None and row_format not in FORMAT_BY_NAME:
        raise ConfigError(
            f"unknown format {row_format!r}",
            hint=Text.format(
                "Set {} to one of {}.", Argument("row_format"), ", ".join(FORMAT_BY_NAME)
            ),
        )
    if len(dict(columns)) < len(columns):
        raise ConfigError(
            Text.format("one key is given two names in {}", Argument("columns")),
            hint="Give it one.",
        )
    if isinstance(source, str | PathLike):
        require_regular_file(source)
        require_distinct_paths(source, out)
    options = _Options(
        FORMAT_BY_NAME[row_format] if row_format else None,
        columns,
        system,
        tuple(ignore_keys),
        to,
        LineValidator(build_context("local", None, method="DPO" if to == "preference" else None)),
        {normalize_key(name): name for name, _ in columns},
    )
    with open_valid_source(source) as data, atomic_write(out) as (file,):
        result = ConversionResult(data.name, os.fspath(out))
        result.unused_keys = list(dict.fromkeys(ignore_keys))
        reader = RowReader(data.path, data.name, columns)
        for number, row in reader.read():
            if result.unused_keys:
                _find_used_keys(row, result.unused_keys)
            line = _convert_row(number, row, result, options)
            if line is not None:
                file.write(line + b"\n")
                result.rows += 1
        result.name_keys()
        if options.unseen_columns and (result.rows or result.rejected):
            raise unknown_column_error(data.name, options.unseen_columns.values())
        if reader.values_with_other_keys:
            result.omitted[_BESIDE_ROWS] = reader.values_with_other_keys
        result.file_format = reader.file_format
        if data.is_copy:
            result.file_format += f" ({data.format})"
        raise_if_rejected(result, skip_invalid=skip_invalid)
    return result


@dataclass(frozen=True, slots=True)
class _Options:
    """How rows are converted."""

    row_format: RowFormat | None
    columns: Sequence[tuple[str, str]]
    system: str | None
    ignored: tuple[str, ...]
    to: str
    validator: LineValidator
    unseen_columns: dict[str, str]
    """The columns to rename that no row had so far, by normalized name."""


def _convert_row(
    number: int,
    row: Any,
    result: ConversionResult,
    options: _Options,
) -> bytes | None:
    """Return the line of the chat row, or None after the row was rejected or left out."""
    if isinstance(row, dict):
        row = repair.unwrap(row, [])
    if not isinstance(row, dict):
        result.reject(number, row.reason if isinstance(row, UnreadableRow) else "not an object")
        return None
    if options.unseen_columns:
        for name in options.unseen_columns.keys() & set(map(normalize_key, row)):
            del options.unseen_columns[name]
    if not any(not is_empty(value) for value in row.values()):
        result.reject(number, "no key has a value")
        return None
    row_format = options.row_format
    try:
        row = rename_keys(row, options.columns)
        row_format = row_format or detect_any_format(row) or result.format_of_more_keys(row)
        if row_format is None:
            result.reject_unknown(number, list(row))
            return None
        converted, notes = _convert_values(row_format, row, options)
        data = _encode_chat(converted, options.validator)
    except UnwantedAnswerError as reason:
        result.omitted[f"row whose answer is unwanted: {reason}"] += 1
        result.unwanted += 1
        return None
    except ConversionError as error:
        result.reject(number, f"{row_format.name}: {error}" if row_format else str(error))
        return None
    result.row_formats[row_format.name] += 1
    if len(row) > len(result.most_keys[0]):
        result.most_keys = row.keys(), row_format
    for note in notes:
        result.omit(note)
    return data


def _convert_values(row_format: RowFormat, row: Row, options: _Options) -> tuple[Row, list[Note]]:
    """Return the chat row or preference row of a row, and descriptions of what was left out."""
    if options.to == "chat":
        chat, notes = convert_row(row_format, row, options.ignored)
        return _finish_chat(chat, options), notes
    preferred, other, notes = convert_pair(row_format, row, options.ignored)
    pair = preference_row(_finish_chat(preferred, options), _finish_chat(other, options))
    if pair is None:
        raise ConversionError("both answers are equal, or the conversations differ before them")
    return pair, notes


_BESIDE_ROWS = "keys beside the rows of the file, such as another list of rows"


def _find_used_keys(value: Any, unused: list[str]) -> None:
    """Remove the keys that a row has, in itself or inside of its values, from the unused ones."""
    if isinstance(value, list):
        for inner in value:
            _find_used_keys(inner, unused)
    elif isinstance(value, dict):
        names = set(map(normalize_key, value))
        unused[:] = [key for key in unused if normalize_key(key) not in names]
        for inner in value.values():
            if unused and isinstance(inner, dict | list):
                _find_used_keys(inner, unused)


def _finish_chat(chat: Row, options: _Options) -> Row:
    _add_system(chat, options.system)
    finished, _ = repair.repair_row(chat)
    return dict(finished)


def _add_system(chat: Row, system: str | None) -> None:
    first = chat["messages"][0]
    if system and not (isinstance(first, dict) and first.get("role") == "system"):
        chat["messages"].insert(0, {"role": "system", "content": system})


def _encode_chat(chat: Row, validator: LineValidator) -> bytes:
    """Return the line of a row. Raises for one that no target trains on, with the reason of ``validate``."""
    try:
        data = json.dumps(chat, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ConversionError(get_code("JSON_SURROGATE").message) from None
    checked = validator.validate(Line(1, 0, data, len(data) > MAX_LINE_BYTES))
    if checked.row is not None:
        return data
    if checked.json_errors:
        raise ConversionError(get_code(checked.json_errors[0].code).message)
    issue = next(issue for issue in checked.issues if validator.blocks_training(issue))
    place = "/".join(str(step) for step in issue.path if isinstance(step, int) or step in _SHOWN)
    message = format_message(issue.code, issue.detail)
    raise ConversionError(f"{message} ({place})" if place else message)


_SHOWN = frozenset(("messages", "role", "content", "weight", "tools", "tool_calls", "tool_call_id",
                    "function", "arguments", "name", "parameters", "input", *ANSWER_KEYS))  # fmt: skip
"""Keys that a message shows as part of a place; others may be text of the row."""
