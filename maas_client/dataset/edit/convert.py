"""``datasets convert``: convert CSV, JSON arrays and the row formats of other tasks to chat rows.

The type of the file is detected from its content. Every row is either converted or listed with the reason
why it cannot be.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from maas_client._text import Argument, Text
from maas_client.dataset.edit import repair
from maas_client.dataset.edit.atomic_write import (
    atomic_write,
    require_distinct_paths,
    require_regular_file,
)
from maas_client.dataset.edit.encoding import Encoding, detect_encoding, read_utf8_lines
from maas_client.dataset.edit.formats import (
    ROW_FORMATS,
    ConversionError,
    Row,
    detect_row_format,
    omitted_parts,
    parse_cells,
    rename_keys,
)
from maas_client.dataset.parsing.file_type import HEAD_BYTES, detect_wrong_format
from maas_client.errors import ConfigError, DatasetError

MAX_LISTED = 1000
"""Rejected rows that a result lists at most."""
csv.field_size_limit(1 << 26)


@dataclass(slots=True)
class ConversionResult:
    """What ``convert`` did with a file."""

    path: str
    out: str
    file_format: str = ""
    """The type of the file: JSON Lines, a JSON array, a table separated by commas, ..."""
    rows: int = 0
    """Number of chat rows written."""
    row_formats: Counter[str] = field(default_factory=Counter)
    """Number of converted rows by format."""
    omitted: Counter[str] = field(default_factory=Counter)
    """How often a part of a row was omitted, by description."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Number of rows that could not be converted, by reason."""
    rejected_rows: list[tuple[int, str]] = field(default_factory=list)
    """The first rejected rows: the number (of the line, or of the row in a table or array) and the reason."""

    @property
    def ok(self) -> bool:
        """Return whether every row was converted."""
        return not self.rejected

    def reject(self, number: int, reason: str) -> None:
        """Count a row that cannot be converted and list it while there is room."""
        self.rejected[reason] += 1
        if len(self.rejected_rows) < MAX_LISTED:
            self.rejected_rows.append((number, reason))

    def to_dict(self) -> dict[str, Any]:
        """Return the result, ready for JSON."""
        return {
            "ok": self.ok,
            "path": self.path,
            "out": self.out,
            "container": self.file_format,
            "rows": self.rows,
            "forms": dict(self.row_formats),
            "left_out": dict(self.omitted),
            "refused": dict(self.rejected),
            "places": [{"row": number, "reason": reason} for number, reason in self.rejected_rows],
        }


def convert(
    path: str | PathLike[str],
    out: str | PathLike[str],
    *,
    row_format: str | None = None,
    columns: Sequence[tuple[str, str]] = (),
    system: str | None = None,
    skip_invalid: bool = False,
) -> ConversionResult:
    """Write a file's rows as chat rows.

    Args:
        path: JSON Lines, a JSON array, pretty-printed objects, or CSV with a header.
        out: The JSON Lines file to write.
        row_format: The format of the rows, a key of ``formats.ROW_FORMATS``. By default it is detected
            from the keys of each row.
        columns: Keys to rename before the conversion, as pairs ``(theirs, ours)``:
            ``[("Frage", "prompt")]``.
        system: A system message for every row that has none.
        skip_invalid: Leave out rows that cannot be converted instead of raising ``DatasetError``.

    Returns:
        The number of rows by format, and what was omitted or rejected.

    Raises:
        ConfigError: The type of the file or ``row_format`` is unknown, or the file has no rows.
        DatasetError: A row cannot be converted (without ``skip_invalid``), or none can.
        OSError: A file cannot be read or written.

    Nothing is written if an error is raised.
    """
    if row_format is not None and row_format not in ROW_FORMATS:
        raise ConfigError(
            f"unknown format {row_format!r}",
            hint=Text.format(
                "Set {} to one of {}.", Argument("row_format"), ", ".join(ROW_FORMATS)
            ),
        )
    require_regular_file(path)
    require_distinct_paths(path, out)
    result = ConversionResult(os.fspath(path), os.fspath(out))
    with atomic_write(out) as (file,):
        for number, row in _read_rows(path, result):
            chat = _convert_row(number, row, result, row_format, columns)
            if chat is not None:
                if system and chat["messages"][0].get("role") != "system":
                    chat["messages"].insert(0, {"role": "system", "content": system})
                file.write(json.dumps(chat, ensure_ascii=False).encode() + b"\n")
                result.rows += 1
        _raise_if_rejected(result, skip_invalid=skip_invalid)
    return result


def _convert_row(
    number: int,
    row: Any,
    result: ConversionResult,
    row_format: str | None,
    columns: Sequence[tuple[str, str]],
) -> Row | None:
    """Return the chat row, or None after the row was rejected."""
    if not isinstance(row, dict):
        result.reject(number, "not an object" if row is not _INVALID else "not JSON")
        return None
    row = rename_keys(row, columns)
    name = row_format or detect_row_format(row)
    if name is None:
        result.reject(number, f"unknown keys: {_list_keys(row)}")
        return None
    try:
        chat = ROW_FORMATS[name](row)
        json.dumps(chat, ensure_ascii=False).encode()
    except ConversionError as error:
        result.reject(number, f"{name}: {error}")
        return None
    except UnicodeEncodeError:
        result.reject(number, f"{name}: half a character (a lone surrogate)")
        return None
    if not chat["messages"] or not isinstance(chat["messages"][0], dict):
        result.reject(number, f"{name}: no messages")
        return None
    result.row_formats[name] += 1
    result.omitted.update(omitted_parts(name, row, chat))
    return chat


def _list_keys(row: Row) -> str:
    """Return the names of a row's first keys. Keys are column names, not private data."""
    return ", ".join(sorted(str(key)[:30] for key in row)[:6]) or "none"


def _raise_if_rejected(result: ConversionResult, *, skip_invalid: bool) -> None:
    if result.rows and (result.ok or skip_invalid):
        return
    if not result.rows and not result.rejected:
        raise ConfigError(f"{result.path} contains no rows")
    number, reason = result.rejected_rows[0]
    count = result.rejected.total()
    raise DatasetError(
        f"{result.path}: {count:,} of {count + result.rows:,} rows cannot be converted; the first is "
        f"row {number} ({reason})",
        hint=_suggest_steps(reason, some_converted=bool(result.rows)),
    )


def _suggest_steps(reason: str, *, some_converted: bool) -> Text:
    row_format = Argument("row_format")
    rename = Text.format("rename the columns ({})", Argument("columns"))
    if reason.endswith("missing or empty"):
        steps = [Text("Fill it in"), rename]
    elif some_converted or "unknown keys" in reason:
        steps = [Text.format("Give the format ({})", row_format), rename]
    else:
        return Text.format("If the detected format is wrong, give it with {}.", row_format)
    if some_converted:
        steps.append(Text.format("skip such rows ({})", Argument("skip_invalid", True)))
    *first, last = steps
    separator = ", or " if len(first) > 1 else " or "
    return Text(", ").join(first) + separator + last + "."


_INVALID = object()
"""Stands for a row that cannot be read."""


def _read_rows(path: str | PathLike[str], result: ConversionResult) -> Iterator[tuple[int, Any]]:
    """Yield a file's rows with their numbers, and record the type of the file."""
    encoding = detect_encoding(path)
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES).removeprefix(encoding.bom)
    text = head.decode(encoding.codec, "replace").encode()
    is_complete = os.path.getsize(path) <= HEAD_BYTES
    problem = detect_wrong_format(text, is_complete=is_complete)
    code = problem.code if problem else ""
    if code in ("FILE_JSON_ARRAY", "FILE_PRETTY_PRINTED"):
        result.file_format = "a JSON array" if code == "FILE_JSON_ARRAY" else "pretty-printed JSON"
        yield from enumerate(_read_json_values(path, encoding), 1)
    elif text.lstrip()[:1] in (b"{", b"["):
        result.file_format = "JSON Lines"
        yield from _read_json_lines(path, encoding)
    elif text.strip():
        yield from _read_table(path, encoding, text, result)
    else:
        raise ConfigError(f"{path} is empty")


def _read_json_lines(path: str | PathLike[str], encoding: Encoding) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(read_utf8_lines(path, encoding), 1):
        if not line.strip():
            continue
        try:
            values, _ = repair.parse_leniently(line)
        except repair.UnrepairableError:
            values = [_INVALID]
        for value in values:
            nested = _nested_rows(value) if isinstance(value, dict) else None
            yield from ((number, row) for row in ([value] if nested is None else nested))


def _read_json_values(path: str | PathLike[str], encoding: Encoding) -> Iterator[Any]:
    try:
        with open(path, "rb") as file:
            text = file.read()[len(encoding.bom) :].decode(encoding.codec)
        values = repair.parse_all_leniently(text.strip())
    except (repair.UnrepairableError, UnicodeDecodeError) as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else error
        raise ConfigError(f"{path} cannot be read as JSON: {reason}") from None
    for value in values:
        if isinstance(value, list):
            yield from value
        elif isinstance(value, dict) and isinstance(nested := _nested_rows(value), list):
            yield from nested
        else:
            yield value


def _nested_rows(value: Row) -> list[Any] | None:
    """Return the rows of ``{"data": [...]}``, or None if the object is a row itself."""
    lists = [inner for key, inner in value.items() if key.casefold() in ("data", "rows", "train")]
    return lists[0] if len(lists) == 1 and isinstance(lists[0], list) else None


def _read_table(
    path: str | PathLike[str], encoding: Encoding, head: bytes, result: ConversionResult
) -> Iterator[tuple[int, Row]]:
    header = head.lstrip().partition(b"\n")[0].decode("utf-8", "replace")
    separator = max((",", ";", "\t", "|"), key=header.count)
    if not header.count(separator):
        raise ConfigError(
            f"{path} is neither JSON nor a table with a header",
            hint="Give JSON Lines, a JSON array, or CSV whose first line has the column names.",
        )
    names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
    result.file_format = f"a table separated by {names[separator]}"
    with open(path, "rb") as file:
        file.seek(len(encoding.bom))
        text = io.TextIOWrapper(file, encoding=encoding.codec, newline="")
        try:
            rows = csv.DictReader(text, delimiter=separator, strict=True)
            for number, row in enumerate(rows, 1):
                yield number, _parse_table_row(row)
        except UnicodeDecodeError:
            raise ConfigError(
                f"{path} changes its encoding (at row {result.rows + 1} or shortly after)",
                hint="Save it as UTF-8.",
            ) from None
        except csv.Error as error:
            raise ConfigError(
                f"{path} is not a valid table after row {result.rows}: {error}",
                hint="Look for a quote that is never closed.",
            ) from None


def _parse_table_row(row: dict[Any, Any]) -> Any:
    """Return a table row without its empty cells, or ``_INVALID`` if it has more cells than columns."""
    if None in row:
        return _INVALID
    cells = {str(key): value or "" for key, value in row.items()}
    filled = parse_cells({key: value for key, value in cells.items() if value != ""})
    if detect_row_format(filled) is None and detect_row_format(cells) is not None:
        return cells  # the columns are those of a format, so the error names the empty cell
    return filled
